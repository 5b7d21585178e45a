package evictionpolicy

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
)

// unit makes the unit of an EvictionPolicy with that spec, in YAML.
func unit(t testing.TB, name, spec string) source.Unit {
	t.Helper()
	return unitOf(evp(t, name, spec))
}

func evp(t testing.TB, name, spec string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	text := fmt.Sprintf("apiVersion: evictgate.dev/v1alpha1\nkind: EvictionPolicy\nmetadata: {name: %s}\nspec:\n  %s\n", name, strings.ReplaceAll(strings.TrimSpace(spec), "\n", "\n  "))
	data, err := yaml.YAMLToJSON([]byte(text))
	if err == nil {
		err = o.UnmarshalJSON(data) // as a client reads it
	}
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func compile(u source.Unit) policies.Problems {
	_, err := source.Compile(u.Files)
	var problems policies.Problems
	errors.As(err, &problems)
	return problems
}

func TestProblemsStandAtTheAuthorsPlace(t *testing.T) {
	for name, c := range map[string]struct {
		spec string
		want []string
	}{
		"a type error in Rego": {
			"rego: |\n  package eviction.a\n  deny contains nope(1)",
			[]string{"spec.rego:2:15: there is no function nope"},
		},
		"two errors in Rego": {
			"rego: |\n  package eviction.a\n  deny contains nope(1)\n  delay contains neither(1)",
			[]string{"spec.rego:2:15: there is no function nope", "spec.rego:3:16: there is no function neither"},
		},
		"a bracket that is never closed": {"rego: |\n  package eviction.a\n  deny contains (", []string{"spec.rego:2:15: this ( is never closed"}},
		"no package at all":              {"rego: '# nothing'", []string{"spec.rego: the file is empty; it must begin with its package: `package eviction.<id>`"}},
		"a parameter":                    {"library: last_ready_replica\nparameters: {min_ready: two}", []string{"spec.parameters.min_ready: parameter min_ready: Invalid type. Expected: integer, given: string"}},
		"a field in a message":           {"library: freeze_window\nmaxHold: -1s", []string{"spec.maxHold: is -1s; give a time such as 24h, or leave it out for no limit"}},
		"a list's member":                {"library: freeze_window\nmatch: {excludes: [{}]}", []string{"spec.match.excludes[0]: is empty and would exclude every eviction; name a namespaceSelector, podSelector, podState or evictors"}},
		"neither of two fields":          {"enforcement: Warn", []string{"spec: has neither library, the id of a shipped policy, nor rego, a policy of your own; set one of them"}},
		"a field nobody knows":           {"library: freeze_window\nmode: hard", []string{"spec.mode: there is no field spec.mode; there are enforcement, library, match, maxHold, parameters, rego"}},
		"a value of another type":        {"library: freeze_window\nmaxHold: 1d", []string{`spec.maxHold: must be a time such as 24h or 90m, not "1d"; the longest unit is h`}},
	} {
		t.Run(name, func(t *testing.T) {
			u := unit(t, "x", c.spec)
			if diff := cmp.Diff(strings.Join(c.want, "\n"), linesOf(u, compile(u))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAProblemBesideOthersIsAboutTheWholePolicy(t *testing.T) {
	u := unit(t, "x", "library: freeze_window")
	got := findingOf(u, policies.Problem{File: "EvictionPolicy/x", Message: "it cannot stand beside EvictionPolicy/y of cluster"})
	if want := "spec: it cannot stand beside EvictionPolicy/y of cluster"; got.AtField() != want {
		t.Errorf("%q", got)
	}
}

func TestAnotherFilesProblemKeepsItsPlace(t *testing.T) {
	u := unit(t, "x", "library: freeze_window")
	got := findingOf(u, policies.Problem{File: "policies/a.rego", Row: 3, Col: 1, Message: "policy eviction.a is defined in EvictionPolicy/x, too"})
	if want := "spec: policies/a.rego:3:1: policy eviction.a is defined in EvictionPolicy/x, too"; got.AtField() != want {
		t.Errorf("%q", got)
	}
}

func TestManyProblemsAreCutShort(t *testing.T) {
	u := unit(t, "x", "library: freeze_window")
	problems := make(policies.Problems, maxFindings+7)
	text := linesOf(u, problems)
	if n := strings.Count(text, "\n"); n != maxFindings || !strings.HasSuffix(text, "\nand 7 more") {
		t.Errorf("%d lines: …%s", n+1, text[len(text)-40:])
	}
}

func TestAUnitIsWhatItsAuthorWrote(t *testing.T) {
	here := evp(t, "x", "library: freeze_window\nnew_field: 1\nparameters: {a: 1.5, b: 9007199254740993, text: \"<&> \\u2028 ---\"}")
	there := here.DeepCopy()
	there.SetUID("u")
	there.SetGeneration(7)
	there.SetLabels(map[string]string{"team": "shop"})
	there.Object["status"] = map[string]any{"revision": "r"}
	want := source.Unit{Name: "EvictionPolicy/x", Files: []policies.File{{
		Name: "EvictionPolicy/x", Object: true,
		Data: []byte(`{"apiVersion":"evictgate.dev/v1alpha1","kind":"EvictionPolicy","metadata":{"name":"x"},"spec":{"library":"freeze_window","new_field":1,"parameters":{"a":1.5,"b":9007199254740993,"text":"\u003c\u0026\u003e \u2028 ---"}}}`),
	}}}
	for _, o := range []*unstructured.Unstructured{here, there} {
		if diff := cmp.Diff(want, unitOf(o)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}
