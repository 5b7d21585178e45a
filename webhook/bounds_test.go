package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	admissionv1 "k8s.io/api/admission/v1"

	"github.com/evictgate/evictgate/webhook/hooks"
	"github.com/evictgate/evictgate/webhook/memory"
)

// largeReview is a review with an annotation of about size bytes.
func largeReview(pod string, size int) []byte {
	return review(pod, func(r *admissionv1.AdmissionReview) {
		r.Request.Object.Raw = fmt.Appendf(nil, `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":%q,"namespace":"shop","annotations":{"note":%q}}}`,
			pod, strings.Repeat("x", size))
	})
}

// unsized has the sender state no length.
func unsized(body []byte) *http.Request {
	r := typed("application/json", io.MultiReader(bytes.NewReader(body)))
	r.ContentLength = -1
	return r
}

func sized(body []byte) *http.Request { return typed("application/json", bytes.NewReader(body)) }

func levelled(l memory.Level) func() memory.Level { return func() memory.Level { return l } }

// What finds no room is answered as a review where that can be done: after a call that fails, an API server that
// ignores failures admits the eviction.
func TestWhatFindsNoRoomIsRefusedAsAReview(t *testing.T) {
	full := func(b *Bounds) { b.known.small.most, b.known.large.most = 0, 0 }
	values := `"a":[` + strings.Repeat("1,", maxValues) + `1]}`
	for name, c := range map[string]struct {
		level  memory.Level
		set    func(*Bounds)
		send   *http.Request
		code   int32
		reason string
		text   string
	}{
		"too many are there":          {send: sized(review("web", nil)), set: full, code: 429, reason: "number", text: "too many reviews in flight; try again"},
		"too many large ones":         {send: sized(largeReview("web", 512<<10)), set: full, code: 429, reason: "number", text: "too many reviews in flight"},
		"memory is short":             {send: sized(review("web", nil)), level: memory.Short, code: 429, reason: "memory", text: "short of memory; try again"},
		"memory is tight for a large": {send: sized(largeReview("web", 512<<10)), level: memory.Tight, code: 429, reason: "memory", text: "short of memory"},
		"of unknown length, too":      {send: unsized(largeReview("web", 512<<10)), level: memory.Tight, code: 429, reason: "memory", text: "short of memory"},
		"longer than any":             {send: sized(largeReview("web", maxBody)), code: 413, reason: "size", text: "more than 1 MiB"},
		"longer, of unknown length":   {send: unsized(largeReview("web", maxBody)), code: 413, reason: "size", text: "more than 1 MiB"},
		"too many values":             {send: sized(append(review("web", nil)[:len(review("web", nil))-1], []byte(","+values)...)), code: 413, reason: "values", text: "more than 20000 JSON values"},
		"no turn in time": {send: sized(review("web", nil)), set: func(b *Bounds) { b.known.small.deciding.TryAcquire(inFlight) },
			code: 429, reason: "waited", text: "had no room for the review in time"},
		"no turn in time for a large": {send: sized(largeReview("web", 512<<10)), set: func(b *Bounds) { b.known.large.deciding.TryAcquire(largeInFlight()) },
			code: 429, reason: "waited", text: "had no room"},
		"no memory to read it": {send: sized(largeReview("web", 512<<10)), set: func(b *Bounds) { b.known.large.arriving.TryAcquire(largeArriving) },
			code: 429, reason: "waited", text: "had no room"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newBoundMetrics()
			b := newBounds(levelled(c.level), nil, m)
			if c.set != nil {
				c.set(b)
			}
			q := c.send.URL.Query()
			q.Set("timeout", "200ms")
			c.send.URL.RawQuery = q.Encode()
			w := httptest.NewRecorder()
			withBounds(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it is decided") }), b).ServeHTTP(w, c.send)
			got := answer(t, w)
			if w.Code != 200 || got.Allowed || got.UID != "uid-web" || got.Result.Code != c.code || !strings.Contains(got.Result.Message, c.text) {
				t.Errorf("%d %+v %+v", w.Code, got, got.Result)
			}
			if n := testutil.ToFloat64(m.shed.WithLabelValues(c.reason)); n != 1 {
				t.Errorf("%v counted for %q", n, c.reason)
			}
			nothingNew(t, m)
		})
	}
}

// nothingNew fails when a reason was counted that was not there from the start: its first increase is not seen.
func nothingNew(t *testing.T, m *boundMetrics) {
	t.Helper()
	if got, want := testutil.CollectAndCount(m.shed), testutil.CollectAndCount(newBoundMetrics().shed); got != want {
		t.Errorf("%d reasons are counted, %d from the start", got, want)
	}
}

func TestABodyThatDoesNotArriveIsCounted(t *testing.T) {
	for reason, err := range map[string]error{"late": os.ErrDeadlineExceeded, "cut": io.ErrUnexpectedEOF} {
		t.Run(reason, func(t *testing.T) {
			m := newBoundMetrics()
			r := typed("application/json", iotest.ErrReader(err))
			r.ContentLength = 100
			withBounds(http.NotFoundHandler(), newBounds(enough, nil, m)).ServeHTTP(httptest.NewRecorder(), r)
			if n := testutil.ToFloat64(m.shed.WithLabelValues(reason)); n != 1 {
				t.Errorf("%v counted for %q", n, reason)
			}
			nothingNew(t, m)
		})
	}
}

