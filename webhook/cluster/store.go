// Package cluster is what is known of the cluster: informers with indexes, or a snapshot file. From it
// Gather makes the Input of a decision.
package cluster

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/agnivade/levenshtein"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"
)

// Names of the indexes.
const (
	byController = "controller"
	byReady      = "ready"
	byNamespace  = cache.NamespaceIndex
)

// Store holds the objects that decisions look at, filled by informers or by a snapshot. Objects in it
// are shared and must not be changed.
type Store struct {
	pods, namespaces, nodes                         cache.Indexer
	replicaSets, deployments, statefulSets          cache.Indexer
	daemonSets, jobs, cronJobs, replicationControls cache.Indexer
	volumeClaims, volumes                           cache.Indexer
	budgets                                         *budgetIndex
	// pulses say how the watches are, by kind; nil over a snapshot.
	pulses map[string]*pulse
}

// controllerUID indexes an object by the UID of its controller.
func controllerUID(obj any) ([]string, error) {
	o, ok := obj.(metav1.Object)
	if !ok {
		return nil, fmt.Errorf("index %T: not an object", obj)
	}
	if ref := metav1.GetControllerOfNoCopy(o); ref != nil {
		return []string{string(ref.UID)}, nil
	}
	return nil, nil
}

// get reads one object from an indexer.
func get[T runtime.Object](x cache.Indexer, namespace, name string) (T, bool) {
	key := name
	if namespace != "" {
		key = namespace + "/" + name
	}
	obj, ok, err := x.GetByKey(key)
	if err != nil || !ok {
		var none T
		return none, false
	}
	typed, ok := obj.(T)
	return typed, ok
}

// controlledBy lists the objects of an indexer whose controller has the UID.
func controlledBy[T runtime.Object](x cache.Indexer, uid string) []T {
	objs, err := x.ByIndex(byController, uid)
	if err != nil {
		return nil
	}
	list := make([]T, 0, len(objs))
	for _, obj := range objs {
		if typed, ok := obj.(T); ok {
			list = append(list, typed)
		}
	}
	return list
}

// selected lists the pods that a budget selects. It walks the namespace's pods, so it is called only
// to explain a refusal.
func (s *Store) selected(pdb *policyv1.PodDisruptionBudget) []*corev1.Pod {
	selector, err := metav1.LabelSelectorAsSelector(pdb.Spec.Selector)
	if err != nil {
		return nil
	}
	objs, err := s.pods.ByIndex(byNamespace, pdb.Namespace)
	if err != nil {
		return nil
	}
	var pods []*corev1.Pod
	for _, obj := range objs {
		if pod, ok := obj.(*corev1.Pod); ok && selector.Matches(labels.Set(pod.Labels)) {
			pods = append(pods, pod)
		}
	}
	return pods
}

// Pod returns a pod as the store knows it.
func (s *Store) Pod(namespace, name string) (*corev1.Pod, bool) {
	return get[*corev1.Pod](s.pods, namespace, name)
}

// PodsLike lists up to n pods, as namespace/name, that a pod that is not there may mean: those of that
// name elsewhere, and those of the namespace, the likest name first.
func (s *Store) PodsLike(namespace, name string, n int) []string {
	type candidate struct {
		key      string
		distance int
	}
	var list []candidate
	for _, pod := range s.Pods() {
		distance := levenshtein.ComputeDistance(name, pod.Name)
		if distance == 0 || (pod.Namespace == namespace && distance <= max(2, len(name)/2)) {
			list = append(list, candidate{pod.Namespace + "/" + pod.Name, distance})
		}
	}
	slices.SortStableFunc(list, func(a, b candidate) int { return cmp.Compare(a.distance, b.distance) })
	var keys []string
	for _, c := range list[:min(n, len(list))] {
		keys = append(keys, c.key)
	}
	return keys
}

// Pods lists all pods, sorted by namespace and name.
func (s *Store) Pods() []*corev1.Pod {
	return sorted[*corev1.Pod](s.pods.List())
}

// Nodes lists all nodes, sorted by name.
func (s *Store) Nodes() []*corev1.Node {
	return sorted[*corev1.Node](s.nodes.List())
}

// Node returns a node as the store knows it.
func (s *Store) Node(name string) (*corev1.Node, bool) {
	return get[*corev1.Node](s.nodes, "", name)
}

// PodsOn lists the pods on a node, sorted by namespace and name.
func (s *Store) PodsOn(node string) []*corev1.Pod {
	return slices.DeleteFunc(s.Pods(), func(p *corev1.Pod) bool { return p.Spec.NodeName != node })
}

// PodsOfDeployment lists the pods of a Deployment, sorted by name; it reports false when there is no
// such Deployment.
func (s *Store) PodsOfDeployment(namespace, name string) ([]*corev1.Pod, bool) {
	d, ok := get[*appsv1.Deployment](s.deployments, namespace, name)
	if !ok {
		return nil, false
	}
	var pods []any
	for _, rs := range controlledBy[*appsv1.ReplicaSet](s.replicaSets, string(d.UID)) {
		for _, pod := range controlledBy[*corev1.Pod](s.pods, string(rs.UID)) {
			pods = append(pods, pod)
		}
	}
	return sorted[*corev1.Pod](pods), true
}

// StatefulSet returns a StatefulSet as the store knows it.
func (s *Store) StatefulSet(namespace, name string) (*appsv1.StatefulSet, bool) {
	return get[*appsv1.StatefulSet](s.statefulSets, namespace, name)
}

// Budgets lists all budgets, sorted by namespace and name.
func (s *Store) Budgets() []*policyv1.PodDisruptionBudget { return s.budgets.all() }

// MatchingBudgets lists the budgets that select the pod, sorted by name.
func (s *Store) MatchingBudgets(pod *corev1.Pod) []*policyv1.PodDisruptionBudget {
	return s.budgets.matching(pod)
}

// Selected lists the pods that a budget selects, sorted by name.
func (s *Store) Selected(pdb *policyv1.PodDisruptionBudget) []*corev1.Pod {
	pods := s.selected(pdb)
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	return pods
}

// sorted casts and sorts what an indexer lists.
func sorted[T metav1.Object](objs []any) []T {
	list := make([]T, 0, len(objs))
	for _, obj := range objs {
		if typed, ok := obj.(T); ok {
			list = append(list, typed)
		}
	}
	slices.SortFunc(list, func(a, b T) int {
		return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	})
	return list
}
