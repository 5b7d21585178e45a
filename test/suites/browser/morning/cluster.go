package morning

import (
	"fmt"
	"math/rand/v2"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/evictgate/evictgate/webhook/cluster"
)

// workload is a Deployment, a StatefulSet or, without a kind, bare pods.
type workload struct {
	namespace, kind, name string
	replicas              int
	annotations           map[string]string
	// broken pods crash; budgets are minAvailable by name.
	broken  int
	budgets map[string]intstr.IntOrString
}

var workloads = []workload{
	{namespace: "shop", kind: "Deployment", name: "web", replicas: 6, budgets: budget("web", 4)},
	{namespace: "shop", kind: "Deployment", name: "cart", replicas: 3, annotations: map[string]string{"karpenter.sh/do-not-disrupt": "true"}, budgets: budget("cart", 2)},
	{namespace: "shop", kind: "Deployment", name: "api", replicas: 3, broken: 1, budgets: budget("api", 2)},
	{namespace: "shop", kind: "Deployment", name: "images", replicas: 4, budgets: budget("images", 2)},
	{namespace: "payments", kind: "StatefulSet", name: "ledger", replicas: 3, budgets: map[string]intstr.IntOrString{"ledger": intstr.FromInt32(2), "all-databases": intstr.FromInt32(1)}},
	{namespace: "payments", kind: "Deployment", name: "gateway", replicas: 3, budgets: budget("gateway", 3)},
	{namespace: "payments", kind: "Deployment", name: "fraud-score", replicas: 5, budgets: budget("fraud-score", 3)},
	{namespace: "search", kind: "StatefulSet", name: "index", replicas: 3, budgets: budget("index", 2)},
	{namespace: "search", kind: "Deployment", name: "suggest", replicas: 4, budgets: budget("suggest", 2)},
	{namespace: "batch", name: "notebook-ana", replicas: 1, annotations: map[string]string{"evictgate.dev/session": "8h"}},
	{namespace: "batch", kind: "Deployment", name: "thumbnails", replicas: 8, budgets: budget("thumbnails", 3)},
	{namespace: "monitoring", kind: "Deployment", name: "grafana", replicas: 1},
	{namespace: "monitoring", kind: "StatefulSet", name: "prometheus", replicas: 2},
}

func budget(name string, atLeast int32) map[string]intstr.IntOrString {
	return map[string]intstr.IntOrString{name: intstr.FromInt32(atLeast)}
}

const nodes = 9

// world is a cluster whose pods come and go.
type world struct {
	*cluster.Snapshot
	random *rand.Rand
	now    time.Time
	pods   map[string][]*corev1.Pod // by namespace/name of the workload
	serial int
}

func newWorld(random *rand.Rand, now time.Time) (*world, error) {
	snapshot, err := cluster.SnapshotOf()
	if err != nil {
		return nil, err
	}
	w := &world{Snapshot: snapshot, random: random, now: now, pods: map[string][]*corev1.Pod{}}
	for i := range nodes {
		if err := w.Put(node(i)); err != nil {
			return nil, err
		}
	}
	seen := map[string]bool{}
	for _, wl := range workloads {
		if !seen[wl.namespace] {
			seen[wl.namespace] = true
			if err := w.Put(namespace(wl.namespace)); err != nil {
				return nil, err
			}
		}
		if err := w.add(wl); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func namespace(name string) *corev1.Namespace {
	tier := "internal"
	if name == "shop" || name == "payments" {
		tier = "production"
	}
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/metadata.name": name, "tier": tier}}}
}

func node(i int) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: nodeName(i), Labels: map[string]string{"topology.kubernetes.io/zone": fmt.Sprintf("zone-%d", i%3+1)}},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
	}
}

func nodeName(i int) string { return fmt.Sprintf("pool-%c-%d", 'a'+i%3, i/3+1) }

