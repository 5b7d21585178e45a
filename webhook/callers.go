package webhook

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/cluster"
)

// Trust is one way to know the API server among those who call: by the path that only the webhook configuration
// holds, or by a client certificate. It is safe for concurrent use.
type Trust interface {
	// Known reports whether the API server sent a request. It may take as long as the request's context lasts.
	Known(*http.Request) bool
	// Established reports whether the API server is known when it calls, so that whoever is not known is
	// somebody else.
	Established() bool
}

// AnyOf trusts whom one of several ways knows.
type AnyOf []Trust

// Known reports whether one of the ways knows the caller.
func (a AnyOf) Known(r *http.Request) bool {
	return slices.ContainsFunc(a, func(t Trust) bool { return t.Known(r) })
}

// Established reports whether one of the ways is.
func (a AnyOf) Established() bool {
	return slices.ContainsFunc(a, func(t Trust) bool { return t.Established() })
}

// ByCertificate is the Trust of a listener that demands client certificates: TLS let nobody else in.
type ByCertificate struct{}

// Known is true.
func (ByCertificate) Known(*http.Request) bool { return true }

// Established is true.
func (ByCertificate) Established() bool { return true }

// Names of the webhooks in metrics and in the log.
const (
	hookEvictions = "evictions"
	hookPolicies  = "policies"
)

// toldEvery is how often the log tells of unknown callers at most.
const toldEvery = time.Minute

// Door asks who calls, and counts and tells of callers that are not known to be the API server. A nil Door knows
// everybody, as is right for a trial over a snapshot.
type Door struct {
	Trust   Trust
	Metrics *Metrics
	Log     *slog.Logger

	mu     sync.Mutex
	told   time.Time // when the log last told of one
	unsaid int       // how many came since then
}

// known reports whether the API server sent a request to a webhook.
func (d *Door) known(r *http.Request, hook string) bool {
	if d == nil || d.Trust.Known(r) {
		return true
	}
	d.Metrics.unknownCallers.WithLabelValues(hook).Inc()
	d.tell(r, hook)
	return false
}

func (d *Door) established() bool { return d != nil && d.Trust.Established() }

// tell logs the first unknown caller of a while, with the number of those before it.
func (d *Door) tell(r *http.Request, hook string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unsaid++
	if now := time.Now(); now.Sub(d.told) >= toldEvery {
		d.Log.Warn("a caller is not known to be the API server: it is answered, and nothing is counted, held, overridden or told",
			"webhook", hook, "address", r.RemoteAddr, "since_last_line", d.unsaid, "api_server_is_known", d.established())
		d.told, d.unsaid = now, 0
	}
}

// guard stands before a webhook whose answers cost much or say much: callers that are not known are turned away
// while the API server is known. While it is not, everybody is let in, or nobody could be.
func (d *Door) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !d.known(r, hookPolicies) && d.established() {
			turnAway(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// notKnown is what a caller is told that is turned away. It may be the API server after all, which goes by a
// webhook configuration that was replaced a moment ago.
const notKnown = "evictgate: this caller is not known to be the API server, since it did not call the path that the webhook configuration names now; when this came from kubectl apply, try again in a few seconds"

// turnAway refuses a review of which it reads no more than its UID, which the answer must repeat.
func turnAway(w http.ResponseWriter, r *http.Request) {
	answer := admissionv1.AdmissionReview{Response: &admissionv1.AdmissionResponse{
		UID: uidOf(r.Body),
		Result: &metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusServiceUnavailable, Reason: metav1.StatusReasonServiceUnavailable, Message: notKnown,
		},
	}}
	answer.SetGroupVersionKind(admissionv1.SchemeGroupVersion.WithKind("AdmissionReview"))
	_ = json.NewEncoder(w).Encode(answer)
}

// uidWithin is in how many bytes of a review its UID stands: the API server writes it first of all.
const uidWithin = 4 << 10

// uidOf finds request.uid at the beginning of a review; empty when it is not there.
func uidOf(body io.Reader) types.UID {
	tokens := json.NewDecoder(io.LimitReader(body, uidWithin))
	if !enter(tokens, "request") || !enter(tokens, "uid") {
		return ""
	}
	token, _ := tokens.Token()
	uid, _ := token.(string)
	return types.UID(uid)
}

// enter reads the object that begins, up to the value of a key of it.
func enter(tokens *json.Decoder, key string) bool {
	if token, err := tokens.Token(); err != nil || token != json.Delim('{') {
		return false
	}
	for tokens.More() {
		token, err := tokens.Token()
		if err != nil {
			return false
		}
		if token == key {
			return true
		}
		var skipped json.RawMessage
		if tokens.Decode(&skipped) != nil {
			return false
		}
	}
	return false
}

// notForStrangers is why an override is ignored.
const notForStrangers = "the caller is not known to be the API server, so nobody vouches for the user"

// forCaller is the gate as it decides for whoever sent the request. For a caller that is not known to be the
// API server it decides as it does for others, by what the caches hold, but nothing comes of it: what such a
// caller says of a user, a pod or a time is made up, as far as anybody knows.
func (g *Gate) forCaller(r *http.Request) *Gate {
	if g.Door.known(r, hookEvictions) {
		return g
	}
	quiet := *g
	quiet.unknown = true
	quiet.Cluster = new(cluster.Gatherer)
	*quiet.Cluster = *g.Cluster
	quiet.Cluster.Live = nil
	quiet.Outcomes, quiet.Events, quiet.Observe = nil, nil, nil
	quiet.Options.Override = policies.OverrideRule{Refused: notForStrangers}
	if g.Door.established() { // the API server is known, so this one is somebody else, whom no record is owed
		quiet.silent, quiet.Tracer = true, nil
	}
	return &quiet
}

// callerUnknown marks the records of decisions for callers that are not known to be the API server.
const callerUnknown = "unknown"

func (g *Gate) caller() string {
	if g.unknown {
		return callerUnknown
	}
	return ""
}
