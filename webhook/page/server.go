package page

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Server serves a page until its context is done.
type Server struct {
	Handler http.Handler
	// Listen is an address as net.Listen takes it.
	Listen string
	// TLS is nil for plain HTTP.
	TLS *tls.Config
	Log *slog.Logger
}

const (
	// uploadTimeout bounds how long a request may take to arrive.
	uploadTimeout = time.Minute
	// answerTimeout leaves a page its time, and a slow reader some.
	answerTimeout = 2 * time.Minute
	closeTimeout  = 10 * time.Second
	maxHeader     = 64 << 10
)

// Start listens and serves. When ctx is done it takes no more requests, and returns when those in flight
// are answered.
func (s *Server) Start(ctx context.Context) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", s.Listen)
	if err != nil {
		return fmt.Errorf("review page: %w", err)
	}
	server := &http.Server{
		Handler: s.Handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: uploadTimeout, WriteTimeout: answerTimeout,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	scheme := "http"
	if s.TLS != nil {
		listener, scheme = tls.NewListener(listener, s.TLS), "https"
	}
	s.Log.Info("the review page serves", "url", scheme+"://"+listener.Addr().String()+"/")
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		if server.Shutdown(last) != nil {
			_ = server.Close()
		}
	})
	err = server.Serve(listener)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("review page: %w", err)
}

// Loopback reports whether an address is one of this machine for itself.
func Loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}
