package attack

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
)

// flood is what an attacker sends. It runs as a process of its own.
type flood struct {
	// Kind is one of floods.
	Kind string
	// Address and Path are whom it is sent to.
	Address, Path string
	// Connections are how many are used beside each other.
	Connections int
	// Every is how long each of them waits between two requests; 0 does not wait.
	Every time.Duration
	// Lasts is how long it goes on, in all; with Requests, until as many are sent.
	Lasts    time.Duration
	Requests int64
	// Together keeps back the last byte of each request until all connections have sent theirs, so that all are
	// there at once, however slow the machine is.
	Together bool
	// Review is what is sent, with a serial number for its id, or, when there are some, Texts in turn.
	Review review
	Texts  []string
	// Pad is how many bytes a further header has.
	Pad int

	// harmless is what costs the same and hurts nobody; by default the same, sent to the sink. alone compares with
	// quiet only, and once is for a flood that takes long to begin.
	harmless    *flood
	alone, once bool
}

// sent is what came of a flood.
type sent struct {
	// Sent are requests or connections, Answered those that had an answer, with its status by Codes.
	Sent, Answered int64
	Codes          map[string]int64
	// Refused are connections that could not be made, or were closed at once.
	Refused int64
	// Note is the last thing that went wrong.
	Note string
}

// tally is sent while it is counted.
type tally struct {
	sent, answered, refused, serial atomic.Int64
	mu                              sync.Mutex
	codes                           map[string]int64
	note                            string
	gathering                       *gathering
	enough                          context.CancelFunc
}

// gathering lets those who come go on when all are there, or after a moment: some may have been turned away.
type gathering struct {
	mu    sync.Mutex
	all   int
	here  int
	begin chan struct{}
}

func (g *gathering) wait(ctx context.Context) {
	g.mu.Lock()
	g.here++
	begin := g.begin
	if g.here == g.all {
		g.here, g.begin = 0, make(chan struct{})
		close(begin)
	}
	g.mu.Unlock()
	select {
	case <-begin:
		return
	case <-ctx.Done():
	case <-time.After(3 * time.Second):
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.begin == begin {
		g.here = max(0, g.here-1)
	}
}

func (y *tally) failed(err error) {
	y.refused.Add(1)
	y.mu.Lock()
	defer y.mu.Unlock()
	y.note = err.Error()
}

func (y *tally) code(code string) {
	y.answered.Add(1)
	y.mu.Lock()
	defer y.mu.Unlock()
	y.codes[code]++
}

// floods are the kinds: each plays one connection again and again until the context ends. Those of holding keep
// what they opened.
var floods = map[string]func(context.Context, *flood, *tally) error{
	"post": postOnce, "hang up": hangUp, "reset": resetStreams, "open": holdOpen, "slow header": slowHeader, "slow body": slowBody,
	"get": getOnce,
}

// holding are the floods that have begun when all their connections are open.
var holding = map[string]bool{"open": true, "slow header": true, "slow body": true}

// runFlood is the role of an attacker: it says ready, and in the end what it sent.
func runFlood(f flood) error {
	play, ok := floods[f.Kind]
	if !ok {
		return fmt.Errorf("no flood %q", f.Kind)
	}
	y := &tally{codes: map[string]int64{}, gathering: &gathering{all: f.Connections, begin: make(chan struct{})}}
	var opening, playing sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	y.enough = cancel
	// As many at once as a server can be expected to agree on TLS with.
	slots := make(chan struct{}, 16)
	for range f.Connections {
		opening.Add(1)
		opened := sync.OnceFunc(opening.Done)
		if !holding[f.Kind] {
			opened()
		}
		playing.Go(func() {
			defer opened()
			for ctx.Err() == nil {
				one := f.opening(ctx, slots, opened)
				if err := play(one, &f, y); err != nil && ctx.Err() == nil {
					y.failed(err)
				}
				opened()
				pause(ctx, max(f.Every, 200*time.Microsecond))
			}
		})
	}
	opening.Wait()
	fmt.Println("ready")
	pause(ctx, f.Lasts)
	cancel()
	playing.Wait()
	return json.NewEncoder(os.Stdout).Encode(sent{
		Sent: y.sent.Load(), Answered: y.answered.Load(), Refused: y.refused.Load(), Codes: y.codes, Note: y.note,
	})
}

// opener is what holding floods take from their context.
type opener struct {
	slots  chan struct{}
	opened func()
}

type openerKey struct{}

func (f *flood) opening(ctx context.Context, slots chan struct{}, opened func()) context.Context {
	return context.WithValue(ctx, openerKey{}, opener{slots, opened})
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// dial opens a connection that ends with the context.
func (f *flood) dial(ctx context.Context, protocol string) (*tls.Conn, error) {
	o := ctx.Value(openerKey{}).(opener)
	select {
	case o.slots <- struct{}{}:
		defer func() { <-o.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	dialer := tls.Dialer{
		NetDialer: &net.Dialer{Timeout: 5 * time.Second},
		Config:    &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}}, //nolint:gosec // it is on this machine
	}
	bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := dialer.DialContext(bounded, "tcp", f.Address)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = c.Close() })
	return c.(*tls.Conn), nil
}

