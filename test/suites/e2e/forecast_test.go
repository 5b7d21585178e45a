package e2e

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
	"github.com/evictgate/evictgate/webhook/cluster"
	"github.com/evictgate/evictgate/webhook/preview"
)

const (
	// forecastSeed makes the scenarios; EVICTGATE_FORECAST_SEED replaces it.
	forecastSeed = 20261123
	// forecasts is how many scenarios there are, forecastsAtOnce how many run beside each other.
	forecasts, forecastsAtOnce = 12, 4
	// forecastOrders is in how many orders of the pods each drain is forecast.
	forecastOrders = 8
	// noProgress is more than two retries of kubectl drain.
	noProgress = 12 * time.Second
)

// The policies of all scenarios: one that delays, one that denies.
const (
	holdPolicy = `apiVersion: evictgate.dev/v1alpha1
kind: EvictionPolicy
metadata: {name: hold}
spec: {library: do_not_disrupt}
`
	frozenPolicy = `package eviction.frozen

deny contains {"reason": "the pod is frozen", "detail": {}} if input.pod.metadata.labels.frozen == "true"
`
)

// TestForecastsComeTrue forecasts drains of generated scenarios, then runs the real kubectl drain, and
// expects of every pod that it went or stayed as forecast. kubectl tries the pods of a node beside each
// other, so which of them gets the last disruption of a budget is a race: pods whose fate depends on the
// order of the attempts are compared by number.
func TestForecastsComeTrue(t *testing.T) {
	space(t)
	seed := uint64(forecastSeed)
	if s := os.Getenv("EVICTGATE_FORECAST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("EVICTGATE_FORECAST_SEED=%d", seed)
	dir := policyDir(t, "hold.yaml", holdPolicy, "frozen.rego", frozenPolicy)
	set, err := source.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	namespaces := make([]string, forecasts)
	for i := range namespaces {
		if namespaces[i], err = shared.Namespace(t.Context(), "forecast"); err != nil {
			t.Fatal(err)
		}
	}
	open(t, gate.Options{Namespaces: namespaces, Args: []string{"--policies", dir}})
	var all totals
	t.Cleanup(func() { all.check(t) }) // when all scenarios have ended
	slots := make(chan struct{}, forecastsAtOnce)
	for i, namespace := range namespaces {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			slots <- struct{}{}
			defer func() { <-slots }()
			f := forecast{namespace: namespace, set: set, totals: &all, random: rand.New(rand.NewPCG(seed, uint64(i)))}
			f.run(t)
		})
	}
}

// forecast is one scenario: nodes of its own, the first of which is drained.
type forecast struct {
	namespace string
	set       *policies.Set
	random    *rand.Rand
	told      []string
	totals    *totals
}

// totals counts over all scenarios, so that they do not come true for want of pods.
type totals struct{ scenarios, evicted, stuck atomic.Int32 }

func (c *totals) check(t *testing.T) {
	if c.scenarios.Load() == forecasts && (c.evicted.Load() < forecasts || c.stuck.Load() < forecasts) {
		t.Errorf("only %d pods evicted and %d stuck in %d scenarios", c.evicted.Load(), c.stuck.Load(), forecasts)
	}
	t.Logf("%d scenarios: %d pods evicted, %d stuck", c.scenarios.Load(), c.evicted.Load(), c.stuck.Load())
}

// one reports true in one of n cases.
func (f *forecast) one(n int) bool { return f.random.IntN(n) == 0 }

func (f *forecast) tell(format string, args ...any) {
	f.told = append(f.told, fmt.Sprintf(format, args...))
}

// class is what tells a pod from the others of its workload: within a class, which pod goes is a race.
func class(p *corev1.Pod) string {
	return fmt.Sprint(p.Labels["app"], policies.PodReady(p), p.Labels["frozen"], p.Annotations["karpenter.sh/do-not-disrupt"])
}

// fate is what is forecast of a pod: whether it goes, one answer per order.
type fate struct {
	class string
	goes  []bool
}

