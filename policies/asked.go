package policies

import (
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Asked is a bound policy as a reading asks it, for those who evaluate it step by step.
type Asked struct {
	BoundPolicy
	// Excluded says why the policy is not asked; empty when it is.
	Excluded string
	// Weight is what a step of the policy counts.
	Weight  int
	reading *Reading
	bound   *boundPolicy
}

// Asked lists the bound policies, sorted by name.
func (r *Reading) Asked() ([]Asked, error) {
	if r.err != nil {
		return nil, r.err
	}
	list := make([]Asked, len(r.set.bound))
	for i, b := range r.set.Policies() {
		p := r.set.bound[i]
		list[i] = Asked{BoundPolicy: b, Excluded: p.excluded(r.input), Weight: p.weight, reading: r, bound: p}
	}
	return list, nil
}

// Input is what the policy reads, with the parameters of its binding.
func (a Asked) Input() (*ast.Term, error) { return (&asking{Reading: a.reading}).inputOf(a.bound) }

// Violation reads a member of an effect as Evaluate does. One whose detail is too large keeps its reason, and is
// an error, too.
func (a Asked) Violation(effect Effect, member *ast.Term) (Violation, error) {
	v, err := a.bound.violation(effect, member)
	return a.bound.bounded(v, a.reading.input), err
}

// Set is the set that reads.
func (r *Reading) Set() *Set { return r.set }

// Now is the time of the decision as policies can ask it: in whole seconds, as input.now is in a record.
func (r *Reading) Now() time.Time { return r.input.Now.Truncate(time.Second) }

// Trace lets a tracer see what Evaluate does, the rules that depend on the parameters alone included.
func (r *Reading) Trace(tracer topdown.QueryTracer) { r.tracer = tracer }

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
