package evictionpolicy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/check"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/policies/v1alpha1"
)

const (
	// checkWithin bounds a check whose sender states no timeout.
	checkWithin = 8 * time.Second
	// maxWarnings and maxWarning bound the warnings of an answer; the API server cuts longer ones.
	maxWarnings, maxWarning = 10, 256
	// maxPolicy bounds a policy in bytes: the API server stores no larger object.
	maxPolicy = 1536 << 10
	// maxReview bounds a review in bytes: a policy, the one before it, and what is around them.
	maxReview = 2*maxPolicy + 512<<10
)

// Validator compiles EvictionPolicies before they are stored.
type Validator struct {
	// Check finds what is wrong with a policy, as the server would find it, or doubtful. It ends when the
	// context does. Its error refuses the policy: policies.ErrBusy and policies.ErrBeyondLimits by their own
	// answers, any other as an error of ours.
	Check func(context.Context, source.Unit) (check.Findings, error)
	Log   *slog.Logger
}

// Handler answers the admission reviews of its webhook. A policy that could not be checked is refused:
// what nobody has compiled must not reach the servers.
func (v *Validator) Handler() http.Handler {
	return limited(&admission.Webhook{Handler: &checker{v}})
}

// limited refuses reviews that are larger than one of an EvictionPolicy can be.
func limited(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > maxReview {
			http.Error(w, fmt.Sprintf("the review has %d bytes; one of an %s has %d at most", r.ContentLength, v1alpha1.Kind, maxReview), http.StatusRequestEntityTooLarge)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxReview)
		next.ServeHTTP(w, r)
	})
}

// checker is a Validator at work.
type checker struct{ *Validator }

// Handle answers one review.
func (c *checker) Handle(ctx context.Context, r admission.Request) admission.Response {
	if r.Kind.Group != v1alpha1.Group || r.Kind.Kind != v1alpha1.Kind {
		return admission.Errored(http.StatusBadRequest, fmt.Errorf("expected an %s of group %s, got kind %q of group %q", v1alpha1.Kind, v1alpha1.Group, r.Kind.Kind, r.Kind.Group))
	}
	if r.Operation != admissionv1.Create && r.Operation != admissionv1.Update {
		return admission.Allowed("")
	}
	if len(r.Object.Raw) > maxPolicy {
		return admission.Errored(http.StatusRequestEntityTooLarge, fmt.Errorf("the %s has %d bytes; it can have %d at most", v1alpha1.Kind, len(r.Object.Raw), maxPolicy))
	}
	var o unstructured.Unstructured
	if err := o.UnmarshalJSON(r.Object.Raw); err != nil {
		return admission.Errored(http.StatusBadRequest, fmt.Errorf("request.object is not an %s: %w", v1alpha1.Kind, err))
	}
	if o.GetDeletionTimestamp() != nil || sameSpec(&o, r.OldObject.Raw) {
		return admission.Allowed("")
	}
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	return c.judge(ctx, unitOf(&o))
}

// sameSpec reports whether an update leaves the spec as it is: a label on a broken policy is not a reason to
// refuse it.
func sameSpec(o *unstructured.Unstructured, oldRaw []byte) bool {
	var old unstructured.Unstructured
	return len(oldRaw) > 0 && old.UnmarshalJSON(oldRaw) == nil && equality.Semantic.DeepEqual(o.Object["spec"], old.Object["spec"])
}

func (c *checker) judge(ctx context.Context, u source.Unit) admission.Response {
	found, err := c.check(ctx, u)
	switch {
	case err != nil:
		return c.unchecked(ctx, u, err)
	case len(found.Problems) > 0:
		return refusal(u, found.Problems)
	}
	return admission.Allowed("").WithWarnings(warnings(u, found.Doubts)...)
}

// check turns a panic into an error: one policy must not end the server.
func (c *checker) check(ctx context.Context, u source.Unit) (found check.Findings, err error) {
	defer func() {
		if r := recover(); r != nil {
			c.Log.Error("panic while checking a policy", "policy", u.Name, "panic", r, "stack", string(debug.Stack()))
			err = errors.New("panic")
		}
	}()
	return c.Check(ctx, u)
}

// unchecked refuses a policy that was not checked to the end.
func (c *checker) unchecked(ctx context.Context, u source.Unit, err error) admission.Response {
	switch {
	case errors.Is(err, source.ErrBeyondLimits):
		return refusal(u, policies.Problems{{File: u.Name, Message: err.Error()}})
	case errors.Is(err, source.ErrBusy):
		return refused(u, http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, "was not checked, since other policies are being checked; try again")
	case ctx.Err() != nil:
		return refused(u, http.StatusGatewayTimeout, metav1.StatusReasonTimeout, "was not checked in time; try again")
	}
	c.Log.Error("a policy could not be checked", "policy", u.Name, "error", err.Error())
	return refused(u, http.StatusInternalServerError, metav1.StatusReasonInternalError, "could not be checked by an error of Evictgate, which its log shows")
}

func refused(u source.Unit, code int32, reason metav1.StatusReason, what string) admission.Response {
	name := strings.TrimPrefix(u.Name, v1alpha1.Kind+"/")
	return admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{Result: &metav1.Status{
		Status: metav1.StatusFailure, Code: code, Reason: reason,
		Message: fmt.Sprintf("%s %q %s", v1alpha1.Kind, name, what),
	}}}
}

// refusal is the answer to a broken policy: a Status as the API server's own validation makes it, since
// kubectl prints the causes of such a one and other clients its message.
func refusal(u source.Unit, ps policies.Problems) admission.Response {
	name := strings.TrimPrefix(u.Name, v1alpha1.Kind+"/")
	findings, _ := findingsOf(u, ps)
	causes := make([]metav1.StatusCause, len(findings))
	for i, f := range findings {
		causes[i] = metav1.StatusCause{Type: metav1.CauseTypeFieldValueInvalid, Field: f.Path, Message: f.Detail()}
	}
	return admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{Result: &metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusUnprocessableEntity,
		Reason:  metav1.StatusReasonInvalid,
		Message: fmt.Sprintf("%s %q is invalid: %s", v1alpha1.Kind, name, linesOf(u, ps)),
		Details: &metav1.StatusDetails{Group: v1alpha1.Group, Kind: v1alpha1.Kind, Name: name, Causes: causes},
	}}}
}

func warnings(u source.Unit, ps policies.Problems) []string {
	var list []string
	for i, p := range ps {
		if i == maxWarnings {
			return append(list, fmt.Sprintf("and %d more", len(ps)-i))
		}
		list = append(list, cut(findingOf(u, p).AtField(), maxWarning))
	}
	return list
}

// cut shortens text to at most n runes.
func cut(text string, n int) string {
	if runes := []rune(text); len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return text
}
