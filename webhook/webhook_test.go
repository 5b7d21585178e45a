package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/cluster"
	"github.com/evictgate/evictgate/webhook/hooks"
	"github.com/evictgate/evictgate/webhook/memory"
	"github.com/evictgate/evictgate/webhook/record"
)

const sample = "../config/samples/cluster.yaml"

// newGate is a gate over the sample cluster with the default policies; records go to out.
func newGate(t testing.TB, out io.Writer) *Gate {
	t.Helper()
	snapshot, err := cluster.ReadSnapshot(sample)
	if err != nil {
		t.Fatal(err)
	}
	set, err := policies.Default()
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	records := record.NewWriter(out, log)
	t.Cleanup(records.Close)
	metrics, err := NewMetrics(prometheus.NewRegistry(), records)
	if err != nil {
		t.Fatal(err)
	}
	return &Gate{
		Cluster: &cluster.Gatherer{Store: snapshot.Store}, Policies: func() *policies.Set { return set },
		Records: records, Metrics: metrics, Log: log, Labels: map[string]string{"id": "test"},
		// A busy machine must not leave a review undecided.
		Options: policies.Options{},
		Now:     func() time.Time { return time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC) },
	}
}

// front is what stands before a gate in a server.
func front(g *Gate) *Front { return withBounds(g, newBounds(enough, nil, newBoundMetrics())) }

func withBounds(next http.Handler, b *Bounds) *Front { return &Front{Next: b.before(next)} }

func enough() memory.Level { return memory.Enough }

// review is what the API server sends; change makes it wrong.
func review(pod string, change func(*admissionv1.AdmissionReview)) []byte {
	r := admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: types.UID("uid-" + pod), Operation: admissionv1.Create, Namespace: "shop", Name: pod,
			Kind:     metav1.GroupVersionKind{Group: "policy", Version: "v1", Kind: "Eviction"},
			Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"}, SubResource: "eviction",
			UserInfo: authenticationv1.UserInfo{Username: "admin", Groups: []string{"system:masters"}},
			Object:   runtime.RawExtension{Raw: fmt.Appendf(nil, `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":%q,"namespace":"shop"}}`, pod)},
		},
	}
	if change != nil {
		change(&r)
	}
	raw, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	return raw
}

