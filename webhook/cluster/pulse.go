package cluster

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

const (
	// quiet is for how long a watch may say nothing: then it is begun anew, and the answer tells whether the API
	// server still knows us. Bookmarks come about once a minute, but for kinds that nobody changes.
	quiet = 75 * time.Second
	// oldAfter is how old a cache may be. A healthy one is quiet and a request old at most.
	oldAfter = 2 * time.Minute
	// steady is how long a watch must stand without an event until it counts as fixed: one that is too old ends
	// just after it began.
	steady = time.Second
	// relapse is the time after which a failure is a new one.
	relapse = 30 * time.Second
	// againAfter and againAtMost are how long an API server that is out of reach is left alone, at first and in the
	// end. A reflector would leave it alone for up to a minute, and what cannot be confirmed is undecided until then.
	againAfter, againAtMost = 500 * time.Millisecond, 2 * time.Second
	// tellEvery is which failures in a row are logged, about one a minute.
	tellEvery = 25
	// refusedAfter is for how long the API server must refuse a kind until this replica is not ready.
	refusedAfter = 30 * time.Second
)

// pulse knows when the watch of a kind gave the last sign of life. It is safe for concurrent use.
type pulse struct {
	kind string
	now  func() time.Time

	mu sync.Mutex
	// heard is when the API server last told something, zero before the first time.
	heard time.Time
	// failing is since when lists or watches fail; err is the last failure.
	failing failing
	err     error
	// opened is when a watch was opened after the failure, and fixed when it was last known to work again.
	opened, fixed time.Time
	// before is how it was failing until then.
	before failing
}

// failing is since when lists or watches fail, and since when the API server answers all of them with a refusal; zero
// when that is not so.
type failing struct{ since, refused time.Time }

// Health is what is known of the watch of one kind.
type Health struct {
	// Kind is the kind, such as Pod.
	Kind string
	// Age is the time since the last sign of life.
	Age time.Duration
	// Failing is for how long lists or watches fail; zero when they do not. Err is the last failure.
	Failing time.Duration
	Err     error
	// Refused is for how long all failures are refusals: the API server answers, and will not.
	Refused time.Duration
}

// listed notes a list or a watch that the API server has begun to answer.
func (p *pulse) listed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = p.now()
}

// watching notes a watch that is open.
func (p *pulse) watching() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = p.now()
	p.opened = p.heard
}

// told notes an event.
func (p *pulse) told() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = p.now()
	p.fix()
}

func (p *pulse) fix() {
	if !p.failing.since.IsZero() {
		p.before, p.failing, p.fixed = p.failing, failing{}, p.now()
	}
}

// failed notes a list or watch that failed.
func (p *pulse) failed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steadied()
	now := p.now()
	if p.failing.since.IsZero() {
		p.failing = failing{since: now}
		if !p.fixed.IsZero() && now.Sub(p.fixed) < relapse {
			p.failing = p.before
		}
	}
	switch {
	case !refusing(err):
		p.failing.refused = time.Time{}
	case p.failing.refused.IsZero():
		p.failing.refused = now
	}
	p.err, p.opened = err, time.Time{}
}

// steadied lets a watch that stands for long enough count as fixed.
func (p *pulse) steadied() {
	if !p.failing.since.IsZero() && !p.opened.IsZero() && p.now().Sub(p.opened) >= steady {
		p.fix()
	}
}

// health is false before the kind is watched.
func (p *pulse) health() (Health, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steadied()
	h := Health{Kind: p.kind}
	if p.heard.IsZero() {
		return h, false
	}
	now := p.now()
	h.Age = max(0, now.Sub(p.heard))
	if !p.failing.since.IsZero() {
		h.Failing, h.Err = max(now.Sub(p.failing.since), time.Nanosecond), p.err
	}
	if !p.failing.refused.IsZero() {
		h.Refused = now.Sub(p.failing.refused)
	}
	return h, true
}

// trouble says why the cache cannot be relied on; empty when it can.
func (h *Health) trouble() string {
	switch {
	case h.Failing > 0:
		return fmt.Sprintf("the watch of kind %s fails (%s)", h.Kind, sayWhy(h.Err))
	case h.Age > oldAfter:
		return fmt.Sprintf("the watch of kind %s was not heard of for more than %s", h.Kind, oldAfter)
	}
	return ""
}

