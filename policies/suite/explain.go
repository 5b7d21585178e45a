package suite

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/internal/limits"
	"github.com/evictgate/evictgate/policies/internal/opa"
	"github.com/evictgate/evictgate/policies/internal/rego"
)

// Explanation says what one bound policy made of an eviction, rule by rule.
type Explanation struct {
	// Policy is the name of the binding.
	Policy      string               `json:"policy"`
	Enforcement policies.Enforcement `json:"enforcement"`
	// Excluded says why the policy was not asked; empty when it was.
	Excluded string            `json:"excluded"`
	Rules    []RuleExplanation `json:"rules"`
}

// Fired reports whether a rule found something.
func (e Explanation) Fired() bool {
	return slices.ContainsFunc(e.Rules, func(r RuleExplanation) bool { return len(r.Violations) > 0 })
}

// RuleExplanation is one rule of deny, delay or warn: what it found, or where it stopped.
type RuleExplanation struct {
	Effect policies.Effect `json:"effect"`
	// Place is the rule's, as file:row:col.
	Place      string               `json:"place"`
	Violations []policies.Violation `json:"violations"`
	// Unmet is the expression that did not hold; null when the rule found something.
	Unmet *Unmet `json:"unmet"`
	// Error says that the rule failed.
	Error string `json:"error"`
}

// Unmet is an expression that did not hold, the farthest that a rule came.
type Unmet struct {
	Place string `json:"place"`
	// Expression is its source, on one line.
	Expression string `json:"expression"`
	// Why says it with values, for example "3 <= 1 is false"; empty when they are not known.
	Why string `json:"why"`
	// Because explains rules that the expression asks, and that hold nothing.
	Because []Unmet `json:"because"`
}

// Explain replays the evaluation of every bound policy with a tracer, and says of each of its rules what
// it found or at which expression it stopped. It costs many times what Evaluate does.
func Explain(ctx context.Context, r *policies.Reading, o policies.Options) ([]Explanation, error) {
	asked, err := r.Asked()
	if err != nil {
		return nil, err
	}
	list := make([]Explanation, len(asked))
	for i, p := range asked {
		list[i] = Explanation{Policy: p.Name, Enforcement: p.Enforcement, Excluded: p.Excluded}
		if p.Excluded != "" {
			continue
		}
		for _, effect := range p.Effects {
			rules, err := explain(ctx, r, p, effect, cmp.Or(o.PolicySteps, policies.DefaultPolicySteps)*replayFactor)
			if err != nil {
				return nil, err
			}
			list[i].Rules = append(list[i].Rules, rules...)
		}
	}
	return list, nil
}

// replayFactor is how many more steps a traced evaluation may take: it tries every rule.
const replayFactor = 4

// explain replays one effect of a policy. Every rule is tried: neither the index nor an early end hides
// one.
func explain(ctx context.Context, r *policies.Reading, p policies.Asked, effect policies.Effect, steps int) ([]RuleExplanation, error) {
	set, ref := r.Set(), rego.EffectRef(p.Policy, effect)
	query, err := opa.Query(set.Compiler(), ast.NewBody(ast.Equality.Expr(ast.VarTerm("x"), ast.NewTerm(ref))), nil)
	if err != nil {
		return nil, err
	}
	input, err := p.Input()
	if err != nil {
		return nil, err
	}
	allowance := limits.NewAllowance(ctx, steps, p.Weight)
	trace := &ruleTrace{allowance: allowance}
	_, err = query.WithInput(input).WithTime(r.Now()).WithIndexing(false).WithEarlyExit(false).
		WithQueryTracer(trace).WithCancel(allowance).WithVirtualCache(limits.NewRuleCache(nil, allowance)).Run(ctx)
	failed := ""
	if err != nil {
		failed = allowance.Explained(p.File, err).Error()
	}
	x := &explainer{trace: trace, values: inquiry{ctx: ctx, compiler: set.Compiler(), modules: set.Modules(), input: input, now: r.Now()}}
	rules := set.Compiler().GetRulesExact(ref)
	list := make([]RuleExplanation, len(rules))
	for i, rule := range rules {
		list[i] = x.rule(p, effect, rule)
		switch {
		case failed == "":
		case x.last(rules) == rule:
			list[i].Error, list[i].Unmet = failed, nil
		case list[i].Unmet == nil && len(list[i].Violations) == 0:
			list[i].Error = "not tried, since another rule failed"
		}
	}
	return list, nil
}

// ruleTrace keeps what Explain reads of an evaluation: where rules and expressions begin, where rules end,
// and what fails.
type ruleTrace struct {
	// allowance ends a trace that grows too large; nil for no bound.
	allowance *limits.Allowance
	events    []*topdown.Event
	// members are the values with which effect rules ended, by event.
	members map[*topdown.Event]*ast.Term
}

// Enabled is part of topdown.QueryTracer.
func (t *ruleTrace) Enabled() bool { return true }

// Config asks for the values of variables.
func (t *ruleTrace) Config() topdown.TraceConfig { return topdown.TraceConfig{PlugLocalVars: true} }

// TraceEvent is part of topdown.QueryTracer.
func (t *ruleTrace) TraceEvent(e topdown.Event) {
	rule, isRule := e.Node.(*ast.Rule)
	switch {
	case e.Op == topdown.FailOp, e.Op == topdown.EvalOp, e.Op == topdown.EnterOp && isRule:
	case e.Op == topdown.ExitOp && isRule:
		if rule.Head.Key != nil {
			if t.members == nil {
				t.members = map[*topdown.Event]*ast.Term{}
			}
			t.members[&e] = e.Plug(rule.Head.Key) // bindings hold only now
		}
	default:
		return
	}
	if t.events = append(t.events, &e); t.allowance != nil && len(t.events) == maxEvents {
		t.allowance.Stop(fmt.Errorf("explained no farther than %d events", maxEvents))
	}
}

