package cluster

import (
	"context"
	"fmt"
	"reflect"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/cache"

	"github.com/evictgate/evictgate/policies"
)

// kind is all that is known of a kind of objects. Whoever adds one to kinds has it allowed, watched, listed, read from
// snapshots and from the API server, trimmed, and its cache looked after.
type kind struct {
	// name is the Kind; group and resource are what rights are given by.
	name, group, resource string
	// object is an empty one.
	object runtime.Object
	// rests reports whether decisions rest on the kind when policies read what needs says. One that is optional is not
	// watched, nor asked for, unless they do.
	rests    func(*policies.Needs) bool
	optional bool
	// owns is set where a pod's owner is looked up among the kind.
	owns bool
	// indexer is where a Store keeps the objects, and indexes what they are found by.
	indexer func(*Store) *cache.Indexer
	indexes cache.Indexers
	// trim takes away what no decision reads.
	trim func(runtime.Object)
	// listWatch is for all namespaces.
	listWatch func(kubernetes.Interface) *cache.ListWatch
	get       func(ctx context.Context, client kubernetes.Interface, namespace, name string) (runtime.Object, error)
}

// kinds are those that decisions read, by API group.
var kinds = []*kind{
	of("pods", always, func(s *Store) *cache.Indexer { return &s.pods }, cache.Indexers{byController: controllerUID, byNamespace: cache.MetaNamespaceIndexFunc},
		whole[*corev1.Pod], func(c kubernetes.Interface, ns string) api[*corev1.Pod, *corev1.PodList] { return c.CoreV1().Pods(ns) }),
	of("namespaces", reads("namespace"), func(s *Store) *cache.Indexer { return &s.namespaces }, nil,
		whole[*corev1.Namespace], func(c kubernetes.Interface, _ string) api[*corev1.Namespace, *corev1.NamespaceList] {
			return c.CoreV1().Namespaces()
		}),
	of("nodes", readsNodes, func(s *Store) *cache.Indexer { return &s.nodes }, cache.Indexers{byReady: nodeReadiness},
		whole[*corev1.Node], func(c kubernetes.Interface, _ string) api[*corev1.Node, *corev1.NodeList] { return c.CoreV1().Nodes() }),
	owner(of("replicationcontrollers", readsOwner, func(s *Store) *cache.Indexer { return &s.replicationControls }, nil,
		func(o *corev1.ReplicationController) { o.Spec.Template = nil },
		func(c kubernetes.Interface, ns string) api[*corev1.ReplicationController, *corev1.ReplicationControllerList] {
			return c.CoreV1().ReplicationControllers(ns)
		})),
	optional(of("persistentvolumeclaims", reads("claims"), func(s *Store) *cache.Indexer { return &s.volumeClaims }, nil,
		whole[*corev1.PersistentVolumeClaim],
		func(c kubernetes.Interface, ns string) api[*corev1.PersistentVolumeClaim, *corev1.PersistentVolumeClaimList] {
			return c.CoreV1().PersistentVolumeClaims(ns)
		})),
	optional(of("persistentvolumes", reads("claims"), func(s *Store) *cache.Indexer { return &s.volumes }, nil,
		whole[*corev1.PersistentVolume],
		func(c kubernetes.Interface, _ string) api[*corev1.PersistentVolume, *corev1.PersistentVolumeList] {
			return c.CoreV1().PersistentVolumes()
		})),
	owner(of("replicasets", readsOwner, func(s *Store) *cache.Indexer { return &s.replicaSets }, cache.Indexers{byController: controllerUID},
		func(o *appsv1.ReplicaSet) { o.Spec.Template = corev1.PodTemplateSpec{} },
		func(c kubernetes.Interface, ns string) api[*appsv1.ReplicaSet, *appsv1.ReplicaSetList] {
			return c.AppsV1().ReplicaSets(ns)
		})),
	owner(of("deployments", readsOwner, func(s *Store) *cache.Indexer { return &s.deployments }, nil,
		func(o *appsv1.Deployment) { o.Spec.Template = corev1.PodTemplateSpec{} },
		func(c kubernetes.Interface, ns string) api[*appsv1.Deployment, *appsv1.DeploymentList] {
			return c.AppsV1().Deployments(ns)
		})),
	owner(of("statefulsets", readsOwner, func(s *Store) *cache.Indexer { return &s.statefulSets }, nil,
		func(o *appsv1.StatefulSet) {
			o.Spec.Template, o.Spec.VolumeClaimTemplates = corev1.PodTemplateSpec{}, nil
		},
		func(c kubernetes.Interface, ns string) api[*appsv1.StatefulSet, *appsv1.StatefulSetList] {
			return c.AppsV1().StatefulSets(ns)
		})),
	owner(of("daemonsets", readsOwner, func(s *Store) *cache.Indexer { return &s.daemonSets }, nil,
		func(o *appsv1.DaemonSet) { o.Spec.Template = corev1.PodTemplateSpec{} },
		func(c kubernetes.Interface, ns string) api[*appsv1.DaemonSet, *appsv1.DaemonSetList] {
			return c.AppsV1().DaemonSets(ns)
		})),
	owner(of("jobs", readsOwner, func(s *Store) *cache.Indexer { return &s.jobs }, nil,
		func(o *batchv1.Job) { o.Spec.Template = corev1.PodTemplateSpec{} },
		func(c kubernetes.Interface, ns string) api[*batchv1.Job, *batchv1.JobList] {
			return c.BatchV1().Jobs(ns)
		})),
	of("cronjobs", never, func(s *Store) *cache.Indexer { return &s.cronJobs }, nil,
		func(o *batchv1.CronJob) { o.Spec.JobTemplate = batchv1.JobTemplateSpec{} },
		func(c kubernetes.Interface, ns string) api[*batchv1.CronJob, *batchv1.CronJobList] {
			return c.BatchV1().CronJobs(ns)
		}),
	of("poddisruptionbudgets", always, nil, nil,
		whole[*policyv1.PodDisruptionBudget],
		func(c kubernetes.Interface, ns string) api[*policyv1.PodDisruptionBudget, *policyv1.PodDisruptionBudgetList] {
			return c.PolicyV1().PodDisruptionBudgets(ns)
		}),
}