// refused reports whether the API server answers, and refuses. One that is out of reach is not a reason to be not
// ready: it asks nothing, either, and all replicas would be away when it is back.
func (h *Health) refused() bool { return h.Refused > refusedAfter }

// refusing is whether an error is a refusal. That what is known is too old to go on from is none: that is how a watch
// goes on after an API server was away, and the next list is answered.
func refusing(err error) bool {
	status, _ := answer(err)
	switch status.Code {
	case http.StatusTooManyRequests, http.StatusRequestTimeout, http.StatusGone:
		return false
	}
	return status.Code >= http.StatusBadRequest && status.Code < http.StatusInternalServerError
}

// answer is what the API server answered, when an error is its answer.
func answer(err error) (status metav1.Status, answered bool) {
	var of apierrors.APIStatus
	if !errors.As(err, &of) {
		return status, false
	}
	return of.Status(), true
}

// sayWhy is the kind of a failure, without times, addresses or names that differ.
func sayWhy(err error) string {
	status, answered := answer(err)
	if !answered {
		return "the API server is out of reach"
	}
	return fmt.Sprintf("the API server answers %d %s", status.Code, status.Reason)
}

// observe lets p hear what a ListWatch brings.
func (p *pulse) observe(lw *cache.ListWatch) *cache.ListWatch {
	list, open := lw.ListWithContextFunc, lw.WatchFuncWithContext
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (got runtime.Object, err error) {
			err = p.patiently(ctx, func() (err error) { got, err = list(ctx, o); return err })
			if err == nil {
				p.listed()
			}
			return got, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (opened watch.Interface, err error) {
			err = p.patiently(ctx, func() (err error) { opened, err = open(ctx, o); return err })
			if err != nil {
				return opened, err
			}
			p.watching()
			return p.follow(opened, quiet), nil
		},
	}
}

// patiently asks until the API server answers, and returns what it answers. Before it ever did, once is enough.
func (p *pulse) patiently(ctx context.Context, ask func() error) error {
	backoff := wait.Backoff{Duration: againAfter, Cap: againAtMost, Steps: math.MaxInt32, Factor: 2, Jitter: 0.5}
	for tries := 0; ; tries++ {
		err := ask()
		if err == nil {
			return nil
		}
		p.failedUnless(ctx, err)
		if _, answered := answer(err); answered || !p.known() {
			return err
		}
		if tries%tellEvery == 0 {
			utilruntime.HandleErrorWithContext(ctx, err, "The API server is out of reach; trying again", "kind", p.kind)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(backoff.Step()):
		}
	}
}

func (p *pulse) known() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.heard.IsZero()
}

// failedUnless notes a failure that is not the end of ctx.
func (p *pulse) failedUnless(ctx context.Context, err error) {
	if ctx.Err() == nil {
		p.failed(err)
	}
}

// followed is a watch that p hears.
type followed struct {
	watch.Interface
	events chan watch.Event
	once   sync.Once
	done   chan struct{}
}

func (p *pulse) follow(w watch.Interface, patience time.Duration) watch.Interface {
	f := &followed{Interface: w, events: make(chan watch.Event), done: make(chan struct{})}
	go f.pass(p, patience)
	return f
}

func (f *followed) ResultChan() <-chan watch.Event { return f.events }

func (f *followed) Stop() {
	f.once.Do(func() { close(f.done) })
	f.Interface.Stop()
}

// pass hands the events on until the watch ends, nobody wants them any more, or it is quiet for too long.
func (f *followed) pass(p *pulse, patience time.Duration) {
	defer close(f.events)
	defer f.Interface.Stop()
	silence := time.NewTimer(patience)
	defer silence.Stop()
	for {
		select {
		case <-f.done:
			return
		case <-silence.C:
			return
		case e, ok := <-f.Interface.ResultChan():
			if !ok {
				return
			}
			p.event(&e)
			select {
			case f.events <- e:
			case <-f.done:
				return
			}
			silence.Reset(patience)
		}
	}
}

func (p *pulse) event(e *watch.Event) {
	if e.Type == watch.Error {
		p.failed(apierrors.FromObject(e.Object))
		return
	}
	p.told()
}
