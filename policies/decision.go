package policies

import (
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/policies/internal/limits"
	"github.com/evictgate/evictgate/policies/internal/rego"
)

// Outcome is what becomes of a review.
type Outcome string

const (
	// Admitted: the API server goes on, and has the last word.
	Admitted Outcome = "admitted"
	// Delayed: not now (429); every client retries.
	Delayed Outcome = "delayed"
	// Denied: a human must act (403, or 500 when the budgets are misconfigured).
	Denied Outcome = "denied"
	// Undecided: a policy that enforces failed or did not end in time.
	Undecided Outcome = "undecided"
)

// Enforcement is what a binding's violations do.
type Enforcement string

const (
	// Enforce lets violations decide.
	Enforce Enforcement = "enforce"
	// Warn shows violations to the client as warnings, and admits.
	Warn Enforcement = "warn"
	// Audit only records violations.
	Audit Enforcement = "audit"
)

// Effect is the set of a policy in which a violation stands.
type Effect string

const (
	// Deny asks for 403: no retry will help until somebody acts.
	Deny Effect = rego.Deny
	// Delay asks for 429: not now.
	Delay Effect = rego.Delay
	// Warning only tells the client.
	Warning Effect = rego.Warn
)

// Violation is one member of a policy's deny, delay or warn set.
type Violation struct {
	// Policy is the name of the binding; for a bare policy, its id.
	Policy      string         `json:"policy"`
	Effect      Effect         `json:"effect"`
	Enforcement Enforcement    `json:"enforcement"`
	Reason      string         `json:"reason"`
	Detail      map[string]any `json:"detail"`
	// Expired is set when the policy has held the pod for longer than its binding allows: then Enforcement
	// is warn. Null otherwise.
	Expired *Expired `json:"expired"`
}

// Expired is a hold that is over.
type Expired struct {
	// Since is when the policy began to hold the pod.
	Since metav1.Time `json:"since"`
	// MaxHold is that of the binding, for example 24h.
	MaxHold string `json:"max_hold"`
}

// Enforcing reports whether the violation takes part in the outcome.
func (v Violation) Enforcing() bool { return v.Enforcement == Enforce && v.Effect != Warning }

// Failure is a policy that could not be evaluated.
type Failure struct {
	Policy      string      `json:"policy"`
	Enforcement Enforcement `json:"enforcement"`
	// Error names the place as file:line:col where it is known.
	Error string `json:"error"`
}

// How errors begin or end that a second evaluation may not meet.
const (
	notDone  = "not done after " // of versions that bounded a policy by the clock
	panicked = "panic: "
	notBack  = "did not come back in the time the API server gives the webhook"
	notAsked = "an earlier evaluation of this policy has not come back, so it is not asked; simplify it: another revision of it is asked again"
)

// Chance reports whether the failure is not the policy's alone: its time was over, or the program broke. A
// second evaluation may end otherwise.
func (f Failure) Chance() bool {
	for _, end := range []string{limits.NotInTime, notBack, notAsked, limits.TooSlow} {
		if strings.HasSuffix(f.Error, ": "+end) {
			return true
		}
	}
	return strings.HasPrefix(f.Error, panicked) || strings.Contains(f.Error, ": "+notDone)
}

// OutOfSteps reports whether the policy took all the steps it is given; with more of them it may end otherwise.
func (f Failure) OutOfSteps() bool { return strings.Contains(f.Error, ": "+limits.StoppedAfter) }

// PolicyCause is the cause type of a policy's violation in a refusal; a budget's is the API server's
// own, DisruptionBudget.
const PolicyCause = "EvictionPolicy"

// Cause is one reason of a refusal, as it stands in the status details.
type Cause struct {
	Type    string `json:"type"`
	Message string `json:"message"`
	// Field names the policy or the budget.
	Field string `json:"field"`
}

// Decision is the result of Set.Evaluate: plain data from which the response, the record, the
// metrics and the log line are made, each once.
type Decision struct {
	Outcome Outcome `json:"outcome"`
	// Code is the HTTP status of the answer: 200 when admitted, 403, 429 or 500 otherwise.
	Code int32 `json:"code"`
	// Reason is the Kubernetes status reason that goes with Code; empty when admitted.
	Reason string `json:"reason"`
	// Message is one line, the same for every pod of the workload; empty when admitted.
	Message    string      `json:"message"`
	Violations []Violation `json:"violations"`
	Failures   []Failure   `json:"failures"`
	// Disruption is the budgets' part; null when no budget was looked at.
	Disruption *Disruption `json:"disruption"`
	// Override is the break-glass that the Eviction asked for; null when it did not.
	Override *Override `json:"override"`
	// Causes are the reasons of a refusal, one by one.
	Causes []Cause `json:"causes"`
	// Warnings are the lines the client is shown beside the answer.
	Warnings []string `json:"warnings"`
	// Revision identifies the policy set that decided.
	Revision string `json:"revision"`
	// Duration is how long the evaluation of the policies took.
	Duration time.Duration `json:"-"`
}

// Override is a break-glass: the request to evict whatever the policies say.
type Override struct {
	// Reason is what the evictor states.
	Reason string `json:"reason"`
	// Used is true when the evictor may override and policies would have refused.
	Used bool `json:"used"`
	// Ignored says why the request does not count; empty when it does.
	Ignored string `json:"ignored"`
	// Policies are those that were overridden, sorted.
	Policies []string `json:"policies"`
}

// Holding names the policies whose violations refuse the eviction, or would if they did not hold the pod
// for too long already.
func (d *Decision) Holding() []string {
	var names []string
	for _, v := range d.Violations {
		if v.Effect != Warning && (v.Enforcing() || v.Expired != nil) && !slices.Contains(names, v.Policy) {
			names = append(names, v.Policy)
		}
	}
	return names
}

// Allowed reports whether the eviction is admitted. An undecided one may be, by OnError.
func (d *Decision) Allowed() bool { return d.Code < 400 }
