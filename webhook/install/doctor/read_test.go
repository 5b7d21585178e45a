package doctor

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"

	"github.com/evictgate/evictgate/webhook"
)

func TestPodsThatHaveJustBecomeReadyAreWaitedFor(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	ready := func(ago time.Duration) corev1.Pod {
		c := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-ago))}
		return corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{c}}}
	}
	for name, tt := range map[string]struct {
		pods []corev1.Pod
		want time.Duration
	}{
		"no pod":                        {nil, 0},
		"ready for long":                {[]corev1.Pod{ready(time.Hour)}, 0},
		"the last one decides":          {[]corev1.Pod{ready(time.Hour), ready(time.Second), ready(2 * time.Second)}, 3 * time.Second},
		"a clock that is behind theirs": {[]corev1.Pod{ready(-time.Hour)}, settling},
	} {
		t.Run(name, func(t *testing.T) {
			if got := unsettled(tt.pods, now); got != tt.want {
				t.Errorf("waits %s, expected %s", got, tt.want)
			}
		})
	}
}

func TestWhatTheUserLeftOpenIsSettled(t *testing.T) {
	notIn := func(names ...string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpNotIn, Values: names}}}
	}
	hook := func(f *Facts) *admissionregistrationv1.ValidatingWebhook { return &f.Configuration.Value.Webhooks[0] }
	for name, c := range map[string]struct {
		change           func(*Facts)
		namespace, probe string
	}{
		"what the configuration says":          {func(f *Facts) { hook(f).ClientConfig.Service.Namespace = "gates" }, "gates", "default"},
		"what the user says":                   {func(f *Facts) { f.Namespace, f.ProbeNamespace = "mine", "kube-system" }, "mine", "kube-system"},
		"no configuration":                     {func(f *Facts) { f.Configuration.Value = nil }, "evictgate", "default"},
		"a gate outside the cluster":           {func(f *Facts) { hook(f).ClientConfig.Service = nil }, "evictgate", "default"},
		"default is exempt":                    {func(f *Facts) { hook(f).NamespaceSelector = notIn("default") }, "evictgate", "kube-system"},
		"all are exempt":                       {func(f *Facts) { hook(f).NamespaceSelector = notIn("default", "evictgate", "kube-system") }, "evictgate", "default"},
		"the gate's own is not a place to try": {func(f *Facts) { hook(f).NamespaceSelector = notIn("default", "kube-system") }, "evictgate", "default"},
		"a namespace that is on its way out": {func(f *Facts) {
			hook(f).NamespaceSelector = notIn("default")
			f.Namespaces.Value[2].DeletionTimestamp = new(metav1.Now())
		}, "evictgate", "default"},
		"the user insists on an exempt place": {func(f *Facts) { hook(f).NamespaceSelector = notIn("default"); f.ProbeNamespace = "default" }, "evictgate", "default"},
	} {
		t.Run(name, func(t *testing.T) {
			f := whole(t)
			f.Namespace, f.ProbeNamespace = "", ""
			c.change(f)
			f.settle()
			if f.Namespace != c.namespace || f.ProbeNamespace != c.probe {
				t.Errorf("looks at %s and tries in %s, expected %s and %s", f.Namespace, f.ProbeNamespace, c.namespace, c.probe)
			}
		})
	}
}

