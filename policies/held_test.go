package policies

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
)

// TestWhatIsReadOfAnInputReadBack is what a replay rests on: what policies see of a record's input is what
// policies saw of the Input. Only leaves are compared: a map that lost its other keys is empty, and left out.
func TestWhatIsReadOfAnInputReadBack(t *testing.T) {
	leaves := 0
	rapid.Check(t, func(t *rapid.T) {
		in := anyInput().Draw(t, "input")
		in.Parameters = nil
		withoutZeroTimes(reflect.ValueOf(in))
		full, err := appendProjection(in)
		if err != nil {
			t.Fatalf("project: %v", err)
		}
		needs := needsOf(t, parsed(t, full))
		before := projectionOf(t, needs, in)
		back, err := ParseInput(before.json)
		if err != nil {
			t.Fatalf("parse: %v in %s", err, before.json)
		}
		after := projectionOf(t, needs, back)
		for _, n := range leavesOf(needs) {
			if diff := cmp.Diff(string(before.at(n.place)), string(after.at(n.place))); diff != "" {
				t.Fatalf("of %q -before +after:\n%s", needs.Refs(), diff)
			}
			leaves++
		}
	})
	if leaves < 100 {
		t.Errorf("only %d leaves were compared", leaves)
	}
}

// withoutZeroTimes takes pointers to zero times away: null in JSON, they are never read from any.
func withoutZeroTimes(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		switch at := v.Interface().(type) {
		case *metav1.Time:
			if at.IsZero() {
				v.SetZero()
			}
		case *metav1.MicroTime:
			if at.IsZero() {
				v.SetZero()
			}
		default:
			if !v.IsNil() {
				withoutZeroTimes(v.Elem())
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			withoutZeroTimes(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				withoutZeroTimes(v.Field(i))
			}
		}
	}
}

func projectionOf(t *rapid.T, n *Needs, in *Input) *projection {
	p := &projection{places: make([]span, n.places)}
	if err := n.projector(reflect.TypeFor[Input]())(p, reflect.ValueOf(in).Elem()); err != nil {
		t.Fatalf("project: %v", err)
	}
	return p
}

func leavesOf(n *Needs) []*Needs {
	if n.whole {
		return []*Needs{n}
	}
	var list []*Needs
	for _, k := range n.names {
		list = append(list, leavesOf(k.need)...)
	}
	return list
}

func TestARefReadBackIsItsPath(t *testing.T) {
	key := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"pod", "a/b", "", "1st", `"]`, "x.y", "_a", "é"}))
	rapid.Check(t, func(t *rapid.T) {
		path := rapid.SliceOfN(key, 0, 4).Draw(t, "path")
		for i := range path {
			path[i] = strings.ToValidUTF8(path[i], "?")
		}
		got, err := ParseRef(refText(path))
		if diff := cmp.Diff(path, got, cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Fatalf("%s: %v -want +got:\n%s", refText(path), err, diff)
		}
	})
}

func TestWhatIsNoRef(t *testing.T) {
	for _, text := range []string{"", "data.x", "inputs", "input.", "input..a", "input.a.", "input.a b", "input[a]", `input["a"`, `input["a`, "input[`a`]", "input[]", `input["a"]b`, "input.1"} {
		if path, err := ParseRef(text); err == nil {
			t.Errorf("%q is read as %q", text, path)
		}
	}
}

func FuzzParseRef(f *testing.F) {
	f.Add(`input.pod.metadata.labels["a/b"]`)
	f.Add(`input["\xff"].x`)
	f.Fuzz(func(t *testing.T, text string) {
		path, err := ParseRef(text)
		if err != nil {
			return
		}
		again, err := ParseRef(refText(path))
		if err != nil || !slices.Equal(path, again) {
			t.Errorf("%q is %q, and written again %q (%v)", text, path, again, err)
		}
	})
}

// holdings are refs that are held, depths of the lists of the history, and labels of neighbours.
type holdings struct {
	refs   []string
	depth  int
	labels []string
}

func (h holdings) Holds(path ...string) bool {
	return slices.ContainsFunc(h.refs, func(ref string) bool {
		at, err := ParseRef(ref)
		return err == nil && len(path) >= len(at) && slices.Equal(at, path[:len(at)])
	})
}
func (h holdings) HoldsHistory(_ string, depth int) bool { return depth <= h.depth }
func (h holdings) HoldsNeighbours(by NeighbourLabels) bool {
	return !by.All && !slices.ContainsFunc(by.Labels, func(l string) bool { return !slices.Contains(h.labels, l) })
}