func post(h http.Handler, target string, body []byte) *httptest.ResponseRecorder {
	request := httptest.NewRequest(http.MethodPost, target, bytes.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	response := httptest.NewRecorder()
	h.ServeHTTP(response, request)
	return response
}

func answer(t testing.TB, response *httptest.ResponseRecorder) *admissionv1.AdmissionResponse {
	t.Helper()
	var r admissionv1.AdmissionReview
	if err := json.Unmarshal(response.Body.Bytes(), &r); err != nil || r.Response == nil {
		t.Fatalf("not an answer: %d %s (%v)", response.Code, response.Body, err)
	}
	return r.Response
}

func TestTheWholeAnswerOfADelay(t *testing.T) {
	g := newGate(t, io.Discard)
	got := answer(t, post(front(g), hooks.EvictionsPath, review("api-7d4b9c6f5-4c8tr", nil)))
	set := g.Policies()
	want := &admissionv1.AdmissionResponse{
		UID: "uid-api-7d4b9c6f5-4c8tr",
		Result: &metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusTooManyRequests, Reason: metav1.StatusReasonTooManyRequests,
			Message: "Cannot evict pod as it would violate the pod's disruption budget. Budget shop/api needs 2 healthy of 3 expected pods and has 2; waiting for api-7d4b9c6f5-zz9pf (CrashLoopBackOff); it allows the next eviction once 1 more pod is ready",
			Details: &metav1.StatusDetails{Name: "api-7d4b9c6f5-4c8tr", Kind: "pods", Causes: []metav1.StatusCause{
				{Type: "DisruptionBudget", Message: "The disruption budget api needs 2 healthy pods and has 2 currently", Field: "api"},
			}},
		},
		AuditAnnotations: map[string]string{"outcome": "delayed", "review-uid": "uid-api-7d4b9c6f5-4c8tr", "revision": set.Revision(), "budget": "api"},
		Warnings: []string{
			"pod api-7d4b9c6f5-zz9pf: CrashLoopBackOff since 2026-11-02T07:41:00Z (back-off 5m0s restarting failed container)",
			"to unblock: 1. fix or wait for api-7d4b9c6f5-zz9pf (CrashLoopBackOff); 2. stop or pause what retries the eviction, and look into the workload before it goes on; 3. as a last resort delete the pod directly with kubectl delete pod: this asks no budget and no policy, and takes the pod away below what the budget keeps",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answer differs (-want +got):\n%s", diff)
	}
}

func TestTheMessageIsTheSameForEveryPodOfAWorkload(t *testing.T) {
	g := newGate(t, io.Discard)
	for _, pods := range [][2]string{
		{"api-7d4b9c6f5-4c8tr", "api-7d4b9c6f5-k2s7m"},
		{"cart-7d4b9c6f5-5hj2n", "cart-7d4b9c6f5-q8v4c"},
		{"search-7d4b9c6f5-b7n3x", "search-7d4b9c6f5-w5d8g"},
		{"ledger-7d4b9c6f5-c3f6k", "ledger-7d4b9c6f5-r9t2v"},
	} {
		first := answer(t, post(front(g), hooks.EvictionsPath, review(pods[0], nil)))
		second := answer(t, post(front(g), hooks.EvictionsPath, review(pods[1], nil)))
		if first.Result.Message == "" || first.Result.Message != second.Result.Message {
			t.Errorf("%v are answered differently:\n%s\n%s", pods, first.Result.Message, second.Result.Message)
		}
	}
}

func TestBadRequestsAreRefusedWithASentence(t *testing.T) {
	g := newGate(t, io.Discard)
	for name, c := range map[string]struct {
		body []byte
		code int32
		text string
	}{
		"not JSON":        {[]byte("hello"), 400, "not an AdmissionReview"},
		"another kind":    {[]byte(`{"apiVersion":"v1","kind":"Pod"}`), 400, "not an AdmissionReview"},
		"no request":      {[]byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`), 400, "not an AdmissionReview"},
		"another object":  {review("web", func(r *admissionv1.AdmissionReview) { r.Request.Kind.Kind = "Pod" }), 400, `got kind "Pod"`},
		"KEP-4563's kind": {review("web", func(r *admissionv1.AdmissionReview) { r.Request.Kind.Group = "lifecycle.k8s.io" }), 400, `of group "lifecycle.k8s.io"`},
		"another resource": {review("web", func(r *admissionv1.AdmissionReview) { r.Request.SubResource = "binding" }), 400,
			`got "pods/binding"`},
		"another operation": {review("web", func(r *admissionv1.AdmissionReview) { r.Request.Operation = "DELETE" }), 400, `got "DELETE"`},
		"no name":           {review("", nil), 400, "names no pod"},
		"no object":         {review("web", func(r *admissionv1.AdmissionReview) { r.Request.Object.Raw = nil }), 400, "has no object"},
		"an object that is not an Eviction": {review("web", func(r *admissionv1.AdmissionReview) { r.Request.Object.Raw = []byte(`{"metadata":7}`) }), 400,
			"not an Eviction"},
	} {
		t.Run(name, func(t *testing.T) {
			got := answer(t, post(front(g), hooks.EvictionsPath, c.body))
			if got.Allowed || got.Result.Code != c.code || !strings.Contains(got.Result.Message, c.text) {
				t.Errorf("answer is %+v, expected %d with %q", got.Result, c.code, c.text)
			}
		})
	}
}

func TestTheFrontRefusesWhatCannotBeAReview(t *testing.T) {
	called := false
	f := withBounds(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		called = true
		_, _ = io.ReadAll(r.Body)
	}), newBounds(enough, nil, newBoundMetrics()))
	for name, c := range map[string]struct {
		request *http.Request
		code    int
		text    string
	}{
		"a GET":               {httptest.NewRequest(http.MethodGet, hooks.EvictionsPath, nil), 405, "not for GET"},
		"no content type":     {httptest.NewRequest(http.MethodPost, hooks.EvictionsPath, strings.NewReader("{}")), 415, "expected application/json"},
		"text":                {typed("text/plain", strings.NewReader("{}")), 415, `"text/plain"`},
		"an empty body":       {typed("application/json", strings.NewReader("")), 400, "no body"},
		"a body that is huge": {typed("application/json", bytes.NewReader(make([]byte, maxBody+1))), 413, "at most 1048576"},
	} {
		t.Run(name, func(t *testing.T) {
			called = false
			w := httptest.NewRecorder()
			f.ServeHTTP(w, c.request)
			if w.Code != c.code || !strings.Contains(w.Body.String(), c.text) || called {
				t.Errorf("got %d %q (passed on: %v), expected %d with %q", w.Code, w.Body, called, c.code, c.text)
			}
		})
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, typed("application/json; charset=utf-8", strings.NewReader("{}")))
	if !called {
		t.Error("a content type with a charset is refused")
	}
}

func typed(contentType string, body io.Reader) *http.Request {
	r := httptest.NewRequest(http.MethodPost, hooks.EvictionsPath, body)
	r.Header.Set("Content-Type", contentType)
	return r
}

func TestTheDeadlineIsShorterThanTheSendersTimeout(t *testing.T) {
	for name, c := range map[string]struct {
		query string
		want  time.Duration
	}{
		"as the API server states it": {"?timeout=10s", 9500 * time.Millisecond},
		"none":                        {"", 4500 * time.Millisecond},
		"a short one":                 {"?timeout=600ms", 300 * time.Millisecond},
		"nonsense":                    {"?timeout=soon", 4500 * time.Millisecond},
		"negative":                    {"?timeout=-1s", 4500 * time.Millisecond},
		"longer than any can be":      {"?timeout=1000h", 29500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			var left time.Duration
			f := &Front{Next: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				deadline, _ := r.Context().Deadline()
				left = time.Until(deadline)
			})}
			post(f, hooks.EvictionsPath+c.query, []byte("{}"))
			if left > c.want || left < c.want-time.Second {
				t.Errorf("%v left, expected about %v", left, c.want)
			}
		})
	}
}

func TestDrainingEndsConnections(t *testing.T) {
	f := front(newGate(t, io.Discard))
	if got := post(f, hooks.EvictionsPath, review("web-7d4b9c6f5-2xkqv", nil)).Header().Get("Connection"); got != "" {
		t.Errorf("Connection is %q before draining", got)
	}
	f.Drain()
	w := post(f, hooks.EvictionsPath, review("web-7d4b9c6f5-2xkqv", nil))
	if w.Header().Get("Connection") != "close" || !answer(t, w).Allowed {
		t.Errorf("while draining: %v %s", w.Header(), w.Body)
	}
}

func TestAPanicLeavesTheReviewUndecided(t *testing.T) {
	var out bytes.Buffer
	g := newGate(t, &out)
	g.Cluster = &cluster.Gatherer{} // no store: the first look-up panics
	got := answer(t, post(front(g), hooks.EvictionsPath, review("web", nil)))
	if got.Allowed || got.Result.Code != http.StatusTooManyRequests || got.AuditAnnotations["outcome"] != "undecided" {
		t.Errorf("answer is %+v", got)
	}
	if n := testutil.ToFloat64(g.Metrics.panics); n != 1 {
		t.Errorf("%v panics counted", n)
	}
	g.Records.Close()
	if !strings.Contains(out.String(), `"outcome":"undecided"`) {
		t.Errorf("the record is %s", out.String())
	}
}

func TestAPanicInTheAnswerIsAFailure(t *testing.T) {
	g := newGate(t, io.Discard)
	g.Policies = func() *policies.Set { panic("a bug") }
	got := answer(t, post(front(g), hooks.EvictionsPath, review("web", nil)))
	want := &admissionv1.AdmissionResponse{UID: "uid-web", Result: &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Reason: metav1.StatusReasonInternalError, Message: "evictgate: panic: a bug",
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answer differs (-want +got):\n%s", diff)
	}
	if n := testutil.ToFloat64(g.Metrics.panics); n != 1 {
		t.Errorf("%v panics counted", n)
	}
}

func TestAReviewIsAnsweredInItsVersion(t *testing.T) {
	f := front(newGate(t, io.Discard))
	for version, ok := range map[string]bool{"admission.k8s.io/v1": true, "admission.k8s.io/v1beta1": true, "admission.k8s.io/v2": false, "policy/v1": false, "": false} {
		w := post(f, hooks.EvictionsPath, review("none", func(r *admissionv1.AdmissionReview) { r.APIVersion = version }))
		var got admissionv1.AdmissionReview
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		want := version
		if !ok {
			want = "admission.k8s.io/v1"
		}
		if got.APIVersion != want || got.Kind != "AdmissionReview" || got.Response.Allowed != ok {
			t.Errorf("%q is answered %s %s, allowed: %v (%v)", version, got.APIVersion, got.Kind, got.Response.Allowed, got.Response.Result)
		}
	}
}

func TestConcurrentReviewsAreAnsweredLikeSequentialOnes(t *testing.T) {
	g := newGate(t, io.Discard)
	f := front(g)
	pods := []string{"web-7d4b9c6f5-2xkqv", "cart-7d4b9c6f5-5hj2n", "api-7d4b9c6f5-4c8tr", "search-7d4b9c6f5-b7n3x", "ledger-7d4b9c6f5-c3f6k", "mail-cleanup", "none"}
	want := map[string]string{}
	for _, pod := range pods {
		want[pod] = post(f, hooks.EvictionsPath, review(pod, nil)).Body.String()
	}
	done := make(chan string)
	for i := range 64 {
		go func() {
			problem := ""
			for n := range 20 {
				pod := pods[(i+n)%len(pods)]
				if got := post(f, hooks.EvictionsPath, review(pod, nil)).Body.String(); got != want[pod] {
					problem = fmt.Sprintf("%s: got %s, expected %s", pod, got, want[pod])
				}
			}
			done <- problem
		}()
	}
	for range 64 {
		if problem := <-done; problem != "" {
			t.Error(problem)
		}
	}
}

func TestWarningsStayWithinTheAPIServersBound(t *testing.T) {
	long := make([]string, 50)
	for i := range long {
		long[i] = strings.Repeat("ä", 300)
	}
	got := bounded(long, maxWarningRunes)
	total := 0
	for _, w := range got {
		total += utf8.RuneCountInString(w)
	}
	if total > 4096 || len(got) < 10 || !strings.HasPrefix(got[len(got)-1], "and 37 more") {
		t.Errorf("%d warnings of %d runes, last %q", len(got), total, got[len(got)-1])
	}
	if got := bounded(long[:2], maxWarningRunes); len(got) != 2 {
		t.Errorf("two warnings became %d", len(got))
	}
}

func TestTheRecordOfADecision(t *testing.T) {
	var out bytes.Buffer
	g := newGate(t, &out)
	post(front(g), hooks.EvictionsPath, review("cart-7d4b9c6f5-5hj2n", nil))
	g.Records.Close()
	var r record.Record
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v in %s", err, out.String())
	}
	r.Metrics, r.InputRefs = nil, nil
	var input map[string]any
	if err := json.Unmarshal(r.Input, &input); err != nil {
		t.Fatal(err)
	}
	if _, ok := input["pod"]; !ok {
		t.Errorf("the input lacks what the policies read: %s", r.Input)
	}
	r.Input = nil
	d := r.Result
	r.Result = nil
	want := record.Record{
		Version: 1, DecisionID: "uid-cart-7d4b9c6f5-5hj2n", Timestamp: time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC),
		Labels: map[string]string{"id": "test"}, Path: "eviction", RequestedBy: "admin", Revision: g.Policies().Revision(),
		Request: record.Request{Namespace: "shop", Name: "cart-7d4b9c6f5-5hj2n", User: policies.User{Username: "admin", Groups: []string{"system:masters"}}, Evictor: "user"},
		Pod:     &record.Object{Kind: "Pod", Name: "cart-7d4b9c6f5-5hj2n", UID: r.Pod.UID, Node: "node-a"},
		Owner:   &record.Object{Kind: "Deployment", Name: "cart", UID: r.Owner.UID},
		Basis:   &record.Basis{Budgets: policies.AnswerBudgets, OnError: policies.OnErrorDelay, Phase: "Running"},
	}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("record differs (-want +got):\n%s", diff)
	}
	if d.Outcome != policies.Delayed || len(d.Violations) != 2 || d.Violations[0].Policy != "do_not_disrupt" || d.Violations[1].Policy != "require_budget" {
		t.Errorf("result is %+v", d)
	}
}

// FuzzFront holds that no bytes make the handler panic, and that an answer is a refusal exactly when
// its code says so.
func FuzzFront(f *testing.F) {
	gate := newGate(f, io.Discard)
	handler := front(gate)
	f.Add(review("web-7d4b9c6f5-2xkqv", nil))
	f.Add(review("cart-7d4b9c6f5-5hj2n", nil))
	f.Add(review("ledger-7d4b9c6f5-c3f6k", nil))
	f.Add([]byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":null}`))
	f.Add([]byte(`{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{"uid":"x"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		request := typed("application/json", bytes.NewReader(body)).WithContext(ctx)
		response := httptest.NewRecorder()
		handler.ServeHTTP(response, request)
		if response.Code != http.StatusOK {
			if response.Code < 400 || response.Code > 499 {
				t.Fatalf("HTTP status %d", response.Code)
			}
			return
		}
		got := answer(t, response)
		if code := got.Result.Code; (code >= 400) == got.Allowed || code >= 1000 || code == 404 || code == 409 {
			t.Fatalf("allowed %v with code %d", got.Allowed, code)
		}
		if !got.Allowed && (got.Result.Message == "" || got.Result.Details != nil && got.Result.Details.RetryAfterSeconds != 0) {
			t.Fatalf("unexpected refusal %+v", got.Result)
		}
		for _, w := range got.Warnings {
			if strings.ContainsFunc(w, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Fatalf("control character in warning %q", w)
			}
		}
	})
}
