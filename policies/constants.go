package policies

import (
	"context"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/dependencies"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// constantsTimeout bounds the evaluation of one constant rule.
const constantsTimeout = 100 * time.Millisecond

// constants evaluates, once for a binding, the rules of its policy whose values follow from the
// parameters alone, such as the windows of a freeze_window that can be read: every review begins with
// them. When one of them fails there are none, so that reviews meet the failure and name its line.
func (s *Set) constants(p *boundPolicy) topdown.VirtualCache {
	cache := topdown.NewVirtualCache()
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
	return cache
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
	read, err := dependencies.Base(s.compiler, ast.NewBody(ast.NewExpr(ast.NewTerm(ref))))
	if err != nil {
		return false
	}
	for _, r := range read {
		if !r.HasPrefix(parametersRef) {
			return false
		}
	}
	for _, rule := range s.compiler.GetRulesForVirtualDocument(ref) {
		if s.asksTime(rule, map[*ast.Rule]bool{}) {
			return false
		}
	}
	return true
}

var parametersRef = ast.MustParseRef("input.parameters")

// asksTime reports whether a rule, or one it needs, depends on when it is evaluated. No other builtin
// that a policy may use is nondeterministic.
func (s *Set) asksTime(rule *ast.Rule, seen map[*ast.Rule]bool) bool {
	if seen[rule] {
		return false
	}
	seen[rule] = true
	found := false
	ast.WalkRefs(rule, func(r ast.Ref) bool {
		found = found || r.Equal(ast.NowNanos.Ref())
		return found
	})
	for needed := range s.compiler.Graph.Dependencies(rule) {
		found = found || s.asksTime(needed.(*ast.Rule), seen)
	}
	return found
}

// seededCache holds the values of rules during one evaluation, and begins with constants that others
// share.
type seededCache struct {
	topdown.VirtualCache
	constants topdown.VirtualCache
	// with counts the `with` modifiers under way: below one, the constants need not hold.
	with int
}

func (c *seededCache) Push() {
	c.with++
	c.VirtualCache.Push()
}

func (c *seededCache) Pop() {
	c.with--
	c.VirtualCache.Pop()
}

func (c *seededCache) Get(ref ast.Ref) (value *ast.Term, undefined bool) {
	if c.with == 0 {
		if value, undefined = c.constants.Get(ref); value != nil || undefined {
			return value, undefined
		}
	}
	return c.VirtualCache.Get(ref)
}
