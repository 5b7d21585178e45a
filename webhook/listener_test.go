package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/evictgate/evictgate/webhook/hooks"
)

// dialTLS connects as a client that does not look at the certificate.
func dialTLS(t *testing.T, s *started, protocols ...string) *tls.Conn {
	t.Helper()
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: protocols}}
	c, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(s.url, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*tls.Conn)
}

// postOnce posts a review over a new connection.
func postOnce(t *testing.T, s *started) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 60 * time.Second}
	response, err := client.Post(s.url+hooks.EvictionsPath+"?timeout=30s", "application/json", bytes.NewReader(review("web-7d4b9c6f5-2xkqv", nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil || !strings.Contains(string(body), `"allowed":true`) {
		t.Errorf("answered %d %s (%v)", response.StatusCode, body, err)
	}
}

func TestHTTP2IsSpokenOnlyWhenAskedFor(t *testing.T) {
	for name, c := range map[string]struct {
		on   bool
		want string
	}{"by default": {false, "http/1.1"}, "with --http2": {true, "h2"}} {
		t.Run(name, func(t *testing.T) {
			s := startServerWith(t, func(o *ServerOptions) { o.HTTP2 = c.on })
			postSlow(t, s.client, s.url+hooks.EvictionsPath)
			if got := dialTLS(t, s, "h2", "http/1.1").ConnectionState().NegotiatedProtocol; got != c.want {
				t.Errorf("speaks %q, want %q", got, c.want)
			}
		})
	}
}

// A stream that is reset at once costs its sender nothing: what it began must not go on, nor pile up.
func TestStreamsThatAreResetDoNotPileUp(t *testing.T) {
	const streams = 3000
	var running, most, cancelled atomic.Int64
	held := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		most.Store(max(most.Load(), running.Add(1)))
		defer running.Add(-1)
		<-r.Context().Done()
		if errors.Is(context.Cause(r.Context()), context.Canceled) {
			cancelled.Add(1)
		}
	})
	s := startServerWith(t, func(o *ServerOptions) { o.HTTP2, o.Handlers = true, map[string]http.Handler{"/held": held} })
	postSlow(t, s.client, s.url+hooks.EvictionsPath)
	c := dialTLS(t, s, "h2")
	hungUp := make(chan struct{})
	go func() {
		defer close(hungUp)
		_, _ = io.Copy(io.Discard, c)
	}()
	rapidReset(t, c, streams)
	select {
	case <-hungUp:
	case <-time.After(20 * time.Second):
		t.Error("the server listens on to a client that resets all its streams")
	}
	postOnce(t, s)
	for deadline := time.Now().Add(20 * time.Second); running.Load() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) { // they have 29.5 seconds of their own
			t.Fatalf("%d of the reset streams go on", running.Load())
		}
	}
	if most.Load() > 16 {
		t.Errorf("%d streams of one connection were answered at once", most.Load())
	}
	t.Logf("%d of %d were begun, and cancelled; %d at once", cancelled.Load(), streams, most.Load())
}

// rapidReset opens streams and resets each at once, until the server has enough of it.
func rapidReset(t *testing.T, c net.Conn, streams int) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(c, nil)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	for i := range streams {
		var block bytes.Buffer
		headers := hpack.NewEncoder(&block)
		for _, f := range [][2]string{
			{":method", "POST"}, {":scheme", "https"}, {":authority", "a"}, {":path", "/held?timeout=30s"}, {"content-type", "application/json"},
		} {
			_ = headers.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		id := uint32(2*i + 1)
		err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true})
		if err == nil {
			err = framer.WriteData(id, true, []byte("{}"))
		}
		if err == nil {
			err = framer.WriteRSTStream(id, http2.ErrCodeCancel)
		}
		if err != nil { // it hung up
			return
		}
	}
}

func TestIdleConnectionsDoNotLockReviewsOut(t *testing.T) {
	log.SetOutput(io.Discard) // net/http tells each of them
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	s := startServer(t, nil)
	postSlow(t, s.client, s.url+hooks.EvictionsPath)
	for range webhookConnections + 200 {
		c, err := net.DialTimeout("tcp", strings.TrimPrefix(s.url, "https://"), 30*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
	}
	for range 5 {
		postOnce(t, s)
	}
}

// Bodies that come a byte at a time hold their connections; whoever sends whole reviews is answered.
func TestSlowBodiesDoNotLockReviewsOut(t *testing.T) {
	s := startServer(t, nil)
	postSlow(t, s.client, s.url+hooks.EvictionsPath)
	for range smallWaiting / 8 {
		c := dialTLS(t, s)
		_, _ = fmt.Fprintf(c, "POST %s?timeout=30s HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 4000000\r\n\r\n{", hooks.EvictionsPath)
	}
	for range 5 {
		postOnce(t, s)
	}
}

func TestHealthAndMetricsAreServedWithBounds(t *testing.T) {
	health, metrics := freeAddress(t), freeAddress(t)
	s := startServerWith(t, func(o *ServerOptions) { o.HealthListen, o.MetricsListen = health, metrics })
	postSlow(t, s.client, s.url+hooks.EvictionsPath)
	for range 2 * sideConnections {
		for _, address := range []string{health, metrics} {
			c, err := net.DialTimeout("tcp", address, 30*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
		}
	}
	for _, url := range []string{
		"http://" + health + "/healthz", "http://" + health + "/readyz", "http://" + health + "/readyz/server", "http://" + health + "/healthz/ping", "http://" + metrics + "/metrics",
	} {
		if code, body := get(t, url); code != http.StatusOK {
			t.Errorf("%s: %d %s", url, code, body)
		}
	}
	if code, body := get(t, "http://"+health+"/readyz?verbose=true"); code != http.StatusOK || !strings.Contains(body, "[+]server ok") {
		t.Errorf("/readyz?verbose: %d %s", code, body)
	}
}

func get(t *testing.T, url string) (code int, body string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 60 * time.Second}
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(raw)
}

func TestAnAddressThatIsTakenEndsTheServer(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	for name, change := range map[string]func(*ServerOptions){
		"webhook": func(o *ServerOptions) { o.Listen = taken.Addr().String() },
		"metrics": func(o *ServerOptions) { o.MetricsListen = taken.Addr().String() },
		"health":  func(o *ServerOptions) { o.HealthListen = taken.Addr().String() },
	} {
		t.Run(name, func(t *testing.T) {
			s := startServerWith(t, change)
			if err := <-s.ended; err == nil || !strings.Contains(err.Error(), name+": listen tcp") {
				t.Errorf("ended with %v", err)
			}
		})
	}
}
