package faults

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// answer is what an eviction got, as a class.
type answer string

// Decisions are what somebody decided: the gate, or after it the API server.
const (
	admitted      answer = "admitted"
	delayed       answer = "delayed (429)"
	denied        answer = "denied (403)"
	misconfigured answer = "two budgets (500)"
	ownBudget     answer = "the API server's own 429"
	notFound      answer = "the pod is gone (404)"
)

// Anything else is not a decision. The call to the webhook failed, by how; the gate could not decide; or the
// API server itself did not get as far.
const (
	undecided answer = "undecided by the gate"

	webhookRefused answer = "webhook call: connection refused or reset"
	webhookEnded   answer = "webhook call: connection ended"
	webhookTLS     answer = "webhook call: TLS"
	webhookTimeout answer = "webhook call: timeout"
	webhookOther   answer = "webhook call: other"

	serverAway  answer = "API server: no connection"
	serverOther answer = "API server: its own error"
)

var decisions = []answer{admitted, delayed, denied, misconfigured, ownBudget, notFound}

// classify reads what a client got.
func classify(err error) answer {
	if err == nil {
		return admitted
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return serverAway
	}
	s := status.Status()
	switch {
	case strings.Contains(s.Message, "failed calling webhook"):
		return failedCall(s.Message)
	case strings.Contains(s.Message, `admission webhook "evictions.evictgate.dev" denied the request`):
		return byTheGate(s)
	case s.Code == http.StatusTooManyRequests && strings.HasPrefix(s.Message, "Cannot evict pod as it would violate"):
		return ownBudget
	case s.Code == http.StatusNotFound:
		return notFound
	}
	return serverOther
}

func byTheGate(s metav1.Status) answer {
	switch {
	case strings.Contains(s.Message, "could not decide") || strings.Contains(s.Message, "could not be evaluated"):
		return undecided
	case s.Code == http.StatusTooManyRequests:
		return delayed
	case s.Code == http.StatusForbidden:
		return denied
	case s.Code == http.StatusInternalServerError && strings.Contains(s.Message, "budget"):
		return misconfigured
	}
	return undecided
}

// failedCall is by the error's text, which is all the API server hands on, without the URL.
func failedCall(message string) answer {
	if _, after, found := strings.Cut(message, `": failed to call webhook: Post "`); found {
		_, message, _ = strings.Cut(after, `"`)
	}
	for _, kind := range []struct {
		is    answer
		texts []string
	}{
		{webhookTLS, []string{"x509:", "tls:", "certificate"}},
		{webhookTimeout, []string{"deadline exceeded", "timeout", "Client.Timeout"}},
		{webhookRefused, []string{"connection refused", "connection reset"}},
		{webhookEnded, []string{"EOF", "closed", "GOAWAY", "broken pipe", "connection lost"}},
	} {
		for _, text := range kind.texts {
			if strings.Contains(message, text) {
				return kind.is
			}
		}
	}
	return webhookOther
}

func TestAnswersAreTold(t *testing.T) {
	failure := func(code int32, message string) error {
		return &apierrors.StatusError{ErrStatus: metav1.Status{Code: code, Message: message}}
	}
	const denial, call = `admission webhook "evictions.evictgate.dev" denied the request: `, `Internal error occurred: failed calling webhook "evictions.evictgate.dev": failed to call webhook: Post "https://x/?timeout=5s": `
	for name, c := range map[string]struct {
		err  error
		want answer
	}{
		"no error":             {nil, admitted},
		"a policy that denies": {failure(403, denial+"no"), denied},
		"a policy that delays": {failure(429, denial+"later"), delayed},
		"two budgets":          {failure(500, denial+"2 budgets match"), misconfigured},
		"a policy that fails":  {failure(429, denial+"policy x could not be evaluated"), undecided},
		"no policies yet":      {failure(429, denial+"evictgate could not decide this eviction: its policies are not loaded yet"), undecided},
		"the API server's own answer about a budget": {failure(429, "Cannot evict pod as it would violate the pod's disruption budget."), ownBudget},
		"fairness is not a budget":                   {failure(429, "the server has received too many requests"), serverOther},
		"a pod that is gone":                         {failure(404, `pods "x" not found`), notFound},
		"nobody listens":                             {failure(500, call+"dial tcp 127.0.0.1:1: connect: connection refused"), webhookRefused},
		"a connection that ends":                     {failure(500, call+"EOF"), webhookEnded},
		"a certificate of another CA":                {failure(500, call+"tls: failed to verify certificate: x509: certificate signed by unknown authority"), webhookTLS},
		"no answer in time":                          {failure(500, call+"context deadline exceeded"), webhookTimeout},
		"a handshake without an end":                 {failure(500, call+"net/http: TLS handshake timeout"), webhookTimeout},
		"etcd is slow":                               {failure(500, "etcdserver: request timed out"), serverOther},
		"the API server is gone":                     {&net.OpError{Op: "dial", Err: errors.New("connection refused")}, serverAway},
		"the client's own patience":                  {context.DeadlineExceeded, serverAway},
	} {
		if got := classify(c.err); got != c.want {
			t.Errorf("%s: %q, expected %q", name, got, c.want)
		}
	}
}
