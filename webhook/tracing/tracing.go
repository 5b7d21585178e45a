// Package tracing makes OpenTelemetry spans of what happens to an eviction, and sends them by OTLP over HTTP.
// It is the only package that knows OpenTelemetry. A nil Tracer and a nil Span do nothing and cost nothing,
// so whoever is traced need not ask whether anybody looks.
package tracing

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Tracer begins spans. It is safe for concurrent use.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// Span is a step that takes time. It belongs to one goroutine.
type Span struct{ span trace.Span }

// parents reads the W3C traceparent header, which the API server sends to webhooks.
var parents propagation.TraceContext

// Continue begins the span of a request under the one that its header names, whose sender also decides
// whether there is to be one.
func (t *Tracer) Continue(ctx context.Context, header http.Header, name string) (context.Context, *Span) {
	if t == nil {
		return ctx, nil
	}
	ctx = parents.Extract(ctx, propagation.HeaderCarrier(header))
	ctx, span := t.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer))
	return ctx, wanted(span)
}

// Start begins a span below the one in ctx; there is none below nothing.
func (t *Tracer) Start(ctx context.Context, name string) (context.Context, *Span) {
	if t == nil || !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, nil
	}
	ctx, span := t.tracer.Start(ctx, name)
	return ctx, wanted(span)
}

// wanted is nil for a span that nobody will see.
func wanted(span trace.Span) *Span {
	if !span.IsRecording() {
		return nil
	}
	return &Span{span}
}

// Text sets an attribute.
func (s *Span) Text(key, value string) {
	if s != nil {
		s.span.SetAttributes(attribute.String(key, value))
	}
}

// Texts sets an attribute to a list.
func (s *Span) Texts(key string, values []string) {
	if s != nil {
		s.span.SetAttributes(attribute.StringSlice(key, values))
	}
}

// Number sets an attribute.
func (s *Span) Number(key string, value int) {
	if s != nil {
		s.span.SetAttributes(attribute.Int(key, value))
	}
}

// Flag sets an attribute.
func (s *Span) Flag(key string, value bool) {
	if s != nil {
		s.span.SetAttributes(attribute.Bool(key, value))
	}
}

// On reports whether what is set will be seen.
func (s *Span) On() bool { return s != nil }

// Fail gives the span the status of an error.
func (s *Span) Fail(why string) {
	if s != nil {
		s.span.SetStatus(codes.Error, why)
	}
}

// End ends the span; what follows is not part of it.
func (s *Span) End() {
	if s != nil {
		s.span.End()
	}
}
