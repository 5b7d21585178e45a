package replay

import (
	"slices"
	"strings"
	"time"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
)

// Kind is how far a decision changes.
type Kind string

const (
	// Answered otherwise: the outcome or the code differs.
	Answered Kind = "answer"
	// Found otherwise: the answer is the same, but other policies refuse, warn, audit or fail.
	Found Kind = "findings"
)

// Change is a decision that would be another one.
type Change struct {
	DecisionID string    `json:"decision_id"`
	Timestamp  time.Time `json:"timestamp"`
	Kind       Kind      `json:"kind"`
	Namespace  string    `json:"namespace"`
	Pod        string    `json:"pod"`
	// Workload is Kind/name of the pod's top controller, or Pod/name of a bare pod.
	Workload string `json:"workload"`
	User     string `json:"user"`
	Evictor  string `json:"evictor"`
	Before   Answer `json:"before"`
	After    Answer `json:"after"`
}

// Answer is one decision about an eviction.
type Answer struct {
	Outcome policies.Outcome `json:"outcome"`
	Code    int32            `json:"code"`
	Message string           `json:"message"`
	// Findings are those of the policies, sorted, each once.
	Findings []Finding `json:"findings"`
}

// Finding says what a policy does. Text and details are left out: they may differ though the decision does not.
type Finding struct {
	Policy string `json:"policy"`
	// Effect is deny, delay, warn, or failure.
	Effect      policies.Effect      `json:"effect"`
	Enforcement policies.Enforcement `json:"enforcement"`
	// Overridden: it would refuse, and was overridden.
	Overridden bool `json:"overridden,omitempty"`
}

// failure is the effect of a policy that could not be evaluated.
const failure policies.Effect = "failure"

// Refuses reports whether the finding takes part in a refusal.
func (f Finding) Refuses() bool {
	return f.Enforcement == policies.Enforce && (f.Effect == policies.Deny || f.Effect == policies.Delay) && !f.Overridden
}

// changeOf compares a decision with that of the record; nil when nothing differs.
func changeOf(h *held, d *policies.Decision) *Change {
	before, after := answerOf(h.record.Result), answerOf(d)
	kind := Found
	switch {
	case before.Outcome != after.Outcome || before.Code != after.Code:
		kind = Answered
	case slices.Equal(before.Findings, after.Findings):
		return nil
	}
	r := h.record
	return &Change{
		DecisionID: r.DecisionID, Timestamp: r.Timestamp, Kind: kind,
		Namespace: r.Request.Namespace, Pod: r.Request.Name, Workload: workloadOf(r),
		User: r.Request.User.Username, Evictor: h.in.Request.Evictor, Before: before, After: after,
	}
}

func workloadOf(r *record.Record) string {
	if w := r.Workload(); w != "" {
		return w
	}
	return "Pod/" + r.Request.Name
}

func answerOf(d *policies.Decision) Answer {
	a := Answer{Outcome: d.Outcome, Code: d.Code, Message: d.Message, Findings: []Finding{}}
	overridden := d.Override != nil && d.Override.Used
	for _, v := range d.Violations {
		a.Findings = append(a.Findings, Finding{v.Policy, v.Effect, v.Enforcement, overridden && v.Enforcing()})
	}
	for _, f := range d.Failures {
		a.Findings = append(a.Findings, Finding{f.Policy, failure, f.Enforcement, overridden && f.Enforcement == policies.Enforce})
	}
	slices.SortFunc(a.Findings, compareFindings)
	a.Findings = slices.Compact(a.Findings)
	return a
}

func compareFindings(a, b Finding) int {
	key := func(f Finding) string { return f.Policy + "\x00" + string(f.Effect) + "\x00" + string(f.Enforcement) }
	return strings.Compare(key(a), key(b))
}
