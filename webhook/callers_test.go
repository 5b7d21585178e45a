package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/webhook/fate"
	"github.com/evictgate/evictgate/webhook/history"
	"github.com/evictgate/evictgate/webhook/hooks"
	"github.com/evictgate/evictgate/webhook/record"
)

const testSecret = "0123456789abcdef0123456789abcdef"

// byPath knows who calls a path that ends with the secret.
type byPath struct{ established bool }

func (byPath) Known(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/"+testSecret) }
func (p byPath) Established() bool        { return p.established }

// counted is an API server that counts how often it is read.
type counted struct{ reads atomic.Int32 }

func (c *counted) Pod(context.Context, string, string) (*corev1.Pod, error) {
	c.reads.Add(1)
	return nil, io.ErrUnexpectedEOF
}

func (c *counted) Budget(context.Context, string, string) (*policyv1.PodDisruptionBudget, error) {
	c.reads.Add(1)
	return nil, io.ErrUnexpectedEOF
}

// site is a gate with everything that a review can have an effect on.
type site struct {
	*Gate
	records  bytes.Buffer
	log      bytes.Buffer
	live     counted
	observed int
}

// limits are policies by what was decided before: one eviction an hour, and a hold that ends after an hour.
const limits = `apiVersion: evictgate.dev/v1alpha1
kind: EvictionPolicy
metadata: {name: one-an-hour}
spec:
  library: rate_limit
  enforcement: Enforce
  parameters: {limits: [{max: 1, per: cluster, period: 1h}]}
---
apiVersion: evictgate.dev/v1alpha1
kind: EvictionPolicy
metadata: {name: at-most-an-hour}
spec:
  maxHold: 1h
  rego: |
    # METADATA
    # title: One pod waits
    # custom: {id: one_waits}
    package eviction.one_waits

    delay contains {"reason": "one pod waits"} if endswith(input.pod.metadata.name, "-8mzlp")
`

func newSite(t *testing.T, established bool) *site {
	t.Helper()
	s := new(site)
	s.Gate = newGate(t, io.Discard)
	set, err := source.Compile([]policies.File{{Name: "limits.yaml", Data: []byte(limits)}})
	if err != nil {
		t.Fatal(err)
	}
	s.Policies = func() *policies.Set { return set }
	s.Gate.Log = slog.New(slog.NewTextHandler(&s.log, nil))
	s.Records = record.NewWriter(&s.records, s.Gate.Log)
	t.Cleanup(s.Records.Close)
	s.History = history.New()
	s.Cluster.Leaving, s.Cluster.Live = s.History.Leaving, &s.live
	s.Outcomes = fate.New(fate.Options{Now: s.Now})
	s.Gate.Events, _ = newEvents(func() {})
	s.Options.Override = policies.OverrideRule{Users: []string{"ana"}}
	s.Observe = func(*policies.Input, *policies.Decision) { s.observed++ }
	s.Door = &Door{Trust: byPath{established}, Metrics: s.Metrics, Log: s.Gate.Log}
	return s
}

// send evicts a pod by a path; each review has a UID of its own.
func (s *site) send(t *testing.T, path, pod string, annotations map[string]string) *admissionv1.AdmissionResponse {
	t.Helper()
	return answer(t, post(front(s.Gate), path, review(pod, func(r *admissionv1.AdmissionReview) {
		r.Request.UID = types.UID(fmt.Sprintf("%s-%d-%d-%d", pod, len(path), len(annotations), s.Now().UnixNano()))
		r.Request.UserInfo.Username = "ana"
		object := map[string]any{"metadata": map[string]any{"annotations": annotations}}
		r.Request.Object.Raw, _ = json.Marshal(object)
	})))
}

const (
	webPod  = "web-7d4b9c6f5-2xkqv"
	cartPod = "cart-7d4b9c6f5-5hj2n"
	apiPod  = "api-7d4b9c6f5-4c8tr" // its budget refuses
	heldPod = "web-7d4b9c6f5-8mzlp"
)

func TestAForgedReviewIsAnsweredAndChangesNothing(t *testing.T) {
	for _, path := range []string{hooks.EvictionsPath, hooks.EvictionsPath + "/" + strings.Repeat("f", 32)} {
		for _, established := range []bool{true, false} {
			t.Run(fmt.Sprint(path, " established ", established), func(t *testing.T) {
				s := newSite(t, established)
				known := hooks.EvictionsPath + "/" + testSecret

				if got := s.send(t, path, webPod, nil); !got.Allowed {
					t.Fatalf("answered %+v", got.Result)
				}
				if got := s.send(t, path, apiPod, nil); got.Allowed || !strings.Contains(got.Result.Message, "Budget shop/api needs 2") {
					t.Errorf("not decided by what the cache holds: %+v", got.Result)
				}
				got := s.send(t, path, heldPod, map[string]string{policies.OverrideAnnotation: "because"})
				if got.Allowed || !strings.Contains(strings.Join(got.Warnings, "\n"), "is ignored: the caller is not known to be the API server") {
					t.Errorf("the override of a caller that is not known is answered %+v %q", got.Result, got.Warnings)
				}
				if n := s.live.reads.Load(); n != 0 {
					t.Errorf("%d live reads", n)
				}
				if n := len(s.Gate.Events.queue); n != 0 {
					t.Errorf("%d Events", n)
				}
				if s.observed != 0 {
					t.Errorf("%d decisions are counted in the status of policies", s.observed)
				}
				if n := refusalsOf(t, s.Outcomes); n != 0 {
					t.Errorf("%v refusals are counted", n)
				}
				if n := testutil.ToFloat64(s.Metrics.unknownCallers.WithLabelValues(hookEvictions)); n != 3 {
					t.Errorf("%v unknown callers are counted, expected 3", n)
				}
				if n := strings.Count(s.log.String(), "not known to be the API server"); n != 1 {
					t.Errorf("%d lines of the log tell of it, expected 1:\n%s", n, &s.log)
				}

				// The limit of one an hour is not used up, and the hold begins only now.
				if got := s.send(t, known, cartPod, nil); !got.Allowed {
					t.Errorf("forged reviews used up the limit: %+v", got.Result)
				}
				later := s.Now().Add(59 * time.Minute)
				s.Now = func() time.Time { return later }
				if got := s.send(t, known, heldPod, nil); got.Allowed || !strings.Contains(got.Result.Message, "one pod waits") {
					t.Errorf("the pod is not held: %+v", got.Result)
				}
				end := later.Add(30 * time.Minute)
				s.Now = func() time.Time { return end }
				if got := s.send(t, known, heldPod, nil); got.Allowed {
					t.Error("forged reviews began the hold, which is over before its hour")
				}
				s.Records.Close()
				if got, want := callersOf(t, &s.records), map[bool]string{true: "[  ]", false: "[unknown unknown unknown   ]"}[established]; got != want {
					t.Errorf("the records are of the callers %q, expected %q", got, want)
				}
			})
		}
	}
}

// callersOf lists the callers that records name.
func callersOf(t *testing.T, records *bytes.Buffer) string {
	t.Helper()
	list := []string{}
	for line := range bytes.Lines(records.Bytes()) {
		var r record.Record
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		list = append(list, r.Caller)
	}
	return fmt.Sprint(list)
}

// refusalsOf sums what the outcomes count.
func refusalsOf(t *testing.T, pods *fate.Pods) (sum float64) {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(pods)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			sum += m.GetCounter().GetValue()
		}
	}
	return sum
}