func TestARefusalWithoutAUIDIsPlain(t *testing.T) {
	for name, body := range map[string]string{
		"no JSON":        "hello",
		"no request":     `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"a"}}`,
		"a uid too late": `{"request":{"object":"` + strings.Repeat("x", maxHead) + `","uid":"a"}}`,
		"a number":       `{"request":{"uid":7}}`,
		"only a part":    `{"request":{"ui`,
		"an empty uid":   `{"request":{"uid":""}}`,
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			withBounds(http.NotFoundHandler(), newBounds(levelled(memory.Short), nil, newBoundMetrics())).ServeHTTP(w, sized([]byte(body)))
			if w.Code != 429 || w.Body.String() != shortOfMemory.text+"\n" {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
}

func TestARefusalSpeaksTheVersionOfTheReview(t *testing.T) {
	for version, want := range map[string]string{"v1": "admission.k8s.io/v1", "v1beta1": "admission.k8s.io/v1beta1", "v7": "admission.k8s.io/v1"} {
		body := `{"kind":"AdmissionReview","other":{"request":{"uid":"wrong"}},"apiVersion":"admission.k8s.io/` + version + `","request":{"kind":{"uid":"wrong"},"uid":"right","x":`
		got, ok := headOf([]byte(body))
		if !ok || got.APIVersion != want || got.Response.UID != "right" {
			t.Errorf("%s: %t %+v", version, ok, got)
		}
	}
}

func TestABodyThatIsCutIsNoReview(t *testing.T) {
	whole := review("web", nil)
	for name, send := range map[string]*http.Request{
		"a length that is not kept": {Body: io.NopCloser(bytes.NewReader(whole[:len(whole)/2]))},
		"a connection that breaks":  {Body: io.NopCloser(io.MultiReader(bytes.NewReader(whole[:50]), broken{})), ContentLength: int64(len(whole))},
	} {
		t.Run(name, func(t *testing.T) {
			r := sized(whole)
			r.Body = send.Body
			w := httptest.NewRecorder()
			front(newGate(t, io.Discard)).ServeHTTP(w, r)
			if w.Code != 400 || strings.Contains(w.Body.String(), "uid") {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestSmallReviewsDoNotWaitForLargeOnes(t *testing.T) {
	goOn := make(chan struct{})
	var large, most atomic.Int64
	b := newBounds(enough, nil, newBoundMetrics())
	h := withBounds(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > smallBody {
			if n := large.Add(1); n > most.Load() {
				most.Store(n)
			}
			<-goOn
			large.Add(-1)
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "decided")
	}), b)
	body := largeReview("web", 900<<10)
	var senders sync.WaitGroup
	var decided atomic.Int64
	for range 32 {
		senders.Go(func() {
			if w := post(h, hooks.EvictionsPath+"?timeout=30s", body); w.Body.String() == "decided" {
				decided.Add(1)
			}
		})
	}
	share := largeInFlight()
	for large.Load() < share {
		time.Sleep(time.Millisecond)
	}
	for range 500 {
		if w := post(h, hooks.EvictionsPath, review("web", nil)); w.Body.String() != "decided" {
			t.Fatalf("a small review is answered %d %s", w.Code, w.Body)
		}
	}
	close(goOn)
	senders.Wait()
	if most.Load() != share || decided.Load() != 32 {
		t.Errorf("%d large reviews were decided at once, want %d; %d of 32 in all", most.Load(), share, decided.Load())
	}
	nothingHeld(t, b)
}

// nothingHeld holds that all that was taken is given back.
func nothingHeld(t *testing.T, b *Bounds) {
	t.Helper()
	for _, r := range []*room{&b.known, &b.strangers} {
		if r.small.present != 0 || r.large.present != 0 {
			t.Errorf("%d small and %d large reviews are still counted", r.small.present, r.large.present)
		}
		if !r.large.arriving.TryAcquire(largeArriving) {
			t.Error("memory for what arrives is still held")
		}
	}
	if !b.known.small.deciding.TryAcquire(inFlight) || !b.known.large.deciding.TryAcquire(largeInFlight()) || !b.tight.TryAcquire(inFlightTight) {
		t.Error("room for decisions is still held")
	}
}

func TestStrangersLeaveKnownCallersTheirRoom(t *testing.T) {
	goOn := make(chan struct{})
	var inside, most atomic.Int64
	b := newBounds(enough, func(r *http.Request) bool { return r.Header.Get("Known") != "" }, newBoundMetrics())
	h := withBounds(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Known") == "" {
			most.Store(max(most.Load(), inside.Add(1)))
			<-goOn
		}
		_, _ = io.WriteString(w, "decided")
	}), b)
	var senders sync.WaitGroup
	for range 100 {
		senders.Go(func() { post(h, hooks.EvictionsPath+"?timeout=30s", review("web", nil)) })
	}
	for inside.Load() < strangersInFlight {
		time.Sleep(time.Millisecond)
	}
	for range 50 {
		r := sized(review("web", nil))
		r.Header.Set("Known", "yes")
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Body.String() != "decided" {
			t.Fatalf("a known caller is answered %s", w.Body)
		}
	}
	if most.Load() > strangersInFlight {
		t.Errorf("%d of strangers at once", most.Load())
	}
	close(goOn)
	senders.Wait()
	nothingHeld(t, b)
}

func TestFewAreDecidedAtOnceWhileMemoryIsTight(t *testing.T) {
	goOn := make(chan struct{})
	var inside atomic.Int64
	b := newBounds(levelled(memory.Tight), nil, newBoundMetrics())
	h := withBounds(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := inside.Add(1); n > inFlightTight {
			t.Errorf("%d at once", n)
		}
		<-goOn
		inside.Add(-1)
		_, _ = io.WriteString(w, "decided")
	}), b)
	var senders sync.WaitGroup
	for range 20 {
		senders.Go(func() {
			if w := post(h, hooks.EvictionsPath+"?timeout=30s", review("web", nil)); w.Body.String() != "decided" {
				t.Errorf("answered %s", w.Body)
			}
		})
	}
	for inside.Load() < inFlightTight {
		time.Sleep(time.Millisecond)
	}
	close(goOn)
	senders.Wait()
	nothingHeld(t, b)
}

