package conformance

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"
)

// scenario is one case: what is in the namespace, and what is posted.
type scenario struct {
	Pod     *podSpec // nil: there is none
	Budgets []budgetSpec
	Post    postSpec
}

type podSpec struct {
	Phase       corev1.PodPhase
	Ready       string // "", True, False or Unknown
	Terminating bool
}

type budgetSpec struct {
	Selector   string
	Policy     *policyv1.UnhealthyPodEvictionPolicyType
	Status     policyv1.PodDisruptionBudgetStatus
	Confirming int // number of disruptedPods
}

// postSpec is the Eviction. Preconditions are symbolic, since UIDs are the API server's.
type postSpec struct {
	Version         string
	OtherName       bool
	Namespace       string // own, other or empty
	QueryDryRun     []string
	BodyDryRun      []string
	UID, RV         string // none, own, other or empty
	Grace           *int64
	Propagation     *metav1.DeletionPropagation
	Orphan          *bool
	IgnoreReadError bool
	Options         bool
}

// rarely draws true about once in n times.
func rarely(t *rapid.T, n int, label string) bool { return rapid.IntRange(1, n).Draw(t, label) == n }

func oneOf[T any](t *rapid.T, label string, values ...T) T {
	return rapid.SampledFrom(values).Draw(t, label)
}

func drawScenario(t *rapid.T) scenario {
	s := scenario{Post: drawPost(t)}
	if !rarely(t, 30, "no pod") {
		s.Pod = &podSpec{
			Phase:       oneOf(t, "phase", corev1.PodRunning, corev1.PodRunning, corev1.PodRunning, corev1.PodRunning, corev1.PodUnknown, corev1.PodPending, corev1.PodSucceeded, corev1.PodFailed),
			Ready:       oneOf(t, "ready", "True", "True", "False", "False", "Unknown", ""),
			Terminating: rarely(t, 12, "terminating"),
		}
	}
	for range oneOf(t, "budgets", 0, 1, 1, 1, 1, 1, 1, 2, 2, 3) {
		s.Budgets = append(s.Budgets, drawBudget(t))
	}
	s.limitSlowRetries(t)
	return s
}

// limitSlowRetries keeps most cases fast: the API server retries a conflict on a pod without budget
// check for ten seconds.
func (s *scenario) limitSlowRetries(t *rapid.T) {
	ignored := s.Pod != nil && (s.Pod.Terminating || s.Pod.Phase == corev1.PodPending || s.Pod.Phase == corev1.PodSucceeded || s.Pod.Phase == corev1.PodFailed)
	conflicts := s.Post.UID == "other" || s.Post.UID == "empty"
	if ignored && conflicts && s.Post.RV == "none" && !rarely(t, 20, "slow") {
		s.Post.UID = "own"
	}
}

func drawBudget(t *rapid.T) budgetSpec {
	always, ifHealthy := policyv1.AlwaysAllow, policyv1.IfHealthyBudget
	b := budgetSpec{
		Selector: oneOf(t, "selector", "match", "match", "match", "match", "match", "nil", "all", "other", "in", "notin", "exists", "absent", "both"),
		Policy:   oneOf(t, "policy", nil, nil, &ifHealthy, &always),
		Status: policyv1.PodDisruptionBudgetStatus{
			// The generation of a new budget is 1.
			ObservedGeneration: int64(oneOf(t, "observed", 1, 1, 1, 1, 1, 2, 0)),
			DisruptionsAllowed: int32(oneOf(t, "allowed", 0, 0, 0, 1, 1, 5)),
			CurrentHealthy:     int32(oneOf(t, "current", 0, 1, 2, 3)),
			DesiredHealthy:     int32(oneOf(t, "desired", 0, 1, 2, 3)),
			ExpectedPods:       int32(oneOf(t, "expected", 0, 1, 3)),
			Conditions:         drawConditions(t),
		},
	}
	if rarely(t, 10, "confirming") {
		b.Confirming = oneOf(t, "disrupted pods", 1, 3, 3, 3, 3, 2000, 2001)
	}
	return b
}

func drawConditions(t *rapid.T) []metav1.Condition {
	if !rapid.Bool().Draw(t, "condition") {
		return nil
	}
	return []metav1.Condition{{
		Type:               oneOf(t, "type", policyv1.DisruptionAllowedCondition, policyv1.DisruptionAllowedCondition, "Other"),
		Status:             oneOf(t, "status", metav1.ConditionFalse, metav1.ConditionFalse, metav1.ConditionTrue, metav1.ConditionUnknown),
		Reason:             oneOf(t, "reason", policyv1.SyncFailedReason, policyv1.InsufficientPodsReason, "Strange"),
		Message:            oneOf(t, "message", "", "jobs.batch does not implement the scale subresource", "ümlaut \"quoted\""),
		LastTransitionTime: metav1.NewTime(time.Unix(1_700_000_000, 0)),
	}}
}