// body is a review with an id of its own.
func (f *flood) body(y *tally) []byte {
	if len(f.Texts) > 0 {
		return []byte(f.Texts[int(y.serial.Add(1))%len(f.Texts)])
	}
	r := f.Review
	r.UID = fmt.Sprintf("flood-%d-%d", os.Getpid(), y.serial.Add(1))
	if r.Pad < 1<<20 && r.Keys == 0 {
		return r.body()
	}
	return padded(r)
}

// padding is made once: an attacker does not encode what it sends each time.
var padding = sync.OnceValue(func() []byte { return bytes.Repeat([]byte("x"), 8<<20) })

// keys are small annotations, made once, too.
var keys = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	for i := range 1_000_000 {
		fmt.Fprintf(&b, "\"k%06d\":\"\",", i)
	}
	return b.Bytes()
})

// padded is a large body, made with little work.
func padded(r review) []byte {
	pad := r.Pad
	r.Pad = 8
	before, after, _ := bytes.Cut(r.body(), []byte(`"example.com/pad":"xxxxxxxx"`))
	return bytes.Join([][]byte{before, keys()[:len(`"k000000":"",`)*r.Keys], []byte(`"example.com/pad":"`), padding()[:pad], []byte(`"`), after}, nil)
}

// head is a request's, for a body of n bytes.
func (f *flood) head(n int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", f.Path, n)
	if f.Pad > 0 {
		fmt.Fprintf(&b, "X-Pad: %s\r\n", padding()[:f.Pad])
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// postOnce posts and reads the answers, over one connection as long as it is kept.
func postOnce(ctx context.Context, f *flood, y *tally) error {
	c, err := f.dial(ctx, "http/1.1")
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	answers := bufio.NewReader(c)
	for ctx.Err() == nil {
		body := f.body(y)
		if n := y.sent.Add(1); f.Requests > 0 && n > f.Requests {
			y.sent.Add(-1)
			y.enough()
			return nil
		}
		// A server may answer before it has all, and read no more.
		wrote := make(chan error, 1)
		go func() {
			request := append(f.head(len(body)), body...)
			last := len(request) - 1
			if !f.Together {
				last = 0
			}
			_, err := c.Write(request[:last])
			if f.Together && err == nil {
				y.gathering.wait(ctx)
			}
			if err == nil {
				_, err = c.Write(request[last:])
			}
			wrote <- err
		}()
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		response, err := http.ReadResponse(answers, nil)
		if err != nil {
			return err
		}
		y.code(fmt.Sprint(response.StatusCode))
		_, err = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<20))
		if err != nil || response.Close {
			return err
		}
		if err := <-wrote; err != nil {
			return err
		}
		pause(ctx, f.Every)
	}
	return nil
}

// getOnce reads a page.
func getOnce(ctx context.Context, f *flood, y *tally) error {
	y.sent.Add(1)
	_, code, err := gate.Get(ctx, "http://"+f.Address+f.Path)
	if err == nil {
		y.code(fmt.Sprint(code))
	}
	return err
}

// hangUp sends a whole request and waits for no answer.
func hangUp(ctx context.Context, f *flood, y *tally) error {
	c, err := f.dial(ctx, "http/1.1")
	if err != nil {
		return err
	}
	body := f.body(y)
	_, err = c.Write(append(f.head(len(body)), body...))
	y.sent.Add(1)
	return errors.Join(err, c.Close())
}

// holdOpen agrees on TLS and says nothing more.
func holdOpen(ctx context.Context, f *flood, y *tally) error {
	c, err := f.dial(ctx, "http/1.1")
	if err != nil {
		return err
	}
	y.sent.Add(1)
	ctx.Value(openerKey{}).(opener).opened()
	_, err = c.Read(make([]byte, 1)) // until one side closes it
	return err
}

// slowHeader sends a byte of a header now and then.
func slowHeader(ctx context.Context, f *flood, y *tally) error {
	return f.drip(ctx, y, []byte("POST "+f.Path+" HTTP/1.1\r\nHost: localhost\r\nX-Slow: "))
}

