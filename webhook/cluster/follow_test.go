package cluster

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
)

func TestWhatIsToldOfPods(t *testing.T) {
	pod := func(uid types.UID) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db-0", UID: uid}}
	}
	for name, tt := range map[string]struct {
		notice func(cache.ResourceEventHandler)
		want   []string
	}{
		"a new pod":      {func(h cache.ResourceEventHandler) { h.OnAdd(pod("a"), true) }, []string{"a changed"}},
		"a changed pod":  {func(h cache.ResourceEventHandler) { h.OnUpdate(pod("a"), pod("a")) }, []string{"a changed"}},
		"a removed pod":  {func(h cache.ResourceEventHandler) { h.OnDelete(pod("a")) }, []string{"a removed, seen true"}},
		"something else": {func(h cache.ResourceEventHandler) { h.OnAdd(&corev1.Node{}, false) }, nil},
		"a pod that was missing after a gap of the watch": {
			func(h cache.ResourceEventHandler) {
				h.OnDelete(cache.DeletedFinalStateUnknown{Key: "shop/db-0", Obj: pod("a")})
			},
			[]string{"a removed, seen false"},
		},
		"a pod that was another one after a gap of the watch": {
			func(h cache.ResourceEventHandler) { h.OnUpdate(pod("a"), pod("b")) },
			[]string{"a removed, seen false", "b changed"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var told []string
			tt.notice(podHandler(
				func(pod *corev1.Pod) { told = append(told, fmt.Sprintf("%s changed", pod.UID)) },
				func(pod *corev1.Pod, seen bool) {
					told = append(told, fmt.Sprintf("%s removed, seen %v", pod.UID, seen))
				},
			))
			if diff := cmp.Diff(tt.want, told); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// gap is an API server whose watch of pods ends with "too old", after which another list is given: what
// happened in between is in no event.
type gap struct {
	mu     sync.Mutex
	before []corev1.Pod
	after  []corev1.Pod
	events *watch.FakeWatcher
}

func (g *gap) list(clienttesting.Action) (bool, runtime.Object, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return true, &corev1.PodList{Items: g.before}, nil
}

func (g *gap) watch(clienttesting.Action) (bool, watch.Interface, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.events = watch.NewFake()
	return true, g.events, nil
}

// tear ends the watch, once there is one.
func (g *gap) tear() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.events == nil {
		return false
	}
	g.before = g.after
	g.events.Error(&metav1.Status{Status: metav1.StatusFailure, Code: http.StatusGone, Reason: metav1.StatusReasonExpired})
	g.events.Stop()
	return true
}

func TestWhatHappenedInAGapOfTheWatchIsToldAsNotSeen(t *testing.T) {
	pod := func(name, uid string) corev1.Pod {
		return corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(uid), ResourceVersion: "1"}}
	}
	g := &gap{
		before: []corev1.Pod{pod("stays", "s"), pod("goes", "g"), pod("made-anew", "old")},
		after:  []corev1.Pod{pod("stays", "s"), pod("made-anew", "new")},
	}
	client := fake.NewClientset()
	client.PrependReactor("list", "pods", g.list)
	client.PrependWatchReactor("pods", g.watch)
	w, err := Watch(client)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var gone []string
	known := map[types.UID]bool{}
	err = w.FollowPods(
		func(pod *corev1.Pod) { mu.Lock(); defer mu.Unlock(); known[pod.UID] = true },
		func(pod *corev1.Pod, seen bool) {
			mu.Lock()
			defer mu.Unlock()
			gone = append(gone, fmt.Sprintf("%s %v", pod.UID, seen))
			delete(known, pod.UID)
		})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	done := make(chan struct{})
	go func() { defer close(done); _ = w.Start(ctx) }()
	until := func(what string, is func() bool) {
		t.Helper()
		for !is() {
			if ctx.Err() != nil {
				t.Fatalf("%s: gone are %v, known %v", what, gone, known)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	until("the first list", func() bool { mu.Lock(); defer mu.Unlock(); return len(known) == 3 })
	until("a watch", g.tear)
	until("the second list", func() bool { mu.Lock(); defer mu.Unlock(); return len(gone) == 2 && known["new"] })
	cancel()
	<-done
	slices.Sort(gone)
	if diff := cmp.Diff([]string{"g false", "old false"}, gone); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
