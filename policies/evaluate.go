package policies

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/builtins"

	"github.com/evictgate/evictgate/policies/internal/limits"
	"github.com/evictgate/evictgate/policies/internal/rego"
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

// Options are the settings of a decision. The zero value is the default.
type Options struct {
	Budgets BudgetMode
	OnError OnError
	// PolicySteps is how many steps the evaluation of one policy may take: DefaultPolicySteps when it is 0.
	PolicySteps int
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
	if o.PolicySteps == 0 {
		o.PolicySteps = DefaultPolicySteps
	}
	return o
}

// Reading is one Input as the policies of a set are given it: reduced to what they read.
type Reading struct {
	set        *Set
	input      *Input
	options    Options // of Evaluate
	projection projection
	err        error
	// asked counts the bound policies that matched, and remembered those of them whose answer was known.
	asked, remembered int
	// tracer sees the evaluation; nil but in tests.
	tracer topdown.QueryTracer
}

// Read converts what the set's policies read of the Input: once, for all of them and for the record.
func (s *Set) Read(in *Input) *Reading {
	r := &Reading{set: s, input: in}
	r.projection = projection{json: make([]byte, 0, 2048), places: make([]span, s.needs.places)}
	if in.Parameters != nil { // a policy is given those of its binding
		own := *in
		own.Parameters = nil
		in = &own
	}
	r.err = s.project(&r.projection, reflect.ValueOf(in).Elem())
	return r
}

// JSON is the reading as JSON: the input of a record. It must not be changed.
func (r *Reading) JSON() ([]byte, error) {
	if r.err != nil {
		return nil, r.err
	}
	return r.projection.json, nil
}

// Answers counts, after Evaluate, the bound policies that matched, and those of them whose answer was
// remembered from an eviction that looked the same to them.
func (r *Reading) Answers() (asked, remembered int) { return r.asked, r.remembered }

// Options are those of Evaluate, with the defaults filled in; zero before.
func (r *Reading) Options() Options { return r.options }

// Needs is what the set's policies read of the Input.
func (r *Reading) Needs() *Needs { return r.set.needs }

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
	r.options = o
	start := time.Now()
	d := &Decision{Disruption: r.input.Disruption, Revision: r.set.revision}
	if r.input.Pod != nil && !BudgetIgnored(r.input.Pod) {
		r.ask(ctx, o.PolicySteps, d)
	}
	conclude(d, r.input, o)
	d.Duration = time.Since(start)
	return d
}

// ask asks every policy that matches, and adds violations and failures to d.
func (r *Reading) ask(ctx context.Context, steps int, d *Decision) {
	round := newRound(r, steps)
	round.run(ctx)
	r.asked, r.remembered = len(round.answers), round.remembered
	for i, answer := range round.answers {
		p := round.policies[i]
		if answer.err != nil {
			d.Failures = append(d.Failures, Failure{Policy: p.Name, Enforcement: p.Enforcement, Error: answer.err.Error()})
		}
		for _, v := range answer.violations {
			d.Violations = append(d.Violations, p.bounded(v, r.input))
		}
	}
}

// bounded turns a violation into a warning when its binding has held the pod for too long, in whole seconds:
// a record has no finer ones.
func (p *boundPolicy) bounded(v Violation, in *Input) Violation {
	if p.MaxHold == 0 || !v.Enforcing() || in.History == nil {
		return v
	}
	if since, ok := in.History.Holds[p.Name]; ok && in.Now.Truncate(time.Second).Sub(since.Truncate(time.Second)) >= p.MaxHold {
		v.Enforcement, v.Expired = Warn, &Expired{Since: since, MaxHold: duration(p.MaxHold)}
	}
	return v
}

// asking is one round of questions about a reading.
type asking struct {
	*Reading
	steps int
	// terms are parts of the reading as OPA takes them, by place, each made for the first policy that is
	// evaluated and reads it.
	terms []*ast.Term
	// key is that of the last policy; its memory is used again.
	key []byte
}

