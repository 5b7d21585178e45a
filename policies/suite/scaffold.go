package suite

import (
	"embed"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/internal/rego"
	"github.com/evictgate/evictgate/policies/source"
)

//go:embed scaffold
var scaffoldFS embed.FS

// Scaffold makes the files of a new policy, by their paths below the directory <id>: the policy with
// METADATA and a parameter, its Rego tests, a suite and a sample. They pass check, test and fmt as they
// are. The error says what is wrong with the id or the effect.
func Scaffold(id string, effect policies.Effect) ([]policies.File, error) {
	switch {
	case !rego.IsIdentifier(id) || ast.IsKeyword(id):
		return nil, fmt.Errorf("%q cannot be the id of a policy: expected letters, digits and _, as in freeze_window, and no word of Rego", id)
	case strings.HasSuffix(id, "_test"):
		return nil, fmt.Errorf("%q cannot be the id of a policy: files that end in _test.rego are tests", id)
	case !slices.Contains([]policies.Effect{policies.Deny, policies.Delay, policies.Warning}, effect):
		return nil, fmt.Errorf("invalid effect %q: expected deny, delay or warn", effect)
	}
	fill := scaffoldWords(id, effect)
	var files []policies.File
	for from, to := range map[string]string{
		"policy.rego.tmpl":          id + ".rego",
		"policy_test.rego.tmpl":     id + "_test.rego",
		"suite.yaml.tmpl":           source.SuiteFile,
		"samples/cluster.yaml.tmpl": "samples/cluster.yaml",
	} {
		text, err := scaffoldFS.ReadFile("scaffold/" + from)
		if err != nil {
			return nil, err
		}
		files = append(files, policies.File{Name: to, Data: []byte(fill.Replace(string(text)))})
	}
	slices.SortFunc(files, func(a, b policies.File) int { return strings.Compare(a.Name, b.Name) })
	return files, nil
}

// scaffoldWords fills the templates in. Package text/template would keep every method of every type in
// the program, and make it half as large again.
func scaffoldWords(id string, effect policies.Effect) *strings.Replacer {
	const reason = "Deployment shop/web has the label example.com/hold=true on its pods; remove the label to let them be evicted"
	verb, does, enforcement, outcome := "Denies", "denies", policies.Enforce, policies.Denied
	expected := fmt.Sprintf("      code: 403\n      message: %s (policy %s)", reason, id)
	switch effect {
	case policies.Delay:
		verb, does, outcome = "Delays", "delays", policies.Delayed
		expected = strings.Replace(expected, "403", "429", 1)
	case policies.Warning:
		verb, does, enforcement, outcome = "Warns of", "warns of", policies.Warn, policies.Admitted
		expected = fmt.Sprintf("      warnings: [%q]", reason)
	}
	return strings.NewReplacer(
		"<<id>>", id, "<<effect>>", string(effect), "<<enforcement>>", string(enforcement),
		"<<verb>>", verb, "<<does>>", does, "<<test>>", strings.ReplaceAll(does, " ", "_"),
		"<<outcome>>", string(outcome), "<<expected>>", expected,
	)
}
