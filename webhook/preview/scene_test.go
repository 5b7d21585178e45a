package preview

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/cluster"
)

// A scene is a small cluster: here are the words it is told in. Everything lives in namespace shop, and
// the node that is drained is called old.

var start = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

type objects = []runtime.Object

func scene(parts ...objects) objects {
	var all objects
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func node(name string, change ...func(*corev1.Node)) objects {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}
	for _, c := range change {
		c(n)
	}
	return objects{n}
}

func cordoned(n *corev1.Node) { n.Spec.Unschedulable = true }
func tainted(n *corev1.Node) {
	n.Spec.Taints = []corev1.Taint{{Key: "gpu", Value: "yes", Effect: corev1.TaintEffectNoSchedule}}
}

func preferablyNot(n *corev1.Node) {
	n.Spec.Taints = []corev1.Taint{{Key: "gpu", Value: "yes", Effect: corev1.TaintEffectPreferNoSchedule}}
}

type podOption func(*corev1.Pod)

func meta(name string, owner *metav1.OwnerReference) metav1.ObjectMeta {
	m := metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name + "-uid")}
	if owner != nil {
		m.OwnerReferences = []metav1.OwnerReference{*owner}
	}
	return m
}

func owner(kind, name string) *metav1.OwnerReference {
	yes := true
	return &metav1.OwnerReference{Kind: kind, Name: name, UID: types.UID(name + "-uid"), Controller: &yes}
}

func pod(name, host string, by *metav1.OwnerReference, options ...podOption) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: meta(name, by), Spec: corev1.PodSpec{NodeName: host},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
	}
	p.Labels = map[string]string{"app": strings.SplitN(name, "-", 2)[0], "tier": "all"}
	for _, o := range options {
		o(p)
	}
	return p
}

func bare(name string, options ...podOption) objects {
	return objects{pod(name, "old", nil, options...)}
}

// deployment has a pod per host, web-1 and up; an option applies to all of them.
func deployment(name string, hosts []string, options ...podOption) objects {
	n := int32(len(hosts))
	rs := name + "-rs"
	list := objects{
		&appsv1.Deployment{ObjectMeta: meta(name, nil), Spec: appsv1.DeploymentSpec{Replicas: &n}},
		&appsv1.ReplicaSet{ObjectMeta: meta(rs, owner("Deployment", name)), Spec: appsv1.ReplicaSetSpec{Replicas: &n}},
	}
	for i, host := range hosts {
		list = append(list, pod(fmt.Sprintf("%s-%d", name, i+1), host, owner("ReplicaSet", rs), options...))
	}
	return list
}

// statefulSet has a pod per host, db-0 and up.
func statefulSet(name string, hosts []string, management appsv1.PodManagementPolicyType, options ...podOption) objects {
	n := int32(len(hosts))
	list := objects{&appsv1.StatefulSet{ObjectMeta: meta(name, nil), Spec: appsv1.StatefulSetSpec{Replicas: &n, PodManagementPolicy: management}}}
	for i, host := range hosts {
		list = append(list, pod(fmt.Sprintf("%s-%d", name, i), host, owner("StatefulSet", name), options...))
	}
	return list
}

func on(host string, times int) []string {
	return strings.Fields(strings.Repeat(host+" ", times))
}

// only lets an option apply to the pods of these names.
func only(o podOption, names ...string) podOption {
	return func(p *corev1.Pod) {
		for _, name := range names {
			if p.Name == name {
				o(p)
			}
		}
	}
}

func unready(p *corev1.Pod)   { p.Status.Conditions[0].Status = corev1.ConditionFalse }
func failed(p *corev1.Pod)    { p.Status = corev1.PodStatus{Phase: corev1.PodFailed} }
func succeeded(p *corev1.Pod) { p.Status = corev1.PodStatus{Phase: corev1.PodSucceeded} }
func pending(p *corev1.Pod)   { p.Status = corev1.PodStatus{Phase: corev1.PodPending} }
func leaving(p *corev1.Pod) {
	at := metav1.NewTime(start)
	p.DeletionTimestamp = &at
}
func pinned(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: "old"} }
func mirror(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} }
func held(p *corev1.Pod) {
	p.Annotations = map[string]string{"karpenter.sh/do-not-disrupt": "true"}
}

