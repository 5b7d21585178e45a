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
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/rego"
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

// Evaluate decides one eviction: every bound policy that matches is asked, whatever the others say,
// and their violations are weighed with the budgets' answer. It never fails: a policy that cannot be
// evaluated is a Failure in the decision.
func (s *Set) Evaluate(ctx context.Context, in *Input, o Options) *Decision {
	o = o.withDefaults()
	start := time.Now()
	d := &Decision{Disruption: in.Disruption, Revision: s.revision}
	if in.Pod != nil && !BudgetIgnored(in.Pod) {
		s.ask(ctx, in, o.PolicyTimeout, d)
	}
	conclude(d, in, o)
	d.Duration = time.Since(start)
	return d
}

// ask evaluates every policy and adds violations and failures to d.
func (s *Set) ask(ctx context.Context, in *Input, limit time.Duration, d *Decision) {
	var base [][2]*ast.Term
	for _, p := range s.bound {
		if !p.match.matches(in) {
			continue
		}
		var err error
		if base == nil {
			if base, err = s.project(in); err != nil {
				d.Failures = append(d.Failures, Failure{Policy: p.name, Enforcement: p.enforcement, Error: err.Error()})
				continue
			}
		}
		violations, err := p.evaluate(ctx, p.input(base), in.Now.Time, limit)
		if err != nil {
			d.Failures = append(d.Failures, Failure{Policy: p.name, Enforcement: p.enforcement, Error: err.Error()})
		}
		d.Violations = append(d.Violations, violations...)
	}
}

// project converts what the set reads of the Input, once for all policies.
func (s *Set) project(in *Input) ([][2]*ast.Term, error) {
	value, err := s.needs.project(reflect.ValueOf(in))
	if err != nil {
		return nil, err
	}
	pairs := make([][2]*ast.Term, 0, len(s.needs.names)+1)
	err = value.(ast.Object).Iter(func(k, v *ast.Term) error {
		if !k.Equal(parametersKey) {
			pairs = append(pairs, [2]*ast.Term{k, v})
		}
		return nil
	})
	return pairs, err
}

var parametersKey = ast.StringTerm("parameters")

// input is the policy's own input: what all share, and its binding's parameters.
func (p *boundPolicy) input(base [][2]*ast.Term) ast.Value {
	if p.readsParams {
		base = append(base[:len(base):len(base)], [2]*ast.Term{parametersKey, p.parametersTerm})
	}
	return ast.NewObject(base...)
}

func (p *boundPolicy) evaluate(ctx context.Context, input ast.Value, now time.Time, limit time.Duration) (violations []Violation, err error) {
	defer func() {
		if r := recover(); r != nil {
			violations, err = nil, fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	cancel := topdown.NewCancel()
	timer := time.AfterFunc(limit, cancel.Cancel)
	defer timer.Stop()
	// EvalExternalCancel watches cancel alone, which saves OPA a goroutine for the context.
	defer context.AfterFunc(ctx, cancel.Cancel)()

	results, err := p.query.Eval(ctx,
		rego.EvalParsedInput(input),
		rego.EvalTime(now),
		rego.EvalMetrics(metrics.NoOp()),
		rego.EvalExternalCancel(cancel),
	)
	switch {
	case topdown.IsCancel(err):
		return nil, p.timeoutError(ctx, err, limit)
	case err != nil:
		return nil, describe(err)
	case len(results) != 1:
		return nil, fmt.Errorf("%s: the policy has no single answer but %d; do its rules conflict?", p.file, len(results))
	}
	return p.violations(results[0].Bindings)
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

// violations reads the policy's sets. A member that is a plain string is its own reason. A member that
// cannot be read is an error, and the others count.
func (p *boundPolicy) violations(sets map[string]any) (list []Violation, bad error) {
	for _, effect := range p.effects {
		members, _ := sets[string(effect)].([]any)
		for _, member := range members {
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

// InputJSON is what the set's policies read of the Input, as JSON: the input of a record.
func (s *Set) InputJSON(in *Input) ([]byte, error) {
	value, err := s.needs.project(reflect.ValueOf(in))
	if err != nil {
		return nil, err
	}
	return appendJSON(nil, value), nil
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
