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

	"github.com/evictgate/evictgate/webhook/hooks"
	"github.com/evictgate/evictgate/webhook/memory"
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
	// HTTP2 has the webhooks and /metrics speak HTTP/2 to clients that ask for it.
	HTTP2 bool
	// Memory says how much memory is left; nil for enough. It is started with the server.
	Memory *memory.Guard
	// Known reports whether a request is the API server's; others have less room. Nil takes all for known.
	Known func(*http.Request) bool
	// Callers demands certificates of those who call the webhooks; nil lets everybody call.
	Callers Callers
	// Door says which callers are known to be the API server; the Gate has its own. Nil knows everybody.
	Door *Door
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
	bounds  *Bounds
	// healthy and ready are the checks of the health listener.
	healthy, ready map[string]healthz.Checker
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
	if err := checkAddress(o.Listen); err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	s := &Server{options: o, bounds: newBounds(o.Memory.Level, o.Known, o.Gate.Metrics.bounds)}
	options := manager.Options{
		Logger: logr.FromSlogHandler(o.Log.Handler()),
		// Metrics and health are served by listeners with bounds of their own; see Run.
		Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: "0",
		WebhookServer: &hookServer{Server: ctrlwebhook.NewServer(ctrlwebhook.Options{}), options: s.webhooks},
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
	s.manager = m
	return s, s.assemble()
}

func (s *Server) assemble() error {
	server := s.manager.GetWebhookServer()
	handlers := map[string]http.Handler{hooks.EvictionsPath: s.options.Gate}
	for path, handler := range s.options.Handlers {
		handlers[path] = s.options.Door.guard(handler)
	}
	for path, handler := range handlers {
		front := s.behindFront(handler)
		server.Register(path, front)
		// Below it lies the secret part of the path. Whatever stands there is answered, since a webhook that is
		// not found fails the eviction.
		server.Register(path+"/", front)
	}
	server.Register("/", http.HandlerFunc(nothingHere))
	runnables := append([]manager.Runnable{s.options.Certificates}, s.options.Runnables...)
	if s.options.Memory != nil {
		runnables = append(runnables, s.options.Memory)
	}
	for _, r := range runnables {
		if err := s.manager.Add(r); err != nil {
			return fmt.Errorf("add %T: %w", r, err)
		}
	}
	s.healthy = map[string]healthz.Checker{"ping": healthz.Ping}
	s.ready = map[string]healthz.Checker{}
	checks := map[string]healthz.Checker{
		"certificate": s.options.Certificates.Ready,
		"server":      s.listening(server.StartedChecker()),
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
		s.ready[name] = s.told(name, check)
	}
	return nil
}

func (s *Server) behindFront(next http.Handler) *Front {
	front := &Front{Next: s.bounds.before(next)}
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
// returns when the reviews in flight are answered. Metrics and health are served to the end.
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
	return s.beside(managed, stop, s.manager.Start)
}

// checkAddress takes HOST:PORT or :PORT.
func checkAddress(address string) error {
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if port, err := strconv.Atoi(text); err != nil || port < 1 || port > 65535 {
		return fmt.Errorf("%q has no port between 1 and 65535", address)
	}
	return nil
}
