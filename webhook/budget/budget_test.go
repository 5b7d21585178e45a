package budget

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// pdb is the budget shop/b: it needs 2 of 3 pods, has 2, and allows none. The options change it.
func pdb(options ...func(*policyv1.PodDisruptionBudget)) *policyv1.PodDisruptionBudget {
	two := intstr.FromInt32(2)
	b := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "b", Generation: 1},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &two},
		Status:     policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 1, CurrentHealthy: 2, DesiredHealthy: 2, ExpectedPods: 3},
	}
	for _, o := range options {
		o(b)
	}
	return b
}

type option = func(*policyv1.PodDisruptionBudget)

func health(current, desired, expected int32) option {
	return func(b *policyv1.PodDisruptionBudget) {
		b.Status.CurrentHealthy, b.Status.DesiredHealthy, b.Status.ExpectedPods = current, desired, expected
	}
}

func allows(n int32) option {
	return func(b *policyv1.PodDisruptionBudget) { b.Status.DisruptionsAllowed = n }
}

func unhealthyPolicy(p policyv1.UnhealthyPodEvictionPolicyType) option {
	return func(b *policyv1.PodDisruptionBudget) { b.Spec.UnhealthyPodEvictionPolicy = &p }
}

func unseen(b *policyv1.PodDisruptionBudget) { b.Generation = 2 }

func disrupted(n int) option {
	return func(b *policyv1.PodDisruptionBudget) {
		b.Status.DisruptedPods = map[string]metav1.Time{}
		for i := range n {
			b.Status.DisruptedPods[fmt.Sprint("p", i)] = metav1.Time{}
		}
	}
}

func conditionIs(status metav1.ConditionStatus, reason, message string) option {
	return func(b *policyv1.PodDisruptionBudget) {
		b.Status.Conditions = []metav1.Condition{
			{Type: "Other", Status: metav1.ConditionFalse, Message: "not this"},
			{Type: policyv1.DisruptionAllowedCondition, Status: status, Reason: reason, Message: message},
		}
	}
}

func running(ready corev1.ConditionStatus) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p"},
		Status: corev1.PodStatus{
			Phase:      corev1.PodRunning,
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}},
		},
	}
}

func inPhase(p corev1.PodPhase) *corev1.Pod {
	return &corev1.Pod{Status: corev1.PodStatus{Phase: p}}
}

