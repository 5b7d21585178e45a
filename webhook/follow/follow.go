// Package follow tells what watches the pods of a cluster to those who draw conclusions from it: the history of evictions, and
// the fates of pods.
package follow

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/cluster"
	"github.com/evictgate/evictgate/webhook/fate"
	"github.com/evictgate/evictgate/webhook/history"
	"github.com/evictgate/evictgate/webhook/record"
)

// Evictions lets the history count what the pod watch shows; the runnable counts what is there when it begins. Set is the one
// that serves, nil while there is none.
func Evictions(ledger *history.Ledger, informed *cluster.Informed, gatherer *cluster.Gatherer, set func() *policies.Set) (manager.Runnable, error) {
	ledger.Follow(history.Watch{
		Pod: informed.Pod, Current: informed.PodsCurrent, Around: gatherer.Around, Now: time.Now,
		Evicted: func(pod *corev1.Pod) (time.Time, bool) { return fate.Evicted(pod, time.Now()) },
		Wanted: func() bool { // what is not loaded yet may read it
			set := set()
			return set == nil || set.Needs().Reads("history")
		},
	})
	if err := informed.FollowPods(ledger.Changed, func(pod *corev1.Pod, _ bool) { ledger.Removed(pod) }); err != nil {
		return nil, fmt.Errorf("follow the pods: %w", err)
	}
	return manager.RunnableFunc(func(ctx context.Context) error {
		if known(informed)(ctx) {
			ledger.Rebuild(informed.Pods())
		}
		return nil
	}), nil
}

// Store is told what was seen of pods.
type Store struct {
	// Queue takes it.
	Queue *fate.Queue
	// Unsettled are the episodes that are not over.
	Unsettled func(context.Context) iter.Seq2[record.Episode, error]
}

// Fates are those of the pods that somebody tried to evict: they show which are stuck, and tell the store, if there is one,
// what became of them.
type Fates struct {
	*fate.Pods
	// Queue and Settler, which has to run, are nil without a store.
	Queue   *fate.Queue
	Settler *fate.Settler
}

// Nothing is for a snapshot: no pod is seen to go.
func Nothing() Fates { return Fates{Pods: fate.New(fate.Options{Now: time.Now})} }

// Pods follows the pods; a store without a queue is none.
func Pods(informed *cluster.Informed, client kubernetes.Interface, store Store, log *slog.Logger) (Fates, error) {
	options := fate.Options{Now: time.Now, Cached: informed.Pod}
	if store.Queue != nil {
		options.Sink = store.Queue.Put
	}
	f := Fates{Pods: fate.New(options), Queue: store.Queue}
	if err := informed.FollowPods(f.Changed, f.Removed); err != nil {
		return f, fmt.Errorf("follow the pods: %w", err)
	}
	if store.Queue != nil {
		f.Settler = &fate.Settler{Pods: f.Pods, Unsettled: store.Unsettled, Live: cluster.Client{Interface: client}.Pod, Ready: known(informed), Log: log}
	}
	return f, nil
}

// SightingsLost is a counter of what the store was not told.
func (f Fates) SightingsLost() prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "evictgate_sightings_lost_total", Help: "What was seen of pods and could not be told to the store; it may not know then who removed them.",
	}, func() float64 {
		if f.Queue == nil {
			return 0
		}
		return float64(f.Queue.Lost())
	})
}

// known waits until the informers have their first lists, and is false when ctx ended before.
func known(informed *cluster.Informed) func(context.Context) bool {
	return func(ctx context.Context) bool {
		return wait.PollUntilContextCancel(ctx, 200*time.Millisecond, true, func(context.Context) (bool, error) {
			return informed.Ready(nil) == nil, nil
		}) == nil
	}
}
