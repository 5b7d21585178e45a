package policies

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// BudgetMode says who refuses when a budget blocks.
type BudgetMode string

const (
	// AnswerBudgets refuses with the explanation, before the API server does.
	AnswerBudgets BudgetMode = "answer"
	// AdviseBudgets admits, explains in a warning and lets the API server refuse.
	AdviseBudgets BudgetMode = "advise"
)

// OnError says what an undecided review is answered.
type OnError string

const (
	// OnErrorDelay answers 429: every client comes back.
	OnErrorDelay OnError = "delay"
	// OnErrorDeny answers 403.
	OnErrorDeny OnError = "deny"
	// OnErrorAdmit admits.
	OnErrorAdmit OnError = "admit"
)

// DefaultPolicyTimeout bounds the evaluation of one policy. A policy takes well under a millisecond;
// the bound leaves room for the others within the API server's webhook timeout.
const DefaultPolicyTimeout = 500 * time.Millisecond

// Options are the settings of a decision. The zero value is the default.
type Options struct {
	Budgets       BudgetMode
	OnError       OnError
	PolicyTimeout time.Duration
	// Override says who may override policies; nobody by default.
	Override OverrideRule
}

func (o Options) withDefaults() Options {
	if o.Budgets == "" {
		o.Budgets = AnswerBudgets
	}
	if o.OnError == "" {
		o.OnError = OnErrorDelay
	}
	if o.PolicyTimeout == 0 {
		o.PolicyTimeout = DefaultPolicyTimeout
	}
	return o
}

// Reading is one Input as the policies of a set are given it: reduced to what they read.
type Reading struct {
	set   *Set
	input *Input
	value *ast.Term
	err   error
}

// Read converts what the set's policies read of the Input: once, for all of them and for the record.
func (s *Set) Read(in *Input) *Reading {
	r := &Reading{set: s, input: in}
	own := *in
	own.Parameters = nil // a policy is given those of its binding
	r.value, r.err = s.project(reflect.ValueOf(&own).Elem())
	return r
}

// JSON is the reading as JSON: the input of a record.
func (r *Reading) JSON() ([]byte, error) {
	if r.err != nil {
		return nil, r.err
	}
	return appendJSON(make([]byte, 0, 1024), r.value.Value), nil
}

// Refs lists the input paths that the reading holds, sorted.
func (r *Reading) Refs() []string { return r.set.Refs() }

// Evaluate decides one eviction: see Reading.Evaluate.
func (s *Set) Evaluate(ctx context.Context, in *Input, o Options) *Decision {
	return s.Read(in).Evaluate(ctx, o)
}

// Evaluate decides one eviction: every bound policy that matches is asked, whatever the others say,
// and their violations are weighed with the budgets' answer. It never fails: a policy that cannot be
// evaluated is a Failure in the decision.
func (r *Reading) Evaluate(ctx context.Context, o Options) *Decision {
	o = o.withDefaults()
	start := time.Now()
	d := &Decision{Disruption: r.input.Disruption, Revision: r.set.revision}
	if r.input.Pod != nil && !BudgetIgnored(r.input.Pod) {
		r.ask(ctx, o.PolicyTimeout, d)
	}
	conclude(d, r.input, o)
	d.Duration = time.Since(start)
	return d
}

// ask evaluates every policy and adds violations and failures to d.
func (r *Reading) ask(ctx context.Context, limit time.Duration, d *Decision) {
	for _, p := range r.set.bound {
		if !p.match.matches(r.input) {
			continue
		}
		violations, err := p.evaluate(ctx, r, limit)
		if err != nil {
			d.Failures = append(d.Failures, Failure{Policy: p.name, Enforcement: p.enforcement, Error: err.Error()})
		}
		for _, v := range violations {
			d.Violations = append(d.Violations, p.bounded(v, r.input))
		}
	}
}

// bounded turns a violation into a warning when its binding has held the pod for too long.
func (p *boundPolicy) bounded(v Violation, in *Input) Violation {
	if p.maxHold == 0 || !v.Enforcing() || in.History == nil {
		return v
	}
	if since, ok := in.History.Holds[p.name]; ok && in.Now.Sub(since.Time) >= p.maxHold {
		v.Enforcement, v.Expired = Warn, &Expired{Since: since, MaxHold: duration(p.maxHold)}
	}
	return v
}

var parametersKey = ast.StringTerm("parameters")

// with is the reading with the parameters of a binding.
func (r *Reading) with(parameters *ast.Term) *ast.Term {
	pairs := make([][2]*ast.Term, 0, len(r.set.needs.names))
	r.value.Value.(ast.Object).Foreach(func(k, v *ast.Term) {
		if k.Equal(parametersKey) {
			v = parameters
		}
		pairs = append(pairs, [2]*ast.Term{k, v})
	})
	return ast.ObjectTerm(pairs...)
}