// maxEvents is how much of an evaluation is kept for its explanation.
const maxEvents = 200_000

// explainer reads a trace.
type explainer struct {
	trace *ruleTrace
	// from is the event from which on failures count.
	from   int
	values inquiry
}

// last is that of the rules which was entered last: the one that failed, when the evaluation did.
func (x *explainer) last(rules []*ast.Rule) *ast.Rule {
	for _, event := range slices.Backward(x.trace.events) {
		if rule, ok := event.Node.(*ast.Rule); ok && event.Op == topdown.EnterOp && slices.Contains(rules, rule) {
			return rule
		}
	}
	return nil
}

func (x *explainer) rule(p policies.Asked, effect policies.Effect, rule *ast.Rule) RuleExplanation {
	e := RuleExplanation{Effect: effect, Place: place(rule.Location)}
	for _, event := range x.trace.events {
		if event.Op != topdown.ExitOp || event.Node != ast.Node(rule) {
			continue
		}
		v, err := p.Violation(effect, x.trace.members[event])
		if v.Reason != "" {
			e.Violations = append(e.Violations, v)
		}
		if err != nil {
			e.Error = err.Error()
		}
	}
	if len(e.Violations) == 0 && e.Error == "" {
		e.Unmet = x.unmet(rule, maxBecause)
	}
	return e
}

// maxBecause is how many rules deep an explanation goes.
const maxBecause = 4

// unmet is the expression that a rule came to and no farther; among several values for which it fails,
// the first is told. It is nil when the rule was not entered.
func (x *explainer) unmet(rule *ast.Rule, depth int) *Unmet {
	deepest := x.stop(rule)
	if deepest == nil {
		return nil
	}
	s := newStopped(deepest, rule)
	u := &Unmet{Place: place(s.location), Expression: rego.Shorten(rego.OneLine(string(s.location.Text)), rego.MaxSource)}
	u.Why = x.values.why(s)
	if n := x.alike(deepest); n > 0 && u.Why != "" {
		u.Why += fmt.Sprintf(", nor for %d other %s", n, pluralValue(n))
	}
	if depth > 0 {
		u.Because = x.because(deepest, depth-1)
	}
	return u
}

// stop is the failure farthest in a rule's body.
func (x *explainer) stop(rule *ast.Rule) *topdown.Event {
	var queries []uint64
	var deepest *topdown.Event
	for i, event := range x.trace.events {
		if event.Op == topdown.EnterOp && event.Node == ast.Node(rule) {
			queries = append(queries, event.QueryID)
			continue
		}
		expr, ok := event.Node.(*ast.Expr)
		if event.Op != topdown.FailOp || !ok || i < x.from || !slices.Contains(queries, event.QueryID) {
			continue
		}
		if deepest == nil || expr.Index > deepest.Node.(*ast.Expr).Index {
			deepest = event
		}
	}
	return deepest
}

// alike counts the other failures at the same expression.
func (x *explainer) alike(event *topdown.Event) int {
	n := -1
	for _, other := range x.trace.events {
		if other.Op == topdown.FailOp && other.Node == event.Node && other.QueryID == event.QueryID {
			n++
		}
	}
	return n
}

// because explains the rules that an expression asks when none of them holds anything.
func (x *explainer) because(event *topdown.Event, depth int) []Unmet {
	expr := event.Node.(*ast.Expr)
	if expr.Negated {
		return nil
	}
	during := &explainer{trace: &ruleTrace{events: x.during(event)}, values: x.values}
	var list []Unmet
	for _, rule := range x.asked(expr) {
		within := x
		if len(rule.Head.Args) > 0 { // another call has other arguments
			within = during
		}
		if within.held(rule) {
			return nil
		}
		if u := within.unmet(rule, depth); u != nil {
			list = append(list, *u)
		}
	}
	return list
}

// during are the events from the evaluation of an expression to its failure.
func (x *explainer) during(failure *topdown.Event) []*topdown.Event {
	begin := 0
	for i, e := range x.trace.events {
		switch {
		case e == failure:
			return x.trace.events[begin:i]
		case e.Op == topdown.EvalOp && e.Node == failure.Node && e.QueryID == failure.QueryID:
			begin = i
		}
	}
	return nil
}

// asked lists the rules that an expression refers to, with their else branches.
func (x *explainer) asked(expr *ast.Expr) []*ast.Rule {
	var rules []*ast.Rule
	ast.WalkRefs(expr, func(ref ast.Ref) bool {
		if ref.HasPrefix(ast.DefaultRootRef) {
			for _, rule := range x.values.compiler.GetRulesExact(ref.GroundPrefix()) {
				for ; rule != nil; rule = rule.Else {
					rules = append(rules, rule)
				}
			}
		}
		return false
	})
	return rules
}

// held reports whether a rule came to its end.
func (x *explainer) held(rule *ast.Rule) bool {
	return slices.ContainsFunc(x.trace.events, func(e *topdown.Event) bool {
		return e.Op == topdown.ExitOp && e.Node == ast.Node(rule)
	})
}

func pluralValue(n int) string {
	if n == 1 {
		return "value"
	}
	return "values"
}
