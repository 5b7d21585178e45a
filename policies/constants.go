package policies

import (
	"context"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/evictgate/evictgate/policies/internal/limits"
	"github.com/evictgate/evictgate/policies/internal/rego"
)

// constantsTime is how long a binding's constants may take to be worked out ahead; reviews can do without.
const constantsTime = time.Second

// constants evaluates, once for a binding, the rules of its policy whose values follow from the
// parameters alone, such as the windows of a freeze_window that can be read: every review begins with
// them. When one of them fails, or all of them take more than one policy may, there are none, so that
// reviews meet the failure and name its line.
func (s *Set) constants(p *boundPolicy) *limits.RuleValues {
	ctx, cancel := context.WithTimeout(context.Background(), constantsTime)
	defer cancel()
	allowance := limits.NewAllowance(ctx, DefaultPolicySteps, p.weight)
	cache := limits.NewRuleCache(nil, allowance)
	input := ast.ObjectTerm([2]*ast.Term{parametersKey, p.parametersTerm})
	for _, ref := range s.constantRules(p.Policy) {
		query, err := s.query(ast.NewBody(ast.Equality.Expr(ast.VarTerm("x"), ast.NewTerm(ref))))
		if err != nil {
			return nil
		}
		query.WithInput(input).WithVirtualCache(cache).WithCancel(allowance)
		if _, err := query.Run(allowance.Ctx); err != nil || allowance.Over {
			return nil
		}
	}
	return cache.Values()
}

// constantRules are the rules of a policy, but for functions, that read nothing but the parameters.
func (s *Set) constantRules(id string) []ast.Ref {
	var refs []ast.Ref
	seen := map[string]bool{}
	for _, rule := range s.compiler.GetRulesWithPrefix(ast.MustParseRef("data.eviction." + id)) {
		ref := rule.Ref().GroundPrefix()
		if len(rule.Head.Args) == 0 && !seen[ref.String()] && s.isConstant(ref) {
			refs = append(refs, ref)
		}
		seen[ref.String()] = true
	}
	return refs
}

func (s *Set) isConstant(ref ast.Ref) bool {
	read, err := s.base(ast.NewBody(ast.NewExpr(ast.NewTerm(ref))))
	if err != nil {
		return false
	}
	for _, r := range read {
		if !r.HasPrefix(parametersRef) {
			return false
		}
	}
	for _, rule := range s.compiler.GetRulesForVirtualDocument(ref) {
		if s.uses(rule, clocks, map[*ast.Rule]bool{}) {
			return false
		}
	}
	return true
}

var parametersRef = ast.MustParseRef("input.parameters")

// clocks are the builtins whose results depend on when they are asked.
var clocks = []string{ast.NowNanos.Name}

// uses reports whether a rule, or one it needs, has one of these builtins.
func (s *Set) uses(rule *ast.Rule, names []string, seen map[*ast.Rule]bool) bool {
	if seen[rule] {
		return false
	}
	seen[rule] = true
	found := false
	ast.WalkRefs(rule, func(r ast.Ref) bool {
		found = found || slices.Contains(names, r.String())
		return found
	})
	for needed := range s.compiler.Graph.Dependencies(rule) {
		found = found || s.uses(needed.(*ast.Rule), names, seen)
	}
	return found
}

// asks reports whether the effects of a policy depend on one of these builtins.
func (s *Set) asks(p *boundPolicy, names []string) bool {
	for _, effect := range p.effects {
		for _, rule := range s.compiler.GetRulesExact(rego.EffectRef(p.Policy, effect)) {
			if s.uses(rule, names, map[*ast.Rule]bool{}) {
				return true
			}
		}
	}
	return false
}
