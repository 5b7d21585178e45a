package apilog

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evictgate/evictgate/webhook/record"
)

// sink keeps answers, or refuses them.
type sink struct {
	ids []string
	err error
}

func (s *sink) add(_ context.Context, answers []record.Answer) error {
	if s.err != nil {
		return s.err
	}
	for _, a := range answers {
		s.ids = append(s.ids, a.ID)
	}
	return nil
}

func post(h *Handler, body io.Reader, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, Path, body)
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestTheAPIServersBatchesAreTaken(t *testing.T) {
	events := file(t, "events.jsonl")
	want, counts, err := readAll(t, bytes.NewReader(events), Options{})
	if err != nil {
		t.Fatal(err)
	}
	var s sink
	h := NewHandler(HandlerOptions{AddAnswers: s.add})
	if w := post(h, strings.NewReader(asList(events)), nil); w.Code != http.StatusOK {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if diff := cmp.Diff(want.Answers, s.ids); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if taken, skipped := h.Taken.Load(), h.Skipped.Load(); taken != counts.Answers || skipped != 3 || h.Malformed.Load() != 0 {
		t.Errorf("%d taken, %d skipped, %d malformed", taken, skipped, h.Malformed.Load())
	}
}

func TestABatchIsSentAgainWhileTheStoreIsAway(t *testing.T) {
	var log bytes.Buffer
	s := sink{err: errors.New("connect to postgres://user:secret@db: refused")}
	h := NewHandler(HandlerOptions{AddAnswers: s.add, Log: slog.New(slog.NewTextHandler(&log, nil))})
	batch := asList(captured(t)["a admitted"])
	if w := post(h, strings.NewReader(batch), nil); w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if !strings.Contains(log.String(), "cannot be stored") || h.Taken.Load() != 0 {
		t.Errorf("%d taken; log: %s", h.Taken.Load(), log.String())
	}
	s.err = nil
	if w := post(h, strings.NewReader(batch), nil); w.Code != http.StatusOK || len(s.ids) != 1 {
		t.Errorf("%d, stored %v", w.Code, s.ids)
	}
}

func TestOneBadEventDoesNotHoldUpTheOthers(t *testing.T) {
	line := string(captured(t)["a admitted"])
	var s sink
	h := NewHandler(HandlerOptions{AddAnswers: s.add})
	w := post(h, strings.NewReader(asList([]byte(line+"\n"+strings.Replace(line, `"verb":"create"`, `"verb":7`, 1)+"\n"+line))), nil)
	if w.Code != http.StatusOK || len(s.ids) != 2 || h.Malformed.Load() != 1 {
		t.Errorf("%d, stored %d, malformed %d", w.Code, len(s.ids), h.Malformed.Load())
	}
}

func TestWhatIsNoBatchIsRefused(t *testing.T) {
	line := captured(t)["a admitted"]
	for sentence, c := range map[string]struct {
		body   string
		change func(*http.Request)
		want   int
		says   string
	}{
		"a list without events":             {body: `{"kind":"EventList","items":null}`, want: http.StatusOK},
		"a list of nothing":                 {body: `{"kind":"EventList","items":[]}`, want: http.StatusOK},
		"a single event":                    {body: string(line), want: http.StatusBadRequest, says: `expected an EventList of audit.k8s.io/v1, not a "Event"`},
		"no JSON":                           {body: "kind: EventList", want: http.StatusBadRequest, says: "expected an EventList of audit.k8s.io/v1"},
		"an array":                          {body: "[]", want: http.StatusBadRequest, says: "expected an EventList of audit.k8s.io/v1"},
		"no items":                          {body: "{}", want: http.StatusBadRequest, says: "expected an EventList of audit.k8s.io/v1"},
		"items that are none":               {body: `{"items":7}`, want: http.StatusBadRequest, says: "expected an EventList of audit.k8s.io/v1"},
		"nothing":                           {body: "", want: http.StatusBadRequest, says: "expected an EventList of audit.k8s.io/v1"},
		"a list that is cut off":            {body: asList(line)[:800], want: http.StatusBadRequest, says: "read audit event 1: unexpected EOF"},
		"more than is allowed":              {body: asList(bytes.Repeat(append(line, '\n'), 100)), want: http.StatusRequestEntityTooLarge, says: "read audit event 16: http: request body too large"},
		"another method":                    {change: func(r *http.Request) { r.Method = http.MethodGet }, want: http.StatusMethodNotAllowed, says: "post an EventList"},
		"a client that is not allowed to":   {body: asList(line), change: func(r *http.Request) { r.Header.Set("Authorization", "Bearer wrong") }, want: http.StatusUnauthorized, says: "the bearer token is missing or wrong"},
		"a client that does not say a word": {body: asList(line), change: func(r *http.Request) { r.Header.Del("Authorization") }, want: http.StatusUnauthorized},
	} {
		t.Run(sentence, func(t *testing.T) {
			var s sink
			h := NewHandler(HandlerOptions{AddAnswers: s.add, MaxBody: 20_000, Authenticate: BearerToken("right")})
			w := post(h, strings.NewReader(c.body), func(r *http.Request) {
				r.Header.Set("Authorization", "Bearer right")
				if c.change != nil {
					c.change(r)
				}
			})
			if w.Code != c.want || !strings.HasPrefix(w.Body.String(), c.says) || len(s.ids) > 0 {
				t.Errorf("%d %s, stored %v; want %d %s", w.Code, w.Body, s.ids, c.want, c.says)
			}
		})
	}
}

// TestBatchesAreBoundedInAll: some are read at a time, some wait, and one more is told to come back.
func TestBatchesAreBoundedInAll(t *testing.T) {
	open := make(chan struct{})
	h := NewHandler(HandlerOptions{AddAnswers: func(context.Context, []record.Answer) error {
		<-open
		return nil
	}})
	batch := asList(captured(t)["a admitted"])
	codes := make(chan int, 100)
	for range atOnce + maxWaiting + 3 {
		go func() { codes <- post(h, strings.NewReader(batch), nil).Code }()
	}
	for range 3 {
		if code := <-codes; code != http.StatusTooManyRequests {
			t.Errorf("one too many: %d", code)
		}
	}
	if w := post(h, strings.NewReader(batch), nil); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
	close(open)
	for range atOnce + maxWaiting {
		if code := <-codes; code != http.StatusOK && code != http.StatusTooManyRequests { // on a slow machine they wait too long
			t.Errorf("one that waited: %d", code)
		}
	}
}

// TestOneEventIsBounded: a batch may be large, and an event of it may not.
func TestOneEventIsBounded(t *testing.T) {
	body := io.MultiReader(strings.NewReader(`{"kind":"EventList","items":[{"a":"`), io.LimitReader(endless{}, record.MaxLine), strings.NewReader(`"}]}`))
	if w := post(NewHandler(HandlerOptions{AddAnswers: new(sink).add}), body, nil); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("%d %.200s", w.Code, w.Body)
	}
	head := io.MultiReader(strings.NewReader(`{"kind":"EventList","metadata":{"a":"`), io.LimitReader(endless{}, record.MaxLine), strings.NewReader(`"},"items":[]}`))
	if w := post(NewHandler(HandlerOptions{AddAnswers: new(sink).add}), head, nil); w.Code != http.StatusBadRequest {
		t.Errorf("what stands before the events: %d %.200s", w.Code, w.Body)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// FuzzHandler: whatever is posted is stored, or refused with a sentence.
func FuzzHandler(f *testing.F) {
	f.Add([]byte(`{"kind":"EventList","items":[]}`))
	f.Add([]byte(`{"kind":"EventList","items":[{},7,"x"]}`))
	f.Add([]byte(`{"items":null}`))
	f.Add([]byte(`{"items":[{`))
	f.Add([]byte(asList(captured(f)["a admitted"])))
	f.Fuzz(func(t *testing.T, body []byte) {
		w := post(NewHandler(HandlerOptions{AddAnswers: new(sink).add}), bytes.NewReader(body), nil)
		if w.Code != http.StatusOK && w.Code != http.StatusBadRequest && w.Code != http.StatusRequestEntityTooLarge {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if w.Code != http.StatusOK && w.Body.Len() < 5 {
			t.Fatalf("%d without a sentence", w.Code)
		}
	})
}
