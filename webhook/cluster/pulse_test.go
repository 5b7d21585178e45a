package cluster

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

var (
	errForbidden = apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", errors.New("no rights"))
	errExpired   = apierrors.NewResourceExpired("too old")
	errRefused   = errors.New("dial tcp 127.0.0.1:6443: connect: connection refused")
)

// ticking is a pulse of pods with a clock of its own.
func ticking() (p *pulse, pass func(time.Duration)) {
	at := now
	return &pulse{kind: "Pod", now: func() time.Time { return at }}, func(d time.Duration) { at = at.Add(d) }
}

func TestHowAWatchIs(t *testing.T) {
	for name, tt := range map[string]struct {
		happens func(*pulse, func(time.Duration))
		trouble string
		refused bool
	}{
		"it is open": {func(p *pulse, pass func(time.Duration)) { p.listed(); p.watching(); pass(quiet) }, "", false},
		"events come": {func(p *pulse, pass func(time.Duration)) {
			p.listed()
			p.watching()
			pass(oldAfter)
			p.told()
			pass(quiet)
		}, "", false},
		"it hangs":                  {func(p *pulse, pass func(time.Duration)) { p.listed(); p.watching(); pass(oldAfter + time.Second) }, "not heard of for more than 2m0s", false},
		"the rights are taken away": {func(p *pulse, pass func(time.Duration)) { p.listed(); p.watching(); p.failed(errForbidden) }, "answers 403 Forbidden", false},
		"they were long ago":        {func(p *pulse, pass func(time.Duration)) { p.listed(); p.failed(errForbidden); pass(refusedAfter + 1) }, "answers 403 Forbidden", true},
		"only the right to watch was": {func(p *pulse, pass func(time.Duration)) {
			for range 10 {
				p.listed()
				p.failed(errForbidden)
				pass(5 * time.Second)
			}
		}, "answers 403 Forbidden", true},
		"each watch is too old": {func(p *pulse, pass func(time.Duration)) {
			for range 40 {
				p.listed()
				p.watching()
				p.failed(errExpired)
				pass(time.Second)
			}
		}, "answers 410 Expired", false}, // it is listed anew each time
		"one watch was too old": {func(p *pulse, pass func(time.Duration)) { p.failed(errExpired); p.listed(); p.watching(); pass(steady) }, "", false},
		"it has just begun to fix": {func(p *pulse, pass func(time.Duration)) {
			p.listed()
			p.failed(errForbidden)
			p.watching()
			pass(steady / 2)
		}, "answers 403", false},
		"it was fixed by an event": {func(p *pulse, pass func(time.Duration)) { p.listed(); p.failed(errForbidden); p.watching(); p.told() }, "", false},
		"the API server is away":   {func(p *pulse, pass func(time.Duration)) { p.listed(); p.failed(errRefused); pass(time.Hour) }, "out of reach", false},
		"it fails again and again": {func(p *pulse, pass func(time.Duration)) { flap(p, pass, errForbidden, time.Second) }, "answers 403", true},
		"it fails now and then":    {func(p *pulse, pass func(time.Duration)) { flap(p, pass, errForbidden, relapse+time.Second) }, "answers 403", false},
		"the API server was away, and knows no more where we were": {func(p *pulse, pass func(time.Duration)) {
			p.listed()
			p.failed(errRefused)
			pass(refusedAfter)
			p.failed(errExpired)
			pass(refusedAfter)
		}, "answers 410 Expired", false},
		"the API server was away, and refuses now": {func(p *pulse, pass func(time.Duration)) {
			p.listed()
			p.failed(errRefused)
			pass(refusedAfter)
			p.failed(errForbidden)
			pass(refusedAfter)
		}, "answers 403", false},
		"it fails before it is known": {func(p *pulse, _ func(time.Duration)) { p.failed(errForbidden) }, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			p, pass := ticking()
			tt.happens(p, pass)
			h, watched := p.health()
			trouble := ""
			if watched {
				trouble = h.trouble()
			}
			if (trouble == "") != (tt.trouble == "") || !strings.Contains(trouble, tt.trouble) {
				t.Errorf("trouble is %q, want %q", trouble, tt.trouble)
			}
			if got := watched && h.refused(); got != tt.refused {
				t.Errorf("refused is %t, want %t: %+v", got, tt.refused, h)
			}
		})
	}
}

