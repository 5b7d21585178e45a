package budget

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/policies"
)

// namedInMessage is how many blocking pods a message may name; the rest is in the warnings.
const namedInMessage = 3

// Explain turns an answer into what policies and people see. The pods are those that the refusing
// budget selects; they are looked at only when the answer is a refusal. The detail is the same for
// every pod of the workload: it holds no time and does not depend on which pod is evicted.
func Explain(a Answer, matching []*policyv1.PodDisruptionBudget, pods []*corev1.Pod) *policies.Disruption {
	d := &policies.Disruption{
		Allowed: a.Allowed(), Code: a.Code, Reason: string(a.Reason), Message: a.Message, Cause: a.Cause(),
		Budgets: names(matching), Blockers: []policies.Blocker{},
	}
	switch {
	case a.Allowed():
		return d
	case a.Case == Multiple:
		d.Detail = fmt.Sprintf("%s It is selected by %s; change the selectors or delete all but one of these budgets, retrying does not help.",
			multipleBudgets, strings.Join(qualified(matching), " and "))
		return d
	}
	d.Blockers = Blockers(pods)
	d.Detail = refusal(a, matching[0], len(pods), d.Blockers)
	return d
}

func names(pdbs []*policyv1.PodDisruptionBudget) []string {
	list := make([]string, len(pdbs))
	for i, p := range pdbs {
		list[i] = p.Name
	}
	return list
}

func qualified(pdbs []*policyv1.PodDisruptionBudget) []string {
	list := make([]string, len(pdbs))
	for i, p := range pdbs {
		list[i] = p.Namespace + "/" + p.Name
	}
	return list
}

// refusal says what one budget needs and has, who blocks, and what unblocks it.
func refusal(a Answer, pdb *policyv1.PodDisruptionBudget, pods int, blockers []policies.Blocker) string {
	name := fmt.Sprintf("Budget %s/%s", pdb.Namespace, pdb.Name)
	s := &pdb.Status
	switch a.Case {
	case Processing:
		return stillProcessing(name, pdb)
	case Negative:
		return a.Message + "; something other than the disruption controller writes its status"
	case Unconfirmed:
		return a.Message + "; see whether kube-controller-manager runs"
	}
	if c := failedSync(pdb); c != nil {
		return fmt.Sprintf("%s failed to sync (%s); mend the budget, retrying does not help until then", name, c.Message)
	}
	needs := fmt.Sprintf("%s needs %d healthy of %d expected pods and has %d", name, s.DesiredHealthy, s.ExpectedPods, s.CurrentHealthy)
	switch {
	case s.ExpectedPods == 0 && pods > 0:
		return needs + ": its pods have no controller with a scale, so a percentage or maxUnavailable allows none; use a minAvailable number"
	case s.DesiredHealthy >= s.ExpectedPods:
		return fmt.Sprintf("%s: with %s it can never allow a disruption; %s%s", needs, limit(pdb), cureOf(pdb), also(blockers))
	case len(blockers) > 0:
		return fmt.Sprintf("%s; waiting for %s; it allows the next eviction once %s", needs, list(blockers), more(s))
	case missing(s, pods) > 0:
		return fmt.Sprintf("%s; %d of the expected pods do not exist; see why their controller does not create them; it allows the next eviction once %s", needs, missing(s, pods), more(s))
	case len(s.DisruptedPods) > 0:
		return needs + "; the last admitted evictions are still under way; it allows the next one when their replacements are ready"
	}
	return fmt.Sprintf("%s; it allows the next eviction once %s", needs, more(s))
}

func stillProcessing(name string, pdb *policyv1.PodDisruptionBudget) string {
	if c := failedSync(pdb); c != nil {
		return fmt.Sprintf("%s could never be synced (%s); mend the budget, retrying does not help until then", name, c.Message)
	}
	return name + " is still being processed: the disruption controller has not seen its newest spec; retry in some seconds, and if this lasts see whether kube-controller-manager runs"
}

func failedSync(pdb *policyv1.PodDisruptionBudget) *metav1.Condition {
	c := meta.FindStatusCondition(pdb.Status.Conditions, policyv1.DisruptionAllowedCondition)
	if c != nil && c.Status == metav1.ConditionFalse && c.Reason == policyv1.SyncFailedReason && c.Message != "" {
		return c
	}
	return nil
}

