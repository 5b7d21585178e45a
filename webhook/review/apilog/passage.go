package apilog

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/evictgate/evictgate/webhook/record"
)

// failedOpen begins the annotations that the API server writes for each validating webhook that it could not
// ask and went on without (k8s.io/apiserver/pkg/admission/plugin/webhook/validating/dispatcher.go).
const failedOpen = "failed-open.validating.webhook.admission.k8s.io/"

// mutation begins those that it writes for each mutating webhook that it called, whatever came of it.
const mutation = "mutation.webhook.admission.k8s.io/"

// passage tells whether an eviction passed us.
//
// The API server calls all validating webhooks beside each other, waits for all of them, and only then answers
// with the refusal that came first. So our annotations are there whenever we answered, also when another
// webhook refused faster. What refuses before validating webhooks (authorization, decoding, namespaces that
// terminate, mutating webhooks, ValidatingAdmissionPolicies) is told by its code and message. Any answer that is
// left and has no mark of ours came as far as the webhooks, or may have, and nothing shows that we were
// asked: it is unseen. That includes the refusal by another webhook when ours could not be called under
// failurePolicy Fail and lost the race for the message.
func (p *Parser) passage(e *event) record.Passage {
	ours, s := p.o.WebhookName, e.ResponseStatus
	switch {
	case e.Annotations[ours+"/review-uid"] != "":
		return record.Decided
	case e.failedOpen(ours):
		return record.FailedOpen
	case failing(s.Message) == ours, denying(s.Message) == ours:
		return record.FailedClosed
	case e.refusedBefore():
		return record.NotCalled
	}
	return record.Unseen
}

func (e *event) failedOpen(webhook string) bool {
	for key, value := range e.Annotations {
		if value == webhook && strings.HasPrefix(key, failedOpen) {
			return true
		}
	}
	return false
}

// denying and failing name the webhook in a message that the API server writes when a webhook denies, and
// when it cannot be called. The name is at the beginning, which a webhook's own text cannot reach.
func denying(message string) string {
	return quoted(message, `admission webhook `, ` denied the request`)
}

func failing(message string) string {
	if rest, ok := strings.CutPrefix(message, "Internal error occurred: ValidatingAdmissionWebhook/"); ok {
		name, _, _ := strings.Cut(rest, " has panicked")
		return name
	}
	return quoted(message, `Internal error occurred: failed calling webhook `, `: `)
}

// quoted is the Go string that stands between a prefix and a suffix; empty when the text does not begin so.
// The API server writes names with %q, so no name can pretend to be what follows it.
func quoted(text, prefix, suffix string) string {
	rest, ok := strings.CutPrefix(text, prefix)
	if !ok {
		return ""
	}
	raw, err := strconv.QuotedPrefix(rest)
	if err != nil || !strings.HasPrefix(rest[len(raw):], suffix) {
		return ""
	}
	name, _ := strconv.Unquote(raw) // QuotedPrefix has checked it
	return name
}

// refusedBefore reports whether the answer was given before any validating webhook is asked; see sections 1.0
// and 1.1 of the Eviction API's sequence in k8s.io/apiserver/pkg/endpoints/handlers/create.go and
// k8s.io/kubernetes/pkg/registry/core/pod/storage/eviction.go.
func (e *event) refusedBefore() bool {
	s := e.ResponseStatus
	if name := e.webhook(); name != "" {
		return e.mutated(name)
	}
	switch s.Code {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusMethodNotAllowed, http.StatusNotAcceptable,
		http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType:
		return true
	case http.StatusForbidden:
		return e.Annotations["authorization.k8s.io/decision"] == "forbid" || forbidden(s.Message)
	case http.StatusNotFound:
		return s.Details.Kind == "namespaces"
	case http.StatusUnprocessableEntity: // the DeleteOptions are checked at the very end, the others first
		return s.Details.Kind == "CreateOptions" || s.Details.Kind == "Eviction" || forbidden(s.Message)
	case http.StatusTooManyRequests: // of the flow control, which has no Status
		return s.Message == "" && s.Reason == ""
	case http.StatusInternalServerError:
		return strings.HasPrefix(s.Message, "Non-matching dry-run options in request and content: ")
	}
	return forbidden(s.Message)
}

// forbidden tells the refusals by authorization and by the admission plugins of the API server itself, which
// run before webhooks.
func forbidden(message string) bool {
	return quoted(message, `pods `, ` is forbidden: `) != ""
}

// webhook names the webhook that refused, or could not be called.
func (e *event) webhook() string {
	if name := denying(e.ResponseStatus.Message); name != "" {
		return name
	}
	return failing(e.ResponseStatus.Message)
}

// mutated reports whether a mutating webhook of that name was called.
func (e *event) mutated(webhook string) bool {
	for key, value := range e.Annotations {
		var called struct {
			Webhook string `json:"webhook"`
		}
		if strings.HasPrefix(key, mutation) && json.Unmarshal([]byte(value), &called) == nil && called.Webhook == webhook {
			return true
		}
	}
	return false
}

// oursToRefuse reports whether the refusal is ours, or comes from our absence.
func (p *Parser) oursToRefuse(e *event, passage record.Passage) bool {
	return passage == record.FailedClosed || (passage != "" && denying(e.ResponseStatus.Message) == p.o.WebhookName)
}

// refuser says who refused.
func (e *event) refuser() string {
	s := e.ResponseStatus
	switch {
	case e.webhook() != "":
		return record.RefuserWebhook + e.webhook()
	case policy(s.Message) != "":
		return record.RefuserPolicy + policy(s.Message)
	case e.budget():
		return record.RefuserBudget
	}
	return record.RefuserAPIServer
}

// policy names the ValidatingAdmissionPolicy in its refusal.
func policy(message string) string {
	if !forbidden(message) {
		return ""
	}
	_, rest, _ := strings.Cut(message, " is forbidden: ")
	rest, ok := strings.CutPrefix(rest, "ValidatingAdmissionPolicy '")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "'")
	return name
}

// severalBudgets begins the API server's answer when two or more budgets select the pod.
const severalBudgets = "This pod has more than one PodDisruptionBudget"

// budget reports whether a budget refused: by the API server's own look at it, whose answer has a cause of
// that type, or because several select the pod. A webhook has been ruled out.
func (e *event) budget() bool {
	s := e.ResponseStatus
	return strings.HasPrefix(s.Message, severalBudgets) ||
		slices.Contains(s.Details.Causes, cause{Reason: "DisruptionBudget"})
}