// slowBody sends a byte of a body now and then.
func slowBody(ctx context.Context, f *flood, y *tally) error {
	return f.drip(ctx, y, f.head(4000))
}

func (f *flood) drip(ctx context.Context, y *tally, begin []byte) error {
	c, err := f.dial(ctx, "http/1.1")
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Write(begin); err != nil {
		return err
	}
	y.sent.Add(1)
	ctx.Value(openerKey{}).(opener).opened()
	for ctx.Err() == nil {
		pause(ctx, time.Second)
		if _, err := c.Write([]byte("x")); err != nil {
			return err
		}
	}
	return nil
}

// resetStreams is HTTP/2 rapid reset: each stream is a whole request that is taken back at once.
func resetStreams(ctx context.Context, f *flood, y *tally) error {
	c, err := f.dial(ctx, "h2")
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if p := c.ConnectionState().NegotiatedProtocol; p != "h2" {
		pause(ctx, 100*time.Millisecond)
		return fmt.Errorf("HTTP/2 was not agreed on, but %q", p)
	}
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		return err
	}
	out := bufio.NewWriterSize(c, 32<<10)
	framer := http2.NewFramer(out, c)
	if err := framer.WriteSettings(); err != nil {
		return err
	}
	var window atomic.Int64
	window.Store(65535)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				return
			}
			switch frame := frame.(type) {
			case *http2.WindowUpdateFrame:
				if frame.StreamID == 0 {
					window.Add(int64(frame.Increment))
				}
			case *http2.GoAwayFrame:
				return
			}
		}
	}()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for stream := uint32(1); stream < 1<<30 && ctx.Err() == nil; stream += 2 {
		body := f.body(y)
		for window.Load() < int64(len(body)) {
			if err := out.Flush(); err != nil {
				return err
			}
			select {
			case <-gone:
				return errors.New("the server ended the connection")
			case <-ctx.Done():
				return nil
			case <-time.After(time.Millisecond):
			}
		}
		window.Add(-int64(len(body)))
		block.Reset()
		for _, h := range [][2]string{
			{":method", "POST"}, {":scheme", "https"}, {":authority", "localhost"}, {":path", f.Path}, {"content-type", "application/json"},
		} {
			_ = encoder.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
		}
		err := errors.Join(
			framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true}),
			framer.WriteData(stream, true, body),
			out.Flush(),
			framer.WriteRSTStream(stream, http2.ErrCodeCancel),
		)
		if err != nil {
			return err
		}
		y.sent.Add(1)
		select {
		case <-gone:
			return errors.New("the server ended the connection")
		default:
		}
		if f.Every > 0 {
			pause(ctx, f.Every)
		}
	}
	return out.Flush()
}

// helper is a process of another role.
type helper struct {
	lines *bufio.Scanner
	cmd   *exec.Cmd
	said  *bytes.Buffer
}

// help starts this program in a role; it is ended after the test at the latest. The lower priority is for those
// who attack: what they take from two processors is not what the program under attack does.
func help(t *testing.T, what string, todo any, niceness string) *helper {
	t.Helper()
	self := got(os.Executable())(t)
	cmd := exec.Command(self)
	if nice, err := exec.LookPath("nice"); err == nil && niceness != "" {
		cmd = exec.Command(nice, "-n", niceness, self)
	}
	h := &helper{cmd: cmd, said: &bytes.Buffer{}}
	cmd.Env = append(os.Environ(), role+"="+what)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(encode(todo)), h.said
	out, in, err := os.Pipe()
	must(t, err)
	cmd.Stdout = in
	must(t, kube.Spawn(cmd))
	_ = in.Close()
	h.lines = bufio.NewScanner(out)
	done := sync.OnceFunc(func() { _ = cmd.Wait() })
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		done()
		_ = out.Close()
	})
	if !h.lines.Scan() || h.lines.Text() != "ready" {
		done()
		t.Fatalf("the role %s did not begin: %s", what, h.said)
	}
	return h
}

// result waits for the end of a flood.
func (h *helper) result(t *testing.T) (s sent) {
	t.Helper()
	if !h.lines.Scan() {
		t.Fatalf("a flood ended without a result: %s", h.said)
	}
	must(t, json.Unmarshal(h.lines.Bytes(), &s))
	return s
}

// runSink is the role of a server that takes whatever comes and does nothing with it.
func runSink(address string) error {
	certificate, err := ownCertificate()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"}},
		ErrorLog:  log.New(io.Discard, "", 0), ReadHeaderTimeout: 32 * time.Second, IdleTimeout: 90 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, "{}")
		}),
	}
	fmt.Println("ready")
	return server.ServeTLS(l, "", "")
}
