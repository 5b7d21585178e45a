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
// budget selects, and wanted is how many of them their controllers want; both are looked at only when the answer is a refusal. The detail is the same for
// every pod of the workload: it holds no time and does not depend on which pod is evicted.
func Explain(a Answer, matching []*policyv1.PodDisruptionBudget, pods []*corev1.Pod, wanted int) *policies.Disruption {
	d := &policies.Disruption{
		Allowed: a.Allowed(), Code: a.Code, Reason: string(a.Reason), Message: a.Message, Cause: a.Cause(),
		Budgets: names(matching), Blockers: []policies.Blocker{}, Cures: []string{},
	}
	switch {
	case a.Allowed():
		return d
	case a.Case == Multiple:
		d.Detail = fmt.Sprintf("%s It is selected by %s; change the selectors or delete all but one of these budgets, retrying does not help.",
			multipleBudgets, strings.Join(selecting(matching), " and "))
		d.Cures = cures("change the selectors until one budget selects the pod, or delete the others")
		return d
	}
	d.Blockers = Blockers(pods)
	why := refusal(a, matching[0], Pods{Existing: len(pods), Wanted: wanted}, d.Blockers)
	d.Detail = why.sentence()
	d.Cures = cures(why.cure)
	return d
}

// cures puts the cure of the case before what helps with any refusal that lasts.
func cures(first string) []string {
	return []string{
		first,
		"stop or pause what retries the eviction, and look into the workload before it goes on",
		"as a last resort delete the pod directly with kubectl delete pod: this asks no budget and no policy, and takes the pod away below what the budget keeps",
	}
}

func names(pdbs []*policyv1.PodDisruptionBudget) []string {
	list := make([]string, len(pdbs))
	for i, p := range pdbs {
		list[i] = p.Name
	}
	return list
}

// selecting names budgets with the selector by which each selects the pod.
func selecting(pdbs []*policyv1.PodDisruptionBudget) []string {
	list := make([]string, len(pdbs))
	for i, p := range pdbs {
		selector := metav1.FormatLabelSelector(p.Spec.Selector)
		if selector == "<none>" {
			selector = "every pod"
		}
		list[i] = fmt.Sprintf("%s/%s (%s)", p.Namespace, p.Name, selector)
	}
	return list
}

// reasoning is why a budget refuses: the state, who or what blocks, and what unblocks it.
type reasoning struct {
	state, because, until, cure string
}

// sentence is the reasoning on one line.
func (r reasoning) sentence() string {
	var text strings.Builder
	text.WriteString(r.state)
	for _, part := range []string{r.because, r.until} {
		if part != "" {
			text.WriteString("; ")
			text.WriteString(part)
		}
	}
	return text.String()
}