func (f *forecast) run(t *testing.T) {
	old := f.build(t)
	t.Logf("scenario: %s", strings.Join(f.told, "; "))
	fates, decisions := f.foresee(t, old)
	before := f.podsOn(t, old)
	d := startDrain(t, old, "--delete-emptydir-data", "--timeout=5m")
	after := f.settle(t, old, d)
	f.compare(t, before, after, fates)
	if t.Failed() {
		t.Logf("kubectl drain printed:\n%s\nforecast:\n%s", d.text(), strings.Join(decisions, "\n"))
	}
}

// build makes the scenario and returns the node to drain.
func (f *forecast) build(t *testing.T) string {
	old, other := f.namespace+"-old", f.namespace+"-other"
	f.node(t, old)
	f.node(t, other)
	// While only the old node is in the pool, what is free to move starts there, too.
	f.join(t, old)
	n := 1 + f.random.IntN(4)
	late := map[string]bool{}
	var names []string
	total := 0
	for i := range n {
		name := fmt.Sprintf("app%d", i)
		names = append(names, name)
		if late[name] = f.one(4); !late[name] {
			total += f.workload(t, name, old)
		}
	}
	f.ready(t, total)
	f.join(t, other)
	for _, name := range names {
		if late[name] {
			f.tell("%s is spread", name)
			total += f.workload(t, name, old)
		}
	}
	f.ready(t, total)
	for _, name := range names {
		f.trouble(t, name)
	}
	for _, name := range names {
		f.budgets(t, name)
	}
	f.counted(t)
	return old
}

