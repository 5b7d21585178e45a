// Package budget knows PodDisruptionBudgets: what the API server will answer to an eviction (Predict),
// because of its budgets alone (Check), and why, in words that help (Explain). Everything here is a pure function.
package budget

import (
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/policies"
)

// maxDisruptedPods is the API server's bound on evictions that the disruption controller has not
// confirmed. Source: MaxDisruptedPodSize in
// k8s.io/kubernetes/pkg/registry/core/pod/storage/eviction.go.
const maxDisruptedPods = 2000

// multipleBudgets is the API server's sentence for a pod under more than one budget.
const multipleBudgets = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."

// Case says which row of the API server's decision table answered.
type Case string

const (
	// Ignored: the pod is Pending, finished or terminating; budgets are not looked at.
	Ignored Case = "ignored"
	// None: no budget matches.
	None Case = "none"
	// Unhealthy: the pod is not ready and its budget lets such pods go.
	Unhealthy Case = "unhealthy"
	// Available: the budget has a disruption left.
	Available Case = "available"
	// Multiple: two or more budgets match, which the API server refuses to weigh.
	Multiple Case = "multiple"
	// Processing: the disruption controller has not seen the budget's newest spec.
	Processing Case = "processing"
	// Negative: status.disruptionsAllowed is below zero.
	Negative Case = "negative"
	// Unconfirmed: too many evictions that the disruption controller has not confirmed.
	Unconfirmed Case = "unconfirmed"
	// Exhausted: no disruption is left.
	Exhausted Case = "exhausted"
)

// Answer is the API server's answer to an eviction.
type Answer struct {
	Case Case
	// Code is the HTTP status; 201 when the pod goes.
	Code    int32
	Reason  metav1.StatusReason
	Message string
	Causes  []metav1.StatusCause
	// RetryAfter is in seconds; 0 means that no Retry-After is sent.
	RetryAfter int32
}

// Allowed reports whether the pod goes.
func (a Answer) Allowed() bool { return a.Code == http.StatusCreated }

// Cause is the API server's sentence about the budget; empty when it gives none.
func (a Answer) Cause() string {
	for _, c := range a.Causes {
		if c.Type == policyv1.DisruptionBudgetCause {
			return c.Message
		}
	}
	return ""
}

// Check is the API server's budget check as a pure function of the pod and of the budgets that match
// it: the part of Predict that an admission webhook has to explain. Source: EvictionREST.Create and
// checkAndDecrement in k8s.io/kubernetes/pkg/registry/core/pod/storage/eviction.go, v1.37.
func Check(pod *corev1.Pod, matching []*policyv1.PodDisruptionBudget) Answer {
	switch {
	case policies.BudgetIgnored(pod):
		return allowed(Ignored)
	case len(matching) == 0:
		return allowed(None)
	case len(matching) > 1:
		return Answer{Case: Multiple, Code: http.StatusInternalServerError, Message: multipleBudgets}
	}
	pdb := matching[0]
	if !policies.PodReady(pod) && letsUnhealthyGo(pdb) {
		return allowed(Unhealthy)
	}
	return checkBudget(pdb)
}

func allowed(c Case) Answer { return Answer{Case: c, Code: http.StatusCreated} }

// letsUnhealthyGo reports whether the budget lets a pod go that is not ready. Any policy but AlwaysAllow
// counts as IfHealthyBudget, as in the API server's code.
func letsUnhealthyGo(pdb *policyv1.PodDisruptionBudget) bool {
	policy, s := pdb.Spec.UnhealthyPodEvictionPolicy, &pdb.Status
	return (policy != nil && *policy == policyv1.AlwaysAllow) ||
		(s.CurrentHealthy >= s.DesiredHealthy && s.DesiredHealthy > 0)
}

func checkBudget(pdb *policyv1.PodDisruptionBudget) Answer {
	s := &pdb.Status
	switch {
	case s.ObservedGeneration < pdb.Generation:
		return processing(pdb.Name)
	case s.DisruptionsAllowed < 0:
		why := "pdb disruptions allowed is negative"
		return forbidden(Negative, pdb, why, why)
	case len(s.DisruptedPods) > maxDisruptedPods:
		return forbidden(Unconfirmed, pdb,
			"DisruptedPods map too big - too many evictions not confirmed by PDB controller",
			"too many pending evictions not confirmed by PDB controller")
	case s.DisruptionsAllowed == 0:
		return tooManyRequests(Exhausted, 0, exhaustedCause(pdb))
	}
	return allowed(Available)
}

// processing is the one refusal with which the API server sends a Retry-After.
func processing(name string) Answer {
	return tooManyRequests(Processing, 10, fmt.Sprintf("The disruption budget %s is still being processed by the server.", name))
}

func tooManyRequests(c Case, retryAfter int32, cause string) Answer {
	return Answer{
		Case: c, Code: http.StatusTooManyRequests, Reason: metav1.StatusReasonTooManyRequests,
		Message: policies.BudgetSentence, Causes: budgetCause(cause), RetryAfter: retryAfter,
	}
}

func forbidden(c Case, pdb *policyv1.PodDisruptionBudget, why, cause string) Answer {
	return Answer{
		Case: c, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden,
		Message: fmt.Sprintf("poddisruptionbudget.policy %q is forbidden: %s", pdb.Name, why),
		Causes:  budgetCause(fmt.Sprintf("The disruption budget %s does not allow evicting pods currently: %s", pdb.Name, cause)),
	}
}

func budgetCause(message string) []metav1.StatusCause {
	return []metav1.StatusCause{{Type: policyv1.DisruptionBudgetCause, Message: message}}
}

func exhaustedCause(pdb *policyv1.PodDisruptionBudget) string {
	s := &pdb.Status
	c := meta.FindStatusCondition(s.Conditions, policyv1.DisruptionAllowedCondition)
	blocked := c != nil && c.Status == metav1.ConditionFalse && c.Message != ""
	switch {
	case blocked && c.Reason == policyv1.SyncFailedReason:
		return fmt.Sprintf("The disruption budget %s does not allow evicting pods currently because it failed sync: %s", pdb.Name, c.Message)
	case s.CurrentHealthy <= s.DesiredHealthy:
		return fmt.Sprintf("The disruption budget %s needs %d healthy pods and has %d currently", pdb.Name, s.DesiredHealthy, s.CurrentHealthy)
	case blocked:
		return fmt.Sprintf("The disruption budget %s does not allow evicting pods currently (%s): %s", pdb.Name, c.Reason, c.Message)
	}
	return fmt.Sprintf("The disruption budget %s does not allow evicting pods currently", pdb.Name)
}
