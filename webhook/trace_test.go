package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"

	"github.com/evictgate/evictgate/certs"
	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/test/harness/otlp"
	"github.com/evictgate/evictgate/webhook/hooks"
	"github.com/evictgate/evictgate/webhook/tracing"
)

// traced is a gate whose spans go to a receiver; with its spans the tracer is closed.
func traced(t testing.TB, sample float64) (g *Gate, spans func() []otlp.Span) {
	t.Helper()
	receiver, err := otlp.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(receiver.Close)
	g = newGate(t, io.Discard)
	g.Tracer, err = tracing.New(context.Background(), tracing.Options{
		Endpoint: "http://" + receiver.HTTP, Sample: sample, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Tracer.Close)
	return g, func() []otlp.Span {
		g.Tracer.Close()
		return receiver.Spans()
	}
}

// tree draws spans as "name < parent".
func tree(spans []otlp.Span) map[string]int {
	names := map[string]string{"": "nobody"}
	for _, s := range spans {
		names[string(s.SpanId)] = s.Name
	}
	drawn := map[string]int{}
	for _, s := range spans {
		drawn[s.Name+" < "+names[string(s.ParentSpanId)]]++
	}
	return drawn
}

// away is an API server that cannot be reached.
type away struct{}

func (away) Pod(context.Context, string, string) (*corev1.Pod, error) {
	return nil, errors.New("the API server is away")
}

func (away) Budget(context.Context, string, string) (*policyv1.PodDisruptionBudget, error) {
	return nil, errors.New("the API server is away")
}

func TestAReviewIsTraced(t *testing.T) {
	g, spans := traced(t, 1)
	g.Cluster.Live = TraceLive(away{}, g.Tracer)
	answer(t, post(front(g), hooks.EvictionsPath, review("api-7d4b9c6f5-4c8tr", nil)))
	got := spans()
	want := map[string]int{
		"review eviction < nobody": 1, "wait for turn < review eviction": 1,
		"gather < review eviction": 1, "live read < gather": 1, "evaluate < review eviction": 1,
	}
	if diff := cmp.Diff(want, tree(got)); diff != "" {
		t.Fatalf("spans differ (-want +got):\n%s", diff)
	}
	for _, s := range got {
		if strings.Contains(s.String(), "admin") || strings.Contains(s.String(), "system:masters") {
			t.Errorf("a span says who asked: %s", s)
		}
		switch failed := s.Status.GetCode() == trace.Status_STATUS_CODE_ERROR; s.Name {
		case spanReview:
			if s.Text("evictgate.outcome") != "delayed" || s.Text("k8s.pod.name") != "api-7d4b9c6f5-4c8tr" || s.Text("evictgate.review_uid") == "" || failed {
				t.Errorf("the review's span is %s", s)
			}
		case spanGather:
			if s.Text("evictgate.confirmation") != "unreachable" || failed {
				t.Errorf("the span of gather is %s", s)
			}
		case spanLive:
			if !failed || s.Status.Message != "the API server is away" {
				t.Errorf("the span of the live read is %s", s)
			}
		}
	}
}

func TestWhatIsNotDecidedFailsItsSpan(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*Gate)
		body  []byte
		want  string
	}{
		"no review at all":   {func(*Gate) {}, []byte("hello"), "not an AdmissionReview"},
		"no policies yet":    {func(g *Gate) { g.Policies = func() *policies.Set { return nil } }, review("web", nil), "not loaded yet"},
		"a panic on the way": {func(g *Gate) { g.Cluster = nil }, review("web", nil), "panic"},
		"a panic before all": {func(g *Gate) { g.Policies = nil }, review("web", nil), "panic"},
	} {
		t.Run(name, func(t *testing.T) {
			g, spans := traced(t, 1)
			c.spoil(g)
			post(front(g), hooks.EvictionsPath, c.body)
			for _, s := range spans() {
				if s.Name == spanReview && s.Status.GetCode() == trace.Status_STATUS_CODE_ERROR && strings.Contains(s.Status.Message, c.want) {
					return
				}
			}
			t.Error("no review's span has failed")
		})
	}
}

func TestNothingIsTracedWhenTheAPIServerDoesNot(t *testing.T) {
	g, spans := traced(t, 1)
	request := typed("application/json", bytes.NewReader(review("api-7d4b9c6f5-4c8tr", nil)))
	request.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
	front(g).ServeHTTP(httptest.NewRecorder(), request)
	if got := spans(); len(got) != 0 {
		t.Errorf("%d spans were sent", len(got))
	}
}

// served is a source of a certificate, or of none.
type served struct {
	Certificates
	leaf *tls.Certificate
}

func (s served) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if s.leaf == nil {
		return nil, errors.New("not yet")
	}
	return s.leaf, nil
}

func TestTheCertificateTellsWhenItEnds(t *testing.T) {
	source, err := certs.Ephemeral([]string{"localhost"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := source.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	const name = "evictgate_certificate_expiration_timestamp_seconds"
	want := fmt.Sprintf("# HELP %s When the certificate that is served now ends, in seconds since 1970; absent while there is none.\n# TYPE %s gauge\n%s %d\n",
		name, name, name, leaf.Leaf.NotAfter.Unix())
	bare := *leaf
	bare.Leaf = nil // as a source may hand it out
	for _, c := range []*tls.Certificate{leaf, &bare} {
		if err := testutil.CollectAndCompare(CertificateExpiry(served{leaf: c}), strings.NewReader(want)); err != nil {
			t.Error(err)
		}
	}
	if n := testutil.CollectAndCount(CertificateExpiry(served{})); n != 0 {
		t.Errorf("without a certificate there are %d metrics", n)
	}
}

// BenchmarkReview is a review from its bytes to its answer. Compare "off" with the commit before a change.
func BenchmarkReview(b *testing.B) {
	body := review("api-7d4b9c6f5-4c8tr", nil)
	for _, c := range []struct {
		name   string
		sample float64
	}{{"off", -1}, {"1 percent", 0.01}, {"all", 1}} {
		b.Run(c.name, func(b *testing.B) {
			g := newGate(b, io.Discard)
			if c.sample >= 0 {
				g, _ = traced(b, c.sample)
			}
			handler := front(g)
			b.ReportAllocs()
			for b.Loop() {
				request, _ := http.NewRequest(http.MethodPost, hooks.EvictionsPath+"?timeout=5s", bytes.NewReader(body))
				request.Header.Set("Content-Type", "application/json")
				handler.ServeHTTP(httptest.NewRecorder(), request)
			}
		})
	}
}
