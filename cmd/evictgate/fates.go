package main

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/evictgate/evictgate/webhook"
	"github.com/evictgate/evictgate/webhook/cluster"
	"github.com/evictgate/evictgate/webhook/fate"
	"github.com/evictgate/evictgate/webhook/record"
)

// addOutcomes follows the pods that somebody tried to evict: it shows which are stuck, and tells the store,
// if there is one, what became of them. Over a snapshot informed is nil: no pod is seen to go.
func addOutcomes(o *webhook.ServerOptions, informed *cluster.Informed, client kubernetes.Interface, records *recording) (*fate.Pods, error) {
	options := fate.Options{Now: time.Now}
	lost := func() int64 { return 0 }
	if informed != nil {
		options.Cached = informed.Pod
	}
	if informed != nil && records.store != nil {
		queue := sightings(records)
		options.Sink, lost = queue.Put, queue.Lost
		o.Runnables = append(o.Runnables, queue)
	}
	pods := fate.New(options)
	if err := registerOutcomes(pods, lost); err != nil || informed == nil {
		return pods, err
	}
	if err := informed.FollowPods(pods.Changed, pods.Removed); err != nil {
		return nil, fmt.Errorf("follow the pods: %w", err)
	}
	if records.store != nil {
		o.Runnables = append(o.Runnables, &fate.Settler{
			Pods: pods, Unsettled: records.store.late().Unsettled, Live: cluster.Client{Interface: client}.Pod, Ready: known(informed), Log: o.Log,
		})
	}
	return pods, nil
}

func registerOutcomes(pods *fate.Pods, lost func() int64) error {
	sightingsLost := prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "evictgate_sightings_lost_total", Help: "What was seen of pods and could not be told to the store; it may not know then who removed them.",
	}, func() float64 { return float64(lost()) })
	for _, c := range []prometheus.Collector{pods, sightingsLost} {
		if err := metrics.Registry.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

// sightings is the queue to the store. What is left of it is sent when the records are closed, and written.
func sightings(records *recording) *fate.Queue {
	queue := fate.NewQueue(fate.QueueOptions{
		Add: records.store.late().AddSightings, Log: records.log,
		Progress: func() fate.Progress { return fate.ProgressOf(records.Writer, record.OutputStore) },
	})
	flush := func() {
		ctx, cancel := context.WithTimeout(context.Background(), lastSightings)
		defer cancel()
		queue.Flush(ctx)
	}
	records.closers = append([]func(){flush}, records.closers...) // before the store is closed
	return queue
}

// lastSightings is how long the sightings that wait at the end may take.
const lastSightings = 5 * time.Second

// known waits until the informers have their first lists, and is false when ctx ended before.
func known(informed *cluster.Informed) func(context.Context) bool {
	return func(ctx context.Context) bool {
		return wait.PollUntilContextCancel(ctx, 200*time.Millisecond, true, func(context.Context) (bool, error) {
			return informed.Ready(nil) == nil, nil
		}) == nil
	}
}
