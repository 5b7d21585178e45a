package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/pflag"

	"github.com/evictgate/evictgate/webhook/tracing"
)

// tracingFlags say where traces go, and of what.
type tracingFlags struct {
	endpoint string
	sample   float64
}

func (f *tracingFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.endpoint, "tracing-endpoint", "", "send OpenTelemetry traces here, by OTLP over HTTP: HOST:PORT, or a URL; headers and TLS by the OTEL_EXPORTER_OTLP_* variables; default: none are made")
	flags.Float64Var(&f.sample, "tracing-sample", 1, "the part of the reviews that is traced when the API server does not trace, 0 to 1; when it does, Evictgate traces what it traces")
}

func (f *tracingFlags) validate() error {
	switch {
	case f.sample < 0 || f.sample > 1:
		return fmt.Errorf("--tracing-sample is %v; expected 0 to 1", f.sample)
	case f.endpoint == "" && f.sample != 1:
		return errors.New("--tracing-sample is for --tracing-endpoint, and there is none")
	}
	return nil
}

// open is nil when nothing is traced.
func (f *tracingFlags) open(ctx context.Context, log *slog.Logger) (*tracing.Tracer, error) {
	if f.endpoint == "" {
		return nil, nil
	}
	hostname, _ := os.Hostname()
	tracer, err := tracing.New(ctx, tracing.Options{
		Endpoint: f.endpoint, Sample: f.sample, Version: currentVersion().Version, Instance: hostname, Log: log,
	})
	if err != nil {
		return nil, fmt.Errorf("--tracing-endpoint: %w", err)
	}
	return tracer, nil
}
