package listen

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// serve runs a server until the test ends.
func serve(t *testing.T, o Options) (address string, stop func() error) {
	t.Helper()
	o.Name, o.Address, o.Grace = "test", "127.0.0.1:0", 10*time.Second
	s, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	stop = func() error {
		cancel()
		err := <-ended
		ended <- err
		return err
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return s.Addr().String(), stop
}

// from dials by an address of this machine.
func from(t *testing.T, ip, address string) net.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: 10 * time.Second}
	c, err := dialer.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// ask sends a request and returns the body of its answer.
func ask(c net.Conn, r *bufio.Reader) (string, error) {
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		return "", err
	}
	response, err := http.ReadResponse(r, nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

var hello = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })

func TestAFloodOfConnectionsLeavesOthersTheirPlace(t *testing.T) {
	var refused atomic.Int32
	address, _ := serve(t, Options{Handler: hello, Connections: 16, Refused: func() { refused.Add(1) }})
	kept := from(t, "127.0.0.1", address)
	reader := bufio.NewReader(kept)
	if got, err := ask(kept, reader); got != "hello" || err != nil {
		t.Fatalf("%q %v", got, err)
	}
	for range 200 {
		from(t, "127.0.0.2", address)
	}
	if got, err := ask(kept, reader); got != "hello" || err != nil {
		t.Errorf("the connection that was there first: %q %v", got, err)
	}
	for range 4 {
		c := from(t, "127.0.0.1", address)
		if got, err := ask(c, bufio.NewReader(c)); got != "hello" || err != nil {
			t.Errorf("a new connection: %q %v", got, err)
		}
	}
	if n := refused.Load(); n < 200-16 {
		t.Errorf("%d connections are counted as refused", n)
	}
}

// Behind one address there may be friend and foe: the foe's silence gives way to the friend's requests.
func TestSilentConnectionsOfTheSameAddressGiveWay(t *testing.T) {
	address, _ := serve(t, Options{Handler: hello, Connections: 8})
	for range 100 {
		from(t, "127.0.0.1", address)
	}
	c := from(t, "127.0.0.1", address)
	if got, err := ask(c, bufio.NewReader(c)); got != "hello" || err != nil {
		t.Errorf("%q %v", got, err)
	}
}

func TestWhatIsBeingAnsweredIsNotGivenUp(t *testing.T) {
	begun, goOn := make(chan struct{}), make(chan struct{})
	address, _ := serve(t, Options{Connections: 4, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer Answering(r.Context())()
		close(begun)
		<-goOn
		_, _ = io.WriteString(w, "decided")
	})})
	c := from(t, "127.0.0.1", address)
	answered := make(chan string, 1)
	go func() {
		got, err := ask(c, bufio.NewReader(c))
		answered <- fmt.Sprint(got, err)
	}()
	<-begun
	for range 50 {
		from(t, "127.0.0.1", address)
	}
	close(goOn)
	if got := <-answered; got != "decided<nil>" {
		t.Errorf("answered %s", got)
	}
}

