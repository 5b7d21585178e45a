package tracing

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evictgate/evictgate/test/harness/otlp"
)

const (
	traceID  = "0af7651916cd43dd8448eb211c80319c"
	parentID = "b7ad6b7169203331"
)

// header is the one the API server sends.
func header(flags string) http.Header {
	return http.Header{"Traceparent": {"00-" + traceID + "-" + parentID + "-" + flags}}
}

func receiver(t *testing.T) *otlp.Receiver {
	t.Helper()
	r, err := otlp.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func tracer(t *testing.T, o Options) *Tracer {
	t.Helper()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	tr, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// step makes a span with one below it.
func step(t *Tracer, h http.Header) {
	ctx, span := t.Continue(context.Background(), h, "above")
	defer span.End()
	_, below := t.Start(ctx, "below")
	below.Fail("it failed")
	below.End()
}

func TestASpanIsMadeWhenItsParentIs(t *testing.T) {
	for name, c := range map[string]struct {
		sample float64
		header http.Header
		want   int
	}{
		"the sender traces, and nothing else would be": {0, header("01"), 2},
		"the sender does not trace, and all else is":   {1, header("00"), 0},
		"no parent, all are traced":                    {1, nil, 2},
		"no parent, none are traced":                   {0, nil, 0},
		"a header that cannot be read":                 {0, http.Header{"Traceparent": {"hello"}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := receiver(t)
			tr := tracer(t, Options{Endpoint: "http://" + r.HTTP, Sample: c.sample})
			step(tr, c.header)
			tr.Close()
			if got := len(r.Spans()); got != c.want {
				t.Errorf("%d spans arrived, expected %d", got, c.want)
			}
		})
	}
}

func TestSpansContinueTheTraceOfTheSender(t *testing.T) {
	r := receiver(t)
	t.Setenv("OTEL_EXPORTER_OTLP_INSECURE", "true")
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=platform")
	tr := tracer(t, Options{Endpoint: r.HTTP, Sample: 0})
	step(tr, header("01"))
	tr.Close()
	type node struct{ Service, Name, Trace, Parent, Status string }
	ids := map[string]string{parentID: "the API server's"}
	for _, s := range r.Spans() {
		ids[hex(s.SpanId)] = s.Name
	}
	got := map[string]node{}
	for _, s := range r.Spans() {
		got[s.Name] = node{s.Service, s.Name, hex(s.TraceId), ids[hex(s.ParentSpanId)], s.Status.GetMessage()}
	}
	want := map[string]node{
		"above": {"evictgate", "above", traceID, "the API server's", ""},
		"below": {"evictgate", "below", traceID, "above", "it failed"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("spans differ (-want +got):\n%s", diff)
	}
	if h := r.Headers(); len(h) == 0 || h[0].Get("X-Team") != "platform" {
		t.Errorf("the header of the environment is not sent: %v", h)
	}
}

func hex(id []byte) string { return fmt.Sprintf("%x", id) }

func TestNobodyTraces(t *testing.T) {
	var tr *Tracer
	allocated := testing.AllocsPerRun(100, func() { step(tr, nil) })
	if allocated != 0 {
		t.Errorf("a step that is not traced allocates %v times", allocated)
	}
	tr.Close()
}

// An endpoint that takes connections and answers nothing is worse than one that refuses them.
func TestAnEndpointThatIsAwayHoldsNobodyUp(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	var log bytes.Buffer
	tr := tracer(t, Options{Endpoint: "http://" + silent.Addr().String(), Sample: 1, Log: slog.New(slog.NewTextHandler(&log, nil))})
	start := time.Now()
	for range 10_000 { // more than the queue takes
		step(tr, nil)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("10,000 steps took %s", took)
	}
	start = time.Now()
	tr.Close()
	if took := time.Since(start); took > 2*shutdownTimeout {
		t.Errorf("the end took %s", took)
	}
	if n := strings.Count(log.String(), "traces are not delivered"); n != 1 {
		t.Errorf("the log says it %d times:\n%s", n, log.String())
	}
}

func TestTheLogSaysItOnceInAWhile(t *testing.T) {
	var log bytes.Buffer
	now := time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)
	e := &errorLog{log: slog.New(slog.NewTextHandler(&log, nil)), now: func() time.Time { return now }}
	for range 130 { // a little more than two minutes
		e.Handle(context.DeadlineExceeded)
		now = now.Add(time.Second)
	}
	if n := strings.Count(log.String(), "not delivered"); n != 3 || strings.Count(log.String(), "errors_unsaid=59") != 2 {
		t.Errorf("the log says it %d times:\n%s", n, log.String())
	}
}

func TestEndpointsThatCannotBeMeant(t *testing.T) {
	for name, c := range map[string]struct {
		options Options
		want    string
	}{
		"a name without port": {Options{Endpoint: "collector"}, "expected HOST:PORT or a URL"},
		"a port without name": {Options{Endpoint: ":4318"}, "expected HOST:PORT or a URL"},
		"another scheme":      {Options{Endpoint: "grpc://collector:4317"}, "with http or https"},
		"no host":             {Options{Endpoint: "http://"}, "with http or https"},
		"more than all":       {Options{Endpoint: "collector:4318", Sample: 1.5}, "expected 0 to 1"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := New(t.Context(), c.options); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, expected %q", err, c.want)
			}
		})
	}
}