func (p *boundPolicy) evaluate(ctx context.Context, r *Reading, limit time.Duration) (violations []Violation, err error) {
	defer func() {
		if r := recover(); r != nil {
			violations, err = nil, fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	if r.err != nil {
		return nil, r.err
	}
	query := *p.query
	query.WithInput(r.value).WithTime(r.input.Now.Time).WithCancel(&deadline{ctx: ctx, end: time.Now().Add(limit)})
	if p.parametrised {
		query.WithInput(r.with(p.parametersTerm))
	}
	if p.constants != nil {
		query.WithVirtualCache(&seededCache{VirtualCache: topdown.NewVirtualCache(), constants: p.constants})
	}
	answers := 0
	var bad error // of members that cannot be read; the others count
	err = query.Iter(ctx, func(sets topdown.QueryResult) error {
		answers++
		violations, bad = p.violations(sets)
		return nil
	})
	switch {
	case topdown.IsCancel(err):
		return nil, p.timeoutError(ctx, err, limit)
	case err != nil:
		return nil, describe(err)
	case answers != 1:
		return nil, fmt.Errorf("%s: the policy has no single answer but %d; do its rules conflict?", p.file, answers)
	}
	return violations, bad
}

// deadline stops the evaluation of one policy when its time is over, or the review's. OPA asks it at
// every step, in the goroutine of the evaluation; it looks at the clock at some of them, which is far
// cheaper than a timer for each policy.
type deadline struct {
	ctx   context.Context
	end   time.Time
	steps int
	over  bool
}

// stepsPerLook is how many steps are taken between two looks at the clock. A step is usually well under
// a microsecond.
const stepsPerLook = 16

// Cancel is part of topdown.Cancel.
func (d *deadline) Cancel() { d.over = true }

// Cancelled reports whether the time is over.
func (d *deadline) Cancelled() bool {
	if d.steps%stepsPerLook == 0 && !d.over {
		d.over = d.ctx.Err() != nil || time.Now().After(d.end)
	}
	d.steps++
	return d.over
}

// timeoutError names the place at which the evaluation was stopped.
func (p *boundPolicy) timeoutError(ctx context.Context, err error, limit time.Duration) error {
	place := p.file
	var e *topdown.Error
	if errors.As(err, &e) && e.Location != nil {
		place = e.Location.String()
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: not evaluated in the time the API server gives the webhook", place)
	}
	return fmt.Errorf("%s: not done after %s", place, limit)
}

// describe makes one line of OPA's error, with its place first.
func describe(err error) error {
	var e *topdown.Error
	if errors.As(err, &e) && e.Location != nil {
		return fmt.Errorf("%s:%d:%d: %s", e.Location.File, e.Location.Row, e.Location.Col, oneLine(e.Message))
	}
	return errors.New(oneLine(err.Error()))
}

// violations reads the policy's sets, which are empty most of the time. A member that is a plain string
// is its own reason. A member that cannot be read is an error, and the others count.
func (p *boundPolicy) violations(sets topdown.QueryResult) (list []Violation, bad error) {
	for _, effect := range p.effects {
		set, ok := sets[ast.Var(effect)].Value.(ast.Set)
		if !ok || set.Len() == 0 {
			continue
		}
		members, err := ast.JSON(set)
		if err != nil {
			return nil, fmt.Errorf("%s: read %s: %w", p.file, effect, err)
		}
		for _, member := range members.([]any) {
			v, err := p.violation(effect, member)
			if err != nil {
				bad = cmp.Or(bad, err)
				continue
			}
			list = append(list, v)
		}
	}
	return list, bad
}

func (p *boundPolicy) violation(effect Effect, member any) (Violation, error) {
	v := Violation{Policy: p.name, Effect: effect, Enforcement: p.enforcement, Detail: map[string]any{}}
	switch m := member.(type) {
	case string:
		v.Reason = m
	case map[string]any:
		v.Reason, _ = m["reason"].(string)
		if detail, ok := m["detail"].(map[string]any); ok {
			v.Detail = detail
		}
	}
	if v.Reason = oneLine(v.Reason); v.Reason == "" {
		return v, fmt.Errorf("%s: a member of %s has no reason: %v; write {\"reason\": \"…\", \"detail\": {…}}", p.file, effect, member)
	}
	return v, nil
}

// oneLine makes text fit for a message or a warning: no control characters, no outer space. The API
// server silently drops a warning that holds a control character.
func oneLine(s string) string {
	if !strings.ContainsFunc(s, isControl) {
		return strings.TrimSpace(s)
	}
	spaced := strings.Map(func(r rune) rune {
		if isControl(r) {
			return ' '
		}
		return r
	}, s)
	return strings.Join(strings.Fields(spaced), " ")
}

func isControl(r rune) bool {
	return r < ' ' || (r >= 0x7f && r < 0xa0) || r == '\u2028' || r == '\u2029'
}

// sortViolations orders by effect and policy, so that an answer does not depend on the order of
// evaluation.
func sortViolations(list []Violation) {
	rank := map[Effect]int{Deny: 0, Delay: 1, Warning: 2}
	slices.SortStableFunc(list, func(a, b Violation) int {
		if c := rank[a.Effect] - rank[b.Effect]; c != 0 {
			return c
		}
		return strings.Compare(a.Policy+"\x00"+a.Reason, b.Policy+"\x00"+b.Reason)
	})
}
