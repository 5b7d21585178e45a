package policies

import (
	"context"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// constantsTimeout bounds the evaluation of one constant rule.
const constantsTimeout = 100 * time.Millisecond

// constants evaluates, once for a binding, the rules of its policy whose values follow from the
// parameters alone, such as the windows of a freeze_window that can be read: every review begins with
// them. When one of them fails there are none, so that reviews meet the failure and name its line.
func (s *Set) constants(p *boundPolicy) *ruleValues {
	cache := newRuleCache(nil)
	input := ast.ObjectTerm([2]*ast.Term{parametersKey, p.parametersTerm})
	for _, ref := range s.constantRules(p.policy) {
		query, err := s.query(ast.NewBody(ast.Equality.Expr(ast.VarTerm("x"), ast.NewTerm(ref))))
		if err != nil {
			return nil
		}
		ctx := context.Background()
		query.WithInput(input).WithVirtualCache(cache).WithCancel(&deadline{ctx: ctx, end: time.Now().Add(constantsTimeout)})
		if _, err := query.Run(ctx); err != nil {
			return nil
		}
	}
	return &cache.frames[0]
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
	read, err := baseRefs(s.compiler, ast.NewBody(ast.NewExpr(ast.NewTerm(ref))))
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

// hiddenClocks are builtins that look at a clock though OPA does not call them nondeterministic: they
// check whether a certificate is valid now.
var hiddenClocks = []string{ast.CryptoX509ParseAndVerifyCertificates.Name, ast.CryptoX509ParseAndVerifyCertificatesWithOptions.Name}

// clocks are all builtins whose results depend on when they are asked.
var clocks = append([]string{ast.NowNanos.Name}, hiddenClocks...)

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
		for _, rule := range s.compiler.GetRulesExact(effectRef(p.policy, effect)) {
			if s.uses(rule, names, map[*ast.Rule]bool{}) {
				return true
			}
		}
	}
	return false
}
