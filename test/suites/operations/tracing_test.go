package operations

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
	"github.com/evictgate/evictgate/test/harness/otlp"
)

// An eviction that a budget refuses is one trace: the API server's request, its call of the webhook, and
// under that call what Evictgate did.
func TestOneEvictionIsOneTrace(t *testing.T) {
	kube.Need(t)
	g, pod := start(t, gate.Options{Args: []string{"--tracing-endpoint", "http://" + shared.traces.HTTP, "--tracing-sample", "0"}})
	createBudget(t, pod.Namespace)
	err := kube.Wait(t.Context(), "the budget to refuse", func(ctx context.Context) (bool, error) {
		err := evict(ctx, pod)
		return err != nil && strings.Contains(err.Error(), "disruption budget"), err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Terminate(); err != nil { // which sends what waits
		t.Fatal(err)
	}
	review := lastReview(shared.traces.Spans(), pod.Name)
	if review == nil {
		t.Fatal("no span of the refused eviction arrived")
	}
	above, spans := ancestry(t, review)
	call := above[0]
	if call.Service != "apiserver" || call.Kind != trace.Span_SPAN_KIND_CLIENT {
		t.Errorf("the review's span is not below the API server's call, but below %s", call)
	}
	if !slices.ContainsFunc(above, func(s otlp.Span) bool {
		return s.Service == "apiserver" && s.Text("webhook") == "evictions.evictgate.dev" && s.Text("UID") == review.Text("evictgate.review_uid")
	}) {
		t.Error("no span above it is that of the webhook in the API server")
	}
	if !slices.ContainsFunc(above, func(s otlp.Span) bool {
		return s.Kind == trace.Span_SPAN_KIND_SERVER && strings.HasSuffix(s.Text("url.path"), "/pods/"+pod.Name+"/eviction")
	}) {
		t.Error("no span above it is that of the client's request")
	}
	below := map[string]int{}
	for _, s := range spans {
		if s.Service == "evictgate" {
			below[s.Name+" < "+spans[string(s.ParentSpanId)].Name]++
		}
	}
	want := map[string]int{
		"review eviction < " + call.Name: 1, "wait for turn < review eviction": 1, "gather < review eviction": 1,
		"live read < gather": 2, "evaluate < review eviction": 1,
	}
	if diff := cmp.Diff(want, below); diff != "" {
		t.Errorf("spans of evictgate differ (-want +got):\n%s", diff)
	}
	if review.Text("evictgate.outcome") != "delayed" {
		t.Errorf("the review's span is %s", review)
	}
}

func createBudget(t *testing.T, namespace string) {
	t.Helper()
	all := intstr.FromInt32(1)
	_, err := shared.Client.PolicyV1().PodDisruptionBudgets(namespace).Create(t.Context(), &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "web"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &all, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// lastReview is the last review of the pod that was confirmed to be refused.
func lastReview(spans []otlp.Span, pod string) *otlp.Span {
	for i := len(spans) - 1; i >= 0; i-- {
		if s := spans[i]; s.Name == "review eviction" && s.Text("k8s.pod.name") == pod {
			return &s
		}
	}
	return nil
}

// ancestry is what is above a span, the nearest first, and all of its trace by id, once it is complete: the
// API server sends every five seconds.
func ancestry(t *testing.T, of *otlp.Span) (above []otlp.Span, all map[string]otlp.Span) {
	t.Helper()
	err := kube.Wait(t.Context(), "the whole trace", func(context.Context) (bool, error) {
		all = map[string]otlp.Span{}
		for _, s := range shared.traces.Spans() {
			if string(s.TraceId) == string(of.TraceId) {
				all[string(s.SpanId)] = s
			}
		}
		above = nil
		last := *of
		for len(last.ParentSpanId) > 0 {
			next, ok := all[string(last.ParentSpanId)]
			if !ok {
				return false, fmt.Errorf("nothing is above %s", last.Name)
			}
			above, last = append(above, next), next
		}
		return len(above) > 0, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return above, all
}

// A collector that is away costs no decision anything.
func TestEvictionsGoOnWithoutACollector(t *testing.T) {
	g, pod := start(t, gate.Options{Args: []string{"--tracing-endpoint", "http://127.0.0.1:1"}})
	if err := evict(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	if err := g.Terminate(); err != nil {
		t.Error(err)
	}
	if n := strings.Count(g.Log(), "traces are not delivered"); n != 1 {
		t.Errorf("the log says %d times that traces are not delivered:\n%s", n, g.Log())
	}
}
