package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"
)

const (
	// headerTimeout bounds a TLS handshake, and the header of a request.
	headerTimeout = 10 * time.Second
	// idleTimeout is longer than the 90 seconds for which the API server keeps a connection, so that it is the
	// API server who ends one.
	idleTimeout = 2 * time.Minute
	// MaxHeader bounds the header of a request in bytes; net/http adds 4 KiB.
	MaxHeader = 16 << 10
	// maxStreams bounds the requests at once over one connection, where HTTP/2 is on.
	maxStreams = 16
	// windowOfConnection and windowOfStream bound in bytes what HTTP/2 takes of bodies before they are read.
	windowOfConnection = 256 << 10
	windowOfStream     = 64 << 10
)

// Options are the parts of a Server.
type Options struct {
	// Name says in errors what is served.
	Name string
	// Address is as net.Listen takes it.
	Address string
	Handler http.Handler
	// TLS is nil for plain HTTP; see Secure.
	TLS *tls.Config
	// HTTP2 has clients speak HTTP/2 when they ask for it; it needs TLS.
	HTTP2 bool
	// Connections is how many are held at once.
	Connections int
	// Arrive and Answer bound how long a request may take to arrive, and until it is answered; 0 means no bound, and
	// the handler's task.
	Arrive, Answer time.Duration
	// Grace is how long requests in flight are waited for at the end.
	Grace time.Duration
	// Refused is told of each connection that found no place, or lost it to another; it may be nil.
	Refused func()
	// ErrorLog is where net/http tells its errors; nil is the standard logger.
	ErrorLog *log.Logger
}

// Server serves within bounds.
type Server struct {
	options     Options
	connections *connections
}

// New listens. What connects waits until Serve.
func New(ctx context.Context, o Options) (*Server, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", o.Address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Name, err)
	}
	if o.Refused == nil {
		o.Refused = func() {}
	}
	return &Server{options: o, connections: bound(listener, o.Connections, o.Refused)}, nil
}

// Addr is where it listens.
func (s *Server) Addr() net.Addr { return s.connections.Addr() }

// Close ends the listener of a Server that does not serve.
func (s *Server) Close() error { return s.connections.Close() }

// Serve answers until ctx is done; then it takes no more requests, and returns when those in flight are
// answered. The context of a request does not end with ctx: it ends when its client goes.
func (s *Server) Serve(ctx context.Context) error {
	var listener net.Listener = s.connections
	if s.options.TLS != nil {
		listener = tls.NewListener(listener, s.options.TLS)
	}
	server := s.http(context.WithoutCancel(ctx))
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.options.Grace)
		defer cancel()
		if server.Shutdown(last) != nil {
			_ = server.Close()
		}
	})
	err := server.Serve(listener)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("%s: %w", s.options.Name, err)
}

func (s *Server) http(base context.Context) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(s.options.HTTP2)
	return &http.Server{
		Handler: s.patient(s.options.Handler), ReadTimeout: s.options.Arrive, WriteTimeout: s.options.Answer,
		ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: MaxHeader, ErrorLog: s.options.ErrorLog,
		Protocols: protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams, MaxReceiveBufferPerConnection: windowOfConnection, MaxReceiveBufferPerStream: windowOfStream,
			SendPingTimeout: idleTimeout, PingTimeout: headerTimeout, WriteByteTimeout: headerTimeout,
		},
		BaseContext: func(net.Listener) context.Context { return base },
		ConnContext: withConnection, ConnState: watch,
	}
}

// Secure is how TLS is spoken: from 1.2 on, and there only with suites that authenticate what they encrypt.
func Secure(certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error), http2 bool) *tls.Config {
	c := &tls.Config{
		GetCertificate: certificate, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		CipherSuites: []uint16{ // of 1.2 alone: 1.3 has no others
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
	if http2 {
		c.NextProtos = []string{"h2", "http/1.1"}
	}
	return c
}
