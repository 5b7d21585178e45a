package upload

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// What an upload may take. Uploads share the process with the page, and with decisions where serve shows it.
const (
	// maxBody bounds an upload as it is sent, which is held in memory, and maxUnpacked when it is unpacked, which
	// is not: it is read event by event.
	maxBody     = 8 << 20
	maxUnpacked = 32 << 20
	// maxEvents bounds the events of an upload.
	maxEvents = 100_000
	// smallBody is up to how many bytes an upload is small, as it is sent. A small one waits for no large one to end.
	smallBody = 1 << 20
	// heldAtOnce is how many large uploads are held at a time, smallAtOnce how many small ones, and maxWaiting how many
	// of each wait for a place. One more is told to come back. Those that are held are unpacked and stored part by
	// part, in turn, readAtOnce of them at a time: so one that has a single part waits for a part of each.
	heldAtOnce, smallAtOnce, readAtOnce, maxWaiting = 4, 16, 2, 16
	// waitTimeout is how long an upload waits for a place; retryAfter says when to come back, in seconds.
	waitTimeout = 10 * time.Second
	retryAfter  = "5"
	// maxTold bounds the events that an answer lists.
	maxTold = 100
	// bodyTimeout is how long a body may take to arrive: it holds one of those places.
	bodyTimeout = 30 * time.Second
)

// HandlerOptions say what becomes of uploads.
type HandlerOptions struct {
	// Add stores records, each once by its decision id.
	Add func(context.Context, []record.Record) (store.Added, error)
	// Authenticate says who may upload, by an error that wraps ErrUnauthenticated or ErrForbidden; any other
	// one means that it cannot be told now. Nil lets everybody.
	Authenticate func(*http.Request) error
	Log          *slog.Logger
}

// What Authenticate answers; the text behind it is shown to the client.
var (
	ErrUnauthenticated = errors.New("not authenticated")
	ErrForbidden       = errors.New("forbidden")
)

// Answer says what became of the events of an upload.
type Answer struct {
	// New were stored, Known were there already.
	New   int `json:"new"`
	Known int `json:"known"`
	// Skipped lists events that are not records of Evictgate, at most 100; SkippedCount counts all.
	Skipped      []Skipped `json:"skipped"`
	SkippedCount int       `json:"skipped_count"`
}

// Skipped is an event that was not stored.
type Skipped struct {
	Index int    `json:"index"`
	Why   string `json:"why"`
}

// Handler takes POST /logs and /logs/PARTITION. The partition is what the client calls itself, and is not
// kept.
func Handler(o HandlerOptions) http.Handler {
	h := &handler{
		HandlerOptions: o, turns: make(chan struct{}, readAtOnce),
		large: record.NewPlaces(heldAtOnce, maxWaiting, waitTimeout), small: record.NewPlaces(smallAtOnce, maxWaiting, waitTimeout),
	}
	mux := http.NewServeMux()
	mux.Handle("POST /logs", h)
	mux.Handle("POST /logs/{partition}", h)
	return mux
}

type handler struct {
	HandlerOptions
	large, small *record.Places
	turns        chan struct{}
}

// places are those for a request of its size; one that does not say it may be large.
func (h *handler) places(r *http.Request) *record.Places {
	if r.ContentLength >= 0 && r.ContentLength <= smallBody {
		return h.small
	}
	return h.large
}

// turn is an upload's, to read or store a part.
type turn struct {
	all  chan struct{}
	mine bool
}

// begin waits until those have had theirs that wait already. Its error is the context's.
func (t *turn) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case t.all <- struct{}{}:
		t.mine = true
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *turn) end() {
	if t.mine {
		<-t.all
		t.mine = false
	}
}

// refusal is an answer other than 200.
type refusal struct {
	code int
	text string
}

func (r *refusal) Error() string { return r.text }

func refuse(code int, format string, args ...any) *refusal {
	return &refusal{code, fmt.Sprintf(format, args...)}
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, refused := h.take(w, r)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	var body any = answer
	if refused != nil {
		body = map[string]string{"error": refused.text}
		switch refused.code {
		case http.StatusUnauthorized:
			w.Header().Set("WWW-Authenticate", "Bearer")
		case http.StatusTooManyRequests:
			w.Header().Set("Retry-After", retryAfter)
		}
		w.WriteHeader(refused.code)
	}
	if err := json.NewEncoder(w).Encode(body); err != nil {
		h.Log.Warn("answer to an upload not written", "error", err.Error())
	}
}

// take reads an upload and stores it: a malformed event stores nothing.
func (h *handler) take(w http.ResponseWriter, r *http.Request) (*Answer, *refusal) {
	if refused := h.authenticate(r); refused != nil {
		return nil, refused
	}
	leave, err := h.places(r).Enter(r.Context())
	if err != nil {
		return nil, busy()
	}
	defer leave()
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout)) // where there is a connection
	body, refused := readBody(w, r)
	if refused != nil {
		return nil, refused
	}
	t := &turn{all: h.turns}
	defer t.end()
	if err := t.begin(r.Context()); err != nil {
		return nil, busy()
	}
	return h.store(r.Context(), body, packedBy(r), func() error {
		t.end()
		return t.begin(r.Context())
	})
}

