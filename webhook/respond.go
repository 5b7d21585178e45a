package webhook

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/policies"
)

// maxWarningRunes bounds all warnings of an answer together: above 4096 the API server cuts each of
// them to 256 (k8s.io/apiserver/pkg/endpoints/filters/warning.go).
const maxWarningRunes = 4000

// respond makes the answer of a decision, a fresh one each time; explanation is one more warning, unless it
// is empty. It never sets retryAfterSeconds: client-go would then retry silently and hide the message.
func respond(r *policies.Request, d *policies.Decision, explanation string) *admissionv1.AdmissionResponse {
	response := &admissionv1.AdmissionResponse{
		Allowed:          d.Allowed(),
		Warnings:         warnings(d, explanation),
		AuditAnnotations: auditAnnotations(r, d),
		Result:           &metav1.Status{Code: d.Code},
	}
	if !d.Allowed() {
		response.Result = &metav1.Status{
			Status:  metav1.StatusFailure,
			Code:    d.Code,
			Reason:  metav1.StatusReason(d.Reason),
			Message: d.Message,
			Details: &metav1.StatusDetails{Name: r.Name, Kind: "pods", Causes: causes(d)},
		}
	}
	return response
}

func causes(d *policies.Decision) []metav1.StatusCause {
	list := make([]metav1.StatusCause, len(d.Causes))
	for i, c := range d.Causes {
		list[i] = metav1.StatusCause{Type: metav1.CauseType(c.Type), Message: c.Message, Field: c.Field}
	}
	return list
}

// auditAnnotations appear in the API server's audit log as <webhook name>/<key>. The review's UID is
// there because the API server gives the webhook no other id to find the audit event by. Each is one line of
// bounded length: the reason of an override is the client's text.
func auditAnnotations(r *policies.Request, d *policies.Decision) map[string]string {
	a := map[string]string{
		"outcome":    string(d.Outcome),
		"review-uid": r.UID,
		"revision":   d.Revision,
	}
	if names := violated(d); len(names) > 0 {
		a["policies"] = plain(strings.Join(names, ","))
	}
	if d.Override != nil && d.Override.Used {
		a["override"] = plain(d.Override.Reason)
	}
	if d.Disruption != nil && !d.Disruption.Allowed {
		a["budget"] = plain(strings.Join(d.Disruption.Budgets, ","))
	}
	return a
}

// violated names the policies with an enforcing violation, each once, in the order of violations.
func violated(d *policies.Decision) []string {
	var names []string
	for _, v := range d.Violations {
		if v.Enforcing() && (len(names) == 0 || names[len(names)-1] != v.Policy) {
			names = append(names, v.Policy)
		}
	}
	return names
}

// warnings are those of the decision, and the explanation, which always fits.
func warnings(d *policies.Decision, explanation string) []string {
	if explanation == "" {
		return bounded(d.Warnings, maxWarningRunes)
	}
	list := bounded(d.Warnings, maxWarningRunes-utf8.RuneCountInString(explanation))
	return append(slices.Clip(list), explanation)
}

// bounded keeps the first warnings whose runes fit, and says how many it left out.
func bounded(warnings []string, limit int) []string {
	used := 0
	for i, w := range warnings {
		used += utf8.RuneCountInString(w)
		if used > limit-40 {
			return append(warnings[:i:i], fmt.Sprintf("and %d more; see the decision's record", len(warnings)-i))
		}
	}
	return warnings
}

// failure answers when there is no decision.
func failure(code int32, reason metav1.StatusReason, message string) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason, Message: "evictgate: " + message}}
}
