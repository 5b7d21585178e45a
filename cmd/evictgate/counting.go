package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/webhook"
	"github.com/evictgate/evictgate/webhook/cluster"
	"github.com/evictgate/evictgate/webhook/fate"
	"github.com/evictgate/evictgate/webhook/history"
)

// followEvictions lets the history count what the pod watch shows. Over a snapshot informed is nil, and what is
// admitted is taken for what happens.
func followEvictions(o *webhook.ServerOptions, ledger *history.Ledger, gatherer *cluster.Gatherer, informed *cluster.Informed, sources *source.Sources) error {
	if err := metrics.Registry.Register(ledger); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	if informed == nil {
		return nil
	}
	ledger.Follow(history.Watch{
		Pod: informed.Pod, Current: informed.PodsCurrent, Around: gatherer.Around, Now: time.Now,
		Evicted: func(pod *corev1.Pod) (time.Time, bool) { return fate.Evicted(pod, time.Now()) },
		Wanted: func() bool { // what is not loaded yet may read it
			set := sources.Current()
			return set == nil || set.Needs().Reads("history")
		},
	})
	if err := informed.FollowPods(ledger.Changed, func(pod *corev1.Pod, _ bool) { ledger.Removed(pod) }); err != nil {
		return fmt.Errorf("follow the pods: %w", err)
	}
	o.Runnables = append(o.Runnables, manager.RunnableFunc(func(ctx context.Context) error {
		if known(informed)(ctx) {
			ledger.Rebuild(informed.Pods())
		}
		return nil
	}))
	return nil
}