// add puts a workload's objects in.
func (w *world) add(wl workload) error {
	meta := metav1.ObjectMeta{Namespace: wl.namespace, Name: wl.name, UID: types.UID(wl.namespace + "-" + wl.name), Labels: map[string]string{"app": wl.name}}
	replicas := int32(wl.replicas)
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": wl.name}}
	var err error
	switch wl.kind {
	case "Deployment":
		err = w.Put(&appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Replicas: &replicas, Selector: selector}})
		if err == nil {
			rs := &appsv1.ReplicaSet{ObjectMeta: meta, Spec: appsv1.ReplicaSetSpec{Replicas: &replicas, Selector: selector}}
			rs.Name, rs.UID = wl.name+"-7c9f6d5b8", meta.UID+"-rs"
			rs.OwnerReferences = owner("Deployment", wl.name, meta.UID)
			err = w.Put(rs)
		}
	case "StatefulSet":
		err = w.Put(&appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Replicas: &replicas, Selector: selector}})
	}
	if err != nil {
		return err
	}
	for i := range wl.replicas {
		if err := w.start(wl, i, i < wl.broken); err != nil {
			return err
		}
	}
	for name, least := range wl.budgets {
		if err := w.Put(w.budget(wl, name, least)); err != nil {
			return err
		}
	}
	return nil
}

func owner(kind, name string, uid types.UID) []metav1.OwnerReference {
	yes := true
	return []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: name, UID: uid, Controller: &yes}}
}

// start makes a pod of a workload; crashing if broken.
func (w *world) start(wl workload, ordinal int, broken bool) error {
	w.serial++
	const letters = "bcdfghjklmnpqrstvwxz2456789"
	suffix := make([]byte, 5)
	for i := range suffix {
		suffix[i] = letters[w.random.IntN(len(letters))]
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: wl.namespace, UID: types.UID(w.uuid()), Labels: map[string]string{"app": wl.name}, Annotations: wl.annotations,
			CreationTimestamp: metav1.NewTime(w.now.Add(-3 * time.Hour)),
		},
		Spec: corev1.PodSpec{NodeName: nodeName(w.random.IntN(nodes))},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, StartTime: &metav1.Time{Time: w.now.Add(-3 * time.Hour)},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(w.now.Add(-3 * time.Hour))}},
		},
	}
	switch wl.kind {
	case "Deployment":
		pod.Name, pod.OwnerReferences = wl.name+"-7c9f6d5b8-"+string(suffix), owner("ReplicaSet", wl.name+"-7c9f6d5b8", types.UID(wl.namespace+"-"+wl.name+"-rs"))
	case "StatefulSet":
		pod.Name, pod.OwnerReferences = fmt.Sprintf("%s-%d", wl.name, ordinal), owner("StatefulSet", wl.name, types.UID(wl.namespace+"-"+wl.name))
	default:
		pod.Name = wl.name
	}
	if broken {
		pod.Status.Conditions[0].Status = corev1.ConditionFalse
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: "main", RestartCount: 14,
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off 5m0s restarting failed container"}},
		}}
	}
	key := wl.namespace + "/" + wl.name
	w.pods[key] = append(w.pods[key], pod)
	return w.Put(pod)
}

// replace takes a pod away and starts another in its place.
func (w *world) replace(wl workload, pod *corev1.Pod) error {
	key := wl.namespace + "/" + wl.name
	for i, one := range w.pods[key] {
		if one.UID == pod.UID {
			w.pods[key] = append(w.pods[key][:i:i], w.pods[key][i+1:]...)
			if err := w.Remove(pod); err != nil {
				return err
			}
			return w.start(wl, i, false)
		}
	}
	return nil
}

func (w *world) budget(wl workload, name string, least intstr.IntOrString) *policyv1.PodDisruptionBudget {
	healthy := int32(wl.replicas - wl.broken)
	return &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: wl.namespace, Name: name, UID: types.UID(wl.namespace + name), Generation: 1},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &least, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": wl.name}}},
		Status: policyv1.PodDisruptionBudgetStatus{
			ObservedGeneration: 1, CurrentHealthy: healthy, DesiredHealthy: least.IntVal, ExpectedPods: int32(wl.replicas),
			DisruptionsAllowed: max(healthy-least.IntVal, 0),
		},
	}
}

// uuid is one of the world's own chance, so that each run makes the same.
func (w *world) uuid() string {
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", w.random.Uint32(), w.random.Uint32()>>16, w.random.Uint32()>>20, w.random.Uint32()>>18|0x8000, w.random.Uint64()>>16)
}
