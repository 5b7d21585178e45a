package policies

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Explanation says what one bound policy made of an eviction, rule by rule.
type Explanation struct {
	// Policy is the name of the binding.
	Policy      string      `json:"policy"`
	Enforcement Enforcement `json:"enforcement"`
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
	Effect Effect `json:"effect"`
	// Place is the rule's, as file:row:col.
	Place      string      `json:"place"`
	Violations []Violation `json:"violations"`
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
func (r *Reading) Explain(ctx context.Context, o Options) ([]Explanation, error) {
	if r.err != nil {
		return nil, r.err
	}
	o = o.withDefaults()
	list := make([]Explanation, len(r.set.bound))
	for i, p := range r.set.bound {
		list[i] = Explanation{Policy: p.name, Enforcement: p.enforcement, Excluded: p.excluded(r.input)}
		if list[i].Excluded != "" {
			continue
		}
		for _, effect := range p.effects {
			rules, err := r.explain(ctx, p, effect, o.PolicyTimeout*replayFactor)
			if err != nil {
				return nil, err
			}
			list[i].Rules = append(list[i].Rules, rules...)
		}
	}
	return list, nil
}

// replayFactor is how much longer a traced evaluation may take.
const replayFactor = 20

// excluded says why a policy is not asked about an eviction; empty when it is.
func (p *boundPolicy) excluded(in *Input) string {
	switch {
	case in.Pod == nil:
		return "the pod is not known"
	case in.Pod.DeletionTimestamp != nil:
		return "the pod is terminating, so it is admitted without asking policies"
	case BudgetIgnored(in.Pod):
		return fmt.Sprintf("the pod is %s, so it is admitted without asking policies", in.Pod.Status.Phase)
	case p.match.matches(in):
		return ""
	}
	for i, s := range p.match.excludes {
		if s.covers(in) {
			return fmt.Sprintf("spec.match.excludes[%d] leaves this eviction out", i)
		}
	}
	return "spec.match does not select this eviction: " + p.match.scope.missed(in)
}

// missed names the part of a scope that does not cover the eviction.
func (s scope) missed(in *Input) string {
	for _, part := range []struct {
		scope scope
		text  string
	}{
		{scope{namespace: s.namespace}, fmt.Sprintf("its namespaceSelector (%s) does not select namespace %s", s.namespace, in.Request.Namespace)},
		{scope{pod: s.pod}, fmt.Sprintf("its podSelector (%s) does not select the pod", s.pod)},
		{scope{state: s.state}, "its podState does not fit the pod"},
		{scope{evictors: s.evictors}, fmt.Sprintf("its evictors do not name %s (%s)", in.Request.User.Username, in.Request.Evictor)},
	} {
		if !part.scope.covers(in) {
			return part.text
		}
	}
	return ""
}

// explain replays one effect of a policy. Every rule is tried: neither the index nor an early end hides
// one.
func (r *Reading) explain(ctx context.Context, p *boundPolicy, effect Effect, limit time.Duration) ([]RuleExplanation, error) {
	ref := ast.MustParseRef(fmt.Sprintf("data.eviction.%s.%s", p.policy, effect))
	query, err := r.set.query(ast.NewBody(ast.Equality.Expr(ast.VarTerm("x"), ast.NewTerm(ref))))
	if err != nil {
		return nil, err
	}
	input, err := (&asking{Reading: r}).inputOf(p)
	if err != nil {
		return nil, err
	}
	trace := &ruleTrace{}
	_, err = query.WithInput(input).WithTime(r.input.Now.Truncate(time.Second)).WithIndexing(false).WithEarlyExit(false).
		WithQueryTracer(trace).WithCancel(&deadline{ctx: ctx, end: time.Now().Add(limit)}).Run(ctx)
	failed := ""
	if err != nil {
		failed = describe(err).Error()
	}
	x := &explainer{trace: trace, values: inquiry{ctx: ctx, compiler: r.set.compiler, modules: r.set.modules, input: input, now: r.input.Now.Truncate(time.Second)}}
	rules := r.set.compiler.GetRulesExact(ref)
	list := make([]RuleExplanation, len(rules))
	for i, rule := range rules {
		list[i] = x.rule(p, effect, rule, r.input)
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
	events []*topdown.Event
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
	t.events = append(t.events, &e)
}

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

func (x *explainer) rule(p *boundPolicy, effect Effect, rule *ast.Rule, in *Input) RuleExplanation {
	e := RuleExplanation{Effect: effect, Place: place(rule.Location)}
	for _, event := range x.trace.events {
		if event.Op != topdown.ExitOp || event.Node != ast.Node(rule) {
			continue
		}
		member, err := ast.JSON(x.trace.members[event].Value)
		if err == nil {
			var v Violation
			if v, err = p.violation(effect, member); err == nil {
				e.Violations = append(e.Violations, p.bounded(v, in))
			}
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
	u := &Unmet{Place: place(s.location), Expression: shown(oneLine(string(s.location.Text)), maxSource)}
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

func place(l *ast.Location) string {
	if l == nil {
		return ""
	}
	return fmt.Sprintf("%s:%d:%d", l.File, l.Row, l.Col)
}

// maxSource and maxValue bound what is shown of an expression and of a value, in runes.
const (
	maxSource = 160
	maxValue  = 80
)

// shown cuts text that is too long to read.
func shown(s string, limit int) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > limit {
		return string(r[:limit-1]) + "…"
	}
	return s
}
