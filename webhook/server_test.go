package webhook

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"

	"github.com/evictgate/evictgate/test/harness/kube"
	"github.com/evictgate/evictgate/webhook/hooks"
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
	address, err := kube.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// started is a server that runs until it is stopped.
type started struct {
	url string
	// client speaks HTTP/1.1 over connections that it keeps, as the API server does in a cluster.
	client *http.Client
	stop   context.CancelFunc
	// ended has what Run returned.
	ended chan error
}

func startServer(t *testing.T, handlers map[string]http.Handler) *started {
	t.Helper()
	return startServerWith(t, func(o *ServerOptions) { o.Handlers = handlers })
}

func startServerWith(t *testing.T, change func(*ServerOptions)) *started {
	t.Helper()
	pair := httptest.NewUnstartedServer(nil)
	pair.StartTLS()
	t.Cleanup(pair.Close)
	address := freeAddress(t)
	options := ServerOptions{
		Gate: newGate(t, io.Discard), Certificates: &fixedCertificate{pair.TLS.Certificates[0]},
		Listen: address, MetricsListen: "0", HealthListen: "0", Log: slog.New(slog.DiscardHandler),
	}
	change(&options)
	server, err := NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	s := &started{url: "https://" + address, client: pair.Client(), stop: stop, ended: make(chan error, 1)}
	go func() { s.ended <- server.Run(ctx) }()
	return s
}

// The server's own context is the base of every request's, and ends when the server is told to stop: what is
// in flight must not end with it.
func TestAReviewInFlightIsDecidedThoughTheServerStops(t *testing.T) {
	arrived := make(chan struct{})
	s := startServer(t, map[string]http.Handler{"/slow": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		time.Sleep(500 * time.Millisecond)
		_, bounded := r.Context().Deadline()
		_, _ = fmt.Fprintf(w, "bounded %t, error %v", bounded, r.Context().Err())
	})})
	go func() {
		<-arrived
		s.stop()
	}()
	body := postSlow(t, s.client, s.url+"/slow")
	if want := "bounded true, error <nil>"; body != want {
		t.Errorf("the review in flight saw %q, expected %q", body, want)
	}
	if err := <-s.ended; err != nil {
		t.Errorf("the server ended with %v", err)
	}
}

// Whoever sends half a body, or a part of one that is refused, holds neither the review nor the server's end.
func TestABodyThatDoesNotArriveIsNotWaitedFor(t *testing.T) {
	for name, tt := range map[string]struct {
		path, contentType string
		code              int
		want              string
	}{
		"of a review":       {hooks.EvictionsPath, "application/json", 408, "evictgate: read the request: its body did not arrive within 500ms\n"},
		"of something else": {hooks.EvictionsPath, "text/plain", 415, `Content-Type is "text/plain"; expected application/json`},
		"on another path":   {"/mutate", "application/json", 404, "404 page not found"},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t, nil)
			postSlow(t, s.client, s.url+hooks.EvictionsPath)
			began := time.Now()
			arrives, sender := io.Pipe()
			t.Cleanup(func() { _ = sender.Close() })
			go func() { _, _ = sender.Write([]byte("{")) }()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+tt.path+"?timeout=1s", arrives)
			if err != nil {
				t.Fatal(err)
			}
			request.ContentLength = 1000
			request.Header.Set("Content-Type", tt.contentType)
			response, err := s.client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = response.Body.Close() }()
			s.stop()
			body, err := io.ReadAll(response.Body)
			if err != nil || response.StatusCode != tt.code || !strings.Contains(string(body), tt.want) {
				t.Errorf("answered %d %s (%v)", response.StatusCode, body, err)
			}
			if err := <-s.ended; err != nil || time.Since(began) > 10*time.Second {
				t.Errorf("the server ended with %v after %s", err, time.Since(began))
			}
		})
	}
}

// The deadline of a review is gone with its body, over either protocol: a longer decision, and what follows on
// the same connection, do not meet it.
func TestAKeptConnectionOutlivesTheDeadlinesOfItsReviews(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			late := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				<-r.Context().Done()
				time.Sleep(50 * time.Millisecond)
				_, _ = fmt.Fprintf(w, "%s %s %v", r.Proto, body, err)
			})
			s := startServerWith(t, func(o *ServerOptions) { o.Handlers, o.HTTP2 = map[string]http.Handler{"/late": late}, http2 })
			transport := s.client.Transport.(*http.Transport).Clone()
			transport.ForceAttemptHTTP2 = http2
			if !http2 {
				transport.TLSClientConfig.NextProtos = []string{"http/1.1"}
			}
			t.Cleanup(transport.CloseIdleConnections)
			client := &http.Client{Transport: transport}
			postSlow(t, client, s.url+"/late?timeout=200ms")
			for range 3 {
				reused := false
				ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }})
				request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/late?timeout=200ms", strings.NewReader("{}"))
				if err != nil {
					t.Fatal(err)
				}
				request.Header.Set("Content-Type", "application/json")
				response, err := client.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(response.Body)
				_ = response.Body.Close()
				if !strings.HasPrefix(string(body), name) || !strings.HasSuffix(string(body), " {} <nil>") || err != nil || !reused {
					t.Errorf("answered %q (%v), on the same connection: %t", body, err, reused)
				}
				time.Sleep(150 * time.Millisecond)
			}
		})
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
