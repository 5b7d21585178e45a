package preview

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
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
	readyAfter time.Duration
	now        time.Time
	// held are replacements that their StatefulSet does not create yet.
	held []*corev1.Pod
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
	if err := s.world.Remove(pod); err != nil {
		return err
	}
	healthy := int32(0)
	if policies.PodReady(pod) && pod.DeletionTimestamp == nil {
		healthy = -1
	}
	if err := s.change(pod, healthy, -1); err != nil {
		return err
	}
	if !replaced(pod) {
		return nil
	}
	s.held = append(s.held, s.replacement(pod))
	return s.create()
}

// cordon keeps replacements off a node, as kubectl drain does first.
func (s *simulation) cordon(name string) error {
	node, ok := s.world.Node(name)
	if !ok {
		return nil
	}
	node = node.DeepCopy()
	node.Spec.Unschedulable = true
	return s.world.Put(node)
}

// create places the replacements that nothing holds back any more.
func (s *simulation) create() error {
	var held []*corev1.Pod
	for _, pod := range s.held {
		if s.waits(pod) {
			held = append(held, pod)
			continue
		}
		s.place(pod)
		if err := s.world.Put(pod); err != nil {
			return err
		}
		if err := s.change(pod, 0, +1); err != nil {
			return err
		}
		if pod.Spec.NodeName != "" {
			s.coming = append(s.coming, arrival{at: s.now.Add(s.readyAfter), pod: pod})
		}
	}
	s.held = held
	return nil
}

// waits reports whether the pod's StatefulSet creates it only when the pods of lower ordinals are ready.
func (s *simulation) waits(pod *corev1.Pod) bool {
	ref := metav1.GetControllerOfNoCopy(pod)
	set, ok := s.world.StatefulSet(pod.Namespace, ref.Name)
	if ref.Kind != "StatefulSet" || !ok || set.Spec.PodManagementPolicy == appsv1.ParallelPodManagement {
		return false
	}
	first := 0
	if o := set.Spec.Ordinals; o != nil {
		first = int(o.Start)
	}
	ordinal, err := strconv.Atoi(strings.TrimPrefix(pod.Name, set.Name+"-"))
	if err != nil {
		return false
	}
	for i := first; i < ordinal; i++ {
		lower, ok := s.world.Pod(pod.Namespace, fmt.Sprintf("%s-%d", set.Name, i))
		if !ok || !policies.PodReady(lower) || lower.DeletionTimestamp != nil {
			return true
		}
	}
	return false
}

// advance goes on to the next attempt, or, when the last one moved nothing, to the first attempt that
// finds another replacement ready. It reports whether one became ready.
func (s *simulation) advance(moved bool) (bool, error) {
	if !moved && len(s.coming) == 0 {
		return false, nil
	}
	s.now = s.now.Add(retryEvery)
	if !moved {
		for s.now.Before(s.coming[0].at) {
			s.now = s.now.Add(retryEvery)
		}
	}
	arrived := false
	for len(s.coming) > 0 && !s.coming[0].at.After(s.now) {
		next := s.coming[0].pod
		s.coming = s.coming[1:]
		if err := s.arrive(next); err != nil {
			return false, err
		}
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
	if err := s.change(pod, +1, 0); err != nil {
		return err
	}
	return s.create()
}

// change moves what the pod's budgets count, healthy pods and pods in all, and with it what they allow,
// as the disruption controller would. All pods count only for a minAvailable number; else a budget
// expects the scale of the pods' controllers, which stays.
func (s *simulation) change(pod *corev1.Pod, healthy, all int32) error {
	for _, b := range s.world.MatchingBudgets(pod) {
		b = b.DeepCopy()
		b.Status.CurrentHealthy += healthy
		if m := b.Spec.MinAvailable; m != nil && m.Type == intstr.Int {
			b.Status.ExpectedPods += all
		}
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

// replaced reports whether a controller makes a new pod when this one goes. For one that is finished or
// terminating it has done so already, but for a StatefulSet, which waits until the name is free.
func replaced(pod *corev1.Pod) bool {
	ref := metav1.GetControllerOfNoCopy(pod)
	return ref != nil && (ref.Kind == "StatefulSet" || !finished(pod) && pod.DeletionTimestamp == nil)
}

func finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// replacement is the pod that the controller makes.
func (s *simulation) replacement(old *corev1.Pod) *corev1.Pod {
	s.created++
	pod := old.DeepCopy()
	if ref := metav1.GetControllerOfNoCopy(old); ref.Kind != "StatefulSet" {
		pod.Name = fmt.Sprintf("%s-replacement-%d", ref.Name, s.created)
	}
	pod.UID = types.UID(fmt.Sprintf("replacement-%d", s.created))
	pod.DeletionTimestamp = nil
	pod.Status = corev1.PodStatus{Phase: corev1.PodPending}
	return pod
}

// place binds the pod to the first node that takes it, or says that none does.
func (s *simulation) place(pod *corev1.Pod) {
	pod.Spec.NodeName = ""
	affinity := nodeaffinity.GetRequiredNodeAffinity(pod)
	for _, node := range s.world.Nodes() {
		if fits, err := affinity.Match(node); err == nil && fits && tolerated(node, pod.Spec.Tolerations) {
			pod.Spec.NodeName = node.Name
			return
		}
	}
	pod.Status.Conditions = []corev1.PodCondition{{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable,
		LastTransitionTime: metav1.NewTime(s.now),
	}}
}

// tolerated reports whether the tolerations get a pod onto the node. A cordon is a taint to the scheduler.
func tolerated(node *corev1.Node, tolerations []corev1.Toleration) bool {
	taints := node.Spec.Taints
	if node.Spec.Unschedulable {
		taints = append(slices.Clone(taints), corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule})
	}
	_, untolerated := schedulinghelpers.FindMatchingUntoleratedTaint(klog.Background(), taints, tolerations,
		func(t *corev1.Taint) bool {
			return t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
		}, true)
	return !untolerated
}
