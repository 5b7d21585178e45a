// Package cluster is what is known of the cluster: informers with indexes, or a snapshot file. From it
// Gather makes the Input of a decision.
package cluster

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/agnivade/levenshtein"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
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
}

// kinds are the kinds a Store holds; each has an informer and needs get, list and watch.
func kinds() []runtime.Object {
	return []runtime.Object{
		&corev1.Pod{}, &corev1.Namespace{}, &corev1.Node{}, &corev1.ReplicationController{},
		&appsv1.ReplicaSet{}, &appsv1.Deployment{}, &appsv1.StatefulSet{}, &appsv1.DaemonSet{},
		&batchv1.Job{}, &batchv1.CronJob{}, &policyv1.PodDisruptionBudget{},
		&corev1.PersistentVolumeClaim{}, &corev1.PersistentVolume{},
	}
}

// isOptional reports whether a kind is watched only once a policy reads input.claims.
func isOptional(obj runtime.Object) bool {
	switch obj.(type) {
	case *corev1.PersistentVolumeClaim, *corev1.PersistentVolume:
		return true
	}
	return false
}

// indexersFor are the indexes that a kind's store has.
func indexersFor(obj runtime.Object) cache.Indexers {
	switch obj.(type) {
	case *corev1.Pod:
		return cache.Indexers{byController: controllerUID, byNamespace: cache.MetaNamespaceIndexFunc}
	case *appsv1.ReplicaSet:
		return cache.Indexers{byController: controllerUID}
	case *corev1.Node:
		return cache.Indexers{byReady: nodeReadiness}
	}
	return cache.Indexers{}
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

// indexerOf is where the store keeps objects of a kind; nil for budgets and for kinds it does not hold.
func (s *Store) indexerOf(obj runtime.Object) *cache.Indexer {
	switch obj.(type) {
	case *corev1.Pod:
		return &s.pods
	case *corev1.Namespace:
		return &s.namespaces
	case *corev1.Node:
		return &s.nodes
	case *corev1.ReplicationController:
		return &s.replicationControls
	case *appsv1.ReplicaSet:
		return &s.replicaSets
	case *appsv1.Deployment:
		return &s.deployments
	case *appsv1.StatefulSet:
		return &s.statefulSets
	case *appsv1.DaemonSet:
		return &s.daemonSets
	case *batchv1.Job:
		return &s.jobs
	case *batchv1.CronJob:
		return &s.cronJobs
	case *corev1.PersistentVolumeClaim:
		return &s.volumeClaims
	case *corev1.PersistentVolume:
		return &s.volumes
	}
	return nil
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

// trim takes away what no decision reads, before an object is kept: managed fields, the last-applied
// annotation, and the pod templates of workloads.
func trim(obj any) (any, error) {
	o, ok := obj.(metav1.Object)
	if !ok {
		return obj, nil
	}
	o.SetManagedFields(nil)
	if a := o.GetAnnotations(); a != nil {
		delete(a, corev1.LastAppliedConfigAnnotation)
	}
	switch w := obj.(type) {
	case *appsv1.ReplicaSet:
		w.Spec.Template = corev1.PodTemplateSpec{}
	case *appsv1.Deployment:
		w.Spec.Template = corev1.PodTemplateSpec{}
	case *appsv1.StatefulSet:
		w.Spec.Template, w.Spec.VolumeClaimTemplates = corev1.PodTemplateSpec{}, nil
	case *appsv1.DaemonSet:
		w.Spec.Template = corev1.PodTemplateSpec{}
	case *batchv1.Job:
		w.Spec.Template = corev1.PodTemplateSpec{}
	case *batchv1.CronJob:
		w.Spec.JobTemplate = batchv1.JobTemplateSpec{}
	case *corev1.ReplicationController:
		w.Spec.Template = nil
	}
	return obj, nil
}
