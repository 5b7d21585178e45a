package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Options say where spans go.
type Options struct {
	// Endpoint takes OTLP over HTTP: HOST:PORT, or a URL. With HOST:PORT it is called by TLS, unless
	// OTEL_EXPORTER_OTLP_INSECURE is true. The other OTEL_EXPORTER_OTLP_* variables give headers and
	// certificates: https://opentelemetry.io/docs/specs/otel/protocol/exporter/
	Endpoint string
	// Sample is the part of the requests without a parent that are traced, 0 to 1. Those with a parent
	// follow it.
	Sample float64
	// Version and Instance say in every span which process it is from.
	Version, Instance string
	Log               *slog.Logger
}

// tracesPath is where a collector takes spans, unless the endpoint names another path.
const tracesPath = "/v1/traces"

// New starts to send spans. An endpoint that is away is not an error: spans are dropped, and the log says so
// once a minute at most.
func New(ctx context.Context, o Options) (*Tracer, error) {
	if o.Sample < 0 || o.Sample > 1 {
		return nil, fmt.Errorf("the part that is traced is %v; expected 0 to 1", o.Sample)
	}
	where, err := endpoint(o.Endpoint)
	if err != nil {
		return nil, err
	}
	exporter, err := otlptracehttp.New(ctx, where...)
	if err != nil {
		return nil, fmt.Errorf("send traces to %s: %w", o.Endpoint, err)
	}
	who, err := resource.New(ctx,
		resource.WithAttributes(
			attribute.String("service.name", "evictgate"),
			attribute.String("service.version", o.Version),
			attribute.String("service.instance.id", o.Instance),
		),
		resource.WithFromEnv(), // OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME have the last word
	)
	if err != nil {
		return nil, fmt.Errorf("name the process in traces: %w", err)
	}
	errors := &errorLog{log: o.Log, endpoint: o.Endpoint, now: time.Now}
	otel.SetErrorHandler(errors) // the batches tell what becomes of them nowhere else
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter), // what comes while its queue is full is dropped
		sdktrace.WithResource(who),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(o.Sample))),
	)
	return &Tracer{provider: provider, tracer: provider.Tracer("github.com/evictgate/evictgate")}, nil
}

// endpoint reads HOST:PORT or a URL.
func endpoint(text string) ([]otlptracehttp.Option, error) {
	if !strings.Contains(text, "://") {
		if host, port, err := net.SplitHostPort(text); err != nil || host == "" || port == "" {
			return nil, fmt.Errorf("the endpoint of traces is %q; expected HOST:PORT or a URL", text)
		}
		return []otlptracehttp.Option{otlptracehttp.WithEndpoint(text), otlptracehttp.WithURLPath(tracesPath)}, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("the endpoint of traces is %q; expected HOST:PORT, or a URL with http or https", text)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = tracesPath
	}
	return []otlptracehttp.Option{otlptracehttp.WithEndpointURL(u.String())}, nil
}

// shutdownTimeout bounds how long the last spans are waited for.
const shutdownTimeout = 3 * time.Second

// Close sends what waits, as far as that is possible in three seconds.
func (t *Tracer) Close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		otel.Handle(err)
	}
}

// tellEvery is the least time between two lines about spans that do not arrive.
const tellEvery = time.Minute

// errorLog logs what goes wrong with spans, once in a while.
type errorLog struct {
	log      *slog.Logger
	endpoint string
	now      func() time.Time

	mu     sync.Mutex
	told   time.Time
	unsaid int
}

// Handle makes errorLog an otel.ErrorHandler.
func (e *errorLog) Handle(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if now := e.now(); now.Sub(e.told) >= tellEvery {
		e.log.Warn("traces are not delivered; decisions go on", "endpoint", e.endpoint, "error", err.Error(), "errors_unsaid", e.unsaid)
		e.told, e.unsaid = now, 0
		return
	}
	e.unsaid++
}
