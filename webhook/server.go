package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	ctrlwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"
)

// Certificates is where the serving certificate comes from.
type Certificates interface {
	manager.Runnable
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Ready(*http.Request) error
}

// Callers says who may call the webhooks, by their client certificates.
type Callers interface {
	// Demand changes the configuration of the webhooks' listener.
	Demand(*tls.Config)
	Ready(*http.Request) error
}

// ServerOptions are the parts of a Server.
type ServerOptions struct {
	// RESTConfig reaches the API server; nil when a snapshot is served.
	RESTConfig   *rest.Config
	Gate         *Gate
	Certificates Certificates
	// Handlers are further webhooks by path; a Front stands before each.
	Handlers map[string]http.Handler
	// Runnables run as long as the server: informers, sources of policies.
	Runnables []manager.Runnable
	// Checks must all pass before the server is ready; the certificate's own is added.
	Checks map[string]healthz.Checker
	// Listen, MetricsListen and HealthListen are addresses as net.Listen takes them; "0" turns
	// metrics or health off.
	Listen, MetricsListen, HealthListen string
	// MetricsGuard stands before /metrics, which then is served over TLS with the serving certificate. Nil
	// serves it to everybody, without TLS.
	MetricsGuard func(http.Handler) http.Handler
	// Callers demands certificates of those who call the webhooks; nil lets everybody call.
	Callers Callers
	// ShutdownDelay is how long the server goes on answering after it was told to stop, while it
	// is not ready any more, so that the API server's calls move elsewhere.
	ShutdownDelay time.Duration
	Log           *slog.Logger
}

// Server serves reviews until its context is done.
type Server struct {
	options ServerOptions
	manager manager.Manager
	fronts  []*Front
}

// shutdownTimeout bounds how long reviews in flight are waited for.
const shutdownTimeout = 30 * time.Second

var (
	// errDraining is the readiness of a server that was told to stop.
	errDraining = errors.New("shutting down")
	// errNoCertificate refers to the check that says more.
	errNoCertificate = errors.New("waits for the certificate")
)

// NewServer puts the parts together; nothing listens before Run.
func NewServer(o ServerOptions) (*Server, error) {
	host, port, err := splitAddress(o.Listen)
	if err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	options := manager.Options{
		Logger:                 logr.FromSlogHandler(o.Log.Handler()),
		Metrics:                o.metrics(),
		HealthProbeBindAddress: o.HealthListen,
		WebhookServer: ctrlwebhook.NewServer(ctrlwebhook.Options{
			Host: host, Port: port,
			TLSOpts: []func(*tls.Config){o.withCertificate, o.fromCallers},
		}),
	}
	shutdown := shutdownTimeout
	options.GracefulShutdownTimeout = &shutdown
	config := o.RESTConfig
	if config == nil {
		// The manager wants a configuration even when nothing asks the API server.
		config = &rest.Config{Host: "https://no-cluster.invalid"}
		options.MapperProvider = func(*rest.Config, *http.Client) (meta.RESTMapper, error) {
			return meta.NewDefaultRESTMapper(nil), nil
		}
	}
	m, err := ctrl.NewManager(config, options)
	if err != nil {
		return nil, fmt.Errorf("set up the manager: %w", err)
	}
	s := &Server{options: o, manager: m}
	return s, s.assemble()
}

func (o *ServerOptions) withCertificate(c *tls.Config) {
	c.GetCertificate = o.Certificates.GetCertificate
	c.MinVersion = tls.VersionTLS12
	c.NextProtos = []string{"h2", "http/1.1"}
}

func (o *ServerOptions) fromCallers(c *tls.Config) {
	if o.Callers != nil {
		o.Callers.Demand(c)
	}
}

func (o *ServerOptions) metrics() metricsserver.Options {
	served := metricsserver.Options{BindAddress: o.MetricsListen}
	if o.MetricsGuard == nil {
		return served
	}
	served.SecureServing = true
	served.TLSOpts = []func(*tls.Config){o.withCertificate}
	served.FilterProvider = func(*rest.Config, *http.Client) (metricsserver.Filter, error) {
		return func(_ logr.Logger, next http.Handler) (http.Handler, error) { return o.MetricsGuard(next), nil }, nil
	}
	return served
}

func (s *Server) assemble() error {
	hooks := s.manager.GetWebhookServer()
	hooks.Register(Path, s.behindFront(s.options.Gate))
	for path, handler := range s.options.Handlers {
		hooks.Register(path, s.behindFront(handler))
	}
	hooks.Register("/", http.HandlerFunc(nothingHere))
	runnables := append([]manager.Runnable{s.options.Certificates}, s.options.Runnables...)
	for _, r := range runnables {
		if err := s.manager.Add(r); err != nil {
			return fmt.Errorf("add %T: %w", r, err)
		}
	}
	if err := s.manager.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return err
	}
	checks := map[string]healthz.Checker{
		"certificate": s.options.Certificates.Ready,
		"server":      s.listening(hooks.StartedChecker()),
		"shutdown":    s.notDraining,
	}
	if s.options.Callers != nil {
		checks["client-ca"] = s.options.Callers.Ready
		checks["server"] = s.listening(s.reachable)
	}
	for name, check := range s.options.Checks {
		checks[name] = check
	}
	for name, check := range checks {
		if err := s.manager.AddReadyzCheck(name, s.told(name, check)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) behindFront(next http.Handler) *Front {
	front := &Front{Next: next}
	s.fronts = append(s.fronts, front)
	return front
}

func (s *Server) notDraining(*http.Request) error {
	if s.fronts[0].Draining() {
		return errDraining
	}
	return nil
}

// told logs why a check fails, and that it passes again, each time this changes: the endpoint itself
// says only which check it is.
func (s *Server) told(name string, check healthz.Checker) healthz.Checker {
	var last atomic.Value
	return func(r *http.Request) error {
		err := check(r)
		why := ""
		if err != nil {
			why = err.Error()
		}
		if before := last.Swap(why); why != "" && before != why {
			s.options.Log.Info("not ready", "check", name, "why", why)
		}
		return err
	}
}

// listening asks the server itself only when it has a certificate to answer with.
func (s *Server) listening(started healthz.Checker) healthz.Checker {
	return func(r *http.Request) error {
		if s.options.Certificates.Ready(r) != nil {
			return errNoCertificate
		}
		return started(r)
	}
}

// reachable is for a server that would refuse our own handshake: we have no client certificate to show.
func (s *Server) reachable(r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.options.Listen)
	if err != nil {
		return err
	}
	return conn.Close()
}

// Run serves until ctx is done. Then it is not ready first, goes on answering for ShutdownDelay, and
// returns when the reviews in flight are answered.
func (s *Server) Run(ctx context.Context) error {
	managed, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() {
		for _, front := range s.fronts {
			front.Drain()
		}
		s.options.Log.Info("shutting down", "delay", s.options.ShutdownDelay)
		time.AfterFunc(s.options.ShutdownDelay, stop)
	})()
	return s.manager.Start(managed)
}

// splitAddress reads HOST:PORT or :PORT.
func splitAddress(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 1 || port > 65535 {
		return "", 0, fmt.Errorf("%q has no port between 1 and 65535", address)
	}
	return host, port, nil
}
