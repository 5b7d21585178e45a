package policies

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/evictgate/evictgate/policies/internal/limits"
)

const mixed = `deny contains $"{_limit} {_twice(_limit)} {_name} {_elsewhere}" if _open

warn contains "unreadable" if not is_number(input.parameters.limit)

default _limit := 1

_limit := input.parameters.limit if is_number(input.parameters.limit)

_twice(n) := n * 2

_name := input.request.name

_named if _name == "x"

_open if _now > 0

_now := time.now_ns()

_elsewhere := n if {
	n := _limit with input.parameters.limit as 9
}
`

func TestConstantRulesReadTheParametersAlone(t *testing.T) {
	set := compiled(t, policy("x", mixed))
	got := map[string]bool{}
	for _, ref := range set.constantRules("x") {
		got[ref.String()] = true
	}
	want := map[string]bool{"data.eviction.x.warn": true, "data.eviction.x._limit": true, "data.eviction.x._elsewhere": true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestConstantsChangeNoDecision(t *testing.T) {
	for name, rego := range map[string]string{
		"rules of all kinds":                      mixed,
		"a constant that fails, and is not asked": "deny contains \"x\" if {\n\tinput.request.name == \"other\"\n\t_bad\n}\n\n_bad if time.parse_duration_ns(\"x\") > 0",
		"a constant that fails":                   "deny contains \"x\" if _bad\n\n_bad if time.parse_duration_ns(\"x\") > 0",
		"a constant that conflicts":               "deny contains \"x\" if _bad\n\n_bad := 1 if true\n\n_bad := 2 if true",
		"a constant that is undefined":            "deny contains \"x\" if not _no\n\n_no if input.parameters.no",
		"another input below with":                "deny contains \"x\" if _limit == 9 with input.parameters.limit as 9\n\n_limit := input.parameters.limit",
	} {
		t.Run(name, func(t *testing.T) {
			set := compiled(t, bind("x", "parameters: {limit: 3}\n"+inline("x", rego)))
			got := set.Evaluate(t.Context(), inputFor(), patient)
			for _, p := range set.bound {
				p.constants, p.memo = nil, nil
			}
			if diff := cmp.Diff(set.Evaluate(t.Context(), inputFor(), patient), got, decisionOnly); diff != "" {
				t.Errorf("-without constants +with:\n%s", diff)
			}
		})
	}
}

func TestTheLibraryIsDecidedAlikeWithoutConstants(t *testing.T) {
	set := librarySets(t)[1]
	bare := forgetful(set)
	for _, p := range bare.bound {
		if p.constants == nil {
			t.Errorf("policy %s has a rule that fails on its parameters", p.Name)
		}
		p.constants = nil
	}
	for i := range 200 {
		in := evictable(func(n int) int { return (i * 31 >> (n + i%5)) % (n + 1) })
		if diff := cmp.Diff(bare.Evaluate(t.Context(), in, patient), set.Evaluate(t.Context(), in, patient), decisionOnly); diff != "" {
			t.Fatalf("input %d -without constants +with:\n%s", i, diff)
		}
	}
}

func TestConstantsDoNotHoldBelowWith(t *testing.T) {
	set := compiled(t, bind("x", "parameters: {limit: 3}\n"+inline("x", "deny contains $\"{_limit}\" if true\n\n_limit := input.parameters.limit")))
	cache := limits.NewRuleCache(set.constants(set.bound[0]), nil)
	cache.Put(ast.MustParseRef("data.eviction.x._limit"), ast.NumberTerm("3"))
	ref := ast.MustParseRef("data.eviction.x._limit")
	if value, _ := cache.Get(ref); value == nil || value.String() != "3" {
		t.Errorf("_limit is %v, want 3", value)
	}
	cache.Push()
	if value, undefined := cache.Get(ref); value != nil || undefined {
		t.Errorf("below with, _limit is %v", value)
	}
	cache.Pop()
	if value, _ := cache.Get(ref); value == nil {
		t.Error("after with, _limit is forgotten")
	}
}
