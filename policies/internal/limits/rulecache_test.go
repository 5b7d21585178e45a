package limits

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"pgregory.net/rapid"
)

// TestTheRuleCacheIsLikeOPAs compares the two over any series of calls.
func TestTheRuleCacheIsLikeOPAs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ours, opas := NewRuleCache(nil, nil), topdown.NewVirtualCache()
		depth := 0
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				ref, term := anyRule(t), ast.InternedTerm(rapid.IntRange(0, 9).Draw(t, "value"))
				if known, undefined := opas.Get(ref); undefined || (known == nil && rapid.IntRange(0, 3).Draw(t, "undefined") == 0) {
					term = nil // OPA never finds a value for what was undefined
				}
				ours.Put(ref, term)
				opas.Put(ref, term)
				ref[2] = ast.StringTerm("OPA goes on to use it")
			},
			"get": func(t *rapid.T) {
				ref := anyRule(t)
				want, wantUndefined := opas.Get(ref)
				if got, undefined := ours.Get(ref); got != want || undefined != wantUndefined {
					t.Fatalf("%v is %v (undefined %t), want %v (%t)", ref, got, undefined, want, wantUndefined)
				}
			},
			"push": func(*rapid.T) { depth++; ours.Push(); opas.Push() },
			"pop": func(t *rapid.T) {
				if depth == 0 {
					t.Skip("nothing to pop")
				}
				depth--
				ours.Pop()
				opas.Pop()
			},
			"": func(t *rapid.T) {
				if diff := cmp.Diff(sortedRefs(opas.Keys()), sortedRefs(ours.Keys())); diff != "" {
					t.Fatalf("keys -want +got:\n%s", diff)
				}
			},
		})
	})
}

// anyRule is one of more rules than the list holds, some with a key.
func anyRule(t *rapid.T) ast.Ref {
	ref := ast.MustParseRef(fmt.Sprintf("data.eviction.x.r%d", rapid.IntRange(0, manyValues*2).Draw(t, "rule")))
	if rapid.IntRange(0, 3).Draw(t, "keyed") == 0 {
		ref = append(ref, ast.InternedTerm(rapid.IntRange(0, 2).Draw(t, "key")))
	}
	return slices.Clip(ref)
}

func sortedRefs(refs []ast.Ref) string {
	var list []string
	for _, r := range refs {
		list = append(list, r.String())
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}
