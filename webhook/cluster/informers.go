package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/evictgate/evictgate/policies"
)

// Informed is a store that watches a cluster.
type Informed struct {
	*Store
	// factory has the informers that always run, optional those that run once Want asks for them.
	factory, optional informers.SharedInformerFactory
	synced            []cache.InformerSynced
	ready             atomic.Bool
	// needs is what the policies read that were wanted last.
	needs atomic.Pointer[policies.Needs]
	// running is closed by Start, which sets stop first.
	running chan struct{}
	stop    <-chan struct{}
}

// Watch sets up the informers; Start runs them.
func Watch(client kubernetes.Interface) (*Informed, error) {
	w := &Informed{
		Store:    &Store{budgets: newBudgetIndex(), pulses: map[string]*pulse{}},
		factory:  informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(trim)),
		optional: informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(trim)),
		running:  make(chan struct{}),
	}
	for _, k := range kinds {
		if err := w.watchKind(k); err != nil {
			return nil, fmt.Errorf("watch %s: %w", k.resource, err)
		}
	}
	return w, nil
}

func (w *Informed) watchKind(k *kind) error {
	informer := w.informerFor(k)
	if k.indexer == nil {
		registration, err := informer.AddEventHandler(w.budgets.handler())
		if err != nil {
			return err
		}
		w.synced = append(w.synced, registration.HasSynced)
		return nil
	}
	wanted := maps.Clone(k.indexes)
	for name := range informer.GetIndexer().GetIndexers() {
		delete(wanted, name) // the factory's own; adding it twice is an error
	}
	if err := informer.AddIndexers(wanted); err != nil {
		return err
	}
	*k.indexer(w.Store) = informer.GetIndexer()
	if !k.optional {
		w.synced = append(w.synced, informer.HasSynced)
	}
	return nil
}

// informerFor is the one informer of a kind; its pulse hears it.
func (w *Informed) informerFor(k *kind) cache.SharedIndexInformer {
	factory := w.factory
	if k.optional {
		factory = w.optional
	}
	return factory.InformerFor(k.object, func(client kubernetes.Interface, resync time.Duration) cache.SharedIndexInformer {
		p := &pulse{kind: k.name, now: time.Now}
		w.pulses[p.kind] = p
		return cache.NewSharedIndexInformerWithOptions(
			cache.ToListWatcherWithWatchListSemantics(p.observe(k.listWatch(client)), client), k.object,
			cache.SharedIndexInformerOptions{ResyncPeriod: resync, Indexers: cache.Indexers{byNamespace: cache.MetaNamespaceIndexFunc}})
	})
}

// handler keeps the index as the informer sees the budgets.
func (x *budgetIndex) handler() cache.ResourceEventHandler {
	put := func(obj any) {
		if pdb, ok := obj.(*policyv1.PodDisruptionBudget); ok {
			x.put(pdb)
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    put,
		UpdateFunc: func(_, obj any) { put(obj) },
		DeleteFunc: func(obj any) {
			if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			if pdb, ok := obj.(*policyv1.PodDisruptionBudget); ok {
				x.delete(pdb.Namespace, pdb.Name)
			}
		},
	}
}

// FollowPods calls changed with every new state of a pod, and removed with the last known state of one that is
// not there any more; seen is false when nobody watched while it went. They are called one after the other,
// hold up later calls, and must not change the pod. It comes before Start.
func (w *Informed) FollowPods(changed func(*corev1.Pod), removed func(last *corev1.Pod, seen bool)) error {
	_, err := w.informerFor(kindNamed["Pod"]).AddEventHandler(podHandler(changed, removed))
	return err
}

func podHandler(changed func(*corev1.Pod), removed func(last *corev1.Pod, seen bool)) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			if pod, ok := obj.(*corev1.Pod); ok {
				changed(pod)
			}
		},
		UpdateFunc: func(old, obj any) {
			before, known := old.(*corev1.Pod)
			pod, ok := obj.(*corev1.Pod)
			if known && ok && before.UID != pod.UID { // it went and came back while the watch was interrupted
				removed(before, false)
			}
			if ok {
				changed(pod)
			}
		},
		DeleteFunc: func(obj any) {
			missed, ok := obj.(cache.DeletedFinalStateUnknown)
			if ok {
				obj = missed.Obj
			}
			if pod, is := obj.(*corev1.Pod); is {
				removed(pod, !ok)
			}
		},
	}
}

// Start runs the informers until ctx is done. It is a controller-runtime Runnable.
func (w *Informed) Start(ctx context.Context) error {
	w.stop = ctx.Done()
	close(w.running)
	w.factory.Start(ctx.Done())
	if cache.WaitForCacheSync(ctx.Done(), w.synced...) {
		w.ready.Store(true)
	}
	<-ctx.Done()
	w.factory.Shutdown()
	w.optional.Shutdown()
	return nil
}

// Want sees to it that what needs reads is watched, and returns when it is known. The error says what
// could not be read until ctx was done. It is safe for concurrent use.
func (w *Informed) Want(ctx context.Context, needs *policies.Needs) error {
	w.needs.Store(needs)
	if !slices.ContainsFunc(kinds, func(k *kind) bool { return k.optional && k.rests(needs) }) {
		return nil
	}
	select {
	case <-w.running:
	case <-ctx.Done():
		return ctx.Err()
	}
	w.optional.Start(w.stop)
	for kind, ok := range w.optional.WaitForCacheSync(ctx.Done()) {
		if !ok {
			return fmt.Errorf("a policy reads input.claims, but %s could not be listed in time; the service account needs get, list and watch on persistentvolumeclaims and persistentvolumes", kind)
		}
	}
	return nil
}

// NeedLeaderElection is false: every replica decides.
func (*Informed) NeedLeaderElection() bool { return false }

// Ready is an error until every informer has its first full list.
func (w *Informed) Ready(*http.Request) error {
	if !w.ready.Load() {
		return errors.New("the cluster's objects are not all read yet; if this lasts, see whether the service account may list and watch them")
	}
	return nil
}

// Client is the LiveReader of a cluster.
type Client struct{ kubernetes.Interface }

// Pod reads a pod as it is now.
func (c Client) Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	pod, err := c.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if err == nil {
		_, err = trim(pod)
	}
	return pod, err
}

// Budget reads a budget as it is now.
func (c Client) Budget(ctx context.Context, namespace, name string) (*policyv1.PodDisruptionBudget, error) {
	return c.PolicyV1().PodDisruptionBudgets(namespace).Get(ctx, name, metav1.GetOptions{})
}