// refusal says what one budget needs and has, who blocks, and what unblocks it.
func refusal(a Answer, pdb *policyv1.PodDisruptionBudget, pods Pods, blockers []policies.Blocker) reasoning {
	name := fmt.Sprintf("Budget %s/%s", pdb.Namespace, pdb.Name)
	s := &pdb.Status
	sync := failedSync(pdb)
	switch {
	case a.Case == Negative:
		return reasoning{state: a.Message, because: "something other than the disruption controller writes its status", cure: "find out what writes the budget's status"}
	case a.Case == Unconfirmed:
		return reasoning{state: a.Message, because: "see whether kube-controller-manager runs", cure: "see whether kube-controller-manager runs"}
	case sync != nil && a.Case == Processing:
		return reasoning{state: fmt.Sprintf("%s could never be synced (%s)", name, sync.Message), because: "fix the budget, retrying does not help until then", cure: "fix the budget"}
	case sync != nil:
		return reasoning{state: fmt.Sprintf("%s failed to sync (%s)", name, sync.Message), because: "fix the budget, retrying does not help until then", cure: "fix the budget"}
	case a.Case == Processing:
		return reasoning{
			state: name + " is still being processed: the disruption controller has not seen its newest spec",
			until: "retry in some seconds, and if this lasts see whether kube-controller-manager runs",
			cure:  "wait some seconds; if this lasts see whether kube-controller-manager runs",
		}
	}
	r := reasoning{state: fmt.Sprintf("%s needs %d healthy of %d expected pods and has %d", name, s.DesiredHealthy, s.ExpectedPods, s.CurrentHealthy)}
	r.until = "it allows the next eviction once " + more(s)
	never := Never(pdb, pods)
	switch {
	case never != "":
		r.because, r.until, r.cure = "it can never allow a disruption: "+never, "", "change the budget: "+never
		if len(blockers) > 0 {
			r.because += "; also not ready: " + list(blockers)
		}
	case len(blockers) > 0:
		r.because, r.cure = "waiting for "+list(blockers), "fix or wait for "+list(blockers)
	case pods.expected(pdb) > pods.Existing:
		r.because = missing(pods.expected(pdb)-pods.Existing) + "; see why their controller creates none"
		r.cure = "see why the controller of the missing pods creates none (quota, admission, a paused rollout)"
	case len(s.DisruptedPods) > 0:
		r.because, r.until = "the last admitted evictions are still under way", "it allows the next one when their replacements are ready"
		r.cure = "wait until the replacements are ready"
	default:
		r.cure = "wait until more pods are ready"
	}
	return r
}

func missing(n int) string {
	if n == 1 {
		return "1 of the expected pods does not exist"
	}
	return fmt.Sprintf("%d of the expected pods do not exist", n)
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
		b.Why, b.Since, b.Until = "Terminating", terminatingSince(p), p.DeletionTimestamp
		if len(p.Finalizers) > 0 {
			b.Detail = "held by " + strings.Join(p.Finalizers, ", ")
		}
		return b, true
	case ready != nil && ready.Status == corev1.ConditionTrue:
		return b, false
	}
	if ready != nil && !ready.LastTransitionTime.IsZero() {
		b.Since = &ready.LastTransitionTime
	}
	if s := condition(p, corev1.PodScheduled); s != nil && s.Status == corev1.ConditionFalse {
		b.Why, b.Detail = cmp.Or(s.Reason, "not scheduled"), brief(s.Message)
		if !s.LastTransitionTime.IsZero() {
			b.Since = &s.LastTransitionTime
		}
		return b, true
	}
	b.Why, b.Detail = whyNotReady(p, ready)
	b.Detail = brief(b.Detail)
	return b, true
}

// brief keeps what fits beside others in a warning.
func brief(s string) string {
	const longest = 200
	if runes := []rune(s); len(runes) > longest {
		return string(runes[:longest]) + "…"
	}
	return s
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
func whyNotReady(p *corev1.Pod, ready *corev1.PodCondition) (why, detail string) {
	for _, statuses := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for i := range statuses {
			if why, detail := containerTrouble(&statuses[i].State); why != "" {
				return why, detail
			}
		}
	}
	if ready != nil && ready.Reason != "" && ready.Reason != "ContainersNotReady" {
		return ready.Reason, ready.Message
	}
	if p.Status.Phase == corev1.PodRunning {
		return "readiness probe failing", ""
	}
	return cmp.Or(string(p.Status.Phase), "not ready"), ""
}

func containerTrouble(s *corev1.ContainerState) (why, detail string) {
	switch {
	case s.Waiting != nil && s.Waiting.Reason != "" && s.Waiting.Reason != "PodInitializing":
		return s.Waiting.Reason, s.Waiting.Message
	case s.Terminated != nil && s.Terminated.ExitCode != 0:
		return cmp.Or(s.Terminated.Reason, "Error"), fmt.Sprintf("exit code %d", s.Terminated.ExitCode)
	}
	return "", ""
}

func condition(p *corev1.Pod, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == t {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}
