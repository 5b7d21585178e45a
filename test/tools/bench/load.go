package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// inFlight is how many reviews are under way at a time.
const inFlight = 8

// Protocols as ALPN names them.
const (
	http1 = "http/1.1"
	http2 = "h2"
)

// sender sends a review and reads the answer's body, which is valid until the next call.
type sender interface {
	send(body []byte) (answer []byte, err error)
}

// run sends n reviews over kept-alive connections that are opened before and not counted, and measures.
func (s *server) run(ctx context.Context, protocol string, n int) (sample, error) {
	senders, hangUp, err := s.dial(ctx, protocol)
	if err != nil {
		return sample{}, fmt.Errorf("%s: connect: %w", s.name, err)
	}
	defer hangUp()
	if _, err := s.load(ctx, senders, 4*inFlight); err != nil {
		return sample{}, err
	}
	before, err := s.settled(ctx)
	if err != nil {
		return sample{}, err
	}
	latencies, err := s.load(ctx, senders, n)
	if err != nil {
		return sample{}, err
	}
	after, err := s.settled(ctx)
	if err != nil {
		return sample{}, err
	}
	slices.Sort(latencies)
	return sample{reviews: n, cpu: after - before, p50: quantile(latencies, .5), p99: quantile(latencies, .99)}, nil
}

// settled waits until the server rests, and has stored its records if it keeps them; see the function of that
// name.
func (s *server) settled(ctx context.Context) (time.Duration, error) {
	for s.keeps {
		waiting, err := s.metric(ctx, `evictgate_records_waiting{output="store"}`)
		if err != nil {
			return 0, err
		}
		if waiting == 0 {
			break
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return settled(ctx, s.pid)
}

// load has the senders share n reviews and returns how long each took.
func (s *server) load(ctx context.Context, senders []sender, n int) ([]time.Duration, error) {
	latencies := make([]time.Duration, n)
	failures := make([]error, len(senders))
	var next atomic.Int64
	begin := s.sent // go on where the last ones ended: what was asked last may be remembered
	s.sent += n
	var workers sync.WaitGroup
	for w, sender := range senders {
		workers.Go(func() {
			var own []byte
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				body := s.bodies[(begin+i)%len(s.bodies)]
				if s.keeps {
					own = numbered(own[:0], body, begin+i)
					body = own
				}
				start := time.Now()
				answer, err := sender.send(body)
				latencies[i] = time.Since(start)
				if err == nil {
					err = admitted(answer)
				}
				if err != nil {
					failures[w] = fmt.Errorf("%s: %w", s.name, err)
					next.Store(int64(n))
					return
				}
			}
		})
	}
	workers.Wait()
	for _, err := range failures {
		if err != nil {
			return nil, err
		}
	}
	return latencies, ctx.Err()
}

// numbered appends a review with a number for the end of its UID: a store keeps each UID once.
func numbered(dst, body []byte, n int) []byte {
	const key, digits = `"uid":"`, 12
	end := bytes.Index(body, []byte(key)) + len(key) + len("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx")
	dst = append(dst, body[:end-digits]...)
	return append(fmt.Appendf(dst, "%0*x", digits, n), body[end:]...)
}

// admitted looks at the bytes alone, to leave the CPU to the server. An answer with warnings costs more
// than one without, so that figures of a mixture would say little.
func admitted(answer []byte) error {
	if !bytes.Contains(answer, []byte(`"allowed":true`)) || bytes.Contains(answer, []byte(`"warnings"`)) {
		return fmt.Errorf("the eviction was not plainly admitted: %s", answer)
	}
	return nil
}

// dial opens what the protocol needs: eight connections, or one with eight streams.
func (s *server) dial(ctx context.Context, protocol string) (senders []sender, hangUp func(), err error) {
	if protocol == http2 {
		transport := &http.Transport{TLSClientConfig: s.tls(http2), ForceAttemptHTTP2: true}
		stream := &http2Sender{ctx: ctx, client: &http.Client{Transport: transport}, url: "https://" + s.address + webhookPath}
		if _, err := stream.send(s.bodies[0]); err != nil {
			return nil, nil, err
		}
		for range inFlight {
			senders = append(senders, &http2Sender{ctx: ctx, client: stream.client, url: stream.url})
		}
		return senders, transport.CloseIdleConnections, nil
	}
	var open []*http1Sender
	hangUp = func() {
		for _, c := range open {
			c.close()
		}
	}
	for range inFlight {
		c, err := dialHTTP1(ctx, s)
		if err != nil {
			hangUp()
			return nil, nil, err
		}
		open, senders = append(open, c), append(senders, c)
	}
	return senders, hangUp, nil
}

// header is what client-go and net/http send for the API server.
const header = "POST %s HTTP/1.1\r\nHost: evictgate.evictgate.svc:443\r\nUser-Agent: kube-apiserver-admission\r\n" +
	"Content-Length: %d\r\nAccept: application/json, */*\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n"

// http1Sender is one connection. It is written by hand since net/http's client costs as much CPU as a
// no-op server, and shares the machine with it.
type http1Sender struct {
	connection *tls.Conn
	answers    *bufio.Reader
	request    []byte
	answer     bytes.Buffer
	unwatch    func() bool
}

func dialHTTP1(ctx context.Context, s *server) (*http1Sender, error) {
	dialer := tls.Dialer{Config: s.tls(http1)}
	connection, err := dialer.DialContext(ctx, "tcp", s.address)
	if err != nil {
		return nil, err
	}
	return &http1Sender{
		connection: connection.(*tls.Conn), answers: bufio.NewReader(connection),
		unwatch: context.AfterFunc(ctx, func() { _ = connection.Close() }),
	}, nil
}

func (c *http1Sender) close() {
	c.unwatch()
	_ = c.connection.Close()
}

func (c *http1Sender) send(body []byte) ([]byte, error) {
	c.request = append(fmt.Appendf(c.request[:0], header, webhookPath, len(body)), body...)
	if _, err := c.connection.Write(c.request); err != nil {
		return nil, err
	}
	response, err := http.ReadResponse(c.answers, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	return read(&c.answer, response)
}

// http2Sender is a stream of a connection that the client keeps.
type http2Sender struct {
	ctx    context.Context
	client *http.Client
	url    string
	answer bytes.Buffer
}

func (c *http2Sender) send(body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(c.ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header = http.Header{
		"User-Agent": {"kube-apiserver-admission"}, "Accept": {"application/json, */*"}, "Content-Type": {"application/json"},
	}
	response, err := c.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if !strings.HasPrefix(response.Proto, "HTTP/2") {
		return nil, fmt.Errorf("asked for HTTP/2, answered %s", response.Proto)
	}
	return read(&c.answer, response)
}

// read takes the whole body, so that the connection can be used again.
func read(into *bytes.Buffer, response *http.Response) ([]byte, error) {
	into.Reset()
	if _, err := io.Copy(into, response.Body); err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answered %s: %s", response.Status, into.Bytes())
	}
	return into.Bytes(), nil
}
