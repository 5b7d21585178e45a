package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	ctrlwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/evictgate/evictgate/webhook/listen"
)

const (
	// webhookConnections is far more than API servers have reviews at once; sideConnections is for scrapers and the
	// kubelet.
	webhookConnections = 1024
	sideConnections    = 64
	// answerWithin is beyond the longest deadline of a review: then the sender does not read its answer.
	answerWithin = maxTimeout + 10*time.Second
	// sideArrive and sideAnswer bound a request for metrics or health.
	sideArrive, sideAnswer = 10 * time.Second, time.Minute
	// scrapes bounds how many are answered at once.
	scrapes = 8
)

// hookServer is the manager's webhook server: controller-runtime's, behind a listener with bounds.
type hookServer struct {
	ctrlwebhook.Server
	options func(http.Handler) listen.Options
	// started is the address, once it listens.
	started atomic.Pointer[string]
}

// Start serves until ctx is done, and the reviews in flight are answered.
func (h *hookServer) Start(ctx context.Context) error {
	server, err := listen.New(ctx, h.options(h.WebhookMux()))
	if err != nil {
		return err
	}
	address := server.Addr().String()
	h.started.Store(&address)
	return server.Serve(ctx)
}

var errNotStarted = errors.New("the webhook server has not been started yet")

// StartedChecker shakes hands with the server.
func (h *hookServer) StartedChecker() healthz.Checker {
	return func(r *http.Request) error {
		address := h.started.Load()
		if address == nil {
			return errNotStarted
		}
		ctx, cancel := context.WithTimeout(r.Context(), reachWithin)
		defer cancel()
		// It is our own certificate, of a name that we do not know.
		dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
		// Of an unspecified address Go takes the loopback interface's; no name is looked up, for which an image has
		// no file of hosts.
		conn, err := dialer.DialContext(ctx, "tcp", *address)
		if err != nil {
			return fmt.Errorf("the webhook server cannot be reached: %w", err)
		}
		return conn.Close()
	}
}

// reachWithin is how long the server may take to shake hands with itself.
const reachWithin = 10 * time.Second

func (s *Server) webhooks(handler http.Handler) listen.Options {
	secure := s.secure()
	if s.options.Callers != nil {
		s.options.Callers.Demand(secure)
	}
	return listen.Options{
		Name: "webhook", Address: s.options.Listen, Handler: handler, TLS: secure, HTTP2: s.options.HTTP2,
		Connections: webhookConnections, Answer: answerWithin, Grace: shutdownTimeout, Refused: s.options.Gate.Metrics.ConnectionRefused("webhook"),
	}
}

func (s *Server) secure() *tls.Config {
	return listen.Secure(s.options.Certificates.GetCertificate, s.options.HTTP2)
}

// beside serves metrics and health while start runs. A listener that fails ends it by stop.
func (s *Server) beside(ctx context.Context, stop func(), start func(context.Context) error) error {
	served, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()
	var listeners errgroup.Group
	for _, o := range []listen.Options{s.health(), s.metrics()} {
		if o.Address == "0" || o.Address == "" {
			continue
		}
		server, err := listen.New(ctx, o)
		if err != nil {
			hangUp()
			return errors.Join(err, listeners.Wait())
		}
		listeners.Go(func() error {
			err := server.Serve(served)
			if err != nil {
				stop()
			}
			return err
		})
	}
	err := start(ctx)
	hangUp()
	return errors.Join(err, listeners.Wait())
}

func (s *Server) side(name, address string, handler http.Handler) listen.Options {
	return listen.Options{
		Name: name, Address: address, Handler: handler, Connections: sideConnections, Arrive: sideArrive, Answer: sideAnswer,
		Grace: time.Second, Refused: s.options.Gate.Metrics.ConnectionRefused(name),
	}
}

func (s *Server) health() listen.Options {
	mux := http.NewServeMux()
	for path, checks := range map[string]map[string]healthz.Checker{"/healthz": s.healthy, "/readyz": s.ready} {
		handler := http.StripPrefix(path, &healthz.Handler{Checks: checks})
		mux.Handle(path, handler)
		mux.Handle(path+"/", handler)
	}
	return s.side("health", s.options.HealthListen, mux)
}

func (s *Server) metrics() listen.Options {
	handler := promhttp.HandlerFor(ctrlmetrics.Registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.HTTPErrorOnError, MaxRequestsInFlight: scrapes,
	})
	if s.options.MetricsGuard != nil {
		handler = s.options.MetricsGuard(handler)
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", handler)
	o := s.side("metrics", s.options.MetricsListen, mux)
	if s.options.MetricsGuard != nil {
		o.TLS, o.HTTP2 = s.secure(), s.options.HTTP2
	}
	return o
}
