package upload

import (
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

	"github.com/evictgate/evictgate/webhook/audit"
	"github.com/evictgate/evictgate/webhook/audit/store"
)

const (
	// maxBody bounds an upload, as it is sent and when it is unpacked.
	maxBody = 32 << 20
	// maxEvents bounds the events of an upload.
	maxEvents = 100_000
	// atOnce is how many uploads are read at a time; others wait.
	atOnce = 4
	// maxTold bounds the events that an answer lists.
	maxTold = 100
	// bodyTimeout is how long a body may take to arrive: it holds one of those places.
	bodyTimeout = 30 * time.Second
)

// HandlerOptions say what becomes of uploads.
type HandlerOptions struct {
	// Add stores records, each once by its decision id.
	Add func(context.Context, []audit.Record) (store.Added, error)
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
	// Skipped lists events that are no records of Evictgate, at most 100; SkippedCount counts all.
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
	h := &handler{HandlerOptions: o, slots: make(chan struct{}, atOnce)}
	mux := http.NewServeMux()
	mux.Handle("POST /logs", h)
	mux.Handle("POST /logs/{partition}", h)
	return mux
}

type handler struct {
	HandlerOptions
	slots chan struct{}
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
		if refused.code == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", "Bearer")
		}
		w.WriteHeader(refused.code)
	}
	if err := json.NewEncoder(w).Encode(body); err != nil {
		h.Log.Warn("answer to an upload not written", "error", err.Error())
	}
}

// take reads an upload and stores it whole: a malformed event stores nothing.
func (h *handler) take(w http.ResponseWriter, r *http.Request) (*Answer, *refusal) {
	if refused := h.authenticate(r); refused != nil {
		return nil, refused
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-r.Context().Done():
		return nil, refuse(http.StatusServiceUnavailable, "too many uploads at once; send it again")
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout)) // where there is a connection
	body, refused := readBody(w, r)
	if refused != nil {
		return nil, refused
	}
	records, answer, err := readEvents(body)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%v", err)
	}
	if len(records) > 0 {
		added, err := h.Add(r.Context(), records)
		if err != nil {
			h.Log.Error("an upload could not be stored", "records", len(records), "error", err.Error())
			return nil, refuse(http.StatusServiceUnavailable, "the store does not take the records now; send them again")
		}
		answer.New, answer.Known = added.New, added.Known
	}
	if answer.SkippedCount > 0 {
		h.Log.Debug("events of an upload skipped", "skipped", answer.SkippedCount, "why", answer.Skipped[0].Why)
	}
	return answer, nil
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

// readBody unpacks the body, bounded before and after.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, *refusal) {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" && r.Header.Get("Content-Type") != "" {
		return nil, refuse(http.StatusUnsupportedMediaType, "Content-Type is %q; expected application/json", kind)
	}
	var in io.Reader = http.MaxBytesReader(w, r.Body, maxBody)
	switch encoding := strings.ToLower(r.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
	case "gzip":
		unpacked, err := gzip.NewReader(in)
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "the body is not gzip, as Content-Encoding says: %v", err)
		}
		in = unpacked
	default:
		return nil, refuse(http.StatusUnsupportedMediaType, "Content-Encoding is %q; expected gzip, or none", encoding)
	}
	body, err := io.ReadAll(io.LimitReader(in, maxBody+1))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge) || len(body) > maxBody:
		return nil, refuse(http.StatusRequestEntityTooLarge, "the upload has more than %d bytes unpacked; send less at once (OPA: upload_size_limit_bytes)", maxBody)
	case err != nil:
		return nil, refuse(http.StatusBadRequest, "the body cannot be read after %d bytes: %v", len(body), err)
	}
	return body, nil
}