// node makes a node that takes no other test's pods.
func (f *forecast) node(t *testing.T, name string) {
	resources := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("256Gi"), corev1.ResourcePods: resource.MustParse("1000"),
	}
	_, err := shared.Client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}},
		Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: "own", Value: f.namespace, Effect: corev1.TaintEffectNoSchedule}}},
		Status:     corev1.NodeStatus{Capacity: resources, Allocatable: resources},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func (f *forecast) join(t *testing.T, node string) {
	patch := fmt.Appendf(nil, `{"metadata":{"labels":{"pool":%q}}}`, f.namespace)
	if _, err := shared.Client.CoreV1().Nodes().Patch(t.Context(), node, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// workload makes a Deployment, a StatefulSet or bare pods, and returns how many pods it has.
func (f *forecast) workload(t *testing.T, name, old string) int {
	replicas := int32(1 + f.random.IntN(5))
	labels := map[string]string{"app": name, "all": "pods"}
	spec := corev1.PodSpec{
		Containers:   []corev1.Container{{Name: "main", Image: "example.com/" + name + ":1"}},
		NodeSelector: map[string]string{"pool": f.namespace},
		Tolerations:  []corev1.Toleration{{Key: "own", Operator: corev1.TolerationOpEqual, Value: f.namespace}},
	}
	place := "free"
	if f.one(3) {
		place = "pinned"
		spec.NodeSelector = map[string]string{corev1.LabelHostname: old}
	}
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec}
	meta := metav1.ObjectMeta{Namespace: f.namespace, Name: name}
	kind := "Deployment"
	var err error
	switch f.random.IntN(6) {
	case 0:
		kind = "StatefulSet"
		management := appsv1.OrderedReadyPodManagement
		if f.one(2) {
			management = appsv1.ParallelPodManagement
		}
		kind += " " + string(management)
		_, err = shared.Client.AppsV1().StatefulSets(f.namespace).Create(t.Context(), &appsv1.StatefulSet{
			ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Replicas: &replicas, Selector: selector, Template: template, PodManagementPolicy: management},
		}, metav1.CreateOptions{})
	case 1:
		kind, replicas = "bare", min(replicas, 2)
		for i := range replicas {
			bare(t, f.namespace, fmt.Sprintf("%s-%d", name, i), func(p *corev1.Pod) { p.Labels, p.Spec = labels, spec })
		}
	default:
		_, err = shared.Client.AppsV1().Deployments(f.namespace).Create(t.Context(), &appsv1.Deployment{
			ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Replicas: &replicas, Selector: selector, Template: template},
		}, metav1.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	f.tell("%s: %s of %d, %s", name, kind, replicas, place)
	return int(replicas)
}

func (f *forecast) pods(ctx context.Context, o metav1.ListOptions) ([]corev1.Pod, error) {
	list, err := shared.Client.CoreV1().Pods(f.namespace).List(ctx, o)
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// ready waits until the namespace has that many pods, all of them ready.
func (f *forecast) ready(t *testing.T, want int) {
	err := kube.Wait(t.Context(), fmt.Sprintf("%d ready pods in %s", want, f.namespace), func(ctx context.Context) (bool, error) {
		pods, err := f.pods(ctx, metav1.ListOptions{})
		ready := 0
		for i := range pods {
			if policies.PodReady(&pods[i]) {
				ready++
			}
		}
		return ready == want, err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// trouble makes pods of a workload unready, annotates them do-not-disrupt or freezes them.
func (f *forecast) trouble(t *testing.T, name string) {
	pods, err := f.pods(t.Context(), metav1.ListOptions{LabelSelector: "app=" + name})
	if err != nil {
		t.Fatal(err)
	}
	patch := func(pod, json string) {
		if _, err := shared.Client.CoreV1().Pods(f.namespace).Patch(t.Context(), pod, types.MergePatchType, []byte(json), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, pod := range pods {
		if f.one(5) {
			f.tell("%s unready", pod.Name)
			if err := shared.SetPodReady(t.Context(), f.namespace, pod.Name, false); err != nil {
				t.Fatal(err)
			}
		}
		switch f.random.IntN(16) {
		case 0:
			f.tell("%s held", pod.Name)
			patch(pod.Name, `{"metadata":{"annotations":{"karpenter.sh/do-not-disrupt":"true"}}}`)
		case 1:
			f.tell("%s frozen", pod.Name)
			patch(pod.Name, `{"metadata":{"labels":{"frozen":"true"}}}`)
		}
	}
}

// budgets makes none, one or two budgets for a workload, or one for all.
func (f *forecast) budgets(t *testing.T, name string) {
	limits := []string{"0", "1", "1", "1", "2", "2", "3", "20%", "34%", "50%", "50%", "100%"}
	for i := range []int{0, 1, 1, 1, 1, 1, 1, 2}[f.random.IntN(8)] {
		limit := intstr.Parse(limits[f.random.IntN(len(limits))])
		b := kube.Budget(f.namespace, name, limit)
		b.Name = fmt.Sprintf("%s-%d", name, i)
		if f.one(2) {
			b.Spec.MinAvailable, b.Spec.MaxUnavailable = nil, &limit
		}
		if f.one(8) {
			b.Spec.Selector.MatchLabels = map[string]string{"all": "pods"}
		}
		if f.one(4) {
			policy := policyv1.AlwaysAllow
			b.Spec.UnhealthyPodEvictionPolicy = &policy
		}
		f.tell("budget %s %v min %v max %v always %t", b.Name, b.Spec.Selector.MatchLabels, b.Spec.MinAvailable, b.Spec.MaxUnavailable, b.Spec.UnhealthyPodEvictionPolicy != nil)
		createBudget(t, b)
	}
}

// counted waits until the disruption controller has counted the pods as they are.
func (f *forecast) counted(t *testing.T) {
	err := kube.Wait(t.Context(), "the budgets of "+f.namespace+" to be counted", func(ctx context.Context) (bool, error) {
		budgets, err := shared.Client.PolicyV1().PodDisruptionBudgets(f.namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		for _, b := range budgets.Items {
			pods, err := f.pods(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(b.Spec.Selector)})
			if err != nil {
				return false, err
			}
			ready := int32(0)
			for i := range pods {
				if policies.PodReady(&pods[i]) {
					ready++
				}
			}
			if b.Status.ObservedGeneration != b.Generation || b.Status.CurrentHealthy != ready {
				return false, fmt.Errorf("%s: %+v with %d ready pods", b.Name, b.Status, ready)
			}
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// foresee forecasts the drain in several orders. The first is the command's own; its decisions are told
// when the forecast fails.
func (f *forecast) foresee(t *testing.T, node string) (fates map[string]*fate, decisions []string) {
	fates = map[string]*fate{}
	for order := range forecastOrders {
		world, err := cluster.ReadLive(t.Context(), shared.Client, policies.EverythingNeeded())
		if err != nil {
			t.Fatal(err)
		}
		pods := world.PodsOn(node)
		if order == 1 {
			slices.Reverse(pods)
		} else if order > 1 {
			f.random.Shuffle(len(pods), func(i, j int) { pods[i], pods[j] = pods[j], pods[i] })
		}
		results, err := preview.Drain(t.Context(), world, pods, preview.Options{
			Policies: f.set, User: policies.User{Username: "evictgate-test-admin"}, Now: time.Now(), ReadyAfter: time.Second, Drain: node,
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range results {
			if order == 0 {
				fates[r.Pod] = &fate{class: class(pods[i])}
				decisions = append(decisions, forecastOf(r))
			}
			fates[r.Pod].goes = append(fates[r.Pod].goes, r.Evicted != nil)
		}
	}
	return fates, decisions
}

func forecastOf(r preview.Result) string {
	if r.Stuck != nil {
		return fmt.Sprintf("%s: stuck: %s", r.Pod, r.Stuck.Message)
	}
	return fmt.Sprintf("%s: evicted after %v s", r.Pod, *r.Evicted)
}

// podsOn are the scenario's pods on a node that are not on their way out: UID by name.
func (f *forecast) podsOn(t *testing.T, node string) map[string]types.UID {
	pods, err := f.pods(t.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=" + node})
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]types.UID{}
	for _, p := range pods {
		if p.DeletionTimestamp == nil {
			there[p.Name] = p.UID
		}
	}
	return there
}

// settle waits until the drain has ended, or has moved nothing for more than two retries.
func (f *forecast) settle(t *testing.T, node string, d *drain) map[string]types.UID {
	there, since := f.podsOn(t, node), time.Now()
	for time.Since(since) < noProgress || f.disrupted(t) {
		select {
		case err := <-d.done:
			t.Logf("kubectl drain ended: %v", err)
			return f.podsOn(t, node)
		case <-time.After(250 * time.Millisecond):
		}
		if now := f.podsOn(t, node); !maps.Equal(now, there) {
			there, since = now, time.Now()
		}
	}
	d.cancel()
	t.Logf("kubectl drain made no progress: %v", <-d.done)
	return there
}

// disrupted reports whether a budget still waits for an evicted pod to go. It may do so in vain for 2
// minutes: a StatefulSet's new pod has the name of the old one, which kwok deletes at once, and the
// disruption controller may miss the moment between them and not count the new pod.
func (f *forecast) disrupted(t *testing.T) bool {
	budgets, err := shared.Client.PolicyV1().PodDisruptionBudgets(f.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(budgets.Items, func(b policyv1.PodDisruptionBudget) bool { return len(b.Status.DisruptedPods) > 0 })
}

func (f *forecast) compare(t *testing.T, before, after map[string]types.UID, fates map[string]*fate) {
	if len(before) != len(fates) {
		t.Fatalf("%d pods were forecast, the node had %d", len(fates), len(before))
	}
	races := map[string]bool{} // classes
	for _, x := range fates {
		if slices.Contains(x.goes, !x.goes[0]) {
			races[x.class] = true
		}
	}
	var evicted, stuck, raced, went int
	could := make([]int, forecastOrders) // of those that raced, in each order
	f.totals.scenarios.Add(1)
	for name, uid := range before {
		x, goes := fates[name], after[name] != uid
		f.totals.evicted.Add(int32(count(goes)))
		f.totals.stuck.Add(int32(count(!goes)))
		if races[x.class] {
			raced, went = raced+1, went+count(goes)
			for order, fate := range x.goes {
				could[order] += count(fate)
			}
			continue
		}
		evicted, stuck = evicted+count(goes), stuck+count(!goes)
		if goes != x.goes[0] {
			t.Errorf("%s: evicted is %t, forecast %t", name, goes, x.goes[0])
		}
	}
	if went < slices.Min(could) || went > slices.Max(could) {
		t.Errorf("%d of %d pods that raced went, forecast %d to %d", went, raced, slices.Min(could), slices.Max(could))
	}
	t.Logf("%d evicted and %d stuck as forecast; %d of %d that raced went, forecast %d to %d", evicted, stuck, went, raced, slices.Min(could), slices.Max(could))
}

func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}
