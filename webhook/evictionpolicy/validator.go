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
	"github.com/evictgate/evictgate/policies/v1alpha1"
)

// Path is where the API server sends EvictionPolicies before it stores them.
const Path = "/validate-evictionpolicy"

const (
	// atOnce bounds the policies that are compiled beside each other: evictions come first.
	atOnce = 2
	// checkWithin bounds a check whose sender states no timeout.
	checkWithin = 8 * time.Second
	// maxWarnings and maxWarning bound the warnings of an answer; the API server cuts longer ones.
	maxWarnings, maxWarning = 10, 256
)

var (
	errTooSlow = errors.New("it was not compiled in time")
	errPanic   = errors.New("the check failed by an error of Evictgate, which its log shows")
)

// Validator compiles EvictionPolicies before they are stored.
type Validator struct {
	// Check lists what is wrong with a policy, as the server would find it.
	Check func(policies.Unit) policies.Problems
	// Lint lists what is doubtful about a policy that is right; it may be nil.
	Lint func(policies.Unit) policies.Problems
	Log  *slog.Logger
}

// Handler answers the admission reviews that arrive at Path. An error of ours refuses no policy: it is
// admitted with a warning, and its status tells the rest.
func (v *Validator) Handler() http.Handler {
	return &admission.Webhook{Handler: &checker{Validator: v, slots: make(chan struct{}, atOnce)}}
}

// checker is a Validator at work.
type checker struct {
	*Validator
	slots chan struct{}
}

// Handle answers one review.
func (c *checker) Handle(ctx context.Context, r admission.Request) admission.Response {
	if r.Kind.Group != v1alpha1.Group || r.Kind.Kind != v1alpha1.Kind {
		return admission.Errored(http.StatusBadRequest, fmt.Errorf("expected an %s of group %s, got kind %q of group %q", v1alpha1.Kind, v1alpha1.Group, r.Kind.Kind, r.Kind.Group))
	}
	if r.Operation != admissionv1.Create && r.Operation != admissionv1.Update {
		return admission.Allowed("")
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

// sameSpec reports whether an update leaves the spec as it is: a label on a broken policy is no reason to
// refuse it.
func sameSpec(o *unstructured.Unstructured, oldRaw []byte) bool {
	var old unstructured.Unstructured
	return len(oldRaw) > 0 && old.UnmarshalJSON(oldRaw) == nil && equality.Semantic.DeepEqual(o.Object["spec"], old.Object["spec"])
}

func (c *checker) judge(ctx context.Context, u policies.Unit) admission.Response {
	problems, err := c.bounded(ctx, u, c.Check)
	switch {
	case err != nil:
		return admission.Allowed("").WithWarnings(fmt.Sprintf("%s was stored unchecked, since %v; see its condition %s", u.Name, err, v1alpha1.ConditionReady))
	case len(problems) > 0:
		return refusal(u, problems)
	case c.Lint == nil:
		return admission.Allowed("")
	}
	doubts, err := c.bounded(ctx, u, c.Lint)
	if err != nil {
		return admission.Allowed("")
	}
	return admission.Allowed("").WithWarnings(warnings(u, doubts)...)
}

// bounded asks f within the context's time. A compilation cannot be broken off: it keeps its place among
// those beside each other until it ends.
func (c *checker) bounded(ctx context.Context, u policies.Unit, f func(policies.Unit) policies.Problems) (policies.Problems, error) {
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, errTooSlow
	}
	type result struct {
		problems policies.Problems
		err      error
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-c.slots }()
		defer func() {
			if r := recover(); r != nil {
				c.Log.Error("panic while checking a policy", "policy", u.Name, "panic", r, "stack", string(debug.Stack()))
				done <- result{err: errPanic}
			}
		}()
		done <- result{problems: f(u)}
	}()
	select {
	case r := <-done:
		return r.problems, r.err
	case <-ctx.Done():
		return nil, errTooSlow
	}
}

// refusal is the answer to a broken policy: a Status as the API server's own validation makes it, since
// kubectl prints the causes of such a one and other clients its message.
func refusal(u policies.Unit, ps policies.Problems) admission.Response {
	name := strings.TrimPrefix(u.Name, v1alpha1.Kind+"/")
	findings, _ := findingsOf(u, ps)
	causes := make([]metav1.StatusCause, len(findings))
	for i, f := range findings {
		causes[i] = metav1.StatusCause{Type: metav1.CauseTypeFieldValueInvalid, Field: f.field, Message: f.detail()}
	}
	return admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{Result: &metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusUnprocessableEntity,
		Reason:  metav1.StatusReasonInvalid,
		Message: fmt.Sprintf("%s %q is invalid: %s", v1alpha1.Kind, name, linesOf(u, ps)),
		Details: &metav1.StatusDetails{Group: v1alpha1.Group, Kind: v1alpha1.Kind, Name: name, Causes: causes},
	}}}
}

func warnings(u policies.Unit, ps policies.Problems) []string {
	var list []string
	for i, p := range ps {
		if i == maxWarnings {
			return append(list, fmt.Sprintf("and %d more", len(ps)-i))
		}
		list = append(list, cut(findingOf(u, p).String(), maxWarning))
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
