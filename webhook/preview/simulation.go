package preview

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	schedulinghelpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/cluster"
)

// simulation is what happens to the cluster when pods are evicted. It stands in for the workload,
// disruption and scheduling controllers as far as a drain depends on them: it places replacements by
// node selector, affinity and taints, but does not count resources.
type simulation struct {
	world      *cluster.Snapshot
	drained    string
	readyAfter time.Duration
	now        time.Time
	// coming are replacements that are not ready yet, in the order of their time.
	coming  []arrival
	created int
}

type arrival struct {
	at  time.Time
	pod *corev1.Pod
}

// evict removes the pod, takes it off its budgets, and starts its replacement. Terminating pods are
// taken as gone at once: they count for no budget.
func (s *simulation) evict(pod *corev1.Pod) error {
	counted := policies.PodReady(pod) && !policies.BudgetIgnored(pod)
	budgets := s.world.MatchingBudgets(pod)
	if err := s.world.Remove(pod); err != nil {
		return err
	}
	if counted {
		if err := s.change(budgets, -1); err != nil {
			return err
		}
	}
	if err := s.forget(pod); err != nil {
		return err
	}
	if finished(pod) || !replaced(pod) {
		return nil
	}
	replacement := s.replacement(pod)
	if err := s.world.Put(replacement); err != nil {
		return err
	}
	if replacement.Spec.NodeName != "" {
		s.coming = append(s.coming, arrival{at: s.now.Add(s.readyAfter), pod: replacement})
	}
	return nil
}

// advance lets the next replacement become ready, or, when something moved, those that are due at the
// next attempt. It reports whether one did.
func (s *simulation) advance(moved bool) (bool, error) {
	if moved {
		s.now = s.now.Add(retryEvery)
	} else if len(s.coming) > 0 && s.coming[0].at.After(s.now) {
		s.now = s.coming[0].at
	}
	arrived := false
	for len(s.coming) > 0 && !s.coming[0].at.After(s.now) {
		if err := s.arrive(s.coming[0].pod); err != nil {
			return false, err
		}
		s.coming = s.coming[1:]
		arrived = true
	}
	return arrived, nil
}

func (s *simulation) arrive(pod *corev1.Pod) error {
	pod = pod.DeepCopy()
	pod.Status.Phase = corev1.PodRunning
	start := metav1.NewTime(s.now)
	pod.Status.StartTime = &start
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: start}}
	if err := s.world.Put(pod); err != nil {
		return err
	}
	return s.change(s.world.MatchingBudgets(pod), +1)
}

// change moves the health of budgets by a pod, and with it what they allow, as the disruption
// controller would.
func (s *simulation) change(budgets []*policyv1.PodDisruptionBudget, by int32) error {
	for _, b := range budgets {
		b = b.DeepCopy()
		b.Status.CurrentHealthy += by
		allow(b)
		if err := s.world.Put(b); err != nil {
			return err
		}
	}
	return nil
}

// forget lowers the expected pods of a budget with a minAvailable number when a pod goes for good:
// there they are counted, elsewhere they come from the controller's scale.
func (s *simulation) forget(pod *corev1.Pod) error {
	if replaced(pod) {
		return nil
	}
	for _, b := range s.world.MatchingBudgets(pod) {
		if m := b.Spec.MinAvailable; m == nil || m.StrVal != "" || b.Status.ExpectedPods == 0 {
			continue
		}
		b = b.DeepCopy()
		b.Status.ExpectedPods--
		allow(b)
		if err := s.world.Put(b); err != nil {
			return err
		}
	}
	return nil
}

func allow(b *policyv1.PodDisruptionBudget) {
	b.Status.DisruptionsAllowed = 0
	if b.Status.ExpectedPods > 0 {
		b.Status.DisruptionsAllowed = max(0, b.Status.CurrentHealthy-b.Status.DesiredHealthy)
	}
}

// replaced reports whether a controller makes a new pod for this one.
func replaced(pod *corev1.Pod) bool { return metav1.GetControllerOfNoCopy(pod) != nil }

func finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// replacement is the pod that the controller makes: pending, on a node that takes it, or on none.
func (s *simulation) replacement(old *corev1.Pod) *corev1.Pod {
	s.created++
	pod := old.DeepCopy()
	if ref := metav1.GetControllerOfNoCopy(old); ref.Kind != "StatefulSet" {
		pod.Name = fmt.Sprintf("%s-replacement-%d", ref.Name, s.created)
	}
	pod.UID = types.UID(fmt.Sprintf("replacement-%d", s.created))
	pod.DeletionTimestamp = nil
	pod.Spec.NodeName = s.place(old)
	pod.Status = corev1.PodStatus{Phase: corev1.PodPending}
	if pod.Spec.NodeName == "" {
		pod.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable,
			LastTransitionTime: metav1.NewTime(s.now),
		}}
	}
	return pod
}

// place finds the first node that takes the pod; empty when none does.
func (s *simulation) place(pod *corev1.Pod) string {
	affinity := nodeaffinity.GetRequiredNodeAffinity(pod)
	for _, node := range s.world.Nodes() {
		if node.Name == s.drained || node.Spec.Unschedulable {
			continue
		}
		_, untolerated := schedulinghelpers.FindMatchingUntoleratedTaint(klog.Background(), node.Spec.Taints, pod.Spec.Tolerations,
			func(t *corev1.Taint) bool {
				return t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
			}, true)
		if fits, err := affinity.Match(node); err == nil && fits && !untolerated {
			return node.Name
		}
	}
	return ""
}
