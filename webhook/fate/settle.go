package fate

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evictgate/evictgate/webhook/record"
)

const (
	// settleEvery is the time between two looks at the unsettled episodes, and settleSoon that after one that
	// failed.
	settleEvery, settleSoon = 30 * time.Minute, 15 * time.Second
	// readsPerSecond bounds how many pods are asked of the API server.
	readsPerSecond = 50
)

// Settler finds out what became of pods while nobody watched: it goes through the episodes that are not over
// once the cluster is known, and then now and again. Pods that are still there are followed; those that are
// missing, or have another UID, are gone. It runs on every replica.
type Settler struct {
	Pods *Pods
	// Unsettled goes through the episodes that are not over; its error is the last that it gives.
	Unsettled func(context.Context) iter.Seq2[record.Episode, error]
	// Live reads a pod from the API server: the cache may lag behind what other replicas have decided.
	Live func(ctx context.Context, namespace, name string) (*corev1.Pod, error)
	// Ready waits until the cluster is known, and is false when the context ended before.
	Ready func(context.Context) bool
	Log   *slog.Logger
}

// NeedLeaderElection is false: every replica follows the pods.
func (*Settler) NeedLeaderElection() bool { return false }

// Start settles until ctx is done. It is a controller-runtime Runnable.
func (s *Settler) Start(ctx context.Context) error {
	if !s.Ready(ctx) {
		return nil
	}
	for ctx.Err() == nil {
		pause := settleEvery + rand.N(time.Minute) // replicas beside each other
		if err := s.Settle(ctx); err != nil && ctx.Err() == nil {
			s.Log.Warn("what became of pods is not known for all, and is looked at again later", "error", err.Error())
			pause = settleSoon
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return nil
}

// Settle goes through the unsettled episodes once. Its error is the first that left one out.
func (s *Settler) Settle(ctx context.Context) error {
	limit := rate.NewLimiter(readsPerSecond, readsPerSecond)
	var failed error
	for e, err := range s.Unsettled(ctx) {
		if err != nil {
			return fmt.Errorf("read the unsettled episodes: %w", err)
		}
		if err := s.settle(ctx, limit, &e); err != nil && failed == nil {
			failed = err
		}
	}
	return failed
}

func (s *Settler) settle(ctx context.Context, limit *rate.Limiter, e *record.Episode) error {
	if e.PodUID == "" {
		return nil // nobody can say which pod it was
	}
	pod, err := s.find(ctx, limit, e)
	switch {
	case err != nil:
		return err
	case pod == nil:
		s.Pods.missing(e)
	default:
		s.Pods.adopt(e, pod)
	}
	return nil
}

// find is the pod of an episode; nil when it is not there.
func (s *Settler) find(ctx context.Context, limit *rate.Limiter, e *record.Episode) (*corev1.Pod, error) {
	if pod, ok := s.Pods.cached(e.Namespace, e.Pod); ok && string(pod.UID) == e.PodUID {
		return pod, nil
	}
	if err := limit.Wait(ctx); err != nil {
		return nil, err
	}
	pod, err := s.Live(ctx, e.Namespace, e.Pod)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read pod %s/%s: %w", e.Namespace, e.Pod, err)
	case string(pod.UID) != e.PodUID:
		return nil, nil
	}
	return pod, nil
}

// missing tells that the pod of an episode is not there. The watch may know more of its end, and tell it
// later.
func (p *Pods) missing(e *record.Episode) {
	gone := record.Sighting{Namespace: e.Namespace, Pod: e.Pod, PodUID: e.PodUID, Gone: p.now()}
	p.mu.Lock()
	if known, ok := p.pods[types.UID(e.PodUID)]; ok {
		gone, _ = known.see(gone)
	}
	p.mu.Unlock()
	p.sink(gone)
}

// adopt follows the pod of an episode, unless it is followed already.
func (p *Pods) adopt(e *record.Episode, pod *corev1.Pod) {
	p.mu.Lock()
	_, known := p.pods[pod.UID]
	if !known && len(p.pods) < maxPods {
		p.pods[pod.UID] = taken(e, p.now())
	}
	p.mu.Unlock()
	p.Changed(pod)
}

// taken is what an episode tells of a pod that was not followed here.
func taken(e *record.Episode, now time.Time) *followed {
	f := &followed{tried: e.Last}
	if e.Stuck(now.Add(-silence)) {
		f.refused, f.blocker = e.FirstRefused, e.Latest.Kind
		// The first refusal counts only when nobody paused for long since then.
		if e.Last.Sub(e.FirstRefused) > time.Duration(e.Attempts)*silence {
			f.refused = e.Last
		}
	}
	return f
}
