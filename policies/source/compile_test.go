package source

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/internal/rego"
)

func TestProblemsOfPolicies(t *testing.T) {
	const neither = "is neither a policy, eviction.<id>, nor a helper below lib; write package eviction."
	set := func(name, not string) string {
		return fmt.Sprintf("%s must be a set of violations%s: write `%s contains {\"reason\": …, \"detail\": …} if { … }`", name, not, name)
	}
	module := func(text string) policies.File { return policies.File{Name: "dir/x.rego", Data: []byte(text)} }
	for name, tt := range map[string]struct {
		files []policies.File
		want  []string
	}{
		"a parse error": {
			files: []policies.File{policy("x", "deny contains \"x\" if {\n\tinput.pod.metadata.name ==\n}")},
			want:  []string{"x.rego:5:1: the expression before this } is not finished"},
		},
		"an empty module": {
			files: []policies.File{module("# nothing\n")},
			want:  []string{"dir/x.rego: the file is empty; it must begin with its package: `package eviction.<id>`"},
		},
		"a typo below input names what is meant": {
			files: []policies.File{policy("x", `deny contains "x" if input.pod.metadta.name == "a"`)},
			want:  []string{"x.rego:3:32: input.pod has no field metadta; did you mean metadata?"},
		},
		"a typo in a member of a list": {
			files: []policies.File{policy("x", "deny contains \"x\" if {\n\tsome x in input.peers\n\tx.nmae == \"a\"\n}")},
			want:  []string{"x.rego:5:4: x has no field nmae; did you mean name?"},
		},
		"a package elsewhere": {
			files: []policies.File{module("package other.x\n\ndeny contains \"x\"\n")},
			want:  []string{"dir/x.rego:1:1: package other.x " + neither + "other_x"},
		},
		"a package too deep": {
			files: []policies.File{module("# first\npackage eviction.a.b\n\ndeny contains \"x\"\n")},
			want:  []string{"dir/x.rego:2:1: package eviction.a.b " + neither + "a_b"},
		},
		"ids that could not be queried": {
			files: []policies.File{module("package eviction[\"1st\"]\n\ndeny contains \"x\"\n"), {Name: "y.rego", Data: []byte("package eviction[\"a-b\"]\n\ndeny contains \"x\"\n")}},
			want:  []string{`dir/x.rego:1:1: package eviction["1st"] ` + neither + "_1st", `y.rego:1:1: package eviction["a-b"] ` + neither + "a_b"},
		},
		"an effect that is not a set": {
			files: []policies.File{policy("a", `deny := "x"`), policy("b", `delay if true`), policy("c", `warn[x] := 1 if x := "a"`), policy("d", `deny["a"] contains 1`)},
			want:  []string{"a.rego:3:1: " + set("deny", ", not a string"), "b.rego:3:1: " + set("delay", ", not a boolean"), "c.rego:3:1: " + set("warn", ", not an object"), "d.rego:3:1: " + set("deny", "")},
		},
		"no rule that can hold anything": {
			files: []policies.File{policy("x", `allow := true`)},
			want:  []string{"x.rego:1:1: the policy has none of the rules deny, delay, warn: it can never hold an eviction"},
		},
		"one id twice": {
			files: []policies.File{{Name: "a.rego", Data: policy("x", `deny contains "a"`).Data}, {Name: "b.rego", Data: policy("x", `deny contains "b"`).Data}},
			want:  []string{"b.rego:1:1: policy eviction.x is defined in a.rego, too; give one of them another id"},
		},
		"an own policy with the id of a bound library policy": {
			files: []policies.File{policy("do_not_disrupt", `deny contains "a"`), bind("a", "library: do_not_disrupt")},
			want:  []string{"library/do_not_disrupt.rego:" + packageLine("do_not_disrupt") + ":1: policy eviction.do_not_disrupt is defined in do_not_disrupt.rego, too; give one of them another id"},
		},
		"builtins that a decision must not depend on": {
			files: []policies.File{policy("x", "deny contains \"x\" if http.send({}).status == 200\n\ndeny contains opa.runtime().env\n\ndeny contains \"x\" if rand.intn(\"a\", 3) == 1\n\ndeny contains \"x\" if no.such()")},
			want: []string{
				"x.rego:3:22: function http.send is left out here, since a decision must not depend on the network, the environment or chance",
				"x.rego:5:15: function opa.runtime is left out here, since a decision must not depend on the network, the environment or chance",
				"x.rego:7:22: function rand.intn is left out here, since a decision must not depend on the network, the environment or chance",
				"x.rego:9:22: there is no function no.such",
			},
		},
		"METADATA that contradicts": {
			files: []policies.File{module("\n# METADATA\n# title: X\n# custom:\n#   id: y\n#   enforcement: never\npackage eviction.x\n\ndeny contains \"x\"\n")},
			want: []string{
				"dir/x.rego:5:5: METADATA: custom.id is y, but the package is eviction.x",
				`dir/x.rego:6:5: METADATA: custom.enforcement: invalid enforcement "never": expected enforce, warn or audit`,
			},
		},
		"an unused variable": {
			files: []policies.File{policy("x", `deny contains "x" if { y := 1 }`)},
			want:  []string{"x.rego:3:24: variable y is never used; use it, or leave it out"},
		},
		"an EvictionPolicy with the name of another policy": {
			files: []policies.File{policy("frozen", `deny contains "x"`), bind("frozen", "library: do_not_disrupt")},
			want:  []string{"frozen.yaml:4:3: EvictionPolicy frozen has the name of the policy in frozen.rego, which it does not bind; give it another name"},
		},
		"a typo in a policy that an EvictionPolicy holds": {
			files: []policies.File{bind("a", inline("y", `deny contains input.bad`))},
			want:  []string{"a.yaml:9:25: input has no field bad; there are budgets, claims, cluster, disruption, history, namespace, neighbours, node and others"},
		},
		"several files, all told": {
			files: []policies.File{policy("b", "deny contains x if {"), policy("a", "allow := true"), bind("c", "library: nope"), bind("d", inline("z", "deny contains x if {"))},
			want: []string{
				"c.yaml:6:3: the library has no policy nope; there are " + rego.ShortList(policies.LibraryIDs()),
				"d.yaml:9:24: this { is never closed",
				"a.rego:1:1: the policy has none of the rules deny, delay, warn: it can never hold an eviction",
				"b.rego:3:20: this { is never closed",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Compile(tt.files)
			if diff := cmp.Diff(tt.want, problemLines(t, err)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// packageLine is the line in which a library policy's package stands.
func packageLine(id string) string {
	above, _, _ := strings.Cut(string(policies.LibraryFile(id).Data), "\npackage ")
	return strconv.Itoa(strings.Count(above, "\n") + 2)
}

func TestMetadata(t *testing.T) {
	set := compiled(t, policies.File{Name: "x.rego", Data: []byte(`# METADATA
# title: Hold x
# custom:
#   id: x
#   enforcement: Warn
#   default: true
package eviction.x

deny contains "x"
`)}, policy("bare", `deny contains "x"`), policies.File{Name: "lib.rego", Data: []byte("package lib.names\n\nlong := 63\n")})
	want := []policies.BoundPolicy{
		{Name: "bare", Policy: "bare", Enforcement: policies.Enforce, File: "bare.rego", Effects: []policies.Effect{policies.Deny}},
		{Name: "x", Policy: "x", Title: "Hold x", Enforcement: policies.Warn, Default: true, File: "x.rego", Effects: []policies.Effect{policies.Deny}},
	}
	if diff := cmp.Diff(want, set.Policies(), cmpopts.IgnoreFields(policies.BoundPolicy{}, "Metadata")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A binding replaces the policy by itself, and its enforcement is Enforce unless it says otherwise.
func TestBindings(t *testing.T) {
	set := compiled(t,
		bind("strict", "library: do_not_disrupt\nenforcement: Audit"),
		bind("loose", "library: do_not_disrupt"),
		bind("own", inline("y", `deny contains "x"`)),
		policy("bare", `deny contains "x"`))
	var got []string
	for _, p := range set.Policies() {
		got = append(got, fmt.Sprint(p.Name, " ", p.Policy, " ", p.Enforcement, " ", p.File))
	}
	want := []string{"bare bare enforce bare.rego", "loose do_not_disrupt enforce loose.yaml", "own y enforce own.yaml", "strict do_not_disrupt audit strict.yaml"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestRevision(t *testing.T) {
	base := []policies.File{policy("x", `deny contains "x"`), bind("b", "library: do_not_disrupt\nparameters:\n  effect: deny")}
	revision := compiled(t, base...).Revision()
	if len(revision) != 12 {
		t.Errorf("revision %q has not 12 digits", revision)
	}
	moved := []policies.File{{Name: "/elsewhere/b.yaml", Data: base[1].Data}, {Name: "/elsewhere/x.rego", Data: base[0].Data}}
	if got := compiled(t, moved...).Revision(); got != revision {
		t.Errorf("the same sources elsewhere, in another order, have revision %s, not %s", got, revision)
	}
	seen := map[string]string{revision: "the base"}
	for name, files := range map[string][]policies.File{
		"another rego byte":      {policy("x", `deny contains "y"`), base[1]},
		"another parameter":      {base[0], bind("b", "library: do_not_disrupt\nparameters:\n  effect: delay")},
		"another match":          {base[0], bind("b", "library: do_not_disrupt\nparameters:\n  effect: deny\nmatch:\n  podSelector: {}")},
		"another enforcement":    {base[0], bind("b", "library: do_not_disrupt\nenforcement: Warn\nparameters:\n  effect: deny")},
		"another library policy": {base[0], bind("b", "library: impossible_budget\nparameters:\n  effect: deny")},
		"one policy less":        {base[1]},
	} {
		got := compiled(t, files...).Revision()
		if other, ok := seen[got]; ok {
			t.Errorf("%s has the revision of %s", name, other)
		}
		seen[got] = name
	}
	library, err := policies.Library()
	if err != nil {
		t.Fatal(err)
	}
	shipped, err := policies.Default()
	if err != nil {
		t.Fatal(err)
	}
	if library.Revision() == shipped.Revision() {
		t.Error("the default set and the whole library decide differently, but have one revision")
	}
}