// recall gives the answer that the policy remembers, and leaves its key. An answer for which it asked the
// time is remembered for that second.
func (q *asking) recall(p *boundPolicy) (violations []Violation, timeless int, ok bool) {
	q.key = p.key(q.key[:0], &q.projection)
	timeless = len(q.key)
	violations, ok = p.memo.get(q.key)
	if !ok && p.timed {
		q.key = atSecond(q.key, q.input.Now.Time)
		violations, ok = p.memo.get(q.key)
	}
	return violations, timeless, ok
}

// ask gives the answer that the policy remembers, or evaluates it. What failed is not remembered.
func (q *asking) ask(ctx context.Context, p *boundPolicy) (a answer) {
	if q.err != nil {
		return answer{err: q.err}
	}
	violations, timeless, ok := q.recall(p)
	if ok {
		return answer{violations: violations, remembered: true}
	}
	if p.lost.Load() > 0 {
		return answer{err: fmt.Errorf("%s: %s", p.File, notAsked)}
	}
	clock := builtins.NDBCache{}
	a.violations, a.err = p.evaluate(ctx, q, clock)
	if a.err != nil {
		return a
	}
	if len(clock) == 0 {
		q.key = q.key[:timeless]
	}
	p.memo.put(q.key, a.violations)
	return a
}

var parametersKey = ast.StringTerm("parameters")

// inputOf is what a policy reads, with the parameters of its binding.
func (q *asking) inputOf(p *boundPolicy) (*ast.Term, error) {
	if q.terms == nil {
		q.terms = make([]*ast.Term, len(q.projection.places))
	}
	if q.set.needs.whole {
		whole, err := q.part(q.set.needs.place)
		if err != nil {
			return nil, err
		}
		return with(whole, p.parametersTerm), nil
	}
	pairs := make([][2]*ast.Term, 0, len(p.needs.names))
	for _, k := range p.needs.names {
		if k.name == "parameters" {
			pairs = append(pairs, [2]*ast.Term{parametersKey, p.parametersTerm})
			continue
		}
		part, err := q.part(q.set.needs.keys[k.name].place)
		if err != nil {
			return nil, err
		}
		if part != nil {
			pairs = append(pairs, [2]*ast.Term{k.key, part})
		}
	}
	return ast.ObjectTerm(pairs...), nil
}

// part is what stands at a place; nil when that is absent.
func (q *asking) part(place int) (term *ast.Term, err error) {
	raw := q.projection.at(place)
	if len(raw) > 0 && q.terms[place-1] == nil {
		q.terms[place-1], err = termOf(raw)
	}
	return q.terms[place-1], err
}

// with is a whole input with the parameters of a binding.
func with(whole, parameters *ast.Term) *ast.Term {
	var pairs [][2]*ast.Term
	whole.Value.(ast.Object).Foreach(func(k, v *ast.Term) {
		if k.Equal(parametersKey) {
			v = parameters
		}
		pairs = append(pairs, [2]*ast.Term{k, v})
	})
	return ast.ObjectTerm(pairs...)
}

// evaluate asks OPA. It notes in clock when the policy asks the time, which is the one builtin whose result
// is not a function of its operands. The time has the resolution that input.now has in a record: a second.
func (p *boundPolicy) evaluate(ctx context.Context, q *asking, clock builtins.NDBCache) (violations []Violation, err error) {
	defer func() {
		if r := recover(); r != nil {
			violations, err = nil, fmt.Errorf("%s%v\n%s", panicked, r, debug.Stack())
		}
	}()
	input, err := q.inputOf(p)
	if err != nil {
		return nil, err
	}
	query := *p.query
	constants := p.constants
	if q.tracer != nil { // it shall see the constants, too
		constants = nil
		query.WithQueryTracer(q.tracer)
	}
	allowance := limits.NewAllowance(ctx, q.steps, p.weight)
	query.WithInput(input).WithTime(q.Now()).WithCancel(allowance).WithNDBuiltinCache(clock).WithVirtualCache(limits.NewRuleCache(constants, allowance))
	answers := 0
	var bad error // of members that cannot be read; the others count
	err = query.Iter(ctx, func(sets topdown.QueryResult) error {
		answers++
		violations, bad = p.violations(sets)
		return nil
	})
	switch {
	case err == nil && allowance.Why != nil: // at its last step
		return nil, fmt.Errorf("%s: %w", p.File, allowance.Why)
	case err != nil:
		return nil, allowance.Explained(p.File, err)
	case answers != 1:
		return nil, fmt.Errorf("%s: the policy has no single answer but %d; do its rules conflict?", p.File, answers)
	}
	return violations, bad
}