func busy() *refusal {
	return refuse(http.StatusTooManyRequests, "too many uploads at once; send it again in %s s", retryAfter)
}

// store reads the body to its end before it stores anything; a large one is then read again, part by part. What was
// stored of an upload that fails later is known when it is sent again. Between two parts it calls pause.
func (h *handler) store(ctx context.Context, body []byte, gzipped bool, pause func() error) (*Answer, *refusal) {
	first := reading{pause: pause}
	if refused := first.through(body, gzipped); refused != nil {
		return nil, refused
	}
	answer := &first.answer
	if answer.SkippedCount > 0 {
		h.Log.Debug("events of an upload skipped", "skipped", answer.SkippedCount, "why", answer.Skipped[0].Why)
	}
	var failed error
	add := func(records []record.Record) error {
		added, err := h.Add(ctx, records)
		answer.New, answer.Known, failed = answer.New+added.New, answer.Known+added.Known, err
		return err
	}
	if first.whole {
		first.add = add
		failed = first.store()
	} else {
		again := reading{add: add, pause: pause}
		if refused := again.through(body, gzipped); refused != nil && failed == nil {
			return nil, refused
		}
	}
	if failed != nil {
		h.Log.Error("an upload could not be stored", "bytes", len(body), "error", failed.Error())
		return nil, refuse(http.StatusServiceUnavailable, "the store does not take the records now; send them again")
	}
	return answer, nil
}

// through reads a body once.
func (r *reading) through(body []byte, gzipped bool) *refusal {
	var in io.Reader = bytes.NewReader(body)
	if gzipped {
		unpacked, err := gzip.NewReader(in)
		if err != nil {
			return refuse(http.StatusBadRequest, "the body is not gzip, as Content-Encoding says: %v", err)
		}
		in = unpacked
	}
	plain := &bounded{r: in}
	err := r.read(plain)
	switch {
	case errors.Is(plain.err, errTooLarge):
		return refuse(http.StatusRequestEntityTooLarge, "the upload has more than %d bytes unpacked; send less at once (OPA: upload_size_limit_bytes)", maxUnpacked)
	case plain.err != nil:
		return refuse(http.StatusBadRequest, "the body cannot be read after %d bytes: %v", plain.n, plain.err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return busy()
	case errors.Is(err, record.ErrLargeElement):
		return refuse(http.StatusRequestEntityTooLarge, "%v", err)
	case err != nil:
		return refuse(http.StatusBadRequest, "%v", err)
	}
	return nil
}

var errTooLarge = errors.New("too large")

// bounded reads up to maxUnpacked bytes, and remembers why it could not read on.
type bounded struct {
	r   io.Reader
	n   int64
	err error
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.n += int64(n); b.n > maxUnpacked {
		err = errTooLarge
	}
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}

func (h *handler) authenticate(r *http.Request) *refusal {
	if h.Authenticate == nil {
		return nil
	}
	err := h.Authenticate(r)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrUnauthenticated):
		return refuse(http.StatusUnauthorized, "%v", err)
	case errors.Is(err, ErrForbidden):
		return refuse(http.StatusForbidden, "%v", err)
	}
	h.Log.Error("who uploads cannot be checked", "error", err.Error())
	return refuse(http.StatusServiceUnavailable, "who you are cannot be checked now; send it again")
}

// BearerToken lets those upload who know the token in the file, which is read each time.
func BearerToken(file string) func(*http.Request) error {
	return func(r *http.Request) error {
		want, err := readToken(file)
		if err != nil {
			return err
		}
		scheme, got, ok := strings.Cut(r.Header.Get("Authorization"), " ")
		if !ok || !strings.EqualFold(scheme, "Bearer") {
			return fmt.Errorf("%w: send the header Authorization: Bearer TOKEN", ErrUnauthenticated)
		}
		// The time that the comparison takes tells nothing, not even the length.
		a, b := sha256.Sum256([]byte(want)), sha256.Sum256([]byte(got))
		if subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
			return fmt.Errorf("%w: the bearer token is not the one that is expected", ErrUnauthenticated)
		}
		return nil
	}
}

// readBody takes the body as it is sent.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, *refusal) {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" && r.Header.Get("Content-Type") != "" {
		return nil, refuse(http.StatusUnsupportedMediaType, "Content-Type is %q; expected application/json", kind)
	}
	if encoding := r.Header.Get("Content-Encoding"); !packedBy(r) && encoding != "" && !strings.EqualFold(encoding, "identity") {
		return nil, refuse(http.StatusUnsupportedMediaType, "Content-Encoding is %q; expected gzip, or none", strings.ToLower(encoding))
	}
	if r.ContentLength > maxBody {
		return nil, tooLarge()
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, tooLarge()
	case err != nil:
		return nil, refuse(http.StatusBadRequest, "the body cannot be read after %d bytes: %v", len(body), err)
	}
	return body, nil
}

func tooLarge() *refusal {
	return refuse(http.StatusRequestEntityTooLarge, "the upload has more than %d bytes; send less at once (OPA: upload_size_limit_bytes), or compress it", maxBody)
}

func packedBy(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Content-Encoding"), "gzip")
}