// more says how many pods must become healthy before one may go: one above what is needed.
func more(s *policyv1.PodDisruptionBudgetStatus) string {
	n := s.DesiredHealthy + 1 - s.CurrentHealthy
	if n <= 1 {
		return "1 more pod is ready"
	}
	return fmt.Sprintf("%d more pods are ready", n)
}

func missing(s *policyv1.PodDisruptionBudgetStatus, pods int) int { return int(s.ExpectedPods) - pods }

// limit is the field of the spec that sets the budget, as written.
func limit(pdb *policyv1.PodDisruptionBudget) string {
	switch {
	case pdb.Spec.MinAvailable != nil:
		return "minAvailable " + pdb.Spec.MinAvailable.String()
	case pdb.Spec.MaxUnavailable != nil:
		return "maxUnavailable " + pdb.Spec.MaxUnavailable.String()
	}
	return "neither minAvailable nor maxUnavailable"
}

func cureOf(pdb *policyv1.PodDisruptionBudget) string {
	if pdb.Spec.MinAvailable != nil {
		return "lower minAvailable or add replicas"
	}
	return "raise maxUnavailable"
}

func also(blockers []policies.Blocker) string {
	if len(blockers) == 0 {
		return ""
	}
	return "; also not ready: " + list(blockers)
}

// list names at most namedInMessage blockers.
func list(blockers []policies.Blocker) string {
	var parts []string
	for _, b := range blockers[:min(namedInMessage, len(blockers))] {
		parts = append(parts, fmt.Sprintf("%s (%s)", b.Name, b.Why))
	}
	if rest := len(blockers) - len(parts); rest > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(parts, ", "), rest)
	}
	return strings.Join(parts, ", ")
}

// Blockers finds the pods that do not count as healthy for a budget, sorted by name, each with its
// reason in Kubernetes' own word. Finished pods are left out.
func Blockers(pods []*corev1.Pod) []policies.Blocker {
	blockers := []policies.Blocker{}
	for _, p := range pods {
		if b, ok := blocker(p); ok {
			blockers = append(blockers, b)
		}
	}
	slices.SortFunc(blockers, func(a, b policies.Blocker) int { return cmp.Compare(a.Name, b.Name) })
	return blockers
}

func blocker(p *corev1.Pod) (policies.Blocker, bool) {
	b := policies.Blocker{Name: p.Name}
	ready := condition(p, corev1.PodReady)
	switch {
	case p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed:
		return b, false
	case p.DeletionTimestamp != nil:
		b.Why, b.Since = "Terminating", terminatingSince(p)
		return b, true
	case ready != nil && ready.Status == corev1.ConditionTrue:
		return b, false
	}
	if ready != nil && !ready.LastTransitionTime.IsZero() {
		b.Since = &ready.LastTransitionTime
	}
	if s := condition(p, corev1.PodScheduled); s != nil && s.Status == corev1.ConditionFalse {
		if b.Why = cmp.Or(s.Reason, "not scheduled"); !s.LastTransitionTime.IsZero() {
			b.Since = &s.LastTransitionTime
		}
		return b, true
	}
	b.Why = whyNotReady(p, ready)
	return b, true
}

// terminatingSince is when the deletion was asked for: the deletion timestamp is its end.
func terminatingSince(p *corev1.Pod) *metav1.Time {
	grace := p.DeletionGracePeriodSeconds
	if grace == nil {
		return p.DeletionTimestamp
	}
	asked := metav1.NewTime(p.DeletionTimestamp.Add(-time.Duration(*grace) * time.Second))
	return &asked
}

// whyNotReady prefers what a container says of itself to the pod's condition.
func whyNotReady(p *corev1.Pod, ready *corev1.PodCondition) string {
	for _, statuses := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for i := range statuses {
			if why := containerTrouble(&statuses[i].State); why != "" {
				return why
			}
		}
	}
	if ready != nil && ready.Reason != "" && ready.Reason != "ContainersNotReady" {
		return ready.Reason
	}
	if p.Status.Phase == corev1.PodRunning {
		return "readiness probe failing"
	}
	return cmp.Or(string(p.Status.Phase), "not ready")
}

func containerTrouble(s *corev1.ContainerState) string {
	switch {
	case s.Waiting != nil && s.Waiting.Reason != "" && s.Waiting.Reason != "PodInitializing":
		return s.Waiting.Reason
	case s.Terminated != nil && s.Terminated.ExitCode != 0:
		return cmp.Or(s.Terminated.Reason, "Error")
	}
	return ""
}

func condition(p *corev1.Pod, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == t {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}
