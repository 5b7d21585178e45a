// Package otlp receives OpenTelemetry traces in tests, by both of OTLP's protocols: Evictgate sends by HTTP,
// kube-apiserver by gRPC.
package otlp

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// Span is what was received of a span, with the service that sent it.
type Span struct {
	Service string
	*trace.Span
}

// Receiver takes traces until it is closed.
type Receiver struct {
	collector.UnimplementedTraceServiceServer
	// HTTP and GRPC are its addresses, HOST:PORT.
	HTTP, GRPC string

	mu      sync.Mutex
	spans   []Span
	headers []http.Header
	close   func()
}

// Start listens on 127.0.0.1.
func Start() (*Receiver, error) {
	forHTTP, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	forGRPC, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		_ = forHTTP.Close()
		return nil, err
	}
	r := &Receiver{HTTP: forHTTP.Addr().String(), GRPC: forGRPC.Addr().String()}
	web, rpc := &http.Server{Handler: r}, grpc.NewServer()
	collector.RegisterTraceServiceServer(rpc, r)
	go func() { _ = web.Serve(forHTTP) }()
	go func() { _ = rpc.Serve(forGRPC) }()
	r.close = func() { _ = web.Close(); rpc.Stop() }
	return r, nil
}

// Close ends both servers.
func (r *Receiver) Close() { r.close() }

// ServeHTTP is OTLP over HTTP.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	raw, err := io.ReadAll(request.Body)
	var message collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(raw, &message)
	}
	if err != nil || request.URL.Path != "/v1/traces" {
		http.Error(w, "expected spans on /v1/traces", http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	r.headers = append(r.headers, request.Header)
	r.mu.Unlock()
	r.add(&message)
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// Export is OTLP over gRPC.
func (r *Receiver) Export(_ context.Context, message *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.add(message)
	return &collector.ExportTraceServiceResponse{}, nil
}

func (r *Receiver) add(message *collector.ExportTraceServiceRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, resource := range message.ResourceSpans {
		service := text(resource.Resource.GetAttributes(), "service.name")
		for _, scope := range resource.ScopeSpans {
			for _, span := range scope.Spans {
				r.spans = append(r.spans, Span{service, span})
			}
		}
	}
}

// Spans are those received so far.
func (r *Receiver) Spans() []Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.spans)
}

// Headers are those of the calls by HTTP so far.
func (r *Receiver) Headers() []http.Header {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.headers)
}

// Text is an attribute of a span; empty when it has none of that name.
func (s Span) Text(key string) string { return text(s.GetAttributes(), key) }

func text(attributes []*common.KeyValue, key string) string {
	for _, a := range attributes {
		if a.Key == key {
			return a.Value.GetStringValue()
		}
	}
	return ""
}
