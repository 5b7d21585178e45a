package evictionpolicy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/check"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/webhook/hooks"
)

const broken = "rego: |\n  package eviction.a\n  deny contains nope(1)"

// ask posts a review of a policy to a handler and returns the answer.
func ask(t *testing.T, ctx context.Context, h http.Handler, o *unstructured.Unstructured, changes ...func(*admissionv1.AdmissionRequest)) *admissionv1.AdmissionResponse {
	t.Helper()
	request := &admissionv1.AdmissionRequest{
		UID: "review", Operation: admissionv1.Create, Name: o.GetName(),
		Kind:   metav1.GroupVersionKind{Group: "evictgate.dev", Version: "v1alpha1", Kind: "EvictionPolicy"},
		Object: runtime.RawExtension{Raw: raw(t, o)},
	}
	for _, change := range changes {
		change(request)
	}
	body, err := json.Marshal(admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: request})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, hooks.PoliciesPath, bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var answer admissionv1.AdmissionReview
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.Response == nil || answer.Response.UID != "review" {
		t.Fatalf("not an answer to the review: %s (%v)", w.Body, err)
	}
	return answer.Response
}

func raw(t *testing.T, o *unstructured.Unstructured) []byte {
	t.Helper()
	data, err := o.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func updateOf(t *testing.T, old *unstructured.Unstructured) func(*admissionv1.AdmissionRequest) {
	return func(r *admissionv1.AdmissionRequest) {
		r.Operation, r.OldObject.Raw = admissionv1.Update, raw(t, old)
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestWhatTheValidatorAnswers(t *testing.T) {
	check := func(_ context.Context, u source.Unit) (check.Findings, error) {
		if problems := compile(u); len(problems) > 0 {
			return check.Findings{Problems: problems}, nil
		}
		return check.Findings{Doubts: policies.Problems{{File: u.Files[0].Name, Path: "spec.match", Message: "selects nothing"}}}, nil
	}
	h := (&Validator{Check: check, Log: quiet()}).Handler()
	good, bad := evp(t, "x", "library: freeze_window"), evp(t, "x", broken)
	labelled, leaving := bad.DeepCopy(), bad.DeepCopy()
	labelled.SetLabels(map[string]string{"team": "shop"})
	leaving.SetDeletionTimestamp(&metav1.Time{Time: noon})
	for name, c := range map[string]struct {
		object  *unstructured.Unstructured
		change  func(*admissionv1.AdmissionRequest)
		allowed bool
		code    int32
		message string
		warns   []string
	}{
		"a good one":                           {object: good, allowed: true, code: 200, warns: []string{"spec.match: selects nothing"}},
		"a broken one":                         {object: bad, code: 422, message: `EvictionPolicy "x" is invalid: spec.rego:2:15: there is no function nope`},
		"an update to a broken one":            {object: bad, change: updateOf(t, good), code: 422, message: `EvictionPolicy "x" is invalid: spec.rego:2:15: `},
		"a label on a broken one":              {object: labelled, change: updateOf(t, bad), allowed: true, code: 200},
		"a broken one on its way out":          {object: leaving, change: updateOf(t, good), allowed: true, code: 200},
		"the cure of a broken one":             {object: good, change: updateOf(t, bad), allowed: true, code: 200, warns: []string{"spec.match: selects nothing"}},
		"an operation nobody registered":       {object: bad, change: func(r *admissionv1.AdmissionRequest) { r.Operation = admissionv1.Delete }, allowed: true, code: 200},
		"another kind":                         {object: bad, change: func(r *admissionv1.AdmissionRequest) { r.Kind.Kind = "Pod" }, code: 400, message: `expected an EvictionPolicy of group evictgate.dev, got kind "Pod" of group "evictgate.dev"`},
		"a request without an object":          {object: bad, change: func(r *admissionv1.AdmissionRequest) { r.Object.Raw = nil }, code: 400, message: "request.object is not an EvictionPolicy"},
		"an object whose old is not an object": {object: bad, change: func(r *admissionv1.AdmissionRequest) { r.OldObject.Raw = []byte("7") }, code: 422, message: `EvictionPolicy "x" is invalid`},
	} {
		t.Run(name, func(t *testing.T) {
			change := c.change
			if change == nil {
				change = func(*admissionv1.AdmissionRequest) {}
			}
			got := ask(t, t.Context(), h, c.object, change)
			if got.Allowed != c.allowed || got.Result.Code != c.code || !strings.HasPrefix(got.Result.Message, c.message) {
				t.Errorf("allowed %t, %d %q", got.Allowed, got.Result.Code, got.Result.Message)
			}
			if diff := cmp.Diff(c.warns, got.Warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

// kubectl prints the causes: the field, and then where in it.
func TestTheCausesOfARefusal(t *testing.T) {
	h := (&Validator{Check: func(_ context.Context, u source.Unit) (check.Findings, error) {
		return check.Findings{Problems: append(compile(u), policies.Problem{File: "EvictionPolicy/y", Path: "spec.rego", InnerRow: 1, InnerCol: 1, Message: "policy eviction.a is defined in EvictionPolicy/x spec.rego, too"})}, nil
	}, Log: quiet()}).Handler()
	got := ask(t, t.Context(), h, evp(t, "x", broken)).Result
	const conflict = "EvictionPolicy/y spec.rego:1:1: policy eviction.a is defined in EvictionPolicy/x spec.rego, too"
	want := &metav1.Status{
		Status: metav1.StatusFailure, Code: 422, Reason: metav1.StatusReasonInvalid,
		Message: `EvictionPolicy "x" is invalid: spec.rego:2:15: there is no function nope` + "\nspec: " + conflict,
		Details: &metav1.StatusDetails{Group: "evictgate.dev", Kind: "EvictionPolicy", Name: "x", Causes: []metav1.StatusCause{
			{Type: metav1.CauseTypeFieldValueInvalid, Field: "spec.rego", Message: "2:15: there is no function nope"},
			{Type: metav1.CauseTypeFieldValueInvalid, Field: "spec", Message: conflict},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// beyond is an error of policies that could not be compiled to an end.
type beyond string

func (e beyond) Error() string        { return string(e) }
func (e beyond) Is(target error) bool { return target == source.ErrBeyondLimits }

func TestAPolicyThatWasNotCheckedIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		check func(context.Context) error
		code  int32
		want  string
	}{
		"a panic":                        {func(context.Context) error { panic("oops") }, 500, `EvictionPolicy "x" could not be checked by an error of Evictgate, which its log shows`},
		"an error":                       {func(context.Context) error { return errors.New("no more processes") }, 500, `EvictionPolicy "x" could not be checked by an error of Evictgate, which its log shows`},
		"beyond the limits":              {func(context.Context) error { return beyond("could not be compiled in 4s of CPU time") }, 422, `EvictionPolicy "x" is invalid: spec: could not be compiled in 4s of CPU time`},
		"others are checked":             {func(context.Context) error { return source.ErrBusy }, 429, `EvictionPolicy "x" was not checked, since other policies are being checked; try again`},
		"the time of the caller is over": {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, 504, `EvictionPolicy "x" was not checked in time; try again`},
	} {
		t.Run(name, func(t *testing.T) {
			h := (&Validator{Check: func(ctx context.Context, _ source.Unit) (check.Findings, error) {
				return check.Findings{}, c.check(ctx)
			}, Log: quiet()}).Handler()
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			got := ask(t, ctx, h, evp(t, "x", "library: freeze_window"))
			if got.Allowed || got.Result.Code != c.code || got.Result.Message != c.want {
				t.Errorf("allowed %t, %d %q", got.Allowed, got.Result.Code, got.Result.Message)
			}
		})
	}
}

func TestAReviewIsBounded(t *testing.T) {
	asked := false
	h := (&Validator{Check: func(context.Context, source.Unit) (check.Findings, error) {
		asked = true
		return check.Findings{}, nil
	}, Log: quiet()}).Handler()
	got := ask(t, t.Context(), h, evp(t, "x", "rego: "+strings.Repeat("a", maxPolicy)))
	if got.Allowed || got.Result.Code != 413 || !strings.Contains(got.Result.Message, "it can have 1572864 at most") {
		t.Errorf("a policy that is too large: allowed %t, %d %q", got.Allowed, got.Result.Code, got.Result.Message)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, hooks.PoliciesPath, strings.NewReader(strings.Repeat(" ", maxReview+1))))
	if w.Code != 413 || asked {
		t.Errorf("a review that is too large: %d, checked %t", w.Code, asked)
	}
}

func TestWarningsStayWithinWhatTheAPIServerShows(t *testing.T) {
	u := unit(t, "x", "library: freeze_window")
	problems := make(policies.Problems, maxWarnings+3)
	for i := range problems {
		problems[i] = policies.Problem{File: u.Files[0].Name, Message: strings.Repeat("ä", 2*maxWarning)}
	}
	got := warnings(u, problems)
	if len(got) != maxWarnings+1 || got[maxWarnings] != "and 3 more" || len([]rune(got[0])) != maxWarning {
		t.Errorf("%d warnings, the first of %d characters, the last %q", len(got), len([]rune(got[0])), got[len(got)-1])
	}
}
