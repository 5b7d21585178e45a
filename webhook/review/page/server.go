package page

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/evictgate/evictgate/webhook/listen"
)

// Server serves a page until its context is done.
type Server struct {
	Handler http.Handler
	// Listen is an address as net.Listen takes it.
	Listen string
	// TLS is nil for plain HTTP.
	TLS *tls.Config
	// HTTP2 has clients speak HTTP/2 over TLS when they ask for it.
	HTTP2 bool
	// Refused is told of connections that found no place; it may be nil.
	Refused func()
	Log     *slog.Logger
}

const (
	// uploadTimeout bounds how long a request may take to arrive.
	uploadTimeout = time.Minute
	// answerTimeout leaves a page its time, and a slow reader some.
	answerTimeout = 2 * time.Minute
	closeTimeout  = 10 * time.Second
	// maxConnections is for people and for those who upload.
	maxConnections = 128
)

// Start listens and serves. When ctx is done it takes no more requests, and returns when those in flight
// are answered.
func (s *Server) Start(ctx context.Context) error {
	server, err := listen.New(ctx, listen.Options{
		Name: "review page", Address: s.Listen, Handler: s.Handler, TLS: s.TLS, HTTP2: s.HTTP2,
		Connections: maxConnections, Arrive: uploadTimeout, Answer: answerTimeout, Grace: closeTimeout,
		Refused: s.Refused, ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	})
	if err != nil {
		return err
	}
	scheme := "http"
	if s.TLS != nil {
		scheme = "https"
	}
	s.Log.Info("the review page serves", "url", scheme+"://"+server.Addr().String()+"/")
	return server.Serve(ctx)
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

// Hosts are the names by which a browser may call the page; nil stands for any, where tokens are checked.
func Hosts(listen string, tokens bool, more []string) []string {
	if tokens && !Loopback(listen) {
		return nil
	}
	hosts := LoopbackHosts()
	for _, host := range more {
		hosts = append(hosts, strings.ToLower(host))
	}
	return hosts
}
