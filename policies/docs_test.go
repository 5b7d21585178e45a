package policies_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/internal/policytest"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/policies/suite"
	"github.com/evictgate/evictgate/webhook/cluster"
)

// docsDir holds a page for each policy of the library, and the catalogue.
const docsDir = "../docs/policies"

// TestShippedDocs holds the pages to METADATA, parameters and suites, from which they are made.
func TestShippedDocs(t *testing.T) {
	library, err := policies.Library()
	if err != nil {
		t.Fatal(err)
	}
	list, err := suite.Describe(library)
	if err != nil {
		t.Fatal(err)
	}
	pages := map[string][]byte{"README.md": catalogue(list)}
	for _, d := range list {
		pages[d.Policy+".md"] = page(t, d)
	}
	for name, want := range pages {
		policytest.Generated(t, filepath.Join(docsDir, name), want)
	}
	removeStalePages(t, pages)
}

// removeStalePages finds pages of policies that are gone.
func removeStalePages(t *testing.T, pages map[string][]byte) {
	t.Helper()
	entries, err := os.ReadDir(docsDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if pages[e.Name()] != nil {
			continue
		}
		if !policytest.Update() {
			t.Errorf("%s is about no policy of the library; run make generate", e.Name())
		} else if err := os.Remove(filepath.Join(docsDir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
}

const generatedNote = "<!-- Generated from the policy itself and its suite; make generate rewrites it. -->\n"

func catalogue(list []suite.Description) []byte {
	var b bytes.Buffer
	b.WriteString(generatedNote + "# The policy library\n\n" +
		"Each policy is bound by an [EvictionPolicy](../policies.md#bind-a-policy) that names it, or serves by itself when it is in\n" +
		"the default set. `evictgate policy show ID` prints what its page says.\n\n" +
		"| policy | what it does | can | enforcement | default set |\n|---|---|---|---|---|\n")
	for _, d := range list {
		set := ""
		if d.Default {
			set = "yes"
		}
		fmt.Fprintf(&b, "| [%s](%s.md) | %s | %s | %s | %s |\n", d.Policy, d.Policy, d.Title, can(d.Effects), d.Metadata.Enforcement, set)
	}
	return b.Bytes()
}

var effectWords = map[policies.Effect]string{policies.Deny: "deny (403)", policies.Delay: "delay (429)", policies.Warning: "warn"}

func can(effects []policies.Effect) string {
	words := make([]string, len(effects))
	for i, e := range effects {
		words[i] = effectWords[e]
	}
	return strings.Join(words, ", ")
}

// page has the same form for every policy.
func page(t *testing.T, d suite.Description) []byte {
	t.Helper()
	suite, err := suite.Load(filepath.Join(libraryDir, d.Policy))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	set := "It is off until it is bound."
	if d.Default {
		set = "It is in the default set."
	}
	fmt.Fprintf(&b, "%s# %s\n\n`%s` can %s. Its own enforcement is %s. %s\n\n%s\n", generatedNote, d.Title, d.Policy, can(d.Effects), d.Metadata.Enforcement, set, d.Description)
	b.WriteString("\n## Parameters\n\n" + parametersTable(d))
	b.WriteString("\n## Example\n\n```yaml\n" + example(t, d, suite) + "```\n")
	b.WriteString("\n## Messages\n\nWhat its suite makes it say:\n\n" + messages(t, d, suite))
	b.WriteString("\n## Reads\n\n")
	for _, ref := range d.Reads {
		fmt.Fprintf(&b, "- `%s`\n", ref)
	}
	b.WriteString("\n## Related\n\n")
	for _, r := range d.Related {
		fmt.Fprintf(&b, "- [%s](%s)\n", r.Description, r.Ref)
	}
	return b.Bytes()
}

func parametersTable(d suite.Description) string {
	switch {
	case d.Metadata.Parameters == nil && strings.Contains(d.Description, "Parameters:"):
		return "They are described above.\n"
	case len(d.Parameters) == 0:
		return "It takes none.\n"
	}
	text := "| name | type | default | meaning |\n|---|---|---|---|\n"
	for _, p := range d.Parameters {
		value := "`" + p.DefaultText() + "`"
		switch {
		case p.Required:
			value = "must be given"
		case p.Default == nil:
			value = ""
		}
		text += fmt.Sprintf("| `%s` | %s | %s | %s |\n", p.Name, cell("`"+p.Type+"`"), cell(value), cell(p.Description))
	}
	return text
}

// cell makes text fit for a table's cell.
func cell(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", `\|`)
}

// example is an EvictionPolicy that compiles.
func example(t *testing.T, d suite.Description, suite *suite.Suite) string {
	t.Helper()
	text, err := d.Example(suite)
	if err != nil {
		t.Fatal(err)
	}
	set, err := source.Compile([]policies.File{{Name: d.Policy + ".md", Data: []byte(text)}})
	if err != nil {
		t.Errorf("the example of %s does not compile: %v\n%s", d.Policy, err, text)
	} else if n := len(set.Policies()); n != 1 {
		t.Errorf("the example of %s binds %d policies", d.Policy, n)
	}
	return text
}

// messages lists the reasons that the cases of a suite give, each once.
func messages(t *testing.T, d suite.Description, suite *suite.Suite) string {
	t.Helper()
	var lines []string
	for _, r := range suite.Run(t.Context(), cluster.GatherSample) {
		if r.Decision == nil {
			continue
		}
		for _, v := range r.Decision.Violations {
			line := fmt.Sprintf("- %s: %s\n", v.Effect, v.Reason)
			if !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	}
	if len(lines) == 0 {
		t.Errorf("the suite of %s has no case with a violation", d.Policy)
	}
	return strings.Join(lines, "")
}