// violations reads the policy's sets, which are empty most of the time. A member that is a plain string
// is its own reason. A member that cannot be read is an error, and the others count.
func (p *boundPolicy) violations(sets topdown.QueryResult) (list []Violation, bad error) {
	for _, effect := range p.effects {
		set, ok := sets[ast.Var(effect)].Value.(ast.Set)
		if !ok || set.Len() == 0 {
			continue
		}
		members := set.Slice()
		if len(members) > limits.MaxMembers {
			bad = cmp.Or(bad, fmt.Errorf("%s: %s has %d members, of which the first %d are read; give one for all of a kind", p.File, effect, len(members), limits.MaxMembers))
			members = members[:limits.MaxMembers]
		}
		for _, member := range members {
			v, err := p.violation(effect, member)
			bad = cmp.Or(bad, err)
			if v.Reason != "" {
				list = append(list, v)
			}
		}
	}
	return list, bad
}

// violation reads a member of an effect. One whose detail is too large keeps its reason, and is an error, too.
func (p *boundPolicy) violation(effect Effect, member *ast.Term) (v Violation, err error) {
	v = Violation{Policy: p.Name, Effect: effect, Enforcement: p.Enforcement, Detail: map[string]any{}}
	var plain any
	m := limits.Measure{Most: limits.MaxMember}
	switch err := m.Add(member.Value); {
	case err != nil || m.Bytes > limits.MaxMemberBytes:
		v.Reason = reasonOf(reasonIn(member))
		return v, fmt.Errorf("%s: a member of %s holds more than %d values or %s of text, so its detail is left out (%s); give fewer of them", p.File, effect, limits.MaxMember, rego.SizeText(limits.MaxMemberBytes), rego.Shorten(v.Reason, rego.MaxSource))
	default:
		if plain, err = ast.JSON(member.Value); err != nil {
			return v, fmt.Errorf("%s: read %s: %w", p.File, effect, err)
		}
	}
	switch m := plain.(type) {
	case string:
		v.Reason = m
	case map[string]any:
		v.Reason, _ = m["reason"].(string)
		if detail, ok := m["detail"].(map[string]any); ok {
			v.Detail = detail
		}
	}
	if v.Reason = reasonOf(v.Reason); v.Reason == "" {
		return v, fmt.Errorf("%s: a member of %s has no reason: %s; write {\"reason\": \"…\", \"detail\": {…}}", p.File, effect, rego.Shorten(fmt.Sprint(plain), rego.MaxSource))
	}
	return v, nil
}

// reasonIn is the reason of a member that is not read whole.
func reasonIn(member *ast.Term) string {
	value := member.Value
	if object, ok := value.(ast.Object); ok {
		if reason := object.Get(ast.InternedTerm("reason")); reason != nil {
			value = reason.Value
		}
	}
	reason, _ := value.(ast.String)
	return string(reason)
}

// reasonOf makes a reason fit for a message: one line, and not longer than anybody reads.
func reasonOf(s string) string {
	if len(s) > limits.MaxReasonLength {
		s = strings.ToValidUTF8(s[:limits.MaxReasonLength-len("…")], "") + "…"
	}
	return rego.OneLine(s)
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
