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

	"github.com/evictgate/evictgate/webhook/audit"
)

// Path is where an audit webhook posts its events.
const Path = "/audit"

// MaxBody bounds a request of the API server: by default it sends up to 400 events in one.
const MaxBody = 128 << 20

// HandlerOptions are those of a Handler. AddAnswers is required.
type HandlerOptions struct {
	Options
	// AddAnswers stores answers, and returns when they are stored. It may see one more than once: the API
	// server sends a batch again when it was not told that it arrived.
	AddAnswers func(context.Context, []audit.Answer) error
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
	return &Handler{o: o, parser: NewParser(o.Options)}
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
	answers, err := h.read(http.MaxBytesReader(w, r.Body, h.o.MaxBody))
	if err != nil {
		h.o.Log.Warn("audit events cannot be read", "error", err)
		http.Error(w, err.Error(), statusOf(err))
		return
	}
	if len(answers) == 0 {
		return
	}
	if err := h.o.AddAnswers(r.Context(), answers); err != nil {
		h.o.Log.Error("audit events cannot be stored; the API server tries again", "events", len(answers), "error", err)
		http.Error(w, "the events cannot be stored now", http.StatusServiceUnavailable)
		return
	}
	h.Taken.Add(int64(len(answers)))
}

func statusOf(err error) int {
	if large := new(http.MaxBytesError); errors.As(err, &large) {
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusBadRequest
}

// read finds the answers in a batch, event by event: a batch may be large, and most of it is of no use. An
// event that cannot be read does not keep the others from being stored.
func (h *Handler) read(body io.Reader) ([]audit.Answer, error) {
	in := json.NewDecoder(body)
	if any, err := enterItems(in); err != nil || !any {
		return nil, err
	}
	var answers []audit.Answer
	for n := 1; in.More(); n++ {
		var item json.RawMessage
		if err := in.Decode(&item); err != nil {
			return nil, fmt.Errorf("read audit event %d: %w", n, err)
		}
		a, kind, err := h.parser.Parse(item)
		switch {
		case err != nil:
			h.Malformed.Add(1)
			h.o.Log.Warn("an audit event cannot be read", "error", err)
		case kind == Answered:
			answers = append(answers, a)
		default:
			h.Skipped.Add(1)
		}
	}
	_, err := in.Token()
	return answers, err
}

// errNoList is the answer to what is no list of audit events.
var errNoList = errors.New("expected an EventList of audit.k8s.io/v1")

// enterItems reads up to the first item of an EventList; a list may have none.
func enterItems(in *json.Decoder) (any bool, err error) {
	if token, err := in.Token(); err != nil || token != json.Delim('{') {
		return false, errors.Join(errNoList, err)
	}
	for in.More() {
		key, err := in.Token()
		if err != nil {
			return false, err
		}
		if key == "items" {
			token, err := in.Token()
			if err == nil && token != nil && token != json.Delim('[') {
				err = errNoList
			}
			return token != nil, err
		}
		var value json.RawMessage
		if err := in.Decode(&value); err != nil {
			return false, err
		}
		if key == "kind" && string(value) != `"EventList"` {
			return false, fmt.Errorf("%w, not a %s", errNoList, text(string(value), 64))
		}
	}
	return false, errNoList
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