func TestAStatusIsOfOneGeneration(t *testing.T) {
	policy := func(generation, observed int64) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"metadata": map[string]any{
				"name": "night", "generation": generation, "creationTimestamp": "2026-11-01T12:00:00Z",
				"managedFields": []any{
					map[string]any{"manager": "kubectl", "time": "2026-11-02T11:00:00Z"},
					map[string]any{"manager": "evictgate", "subresource": "status", "time": "2026-11-02T11:30:00Z"},
				},
			},
			"status": map[string]any{
				"observedGeneration": observed,
				"conditions":         []any{map[string]any{"type": "Ready", "status": "True", "message": "compiled"}},
			},
		}}
	}
	changed := noon.Add(-time.Hour)
	for name, c := range map[string]struct {
		object *unstructured.Unstructured
		want   Policy
	}{
		"looked at":        {policy(2, 2), Policy{Name: "night", Ready: "True", Message: "compiled", Changed: changed}},
		"edited meanwhile": {policy(3, 2), Policy{Name: "night", Changed: changed}},
	} {
		if diff := cmp.Diff(c.want, policyOf(c.object)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
}

// An API server may be so slow that only the first question is answered.
func TestTimeMayRunOut(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/version" {
			_, _ = w.Write([]byte(`{"major": "1", "minor": "37"}`))
			return
		}
		<-req.Context().Done()
	}))
	defer server.Close()
	r, err := NewReader(&rest.Config{Host: server.URL}, Target{Configuration: standard, Name: standard})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	f, err := r.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	list := Examine(f)
	for _, want := range []Finding{
		{Check: "server", Status: OK, Text: "the API server answers, version "},
		{Check: "configuration", Status: NotChecked, Text: "time ran out"},
		{Check: "replicas", Status: NotChecked, Text: "time ran out"},
		{Check: "gate", Status: NotChecked, Text: "time ran out"},
		{Check: "timeout", Status: Warning, Text: "time ran out before everything was asked; what is missing is not checked", Cure: "raise --timeout"},
	} {
		if !slices.Contains(list, want) {
			t.Errorf("no %+v in %+v", want, list)
		}
	}
	if Count(list, Problem) > 0 {
		t.Errorf("what is not known is called a problem: %+v", list)
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if f, err := r.Read(ctx); err == nil {
		t.Errorf("somebody who broke off is told %+v", Examine(f))
	}
}

// No round uses a connection of another one: a load balancer may give the next to another API server.
func TestProbesGoInRounds(t *testing.T) {
	explanation, err := json.Marshal(webhook.Explanation{Outcome: "admitted", Replica: "a"})
	if err != nil {
		t.Fatal(err)
	}
	explained, err := utilnet.NewWarningHeader(299, "-", "evictgate: "+string(explanation))
	if err != nil {
		t.Fatal(err)
	}
	three := []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"}
	for name, c := range map[string]struct {
		servers          []string
		warning, message string
		rounds           int
	}{
		"one API server":                         {three[:1], explained, `pods "x" not found`, 1},
		"three API servers":                      {three, explained, `pods "x" not found`, 3},
		"the first round has seen what is wrong": {three, explained, `failed calling webhook "x"`, 1},
		"nobody explains":                        {three, "", `pods "x" not found`, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			requests, roundOf := 0, map[string]int{}
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				round := requests / probesAtOnce
				if before, known := roundOf[req.RemoteAddr]; known && before != round {
					t.Errorf("round %d uses a connection of round %d", round, before)
				}
				requests, roundOf[req.RemoteAddr] = requests+1, round
				w.Header().Set("Content-Type", "application/json")
				if c.warning != "" {
					w.Header().Set("Warning", c.warning)
				}
				w.WriteHeader(http.StatusNotFound)
				_ = json.NewEncoder(w).Encode(metav1.Status{
					TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Code: http.StatusNotFound, Message: c.message,
				})
			}))
			server.Config.ErrorLog = log.New(io.Discard, "", 0) // of connections that were not needed after all
			server.EnableHTTP2 = true
			server.StartTLS()
			defer server.Close()
			ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
			r, err := NewReader(&rest.Config{Host: server.URL, TLSClientConfig: rest.TLSClientConfig{CAData: ca}}, Target{})
			if err != nil {
				t.Fatal(err)
			}
			f := &Facts{Target: Target{ProbeNamespace: "default"}}
			f.Servers.Value = []discoveryv1.EndpointSlice{{Endpoints: []discoveryv1.Endpoint{{Addresses: c.servers}}}}
			r.probe(t.Context(), f)
			if want := c.rounds * probesAtOnce; len(f.Probes.Value) != want || requests != want {
				t.Errorf("%d probes by %d requests, expected %d: %+v", len(f.Probes.Value), requests, want, f.Probes)
			}
		})
	}
}