func TestWhoGivesUpAPlace(t *testing.T) {
	at := func(ip string, s state, since int64, answers int32) *connection {
		c := &connection{from: netip.MustParseAddr(ip)}
		c.state.Store(int32(s))
		c.since.Store(since)
		c.answers.Store(answers)
		return c
	}
	for name, tt := range map[string]struct {
		open     []*connection
		newcomer *connection
		want     int // the place in open; -1 is the newcomer
	}{
		"the address with most":                       {[]*connection{at("10.0.0.1", arriving, 1, 0), at("10.0.0.2", idle, 3, 0), at("10.0.0.2", idle, 2, 0)}, at("10.0.0.3", arriving, 9, 0), 2},
		"one that has not arrived before an idle one": {[]*connection{at("10.0.0.2", idle, 1, 0), at("10.0.0.2", arriving, 5, 0)}, at("10.0.0.1", arriving, 9, 0), 1},
		"an idle one before one that asks":            {[]*connection{at("10.0.0.2", asking, 1, 0), at("10.0.0.2", idle, 5, 0)}, at("10.0.0.1", arriving, 9, 0), 1},
		"never one that is answered":                  {[]*connection{at("10.0.0.2", asking, 1, 1), at("10.0.0.2", asking, 5, 1)}, at("10.0.0.1", arriving, 9, 0), -1},
		"never another's for the address with most":   {[]*connection{at("10.0.0.1", idle, 1, 0), at("10.0.0.2", asking, 5, 1)}, at("10.0.0.2", arriving, 9, 0), -1},
		"its own oldest, for the address with most":   {[]*connection{at("10.0.0.1", idle, 1, 0), at("10.0.0.2", idle, 5, 0), at("10.0.0.2", idle, 4, 0)}, at("10.0.0.2", arriving, 9, 0), 2},
	} {
		t.Run(name, func(t *testing.T) {
			l := bound(nil, len(tt.open), nil)
			for _, c := range tt.open {
				l.open[c] = struct{}{}
				l.held[c.from]++
			}
			want := tt.newcomer
			if tt.want >= 0 {
				want = tt.open[tt.want]
			}
			if got := l.admit(tt.newcomer); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
}

func TestAMachineCountsOnceForAllItsAddresses(t *testing.T) {
	source := func(s string) netip.Addr { return source(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s))) }
	if source("[2001:db8::1]:1") != source("[2001:db8::2:3]:4") || source("[2001:db8:0:1::1]:1") == source("[2001:db8::1]:1") {
		t.Error("a /64 is not one source")
	}
	if source("[::ffff:10.0.0.1]:1") != source("10.0.0.1:2") || source("10.0.0.1:1") == source("10.0.0.2:1") {
		t.Error("addresses of IPv4 are not told apart")
	}
}

func TestPlacesAreGivenBack(t *testing.T) {
	s, err := New(t.Context(), Options{Name: "test", Address: "127.0.0.1:0", Handler: hello, Connections: 4})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	for range 20 {
		c := from(t, "127.0.0.1", s.Addr().String())
		if got, err := ask(c, bufio.NewReader(c)); got != "hello" || err != nil {
			t.Fatalf("%q %v", got, err)
		}
		_ = c.Close()
	}
	cancel()
	if err := <-ended; err != nil || s.connections.number() != 0 || len(s.connections.held) != 0 {
		t.Errorf("ended with %v, %d connections and %v", err, s.connections.number(), s.connections.held)
	}
}

func TestTheContextOfARequestEndsWithItsClientAlone(t *testing.T) {
	begun := make(chan struct{}, 1)
	ended := make(chan error, 1)
	stopping := make(chan struct{})
	address, stop := serve(t, Options{Connections: 4, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun <- struct{}{}
		select {
		case <-r.Context().Done():
			ended <- r.Context().Err()
		case <-stopping:
			time.Sleep(20 * time.Millisecond)
			_, _ = fmt.Fprint(w, r.Context().Err())
		}
	})})
	c := from(t, "127.0.0.1", address)
	_, _ = fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	<-begun
	_ = c.Close()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the client went, and the context has %v", err)
	}
	c = from(t, "127.0.0.1", address)
	answered := make(chan string, 1)
	go func() {
		got, err := ask(c, bufio.NewReader(c))
		answered <- fmt.Sprint(got, err)
	}()
	<-begun
	go func() { _ = stop() }()
	close(stopping)
	if got := <-answered; got != "<nil><nil>" {
		t.Errorf("the server stops, and the request saw %s", got)
	}
}

func TestOnlySuitesThatAuthenticateAreSpoken(t *testing.T) {
	pair := httptest.NewUnstartedServer(nil)
	pair.StartTLS()
	t.Cleanup(pair.Close)
	secure := func(http2 bool) *tls.Config {
		return Secure(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair.TLS.Certificates[0], nil }, http2)
	}
	address, _ := serve(t, Options{Handler: hello, Connections: 16, TLS: secure(false)})
	withHTTP2, _ := serve(t, Options{Handler: hello, Connections: 16, TLS: secure(true), HTTP2: true})
	var cbc []uint16
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if strings.Contains(s.Name, "CBC") || strings.Contains(s.Name, "TLS_RSA_") || strings.Contains(s.Name, "RC4") {
			cbc = append(cbc, s.ID)
		}
	}
	for name, tt := range map[string]struct {
		address string
		config  *tls.Config
		want    string // the protocol; empty when TLS fails
	}{
		"TLS 1.3":                       {address, &tls.Config{NextProtos: []string{"h2", "http/1.1"}}, "http/1.1"},
		"TLS 1.3, HTTP/2":               {withHTTP2, &tls.Config{NextProtos: []string{"h2", "http/1.1"}}, "h2"},
		"TLS 1.2":                       {address, &tls.Config{MaxVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}, "http/1.1"},
		"TLS 1.2, CBC and the like":     {address, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: cbc}, ""},
		"TLS 1.1":                       {address, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, ""},
		"HTTP/2 alone where it is off":  {address, &tls.Config{NextProtos: []string{"h2"}}, ""},
		"TLS 1.2 with HTTP/2 and a CBC": {withHTTP2, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: cbc, NextProtos: []string{"h2"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tt.config.InsecureSkipVerify = true
			c, err := (&tls.Dialer{Config: tt.config}).DialContext(t.Context(), "tcp", tt.address)
			if err == nil {
				defer func() { _ = c.Close() }()
			}
			if got := err == nil; got != (tt.want != "") {
				t.Fatalf("the handshake: %v", err)
			}
			if err == nil && c.(*tls.Conn).ConnectionState().NegotiatedProtocol != tt.want {
				t.Errorf("speaks %q, want %q", c.(*tls.Conn).ConnectionState().NegotiatedProtocol, tt.want)
			}
		})
	}
}

func TestALongHeaderIsNotTaken(t *testing.T) {
	address, _ := serve(t, Options{Handler: hello, Connections: 4})
	c := from(t, "127.0.0.1", address)
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n", strings.Repeat("x", MaxHeader+8<<10))
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%v %v", response, err)
	}
}
