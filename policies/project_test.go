package policies

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
	"pgregory.net/rapid"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

// appendProjection is the whole projection as JSON.
func appendProjection(in *Input) ([]byte, error) {
	return projected(EverythingNeeded(), in)
}

// projected is what n needs of the Input, as JSON.
func projected(n *Needs, in *Input) ([]byte, error) {
	p := projection{places: make([]span, n.places)}
	err := n.projector(reflect.TypeFor[*Input]())(&p, reflect.ValueOf(in))
	return p.json, err
}

func TestTheProjectionIsTheJSONOfTheInput(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := anyInput().Draw(t, "input")
		got, err := appendProjection(in)
		if err != nil {
			t.Fatalf("project: %v", err)
		}
		total(reflect.ValueOf(in))
		want, err := json.Marshal(in)
		if err != nil {
			t.Fatalf("marshal: %v", err)
		}
		if diff := cmp.Diff(parsed(t, want), parsed(t, got)); diff != "" {
			t.Fatalf("-json +projection:\n%s", diff)
		}
	})
}

// needsOf draws some paths of a JSON value, and a strange one that is not there.
func needsOf(t *rapid.T, value any) *Needs {
	var refs []ast.Ref
	for range rapid.IntRange(0, 6).Draw(t, "refs") {
		ref := ast.Ref{ast.InputRootDocument}
		at, ok := value.(map[string]any)
		for ok && len(at) > 0 && (len(ref) == 1 || rapid.IntRange(0, 3).Draw(t, "deeper") > 0) {
			key := rapid.SampledFrom(sortedKeys(at)).Draw(t, "key")
			ref = append(ref, ast.StringTerm(key))
			at, ok = at[key].(map[string]any)
		}
		if rapid.IntRange(0, 9).Draw(t, "absent") == 0 {
			ref = append(ref, ast.StringTerm("not there"))
		}
		refs = append(refs, ref)
	}
	return NeedsOf(refs)
}

// cut leaves of a JSON value what the needs read; a list is read whole.
func cut(value any, n *Needs) any {
	object, ok := value.(map[string]any)
	if !ok || n.whole {
		return value
	}
	kept := map[string]any{}
	for _, k := range n.names {
		if below, ok := object[k.name]; ok {
			kept[k.name] = cut(below, k.need)
		}
	}
	return kept
}

func TestAPrunedProjectionIsTheFullOneCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := anyInput().Draw(t, "input")
		full, err := appendProjection(in)
		if err != nil {
			t.Fatalf("project: %v", err)
		}
		// A type with its own JSON cannot be cut, and no policy can read below it.
		in.Parameters = nil
		needs := needsOf(t, parsed(t, full))
		pruned, err := projected(needs, in)
		if err != nil {
			t.Fatalf("project: %v", err)
		}
		if full, err = appendProjection(in); err != nil {
			t.Fatalf("project: %v", err)
		}
		if diff := cmp.Diff(cut(parsed(t, full), needs), parsed(t, pruned)); diff != "" {
			t.Fatalf("needs %q -cut +pruned:\n%s", needs.Refs(), diff)
		}
	})
}

func TestNeeds(t *testing.T) {
	for name, tt := range map[string]struct {
		refs      []string
		wantRefs  []string
		reads     [][]string
		readsNot  [][]string
		wantWhole bool
	}{
		"no ref reads nothing": {
			readsNot: [][]string{{"pod"}, {"request", "name"}},
		},
		"a ref reads what is above and below it": {
			refs:     []string{"input.pod.metadata.labels"},
			wantRefs: []string{"input.pod.metadata.labels"},
			reads:    [][]string{{"pod"}, {"pod", "metadata"}, {"pod", "metadata", "labels", "app"}},
			readsNot: [][]string{{"pod", "spec"}, {"node"}},
		},
		"a shorter ref takes in a longer one": {
			refs:     []string{"input.pod.metadata.labels.app", "input.pod.metadata", "input.owner.uid"},
			wantRefs: []string{"input.owner.uid", "input.pod.metadata"},
			reads:    [][]string{{"pod", "metadata", "name"}},
			readsNot: [][]string{{"owner", "name"}},
		},
		"a variable reads all below its place": {
			refs:     []string{"input.peers[i].name", "input.pod.metadata.annotations[k]"},
			wantRefs: []string{"input.peers", "input.pod.metadata.annotations"},
		},
		"the input as such reads everything": {
			refs:     []string{"input", "input.pod"},
			wantRefs: []string{"input"},
			reads:    [][]string{{"history"}, {"pod", "spec"}},
		},
		"data is not input": {
			refs:     []string{"data.lib.x"},
			readsNot: [][]string{{"lib"}},
		},
		"strange keys are quoted": {
			refs:     []string{`input.pod.metadata.annotations["karpenter.sh/do-not-disrupt"]`, `input.pod.metadata.labels["1st"]`, `input.pod.metadata.labels["a\"b"]`, `input.pod.metadata.labels[""]`},
			wantRefs: []string{`input.pod.metadata.annotations["karpenter.sh/do-not-disrupt"]`, `input.pod.metadata.labels[""]`, `input.pod.metadata.labels["1st"]`, `input.pod.metadata.labels["a\"b"]`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var refs []ast.Ref
			for _, r := range tt.refs {
				if r == "input" {
					refs = append(refs, ast.Ref{ast.InputRootDocument})
					continue
				}
				refs = append(refs, ast.MustParseRef(r))
			}
			n := NeedsOf(refs)
			if diff := cmp.Diff(tt.wantRefs, n.Refs()); diff != "" {
				t.Errorf("refs -want +got:\n%s", diff)
			}
			for _, path := range tt.reads {
				if !n.Reads(path...) {
					t.Errorf("does not read %q", path)
				}
			}
			for _, path := range tt.readsNot {
				if n.Reads(path...) {
					t.Errorf("reads %q", path)
				}
			}
		})
	}
}

// What a set reads comes from its rules, through helpers and functions, too.
func TestASetReadsWhatItsRulesRead(t *testing.T) {
	set := compiled(t, File{Name: "x.rego", Data: []byte(`package eviction.x

deny contains $"{_label} on {input.node.name}" if {
	some peer in input.peers
	_zone(peer) != input.pod.metadata.annotations["evictgate.dev/zone"]
}

_label := input.pod.metadata.labels.app

_zone(p) := p.zone

_unused := input.history
`)})
	want := []string{"input.node.name", "input.peers", `input.pod.metadata.annotations["evictgate.dev/zone"]`, "input.pod.metadata.labels.app"}
	if diff := cmp.Diff(want, set.Refs()); diff != "" {
		t.Errorf("refs -want +got:\n%s", diff)
	}
	in := inputFor(func(in *Input) { in.Pod.Labels["other"] = "x"; in.Peers = []Peer{{Name: "web-1"}} })
	raw, err := set.Read(in).JSON()
	if err != nil {
		t.Fatal(err)
	}
	wantInput := `{"node": null, "peers": [{"name": "web-1", "node": "", "zone": "", "node_unschedulable": false, "ready": false, "phase": "", "terminating": false}],
		"pod": {"metadata": {"labels": {"app": "web"}}}}`
	if diff := cmp.Diff(parsed(t, []byte(wantInput)), parsed(t, raw)); diff != "" {
		t.Errorf("input -want +got:\n%s", diff)
	}
}