// flap lets a watch fail and be fixed, for a time between.
func flap(p *pulse, pass func(time.Duration), err error, between time.Duration) {
	for range 20 {
		p.failed(err)
		pass(2 * time.Second)
		p.listed()
		p.watching()
		p.told()
		pass(between)
	}
	p.failed(err)
}

func TestAQuietWatchIsBegunAnew(t *testing.T) {
	p, _ := ticking()
	quietOne := watch.NewFake()
	w := p.follow(quietOne, 20*time.Millisecond)
	select {
	case _, open := <-w.ResultChan():
		if open {
			t.Error("an event came")
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the watch goes on")
	}
	if h, _ := p.health(); h.Failing > 0 {
		t.Errorf("silence is not a failure: %+v", h)
	}
}

// Who stops a watch reads no more of it; what was about to be handed on must not hold its goroutine.
func TestAWatchEndsWithItsReader(t *testing.T) {
	p, _ := ticking()
	in := watch.NewFakeWithChanSize(10, false)
	for range 5 {
		in.Modify(&corev1.Pod{})
	}
	w := p.follow(in, time.Hour)
	<-w.ResultChan()
	w.Stop()
	ended := time.After(30 * time.Second)
	for {
		select {
		case _, open := <-w.ResultChan():
			if !open {
				return
			}
		case <-ended:
			t.Fatal("the watch goes on")
		}
	}
}

// served is an API server that takes rights away.
type served struct {
	denied atomic.Bool
	open   atomic.Pointer[watch.FakeWatcher]
}

func (s *served) list(clienttesting.Action) (bool, runtime.Object, error) {
	if s.denied.Load() {
		return true, nil, errForbidden
	}
	return true, &corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: "1"}}, nil
}

func (s *served) watch(clienttesting.Action) (bool, watch.Interface, error) {
	if s.denied.Load() {
		return true, nil, errForbidden
	}
	w := watch.NewFake()
	s.open.Store(w)
	return true, w, nil
}

// breakOff ends the open watch.
func (s *served) breakOff() {
	if w := s.open.Load(); w != nil {
		w.Stop()
	}
}

func TestInformersTellOfRightsThatAreTakenAway(t *testing.T) {
	s := &served{}
	client := fake.NewClientset()
	client.PrependReactor("list", "pods", s.list)
	client.PrependWatchReactor("pods", s.watch)
	w, err := Watch(client)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan struct{})
	go func() { defer close(done); _ = w.Start(ctx) }()
	until := func(what string, is func() bool) {
		t.Helper()
		for !is() {
			if ctx.Err() != nil {
				t.Fatalf("%s: %+v", what, w.Health())
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	until("the informers are ready", func() bool { return w.Ready(nil) == nil && s.open.Load() != nil })
	until("the cache is current", w.PodsCurrent)
	s.denied.Store(true)
	s.breakOff()
	until("the cache cannot be relied on", func() bool { return strings.Contains(w.troubleWith("Pod"), "403 Forbidden") })
	if err := w.Refused(&http.Request{}); err != nil {
		t.Errorf("not ready at once, and before any policies: %v", err)
	}
	w.needs.Store(reading(t, "input.pod"))
	p := w.pulses["Pod"]
	p.mu.Lock()
	p.failing.refused = p.failing.refused.Add(-refusedAfter)
	p.mu.Unlock()
	if err := w.Refused(&http.Request{}); err == nil || !strings.Contains(err.Error(), "list and watch kind Pod") {
		t.Errorf("it is ready: %v", err)
	}
	if trouble := w.troubleWith("Node"); trouble != "" {
		t.Errorf("another kind: %s", trouble)
	}
	cancel()
	<-done
}

func TestEveryKindHasAPulse(t *testing.T) {
	w, err := Watch(fake.NewClientset())
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range kinds {
		if w.pulses[kind.name] == nil {
			t.Errorf("%s has none", kind.name)
		}
	}
	if len(w.pulses) != len(kinds) {
		t.Errorf("%d pulses for %d kinds", len(w.pulses), len(kinds))
	}
}