// api is what client-go has for the objects of a kind.
type api[T, L runtime.Object] interface {
	Get(context.Context, string, metav1.GetOptions) (T, error)
	List(context.Context, metav1.ListOptions) (L, error)
	Watch(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// of is a kind; its indexer is nil where objects are kept elsewhere.
func of[T interface {
	*O
	runtime.Object
}, O any, L runtime.Object](
	resource string, rests func(*policies.Needs) bool, indexer func(*Store) *cache.Indexer, indexes cache.Indexers, trim func(T),
	in func(client kubernetes.Interface, namespace string) api[T, L],
) *kind {
	object := T(new(O))
	gvks, _, err := scheme.Scheme.ObjectKinds(object)
	if err != nil {
		panic(err) // client-go's scheme has all that its clients have
	}
	return &kind{
		name: gvks[0].Kind, group: gvks[0].Group, resource: resource, object: object, rests: rests, indexer: indexer, indexes: indexes,
		trim: func(o runtime.Object) { trim(o.(T)) },
		listWatch: func(c kubernetes.Interface) *cache.ListWatch {
			all := in(c, metav1.NamespaceAll)
			return &cache.ListWatch{
				ListWithContextFunc:  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return all.List(ctx, o) },
				WatchFuncWithContext: all.Watch,
			}
		},
		get: func(ctx context.Context, c kubernetes.Interface, namespace, name string) (runtime.Object, error) {
			return in(c, namespace).Get(ctx, name, metav1.GetOptions{})
		},
	}
}

func optional(k *kind) *kind {
	k.optional = true
	return k
}

func owner(k *kind) *kind {
	k.owns = true
	return k
}

// whole leaves an object as it is.
func whole[T runtime.Object](T) {}

var (
	kindNamed = map[string]*kind{}
	kindOf    = map[reflect.Type]*kind{}
)

func init() {
	for _, k := range kinds {
		kindNamed[k.name], kindOf[reflect.TypeOf(k.object)] = k, k
	}
}

// ownsPods reports whether a pod's owner is looked up among the kind.
func ownsPods(name string) bool {
	k := kindNamed[name]
	return k != nil && k.owns
}

// wanted reports whether the kind is watched, and asked for, when policies read what needs says.
func (k *kind) wanted(needs *policies.Needs) bool { return !k.optional || k.rests(needs) }

func always(*policies.Needs) bool { return true }

func never(*policies.Needs) bool { return false }

// reads is for kinds that a field of the Input alone is made from.
func reads(field string) func(*policies.Needs) bool {
	return func(needs *policies.Needs) bool { return needs.Reads(field) }
}

func readsNodes(needs *policies.Needs) bool {
	return readsNode(needs) || needs.Reads("cluster") || needs.Reads("peers") || needs.Reads("neighbours")
}

func readsNode(needs *policies.Needs) bool {
	return needs.Reads("node") || needs.Reads("history", "zone")
}

func readsOwner(needs *policies.Needs) bool {
	return needs.Reads("owner") || readsPeers(needs) || needs.Reads("history", "owner")
}

// RBAC is what the service account must be allowed in every namespace so that what needs says can be gathered, one rule
// for each API group.
func RBAC(needs *policies.Needs) []rbacv1.PolicyRule {
	var rules []rbacv1.PolicyRule
	for _, k := range kinds {
		if !k.wanted(needs) {
			continue
		}
		if last := len(rules) - 1; last >= 0 && rules[last].APIGroups[0] == k.group {
			rules[last].Resources = append(rules[last].Resources, k.resource)
			continue
		}
		rules = append(rules, rbacv1.PolicyRule{Verbs: []string{"get", "list", "watch"}, APIGroups: []string{k.group}, Resources: []string{k.resource}})
	}
	return rules
}

// Object reads an object of a kind as it is now, trimmed as the cache trims it. A kind that no decision reads is an error.
func (c Client) Object(ctx context.Context, name, namespace, object string) (runtime.Object, error) {
	k := kindNamed[name]
	if k == nil {
		return nil, fmt.Errorf("read %s %s/%s: the kind is not read", name, namespace, object)
	}
	obj, err := k.get(ctx, c, namespace, object)
	if err == nil {
		_, err = trim(obj)
	}
	return obj, err
}

// trim takes away what no decision reads, before an object is kept: managed fields, the last-applied annotation, and what
// its kind says.
func trim(obj any) (any, error) {
	o, ok := obj.(metav1.Object)
	if !ok {
		return obj, nil
	}
	o.SetManagedFields(nil)
	if a := o.GetAnnotations(); a != nil {
		delete(a, corev1.LastAppliedConfigAnnotation)
	}
	if k := kindOf[reflect.TypeOf(obj)]; k != nil {
		k.trim(obj.(runtime.Object))
	}
	return obj, nil
}