func drawPost(t *rapid.T) postSpec {
	p := postSpec{
		Version:     oneOf(t, "version", "v1", "v1", "v1", "v1beta1"),
		OtherName:   rarely(t, 40, "other name"),
		Namespace:   oneOf(t, "namespace", "own", "own", "own", "own", "own", "own", "empty", "empty", "empty", "other"),
		QueryDryRun: oneOf(t, "query dry run", nil, nil, nil, nil, nil, nil, []string{"All"}, []string{"All"}, []string{"All", "All"}),
		Options:     rapid.Bool().Draw(t, "options"),
		UID:         "none", RV: "none",
	}
	if !p.Options {
		return p
	}
	p.BodyDryRun = oneOf(t, "body dry run", nil, nil, nil, nil, []string{"All"}, []string{"All"}, []string{"All", "All"}, []string{"None"})
	p.UID = oneOf(t, "uid", "none", "none", "none", "none", "own", "own", "other", "empty")
	p.RV = oneOf(t, "rv", "none", "none", "none", "none", "own", "other", "empty")
	if rarely(t, 6, "grace") {
		p.Grace = new(int64(oneOf(t, "seconds", 0, 30, -5)))
	}
	if rarely(t, 8, "propagation") {
		p.Propagation = new(oneOf(t, "how", metav1.DeletePropagationForeground, metav1.DeletePropagationBackground, "Sideways", ""))
	}
	if rarely(t, 20, "orphan") {
		p.Orphan = new(rapid.Bool().Draw(t, "orphan dependents"))
	}
	p.IgnoreReadError = rarely(t, 40, "ignore read error")
	return p
}

// objects makes the pod and the budgets of a scenario in a namespace; the labels tell cases apart.
func (s scenario) pod(namespace, name string) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": "web", "case": name}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "registry.example/main"}}},
	}
	if s.Pod.Terminating {
		pod.Finalizers = []string{"evictgate.dev/conformance"}
	}
	return pod
}

func (s scenario) podStatus() corev1.PodStatus {
	status := corev1.PodStatus{Phase: s.Pod.Phase}
	if s.Pod.Ready != "" {
		status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionStatus(s.Pod.Ready)}}
	}
	return status
}

func (b budgetSpec) object(namespace, name, podName string) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: new(intstr.FromInt32(1)), Selector: selector(b.Selector, podName), UnhealthyPodEvictionPolicy: b.Policy,
		},
	}
}

func (b budgetSpec) status() policyv1.PodDisruptionBudgetStatus {
	status := *b.Status.DeepCopy()
	if b.Confirming > 0 {
		status.DisruptedPods = map[string]metav1.Time{}
		for i := range b.Confirming {
			status.DisruptedPods[fmt.Sprintf("gone-%d", i)] = metav1.NewTime(time.Unix(1_700_000_000, 0))
		}
	}
	return status
}

func selector(kind, podName string) *metav1.LabelSelector {
	expression := func(op metav1.LabelSelectorOperator, key string, values ...string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: key, Operator: op, Values: values}}}
	}
	switch kind {
	case "nil":
		return nil
	case "all":
		return &metav1.LabelSelector{}
	case "other":
		return &metav1.LabelSelector{MatchLabels: map[string]string{"app": "other"}}
	case "in":
		return expression(metav1.LabelSelectorOpIn, "case", "some-other", podName)
	case "notin":
		return expression(metav1.LabelSelectorOpNotIn, "case", podName)
	case "exists":
		return expression(metav1.LabelSelectorOpExists, "case")
	case "absent":
		return expression(metav1.LabelSelectorOpDoesNotExist, "case")
	case "both":
		s := expression(metav1.LabelSelectorOpExists, "case")
		s.MatchLabels = map[string]string{"app": "web"}
		return s
	}
	return &metav1.LabelSelector{MatchLabels: map[string]string{"case": podName}}
}

// eviction makes the Eviction for the pod as it is stored (nil when there is none).
func (p postSpec) eviction(namespace, name string, pod *corev1.Pod) *policyv1.Eviction {
	e := &policyv1.Eviction{TypeMeta: metav1.TypeMeta{APIVersion: "policy/" + p.Version, Kind: "Eviction"}}
	e.Name = name
	if p.OtherName {
		e.Name = "other-" + name
	}
	switch p.Namespace {
	case "own":
		e.Namespace = namespace
	case "other":
		e.Namespace = "other-namespace"
	}
	if !p.Options {
		return e
	}
	e.DeleteOptions = &metav1.DeleteOptions{
		DryRun: p.BodyDryRun, GracePeriodSeconds: p.Grace, PropagationPolicy: p.Propagation, OrphanDependents: p.Orphan,
	}
	if p.IgnoreReadError {
		e.DeleteOptions.IgnoreStoreReadErrorWithClusterBreakingPotential = new(true)
	}
	uid, rv := "", ""
	if pod != nil {
		uid, rv = string(pod.UID), pod.ResourceVersion
	}
	preconditions := metav1.Preconditions{ResourceVersion: symbol(p.RV, rv, "1")}
	if s := symbol(p.UID, uid, "11111111-2222-4333-8444-555555555555"); s != nil {
		preconditions.UID = new(types.UID(*s))
	}
	if preconditions != (metav1.Preconditions{}) {
		e.DeleteOptions.Preconditions = &preconditions
	}
	return e
}

func symbol(kind, own, other string) *string {
	switch kind {
	case "own":
		return &own
	case "other":
		return &other
	case "empty":
		return new("")
	}
	return nil
}
