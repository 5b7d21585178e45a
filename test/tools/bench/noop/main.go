// Command noop is what evictgate is measured against: a controller-runtime admission.Webhook that admits
// everything, on controller-runtime's own server, with the TLS settings and the kind of certificate that
// evictgate has.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/evictgate/evictgate/certs"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9443", "address of the webhook")
	caOut := flag.String("ca-out", "ca.crt", "file for the throwaway CA")
	path := flag.String("path", "/validate-eviction", "path of the webhook")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, *listen, *caOut, *path); err != nil {
		fmt.Fprintf(os.Stderr, "noop: %v\n", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, listen, caOut, path string) error {
	ctrl.SetLogger(logr.FromSlogHandler(slog.NewTextHandler(os.Stderr, nil)))
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return err
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("-listen: %w", err)
	}
	source, err := certs.Ephemeral(nil, []net.IP{net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	if err := os.WriteFile(caOut, source.CAPEM(), 0o600); err != nil {
		return err
	}
	server := webhook.NewServer(webhook.Options{Host: host, Port: port, TLSOpts: []func(*tls.Config){func(c *tls.Config) {
		c.GetCertificate = source.GetCertificate
		c.MinVersion = tls.VersionTLS12
		c.NextProtos = []string{"h2", "http/1.1"}
	}}})
	server.Register(path, &admission.Webhook{
		Handler: admission.HandlerFunc(func(context.Context, admission.Request) admission.Response {
			return admission.Allowed("")
		}),
		// As evictgate does: the default makes a logger with six values for every review.
		LogConstructor: func(base logr.Logger, _ *admission.Request) logr.Logger { return base },
	})
	return server.Start(ctx)
}
