package fate

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/evictgate/evictgate/webhook/record"
)

// reading is how the API server answers a read of the pod.
func reading(pod *corev1.Pod, err error) func(context.Context, string, string) (*corev1.Pod, error) {
	return func(context.Context, string, string) (*corev1.Pod, error) { return pod, err }
}

var notFound = apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, "web-1")

func TestWhatHappenedWhileNobodyWatched(t *testing.T) {
	gone := []record.Sighting{seen(func(s *record.Sighting) { s.Gone = at(99) })}
	for name, tt := range map[string]struct {
		cached   *corev1.Pod
		live     func(context.Context, string, string) (*corev1.Pod, error)
		want     []record.Sighting
		followed bool
		err      bool
	}{
		"the pod is there":         {cached: podWith(), followed: true},
		"the pod is gone":          {live: reading(nil, notFound), want: gone},
		"the pod was made anew":    {cached: podWith(named("u2")), live: reading(podWith(named("u2")), nil), want: gone},
		"the cache lags behind":    {cached: podWith(named("u0")), live: reading(podWith(), nil), followed: true},
		"the API server is away":   {live: reading(nil, errors.New("connection refused")), err: true},
		"the pod terminates since": {cached: podWith(evicted(10), deleted(10, 30)), followed: true, want: []record.Sighting{seen(func(s *record.Sighting) { s.EvictedByAPI, s.Terminating = true, at(10) })}},
	} {
		t.Run(name, func(t *testing.T) {
			var told []record.Sighting
			p := New(Options{
				Now: func() time.Time { return at(99) }, Sink: func(s record.Sighting) { told = append(told, s) },
				Cached: func(string, string) (*corev1.Pod, bool) { return tt.cached, tt.cached != nil },
			})
			s := Settler{
				Pods: p, Live: tt.live, Log: slog.New(slog.DiscardHandler),
				Unsettled: func(context.Context) iter.Seq2[record.Episode, error] {
					return func(yield func(record.Episode, error) bool) {
						_ = yield(*blocked(), nil) && yield(record.Episode{ID: "shop/nobody", Namespace: "shop", Pod: "nobody"}, nil)
					}
				},
			}
			if err := s.Settle(t.Context()); (err != nil) != tt.err {
				t.Errorf("error %v", err)
			}
			if diff := cmp.Diff(tt.want, told); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if _, followed := p.pods["u1"]; followed != tt.followed {
				t.Errorf("followed: %v, expected %v", followed, tt.followed)
			}
		})
	}
}

func TestTheEndIsToldOnceAndWhatTheWatchKnowsBesides(t *testing.T) {
	var told []record.Sighting
	p := New(Options{Now: func() time.Time { return at(99) }, Sink: func(s record.Sighting) { told = append(told, s) }})
	p.Note(decided(0, refusedBy(record.ByPolicy)))
	p.missing(blocked()) // the notice of the watch is on its way
	p.Removed(podWith(evicted(10)), true)
	e := blocked()
	for _, s := range told {
		e.See(s)
	}
	if len(told) != 2 || e.Fate != record.Evicted {
		t.Errorf("fate %s of %+v", e.Fate, told)
	}
}

func TestSinceWhenAPodIsStuckAfterARestart(t *testing.T) {
	for name, tt := range map[string]struct {
		refused []int
		now     int
		want    Stuck
	}{
		"as long as before":                      {[]int{0, 300, 600, 1200}, 1300, Stuck{1, 1300 * time.Second}},
		"nobody came back":                       {[]int{0, 300}, 1300, Stuck{}},
		"not since a refusal long before":        {[]int{0, 90_000, 90_100}, 90_150, Stuck{}},
		"from the last of few that lie far away": {[]int{0, 90_000}, 90_400, Stuck{1, 400 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			var e record.Episode
			for _, second := range tt.refused {
				e.Add(&record.Record{
					Timestamp: at(second), Result: refusedBy(record.ByBudget),
					Request: record.Request{Namespace: "shop", Name: "web-1"}, Pod: &record.Object{UID: "u1"},
				})
			}
			now := at(tt.now)
			p := quietly(&now)
			p.adopt(&e, podWith())
			if diff := cmp.Diff(tt.want, p.Stuck()[record.ByBudget]); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestSettlingBeginsOnceTheClusterIsKnown(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	known := make(chan struct{})
	asked := make(chan struct{}, 1)
	s := Settler{
		Pods: New(Options{Now: time.Now}), Log: slog.New(slog.DiscardHandler),
		Ready: func(ctx context.Context) bool {
			select {
			case <-known:
				return true
			case <-ctx.Done():
				return false
			}
		},
		Unsettled: func(context.Context) iter.Seq2[record.Episode, error] {
			asked <- struct{}{}
			return func(yield func(record.Episode, error) bool) {
				yield(record.Episode{}, errors.New("the store is away")) // which is not a reason to end
			}
		},
	}
	done := make(chan error)
	go func() { done <- s.Start(ctx) }()
	select {
	case <-asked:
		t.Error("the episodes are looked at before the pods are known")
	case <-time.After(50 * time.Millisecond):
	}
	close(known)
	<-asked
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
