package apilog

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/evictgate/evictgate/webhook/record"
)

// Path is where an audit webhook posts its events.
const Path = "/audit"

// MaxBody bounds a request of the API server: by default it sends up to 400 events in one. It is read event by event,
// and none of them may be larger than record.MaxLine.
const MaxBody = 128 << 20

const (
	// atOnce is how many batches are read at a time, and maxWaiting how many wait for their turn, each as long as
	// waitTimeout. One more is told to come back, which the API server does.
	atOnce, maxWaiting = 2, 16
	waitTimeout        = 10 * time.Second
	retryAfter         = "5"
	// storedAtOnce is how many answers are stored together.
	storedAtOnce = 500
	// maxHead bounds what stands before the events of a list.
	maxHead = 64 << 10
)

// HandlerOptions are those of a Handler. AddAnswers is required.
type HandlerOptions struct {
	Options
	// AddAnswers stores answers, and returns when they are stored. It may see one more than once: the API
	// server sends a batch again when it was not told that it arrived.
	AddAnswers func(context.Context, []record.Answer) error
	// Authenticate refuses a request with an error; nil takes all of them.
	Authenticate func(*http.Request) error
	// MaxBody is in bytes; MaxBody by default.
	MaxBody int64
	Log     *slog.Logger
}

// Handler takes the events that kube-apiserver's audit webhook posts (--audit-webhook-config-file). It says 200
// when the answers among them are stored, and 503 while they cannot be, so that the API server tries again.
type Handler struct {
	o      HandlerOptions
	parser *Parser
	places *record.Places
	// Taken counts answers, Skipped the events that are of something else, Malformed those that cannot be
	// read.
	Taken, Skipped, Malformed atomic.Int64
}

// NewHandler makes one.
func NewHandler(o HandlerOptions) *Handler {
	if o.MaxBody == 0 {
		o.MaxBody = MaxBody
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Handler{o: o, parser: NewParser(o.Options), places: record.NewPlaces(atOnce, maxWaiting, waitTimeout)}
}

// ServeHTTP takes one batch.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "post an EventList of audit.k8s.io/v1", http.StatusMethodNotAllowed)
		return
	}
	if h.o.Authenticate != nil {
		if err := h.o.Authenticate(r); err != nil {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
	}
	leave, err := h.places.Enter(r.Context())
	if err != nil {
		w.Header().Set("Retry-After", retryAfter)
		http.Error(w, "too many batches of audit events at once; send it again", http.StatusTooManyRequests)
		return
	}
	defer leave()
	switch err := h.read(r.Context(), http.MaxBytesReader(w, r.Body, h.o.MaxBody)); {
	case errors.Is(err, errNotStored):
		h.o.Log.Error("audit events cannot be stored; the API server tries again", "error", err)
		http.Error(w, "the events cannot be stored now", http.StatusServiceUnavailable)
	case err != nil:
		h.o.Log.Warn("audit events cannot be read", "error", err)
		http.Error(w, err.Error(), statusOf(err))
	}
}

// errNotStored is of the store, not of the batch.
var errNotStored = errors.New("not stored")

func statusOf(err error) int {
	if large := new(http.MaxBytesError); errors.As(err, &large) || errors.Is(err, record.ErrLargeElement) {
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusBadRequest
}

// read finds the answers in a batch, event by event: a batch may be large, and most of it is of no use. An event
// that cannot be read does not keep the others from being stored. Answers are stored as they come, some at a time:
// those of a batch that ends too early are known when it is sent again.
func (h *Handler) read(ctx context.Context, body io.Reader) error {
	events, err := enterItems(body)
	if err != nil || events == nil {
		return err
	}
	var answers []record.Answer
	told := false
	for n := 1; ; n++ {
		item, _, err := events.Next()
		switch {
		case errors.Is(err, io.EOF):
			return h.store(ctx, answers)
		case err != nil:
			return fmt.Errorf("read audit event %d: %w", n, err)
		}
		a, kind, err := h.parser.Parse(item)
		switch {
		case err != nil:
			if h.Malformed.Add(1); !told { // one line a batch
				told = true
				h.o.Log.Warn("an audit event cannot be read", "event", n, "error", err)
			}
		case kind == Answered:
			answers = append(answers, a)
		default:
			h.Skipped.Add(1)
		}
		if len(answers) == storedAtOnce {
			if err := h.store(ctx, answers); err != nil {
				return err
			}
			answers = nil
		}
	}
}

func (h *Handler) store(ctx context.Context, answers []record.Answer) error {
	if len(answers) == 0 {
		return nil
	}
	if err := h.o.AddAnswers(ctx, answers); err != nil {
		return fmt.Errorf("%d events: %w: %w", len(answers), errNotStored, err)
	}
	h.Taken.Add(int64(len(answers)))
	return nil
}

// errNoList is the answer to what is not a list of audit events.
var errNoList = errors.New("expected an EventList of audit.k8s.io/v1")

// enterItems reads up to the first item of an EventList; nil when the list has none.
func enterItems(body io.Reader) (*record.Elements, error) {
	head := &io.LimitedReader{R: body, N: maxHead}
	in := json.NewDecoder(head)
	switch token, err := in.Token(); {
	case err != nil:
		return nil, notRead(err)
	case token != json.Delim('{'):
		return nil, errNoList
	}
	for in.More() {
		key, err := in.Token()
		if err != nil {
			return nil, notRead(err)
		}
		if key == "items" {
			token, err := in.Token()
			switch {
			case err != nil:
				return nil, notRead(err)
			case token == nil:
				return nil, nil
			case token != json.Delim('['):
				return nil, errNoList
			}
			return record.NewElements(io.MultiReader(in.Buffered(), body), record.MaxLine).InArray(), nil
		}
		var value json.RawMessage
		if err := in.Decode(&value); err != nil {
			return nil, notRead(err)
		}
		if key == "kind" && string(value) != `"EventList"` {
			return nil, fmt.Errorf("%w, not a %s", errNoList, text(string(value), 64))
		}
	}
	return nil, errNoList
}

// notRead says that the stream ended, or what is wrong with its JSON.
func notRead(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: %w", errNoList, err)
}

// BearerToken authenticates by a token that the API server's kubeconfig has.
func BearerToken(token string) func(*http.Request) error {
	return func(r *http.Request) error {
		given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || subtle.ConstantTimeCompare([]byte(given), []byte(token)) != 1 {
			return errors.New("the bearer token is missing or wrong")
		}
		return nil
	}
}

// Kubeconfig explains what kube-apiserver needs to post to a Handler.
const Kubeconfig = `apiVersion: v1
kind: Config
clusters:
- name: evictgate
  cluster:
    server: https://evictgate.example:8443` + Path + `
    certificate-authority: /etc/kubernetes/evictgate-ca.crt
users:
- name: kube-apiserver
  user:
    token: the token that review serve takes
contexts:
- name: evictgate
  context: {cluster: evictgate, user: kube-apiserver}
current-context: evictgate
`