func TestGaps(t *testing.T) {
	const zone = "deny contains \"x\" if input.node.labels.zone == \"a\""
	limits := func(max int) string {
		return fmt.Sprintf("library: rate_limit\nparameters: {limits: [{per: owner, max: %d, period: 1h}]}", max)
	}
	gang := "library: gang\nparameters: {labels: [gang]}"
	gangRefs := []string{"input.pod", "input.request", "input.owner", "input.node", "input.peers", "input.neighbours"}
	// The eviction is of pod app=web in namespace tier=prod, by user admin of group ops.
	for name, tt := range map[string]struct {
		spec   string
		change func(*Input)
		held   holdings
		want   []string
	}{
		"what is held is not a gap":           {spec: inline("x", zone), held: holdings{refs: []string{"input.node.labels"}}},
		"what is not held is":                 {spec: inline("x", zone), held: holdings{refs: []string{"input.node.labels.rack"}}, want: []string{"input.node.labels.zone"}},
		"a pod that no policy is asked about": {spec: inline("x", zone), change: func(in *Input) { in.Pod.DeletionTimestamp = &noon }},
		"an unknown pod":                      {spec: inline("x", zone), change: func(in *Input) { in.Pod = nil }},
		"the parameters are the binding's":    {spec: "parameters: {a: 1}\n" + inline("x", "deny contains \"x\" if input.parameters.a == 1")},
		"the whole input":                     {spec: inline("x", "deny contains \"x\" if object.get(input, \"x\", 1) == 1"), held: holdings{refs: []string{"input.pod"}}, want: []string{"input"}},
		"a match that leaves the pod out": {
			spec: "match:\n  podSelector: {matchLabels: {app: db}}\n" + inline("x", zone),
			held: holdings{refs: []string{"input.pod.metadata.labels.app"}},
		},
		"a match that is not known": {
			spec: "match:\n  podSelector: {matchLabels: {app: db}}\n" + inline("x", zone),
			held: holdings{refs: []string{"input.node", "input.pod.metadata.labels.other"}}, want: []string{"input.pod.metadata.labels.app"},
		},
		"a match of which one part leaves the pod out": {
			spec: "match:\n  podSelector: {matchLabels: {app: db}}\n  evictors: [{user: root}]\n" + inline("x", zone),
			held: holdings{refs: []string{"input.request"}},
		},
		"an exclude that leaves the pod out": {
			spec: "match:\n  excludes: [{podSelector: {matchLabels: {app: web}}}, {namespaceSelector: {matchLabels: {a: b}}}]\n" + inline("x", zone),
			held: holdings{refs: []string{"input.pod.metadata.labels"}},
		},
		"an exclude that is not known": {
			spec: "match:\n  excludes: [{namespaceSelector: {matchLabels: {a: b}}}]\n" + inline("x", zone),
			held: holdings{refs: []string{"input.node"}}, want: []string{"input.namespace.labels.a"},
		},
		"any namespace, which must be known": {
			spec: "match:\n  namespaceSelector: {}\n" + inline("x", zone),
			held: holdings{refs: []string{"input.node"}}, want: []string{"input.namespace.labels"},
		},
		"a pod's state": {
			spec: "match:\n  podState: {crashLooping: true}\n" + inline("x", zone),
			held: holdings{refs: []string{"input.node"}}, want: []string{"input.pod.metadata.creationTimestamp", "input.pod.status"},
		},
		"holds, for maxHold": {
			spec: "maxHold: 1h\n" + inline("x", zone),
			held: holdings{refs: []string{"input.node"}}, want: []string{"input.history.holds"},
		},
		"a history that is deep enough":    {spec: limits(3), held: holdings{refs: []string{"input"}, depth: 3}},
		"a history that is not":            {spec: limits(4), held: holdings{refs: []string{"input"}, depth: 3}, want: []string{"input.history.owner"}},
		"the neighbours of the same label": {spec: gang, held: holdings{refs: gangRefs, labels: []string{"gang"}}},
		"the neighbours of another label":  {spec: gang, held: holdings{refs: gangRefs, labels: []string{"other"}}, want: []string{"input.neighbours"}},
	} {
		t.Run(name, func(t *testing.T) {
			set := compiled(t, bind("x", tt.spec))
			in := inputFor()
			if tt.change != nil {
				tt.change(in)
			}
			var got []string
			for _, g := range set.Gaps(in, tt.held) {
				if g.Policy != "x" {
					t.Errorf("a gap of policy %s", g.Policy)
				}
				got = append(got, g.Ref)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// A set reads what its policies and their matches read: when the refs of a set are held there is no gap.
func TestAWholeRecordHasNoGap(t *testing.T) {
	for _, set := range librarySets(t) {
		all := holdings{refs: set.Refs(), depth: 1 << 62}
		all.labels = set.needs.Neighbours().Labels
		if gaps := set.Gaps(inputFor(), all); len(gaps) > 0 {
			t.Errorf("gaps: %v", gaps)
		}
	}
}
