package evictionpolicy

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/v1alpha1"
)

// tally is how often a policy spoke since the last write.
type tally struct {
	refused, warned, audited, failed int64
	last                             time.Time
}

// note counts a violation; a review counts once in each number, however many violations it has. What was
// overridden refused nothing, but is told.
func (t *tally) note(v policies.Violation, overridden bool) {
	switch {
	case v.Enforcing() && !overridden:
		t.refused = 1
	case v.Enforcement == policies.Audit:
		t.audited = 1
	default:
		t.warned = 1
	}
}

func (t *tally) add(other tally) {
	t.refused += other.refused
	t.warned += other.warned
	t.audited += other.audited
	t.failed += other.failed
	if other.last.After(t.last) {
		t.last = other.last
	}
}

func (t tally) empty() bool { return t == tally{} }

// addTo is the sum of stored counts and the tally.
func (t tally) addTo(c v1alpha1.Counts) v1alpha1.Counts {
	c.Refused += t.refused
	c.Warned += t.warned
	c.Audited += t.audited
	c.Failed += t.failed
	if !t.last.IsZero() && (c.LastViolation == nil || t.last.Truncate(time.Second).After(c.LastViolation.Time)) {
		c.LastViolation = &metav1.Time{Time: t.last.UTC().Truncate(time.Second)}
	}
	return c
}

// talliesOf counts one decision by policy.
func talliesOf(d *policies.Decision, at time.Time) map[string]*tally {
	spoke := map[string]*tally{}
	of := func(policy string) *tally {
		if spoke[policy] == nil {
			spoke[policy] = &tally{}
		}
		return spoke[policy]
	}
	overridden := d.Override != nil && d.Override.Used
	for _, v := range d.Violations {
		t := of(v.Policy)
		t.note(v, overridden)
		t.last = at
	}
	for _, f := range d.Failures {
		of(f.Policy).failed = 1
	}
	return spoke
}