// The same reviews by the secret path have all the effects that the test before asserts the absence of.
func TestTheAPIServersReviewsHaveTheirEffects(t *testing.T) {
	s := newSite(t, true)
	known := hooks.EvictionsPath + "/" + testSecret
	if got := s.send(t, known, webPod, nil); !got.Allowed {
		t.Fatalf("answered %+v", got.Result)
	}
	if got := s.send(t, known, cartPod, nil); got.Allowed || !strings.Contains(got.Result.Message, "limit of 1 per cluster") {
		t.Errorf("the limit of one an hour does not hold: %+v", got.Result)
	}
	if got := s.send(t, known, heldPod, map[string]string{policies.OverrideAnnotation: "because"}); !got.Allowed {
		t.Errorf("the override is not granted: %+v", got.Result)
	}
	s.send(t, known, apiPod, nil)
	s.Records.Close()
	if s.live.reads.Load() == 0 || len(s.Gate.Events.queue) == 0 || s.observed != 4 || refusalsOf(t, s.Outcomes) != 2 || bytes.Count(s.records.Bytes(), []byte("\n")) != 4 {
		t.Errorf("%d live reads, %d Events, %d observed, records:\n%s", s.live.reads.Load(), len(s.Gate.Events.queue), s.observed, &s.records)
	}
	if n := testutil.CollectAndCount(s.Metrics.unknownCallers); n != 2 {
		t.Errorf("unknown callers of %d webhooks are counted from the start, expected both", n)
	}
	if n := testutil.ToFloat64(s.Metrics.unknownCallers.WithLabelValues(hookEvictions)); n != 0 {
		t.Errorf("%v of them are counted as unknown", n)
	}
}