func tolerating(key string) podOption {
	return func(p *corev1.Pod) {
		p.Spec.Tolerations = []corev1.Toleration{{Key: key, Operator: corev1.TolerationOpExists}}
	}
}

// minimum and maximum are budgets over the pods with the label app; counted gives them their status.
func minimum(app, limit string) *policyv1.PodDisruptionBudget {
	v := intstr.Parse(limit)
	b := selecting(app, "app", app)
	b.Spec.MinAvailable = &v
	return b
}

func maximum(app, limit string) *policyv1.PodDisruptionBudget {
	v := intstr.Parse(limit)
	b := selecting(app, "app", app)
	b.Spec.MaxUnavailable = &v
	return b
}

// over moves a budget to all pods of the scene.
func over(b *policyv1.PodDisruptionBudget) *policyv1.PodDisruptionBudget {
	b.Name, b.Spec.Selector.MatchLabels = "all", map[string]string{"tier": "all"}
	return b
}

func always(b *policyv1.PodDisruptionBudget) *policyv1.PodDisruptionBudget {
	policy := policyv1.AlwaysAllow
	b.Spec.UnhealthyPodEvictionPolicy = &policy
	return b
}

func selecting(name, label, value string) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{label: value}}},
	}
}

// worldOf is the cluster of a scene; the disruption controller has seen it.
func worldOf(t interface{ Fatalf(string, ...any) }, all objects) *cluster.Snapshot {
	world, err := cluster.SnapshotOf(all...)
	if err != nil {
		t.Fatalf("make the cluster: %v", err)
	}
	for _, b := range world.Budgets() {
		count(t, world, b)
	}
	return world
}

// count gives a budget the status that the disruption controller computes. Source: trySync in
// k8s.io/kubernetes/pkg/controller/disruption/disruption.go.
func count(t interface{ Fatalf(string, ...any) }, world *cluster.Snapshot, b *policyv1.PodDisruptionBudget) {
	pods := world.Selected(b)
	scales := map[types.UID]int{}
	s := &b.Status
	s.CurrentHealthy = int32(healthy(pods))
	for _, p := range pods {
		if ref := metav1.GetControllerOfNoCopy(p); ref != nil {
			scales[ref.UID] = scale(world, ref)
		}
	}
	expected := 0
	for _, n := range scales {
		expected += n
	}
	limit, isMax := b.Spec.MinAvailable, b.Spec.MaxUnavailable != nil
	if isMax {
		limit = b.Spec.MaxUnavailable
	} else if limit.Type == intstr.Int {
		expected = len(pods)
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(limit, expected, true)
	if err != nil {
		t.Fatalf("budget %s: %v", b.Name, err)
	}
	if isMax {
		n = max(0, expected-n)
	}
	s.ExpectedPods, s.DesiredHealthy = int32(expected), int32(n)
	allow(b)
}

func healthy(pods []*corev1.Pod) int {
	n := 0
	for _, p := range pods {
		if policies.PodReady(p) && p.DeletionTimestamp == nil {
			n++
		}
	}
	return n
}

func scale(world *cluster.Snapshot, ref *metav1.OwnerReference) int {
	if set, ok := world.StatefulSet("shop", ref.Name); ok {
		return int(*set.Spec.Replicas)
	}
	pods, _ := world.PodsOfDeployment("shop", strings.TrimSuffix(ref.Name, "-rs"))
	return len(pods) // as the scenes are made
}

func defaultSet(t testing.TB) *policies.Set {
	t.Helper()
	set, err := policies.Default()
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// fate is what became of a pod, in a word.
func fate(r Result) string {
	switch {
	case r.Skipped != "":
		return "skipped"
	case r.Evicted != nil && r.Stuck == nil:
		return fmt.Sprintf("after %vs", *r.Evicted)
	case r.Evicted == nil && r.Stuck != nil:
		return fmt.Sprintf("stuck %d", r.Stuck.Code)
	}
	return fmt.Sprintf("neither evicted nor stuck: %+v", r)
}

func fates(results []Result) map[string]string {
	all := map[string]string{}
	for _, r := range results {
		all[r.Pod] = fate(r)
	}
	return all
}