// A client that goes takes its review with it, whether it waits for its turn or is being decided.
func TestWorkThatNobodyWaitsForIsCancelled(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			begun, ended := make(chan string, 1), make(chan error, 1)
			h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				begun <- r.Proto
				<-r.Context().Done()
				ended <- r.Context().Err()
			})
			s := startServerWith(t, func(o *ServerOptions) { o.Handlers, o.HTTP2 = map[string]http.Handler{"/held": h}, http2 })
			postSlow(t, s.client, s.url+hooks.EvictionsPath)
			transport := s.client.Transport.(*http.Transport).Clone()
			transport.ForceAttemptHTTP2 = true
			t.Cleanup(transport.CloseIdleConnections)
			ctx, leave := context.WithCancel(t.Context())
			go func() {
				if proto := <-begun; !strings.HasPrefix(proto, name) {
					t.Errorf("spoke %s", proto)
				}
				leave()
			}()
			request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/held?timeout=30s", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", "application/json")
			if response, err := (&http.Client{Transport: transport}).Do(request); err == nil {
				_ = response.Body.Close()
				t.Error("it was answered")
			}
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("the review ended with %v", err)
			}
		})
	}
}

func TestAReviewWhoseClientWentIsNotDecided(t *testing.T) {
	m := newBoundMetrics()
	b := newBounds(enough, nil, m)
	b.known.small.deciding.TryAcquire(inFlight)
	ctx, leave := context.WithCancel(t.Context())
	leave()
	h := withBounds(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it is decided") }), b)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, sized(review("web", nil)).WithContext(ctx))
	b.known.small.deciding.Release(inFlight)
	h.ServeHTTP(w, sized(review("web", nil)).WithContext(ctx))
	if n := testutil.ToFloat64(m.shed.WithLabelValues("gone")); n != 2 || w.Body.Len() > 0 {
		t.Errorf("%v counted, answered %s", n, w.Body)
	}
	nothingNew(t, m)
	nothingHeld(t, b)
}

// Many large reviews at once killed a replica, which held each several times over.
func TestManyLargeReviewsAtOnceTakeLittleMemory(t *testing.T) {
	const reviews, bound = 60, 100 << 20
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	body := largeReview("web-7d4b9c6f5-2xkqv", 1000<<10)
	s := startServer(t, nil)
	postSlow(t, s.client, s.url+hooks.EvictionsPath)
	base := heap()
	var peak atomic.Uint64
	done := make(chan struct{})
	var watcher, senders sync.WaitGroup
	watcher.Go(func() {
		for {
			peak.Store(max(peak.Load(), heap()))
			select {
			case <-done:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	})
	for range reviews {
		senders.Go(func() {
			response, err := s.client.Post(s.url+hooks.EvictionsPath+"?timeout=30s", "application/json", bytes.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = response.Body.Close() }()
			if response.StatusCode == http.StatusRequestTimeout { // the machine is busy
				return
			}
			var got admissionv1.AdmissionReview
			if err := json.NewDecoder(response.Body).Decode(&got); err != nil || got.Response == nil || got.Response.UID == "" {
				t.Errorf("answered %d %+v (%v)", response.StatusCode, got, err)
			}
		})
	}
	for range 50 {
		response, err := s.client.Post(s.url+hooks.EvictionsPath+"?timeout=30s", "application/json", bytes.NewReader(review("web-7d4b9c6f5-2xkqv", nil)))
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
	}
	senders.Wait()
	close(done)
	watcher.Wait()
	if grown := peak.Load() - base; grown > bound {
		t.Errorf("the heap grew by %d MiB, want at most %d", grown>>20, bound>>20)
	} else {
		t.Logf("the heap grew by %d MiB", grown>>20)
	}
}

func heap() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
