package webhook

import (
	"context"
	"fmt"
	"mime"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/evictgate/evictgate/webhook/hooks"
)

const (
	// defaultTimeout is taken when the sender states none; the API server always does.
	defaultTimeout = 5 * time.Second
	// maxTimeout is the longest that a webhook configuration can state; only others ask for more.
	maxTimeout = 30 * time.Second
	// reserve is kept back of the sender's timeout to write the answer, at most half of it.
	reserve = 500 * time.Millisecond
)

// Front stands before the Gate, and before each further webhook. It answers what cannot be a review with 4xx
// and a sentence, and sets the deadline, of the body's arrival as well: a review that outlives the API server's
// patience costs the client its explanation.
type Front struct {
	Next http.Handler

	draining atomic.Bool
}

// Drain makes every answer end its connection, so that the API server's kept-alive connections move to
// another replica before this one stops.
func (f *Front) Drain() { f.draining.Store(true) }

// Draining reports whether Drain was called.
func (f *Front) Draining() bool { return f.draining.Load() }

func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.Draining() {
		w.Header().Set("Connection", "close")
	}
	bound := patience(r)
	arriveWithin(w, bound)
	if code, text := refuse(r); code != 0 {
		http.Error(w, text, code)
		return
	}
	// The request's own context ends when its client goes, and nobody waits any more. It does not end when the
	// server begins to stop (see package listen): a review in flight is decided.
	ctx, cancel := context.WithTimeout(r.Context(), bound)
	defer cancel()
	r = r.WithContext(ctx)
	w.Header().Set("Content-Type", "application/json")
	f.Next.ServeHTTP(w, r)
}

// arriveWithin bounds how long the body may take: one that never comes would be waited for by the review, and by a
// server that stops. net/http takes the deadline off where the body ends, and reads up to there after a refusal, too.
// Only the writers of tests know no deadlines.
func arriveWithin(w http.ResponseWriter, bound time.Duration) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bound))
}

// nothingHere answers on all other paths.
func nothingHere(w http.ResponseWriter, r *http.Request) {
	arriveWithin(w, patience(r))
	http.NotFound(w, r)
}

// refuse finds what is wrong with a request before its body is read; code 0 when nothing is.
func refuse(r *http.Request) (code int, text string) {
	contentType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case r.Method != http.MethodPost:
		return http.StatusMethodNotAllowed, fmt.Sprintf("evictgate: %s is not for %s; the API server posts an AdmissionReview here", hooks.MaskPath(r.URL.Path), r.Method)
	case err != nil || contentType != "application/json":
		return http.StatusUnsupportedMediaType, fmt.Sprintf("evictgate: Content-Type is %q; expected application/json", r.Header.Get("Content-Type"))
	case r.ContentLength == 0:
		return http.StatusBadRequest, "evictgate: the request has no body; expected an AdmissionReview"
	}
	return 0, ""
}

// patience is how long the review may take, from the ?timeout= that the API server states.
func patience(r *http.Request) time.Duration {
	timeout, err := time.ParseDuration(r.URL.Query().Get("timeout"))
	if err != nil || timeout <= 0 {
		timeout = defaultTimeout
	}
	timeout = min(timeout, maxTimeout)
	return timeout - min(reserve, timeout/2)
}
