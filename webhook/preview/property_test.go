package preview

import (
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/evictgate/evictgate/webhook/cluster"
)

// TestADrainOfAnyCluster plays drains of drawn clusters. After every step the budgets' numbers are what
// the disruption controller would count, none has fallen below what it needs, and in the end each pod
// is skipped, evicted or stuck.
func TestADrainOfAnyCluster(t *testing.T) {
	set := defaultSet(t)
	rapid.Check(t, func(t *rapid.T) {
		world := worldOf(t, drawCluster(t))
		o := options(set)
		w := watcher{world: world, was: map[string]int32{}}
		w.look(t)
		o.Progress = func(decided int) {
			if decided > 10_000 {
				t.Fatalf("the simulation does not end")
			}
			w.look(t)
		}
		pods := world.PodsOn("old")
		results, err := Drain(t.Context(), world, pods, o)
		if err != nil {
			t.Fatalf("drain: %v", err)
		}
		w.look(t)
		if len(results) != len(pods) {
			t.Fatalf("%d results of %d pods", len(results), len(pods))
		}
		for i, r := range results {
			if f := fate(r); r.Pod != pods[i].Name || (r.Now == nil) != (r.Skipped != "") || len(f) > 20 {
				t.Fatalf("%s ended as %s", pods[i].Name, f)
			}
			if r.Stuck != nil && r.Stuck.Allowed() {
				t.Fatalf("%s is stuck though admitted", r.Pod)
			}
		}
	})
}

// watcher looks at the budgets between decisions.
type watcher struct {
	world *cluster.Snapshot
	was   map[string]int32
}

func (w *watcher) look(t *rapid.T) {
	for _, b := range w.world.Budgets() {
		counted := b.DeepCopy()
		count(t, w.world, counted)
		if b.Spec.MinAvailable == nil || b.Spec.MinAvailable.Type == intstr.String {
			// The scenes' controllers keep their scale; count takes it from the pods that are there.
			counted.Status.ExpectedPods, counted.Status.DesiredHealthy = b.Status.ExpectedPods, b.Status.DesiredHealthy
			allow(counted)
		}
		if s, want := b.Status, counted.Status; s.CurrentHealthy != want.CurrentHealthy ||
			s.ExpectedPods != want.ExpectedPods || s.DisruptionsAllowed != want.DisruptionsAllowed {
			t.Fatalf("budget %s is %+v, the controller would count %+v", b.Name, s, want)
		}
		if was, ok := w.was[b.Name]; ok && b.Status.CurrentHealthy < was && b.Status.CurrentHealthy < b.Status.DesiredHealthy {
			t.Fatalf("budget %s fell from %d to %d healthy pods and needs %d", b.Name, was, b.Status.CurrentHealthy, b.Status.DesiredHealthy)
		}
		w.was[b.Name] = b.Status.CurrentHealthy
	}
}

func drawCluster(t *rapid.T) objects {
	all := scene(node("old"))
	for i := range rapid.IntRange(0, 2).Draw(t, "other nodes") {
		change := rapid.SampledFrom([]func(*corev1.Node){func(*corev1.Node) {}, cordoned, tainted}).Draw(t, "node")
		all = append(all, node(fmt.Sprintf("other-%d", i), change)...)
	}
	for i := range rapid.IntRange(1, 4).Draw(t, "workloads") {
		name := fmt.Sprintf("app%d", i)
		all = append(all, drawWorkload(t, name)...)
		for j := range rapid.SampledFrom([]int{0, 1, 1, 1, 2}).Draw(t, "budgets") {
			b := drawBudget(t, name)
			b.Name = fmt.Sprintf("%s-%d", name, j)
			all = append(all, b)
		}
	}
	if rapid.IntRange(0, 4).Draw(t, "shared") == 0 {
		all = append(all, over(drawBudget(t, "")))
	}
	return all
}

func drawWorkload(t *rapid.T, name string) objects {
	hosts := rapid.SliceOfN(rapid.SampledFrom([]string{"old", "old", "other-0"}), 1, 5).Draw(t, "hosts")
	drawn := func(p *corev1.Pod) {
		for _, o := range rapid.SliceOfN(rapid.SampledFrom([]podOption{unready, leaving, held}), 0, 1).Draw(t, "pod") {
			o(p)
		}
		if rapid.IntRange(0, 5).Draw(t, "phase") == 0 {
			rapid.SampledFrom([]podOption{failed, succeeded, pending}).Draw(t, "phase")(p)
		}
	}
	every := rapid.SampledFrom([]podOption{func(*corev1.Pod) {}, pinned, tolerating("gpu"), tolerating(corev1.TaintNodeUnschedulable)}).Draw(t, "every pod")
	switch rapid.SampledFrom([]string{"Deployment", "Deployment", "StatefulSet", "DaemonSet", "bare"}).Draw(t, "kind") {
	case "Deployment":
		return deployment(name, hosts, drawn, every)
	case "StatefulSet":
		management := rapid.SampledFrom([]appsv1.PodManagementPolicyType{appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement}).Draw(t, "management")
		return statefulSet(name, hosts, management, drawn, every)
	case "DaemonSet":
		return objects{pod(name+"-1", "old", owner("DaemonSet", name), drawn)}
	}
	return scene(bare(name+"-1", drawn), bare(name+"-2", drawn))
}

func drawBudget(t *rapid.T, app string) *policyv1.PodDisruptionBudget {
	limit := rapid.SampledFrom([]string{"0", "1", "2", "3", "0%", "20%", "50%", "90%", "100%"}).Draw(t, "limit")
	b := minimum(app, limit)
	if rapid.Bool().Draw(t, "max") {
		b = maximum(app, limit)
	}
	if rapid.Bool().Draw(t, "AlwaysAllow") {
		b = always(b)
	}
	return b
}
