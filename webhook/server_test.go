package webhook

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// fixedCertificate is one certificate for ever.
type fixedCertificate struct{ tls.Certificate }

func (c *fixedCertificate) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return &c.Certificate, nil
}
func (*fixedCertificate) Ready(*http.Request) error       { return nil }
func (*fixedCertificate) Start(ctx context.Context) error { <-ctx.Done(); return nil }

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// The server's own context is the base of every request's, and ends when the server is told to stop: what is
// in flight must not end with it.
func TestAReviewInFlightIsDecidedThoughTheServerStops(t *testing.T) {
	pair := httptest.NewUnstartedServer(nil)
	pair.StartTLS()
	defer pair.Close()
	arrived := make(chan struct{})
	slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		time.Sleep(500 * time.Millisecond)
		_, bounded := r.Context().Deadline()
		_, _ = fmt.Fprintf(w, "bounded %t, error %v", bounded, r.Context().Err())
	})
	address := freeAddress(t)
	s, err := NewServer(ServerOptions{
		Gate: newGate(t, io.Discard), Certificates: &fixedCertificate{pair.TLS.Certificates[0]}, Handlers: map[string]http.Handler{"/slow": slow},
		Listen: address, MetricsListen: "0", HealthListen: "0", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	go func() {
		<-arrived
		stop()
	}()
	body := postSlow(t, pair.Client(), "https://"+address+"/slow")
	if want := "bounded true, error <nil>"; body != want {
		t.Errorf("the review in flight saw %q, expected %q", body, want)
	}
	if err := <-ended; err != nil {
		t.Errorf("the server ended with %v", err)
	}
}

// postSlow posts until the server listens.
func postSlow(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		response, err := client.Post(url, "application/json", strings.NewReader("{}"))
		if err != nil {
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			continue
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
}