// The rows are those of the API server's decision table; its texts are written out, not taken from
// the code.
func TestCheck(t *testing.T) {
	const sentence = "Cannot evict pod as it would violate the pod's disruption budget."
	causes := func(message string) []metav1.StatusCause {
		return []metav1.StatusCause{{Type: "DisruptionBudget", Message: message}}
	}
	created := func(c Case) Answer { return Answer{Case: c, Code: 201} }
	exhausted := func(cause string) Answer {
		return Answer{Case: Exhausted, Code: 429, Reason: "TooManyRequests", Message: sentence, Causes: causes(cause)}
	}
	processing := Answer{
		Case: Processing, Code: 429, Reason: "TooManyRequests", Message: sentence, RetryAfter: 10,
		Causes: causes("The disruption budget b is still being processed by the server."),
	}
	two := Answer{Case: Multiple, Code: 500, Message: "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."}
	negative := Answer{
		Case: Negative, Code: 403, Reason: "Forbidden",
		Message: `poddisruptionbudget.policy "b" is forbidden: pdb disruptions allowed is negative`,
		Causes:  causes("The disruption budget b does not allow evicting pods currently: pdb disruptions allowed is negative"),
	}
	unconfirmed := Answer{
		Case: Unconfirmed, Code: 403, Reason: "Forbidden",
		Message: `poddisruptionbudget.policy "b" is forbidden: DisruptedPods map too big - too many evictions not confirmed by PDB controller`,
		Causes:  causes("The disruption budget b does not allow evicting pods currently: too many pending evictions not confirmed by PDB controller"),
	}
	needs2has2 := exhausted("The disruption budget b needs 2 healthy pods and has 2 currently")
	ready, unready := running(corev1.ConditionTrue), running(corev1.ConditionFalse)
	terminating := running(corev1.ConditionTrue)
	terminating.DeletionTimestamp = &metav1.Time{}
	always, ifHealthy := unhealthyPolicy(policyv1.AlwaysAllow), unhealthyPolicy(policyv1.IfHealthyBudget)

	type budgets = []*policyv1.PodDisruptionBudget
	for name, tt := range map[string]struct {
		pod     *corev1.Pod
		budgets budgets
		want    Answer
	}{
		"row 6: a pending pod, under two budgets":                          {inPhase(corev1.PodPending), budgets{pdb(), pdb()}, created(Ignored)},
		"row 6: a pod that has succeeded":                                  {inPhase(corev1.PodSucceeded), budgets{pdb()}, created(Ignored)},
		"row 6: a pod that has failed":                                     {inPhase(corev1.PodFailed), budgets{pdb()}, created(Ignored)},
		"row 6: a terminating pod":                                         {terminating, budgets{pdb()}, created(Ignored)},
		"row 6: not a pod whose node is lost":                              {inPhase(corev1.PodUnknown), budgets{pdb(health(1, 2, 3))}, exhausted("The disruption budget b needs 2 healthy pods and has 1 currently")},
		"row 8: two budgets, even when both would allow":                   {unready, budgets{pdb(allows(1), always), pdb(allows(1), always)}, two},
		"row 9: no budget":                                                 {ready, nil, created(None)},
		"row 10: an unready pod under AlwaysAllow":                         {unready, budgets{pdb(always, health(0, 2, 3))}, created(Unhealthy)},
		"row 10: a pod without conditions is unready":                      {inPhase(corev1.PodRunning), budgets{pdb(always, health(0, 2, 3))}, created(Unhealthy)},
		"row 10: before the generation is looked at":                       {unready, budgets{pdb(always, unseen)}, created(Unhealthy)},
		"row 10: not for a ready pod":                                      {ready, budgets{pdb(always)}, needs2has2},
		"row 11: an unready pod under a healthy budget":                    {unready, budgets{pdb()}, created(Unhealthy)},
		"row 11: the same, said in words":                                  {unready, budgets{pdb(ifHealthy, unseen)}, created(Unhealthy)},
		"row 11: not under a budget that lacks pods":                       {unready, budgets{pdb(health(1, 2, 3))}, exhausted("The disruption budget b needs 2 healthy pods and has 1 currently")},
		"row 11: not under a budget that needs none":                       {unready, budgets{pdb(ifHealthy, health(0, 0, 1))}, exhausted("The disruption budget b needs 0 healthy pods and has 0 currently")},
		"row 12: the controller has not seen the spec":                     {ready, budgets{pdb(unseen, allows(1))}, processing},
		"row 12: before a negative number is looked at":                    {ready, budgets{pdb(unseen, allows(-1))}, processing},
		"row 13: a negative number":                                        {ready, budgets{pdb(allows(-1), disrupted(2001))}, negative},
		"row 14: too many evictions that are not confirmed":                {ready, budgets{pdb(allows(1), disrupted(2001))}, unconfirmed},
		"row 14: not yet at the limit":                                     {ready, budgets{pdb(allows(1), disrupted(2000))}, created(Available)},
		"row 15a: a failed sync, before the numbers":                       {ready, budgets{pdb(conditionIs("False", "SyncFailed", "no scale"))}, exhausted("The disruption budget b does not allow evicting pods currently because it failed sync: no scale")},
		"row 15a: not without a message":                                   {ready, budgets{pdb(conditionIs("False", "SyncFailed", ""))}, needs2has2},
		"row 15a: not when the condition is true":                          {ready, budgets{pdb(conditionIs("True", "SyncFailed", "no scale"))}, needs2has2},
		"row 15b: healthy pods are needed":                                 {ready, budgets{pdb()}, needs2has2},
		"row 15b: before a condition with another reason":                  {ready, budgets{pdb(conditionIs("False", "InsufficientPods", "wait"))}, needs2has2},
		"row 15c: enough pods, and a condition that says why":              {ready, budgets{pdb(health(3, 2, 3), conditionIs("False", "InsufficientPods", "wait"))}, exhausted("The disruption budget b does not allow evicting pods currently (InsufficientPods): wait")},
		"row 15d: enough pods, and no reason (a bare pod, a percentage)":   {ready, budgets{pdb(health(1, 0, 0))}, exhausted("The disruption budget b does not allow evicting pods currently")},
		"row 15d: a condition without a message":                           {ready, budgets{pdb(health(3, 2, 3), conditionIs("False", "InsufficientPods", ""))}, exhausted("The disruption budget b does not allow evicting pods currently")},
		"rows 16-19: a disruption is left":                                 {ready, budgets{pdb(allows(1))}, created(Available)},
		"an unready pod takes a disruption when its policy lets it not go": {unready, budgets{pdb(health(1, 2, 3), allows(1))}, created(Available)},
	} {
		t.Run(name, func(t *testing.T) {
			got := Check(tt.pod, tt.budgets)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if got.Allowed() != (tt.want.Code == 201) {
				t.Errorf("Allowed is %t with code %d", got.Allowed(), got.Code)
			}
		})
	}
}