// A forged review does not make others wait: it takes no turn.
func TestAForgedReviewTakesNoTurn(t *testing.T) {
	s := newSite(t, true)
	strange := *s.Gate
	strange.unknown = true
	set := s.Policies()
	done, err := strange.turn(t.Context(), &policies.Request{Namespace: "shop", Name: webPod}, set)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for range 2 { // while the strange one goes on
		next, err := s.turn(ctx, &policies.Request{Namespace: "shop", Name: webPod}, set)
		if err != nil {
			t.Fatalf("waited for a forged review: %v", err)
		}
		next()
	}
}

func TestTheCheckOfPoliciesIsForTheAPIServer(t *testing.T) {
	const path = "/validate-evictionpolicy"
	for name, c := range map[string]struct {
		path        string
		established bool
		passed      bool
	}{
		"the secret path": {path + "/" + testSecret, true, true},
		"the plain path, while the other is in force": {path, true, false},
		"a wrong secret": {path + "/" + strings.Repeat("f", 32), true, false},
		"the plain path, while nobody can be known": {path, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, c.established)
			passed := false
			guarded := s.Door.guard(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				passed = true
				_, _ = io.WriteString(w, `{"response":{}}`)
			}))
			response := post(&Front{Next: guarded}, c.path, review("web", nil))
			if passed != c.passed {
				t.Fatalf("passed on: %v", passed)
			}
			if got := answer(t, response); !passed && (got.Allowed || got.UID != "uid-web" || !strings.Contains(got.Result.Message, "try again in a few seconds")) {
				t.Errorf("answered %+v", got)
			}
		})
	}
}

func TestTheUIDIsFoundAtTheBeginningOfAReview(t *testing.T) {
	long := strings.Repeat(" ", uidWithin)
	for body, want := range map[string]types.UID{
		`{"kind":"AdmissionReview","request":{"uid":"u","object":{`:          "u",
		`{"uid":"no","request":{"kind":{"uid":"no"},"uid":"u"}}`:             "u",
		`{"request":{"kind":"uid","name":"uid","a":["uid","no"],"uid":"u"}}`: "u",
		`{"request":{` + long + `"uid":"u"}}`:                                "",
		`{"request":{}}`:                                                     "",
		`nonsense`:                                                           "",
		``:                                                                   "",
		strings.Repeat("[", 10_000):                                          "",
	} {
		if got := uidOf(strings.NewReader(body)); got != want {
			t.Errorf("%.40q has UID %q, expected %q", body, got, want)
		}
	}
}

func TestTheSecretIsMasked(t *testing.T) {
	for text, want := range map[string]string{
		`Post "https://evictgate.evictgate.svc:443/validate-eviction/` + testSecret + `?timeout=5s": EOF`: `Post "https://evictgate.evictgate.svc:443/validate-eviction/…?timeout=5s": EOF`,
		"https://h:1/validate-evictionpolicy/" + testSecret:                                               "https://h:1/validate-evictionpolicy/…",
		"/validate-eviction":          "/validate-eviction",
		"/validate-eviction?timeout=": "/validate-eviction?timeout=",
	} {
		if got := hooks.MaskPath(text); got != want {
			t.Errorf("%q is masked as %q, expected %q", text, got, want)
		}
	}
	response := post(&Front{}, hooks.EvictionsPath+"/"+testSecret, nil)
	if strings.Contains(response.Body.String(), testSecret) {
		t.Errorf("a refusal repeats the secret: %s", response.Body)
	}
}
