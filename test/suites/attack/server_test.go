package attack

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/http2"
)

// serverAttacks need no API server: they are sent to whatever listens.
func serverAttacks() []attack {
	const reviews = "ordinary reviews go on"
	return []attack{
		{name: "H4_http2", what: "HTTP/2, which was not asked for", remains: "it is refused", run: http2Refused},
		{name: "H4_rapid_reset_8", what: "with --http2, rapid reset over 8 connections", remains: reviews, run: rapidReset(8)},
		{name: "H4_rapid_reset_32", what: "with --http2, rapid reset over 32 connections", remains: reviews, run: rapidReset(32)},
		{name: "H4_reviews", what: "reviews over 32 connections of HTTP/1.1, each after the answer to the last", remains: reviews, run: manyReviews},
		{name: "H4_hang_up", what: "reviews over HTTP/1.1 that nobody waits for", remains: reviews, run: hangingUp},
		{name: "H5_large_reviews", what: "64 reviews with an annotation of 2.9 MB at once, again and again", remains: reviews, run: largeReviews(review{Pad: 2_900_000})},
		{name: "H5_many_annotations", what: "64 reviews with 220,000 annotations at once, again and again", remains: reviews, run: largeReviews(review{Keys: 220_000})},
		{name: "H5_largest_taken", what: "64 reviews of 1 MB with 19,000 annotations at once, again and again", remains: reviews, run: largeReviews(review{Pad: 750_000, Keys: 19_000})},
		{name: "H5_unread_stdout", what: "reviews of 200 KB while nobody reads the records", remains: reviews + "; what is lost is told", run: unreadStdout},
		{name: "L13_slow_headers", what: "1,000 connections with a header that never ends", remains: reviews, run: slow("slow header")},
		{name: "L13_slow_bodies", what: "1,000 connections with a body that never ends", remains: reviews, run: slow("slow body")},
		{name: "L13_idle_connections", what: "5,000 connections that say nothing", remains: reviews, run: idleConnections},
		{name: "L13_large_headers", what: "64 headers of 900 KB at once, again and again", remains: reviews, run: largeHeaders},
		{name: "L13_late_body", what: "a review whose body comes too late", remains: "no answer without its id", run: lateBody},
		{name: "L13_cbc", what: "TLS 1.2 with a CBC suite", remains: "it is refused", run: cbc},
		{name: "M10_closed_stdout", what: "serve, of which one line is read (head -1)", remains: reviews + "; what is lost is told", run: closedStdout},
		{name: "M10_hangup_signal", what: "SIGHUP, as a terminal sends it that goes away", remains: "reviews are answered as long as after SIGTERM", run: hangupSignal},
		{name: "M14_busy_machine", what: "24 processes that take all processors", remains: "an honest policy decides", run: busyMachine},
	}
}

// forged is what somebody without rights sends.
func forged() review {
	return review{Namespace: "shop", Pod: "api-7d4b9c6f5-4c8tr", User: "mallory", Groups: []string{"system:authenticated"}}
}

// http2Refused: a client that offers HTTP/2 is spoken to in HTTP/1.1, and one that offers nothing else, or sends it all
// the same, gets no stream.
func http2Refused(st *stage) {
	s := serve(st.T)
	h := befriend(s, sampleQuestions())
	if p, err := s.agreed("h2", "http/1.1"); err != nil || p != "http/1.1" {
		st.Errorf("%q was agreed on, expected http/1.1: %v", p, err)
	}
	if p, err := s.agreed("h2"); err == nil {
		st.Errorf("a client of HTTP/2 alone was not refused; %q was agreed on", p)
	}
	c, err := s.dial("http/1.1")
	must(st.T, err)
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(15 * time.Second))
	_, err = io.WriteString(c, http2.ClientPreface)
	must(st.T, err)
	must(st.T, http2.NewFramer(c, nil).WriteSettings())
	answer, _ := io.ReadAll(c)
	if len(answer) > 0 && !strings.HasPrefix(string(answer), "HTTP/1.1 4") && !strings.HasPrefix(string(answer), "HTTP/1.1 505") {
		st.Errorf("HTTP/2 without its name was answered %.100q", answer)
	}
	h.during(time.Second)
	st.unharmed(s, h)
}

// dial opens a connection that offers these protocols.
func (s *subject) dial(protocols ...string) (*tls.Conn, error) {
	return tls.Dial("tcp", s.listen, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols}) //nolint:gosec // it is on this machine
}

// agreed is the protocol that the program chooses of some.
func (s *subject) agreed(protocols ...string) (string, error) {
	c, err := s.dial(protocols...)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	return c.ConnectionState().NegotiatedProtocol, nil
}

func rapidReset(connections int) func(*stage) {
	return func(st *stage) {
		s := serve(st.T, "--http2")
		h := befriend(s, sampleQuestions())
		if p, err := s.agreed("h2", "http/1.1"); err != nil || p != "h2" {
			st.Fatalf("with --http2 %q was agreed on: %v", p, err)
		}
		st.withstands(s, h, flood{Kind: "reset", Connections: connections, Review: forged()})
	}
}

func manyReviews(st *stage) {
	s := serve(st.T)
	st.withstands(s, befriend(s, sampleQuestions()), flood{Kind: "post", Connections: 32, Review: forged()})
}

func hangingUp(st *stage) {
	s := serve(st.T)
	st.withstands(s, befriend(s, sampleQuestions()), flood{Kind: "hang up", Connections: 8, Every: 20 * time.Millisecond, Review: forged()})
}

func largeReviews(size review) func(*stage) {
	return func(st *stage) {
		s := serve(st.T)
		r := forged()
		r.Pad, r.Keys = size.Pad, size.Keys
		st.atOnce(s, flood{Kind: "post", Connections: 64, Together: true, Every: 700 * time.Millisecond, Review: r})
	}
}

// atOnce sends what must be there together twice, however long that takes, before latencies are measured: a busy
// machine would bring the attacker to less.
func (st *stage) atOnce(s *subject, f flood) {
	st.Helper()
	h := befriend(s, sampleQuestions())
	first := f
	first.Address, first.Path = s.listen, s.path+"?timeout=30s"
	first.Requests, first.Lasts = int64(2*f.Connections), 20*time.Second
	st.Log(help(st.T, "flood", first, "").result(st.T))
	st.lives(s)
	if s.alive() {
		st.withstands(s, h, f)
	}
}

// unreadStdout fills the pipe, and what waits behind it. In the end somebody reads.
func unreadStdout(st *stage) {
	s := newSubject(st.T, st.TempDir())
	out, in, err := os.Pipe()
	must(st.T, err)
	s.start(s.command(in))
	_ = in.Close()
	s.ready()
	h := befriend(s, sampleQuestions())
	r := forged()
	r.Pad = 200_000
	f := flood{Kind: "post", Address: s.listen, Path: s.path + "?timeout=30s", Connections: 8, Review: r}
	if !*quick {
		f.Lasts, f.Requests = 15*time.Second, 4000
		st.Log(help(st.T, "flood", f, "").result(st.T))
		st.lives(s)
	}
	file := create(st.T, s.stdout)
	if s.alive() {
		f.Every, f.Requests = 50*time.Millisecond, 0
		l, more := st.measure(h, f)
		st.row.latency, st.row.sent = l, more.Sent
	}
	go func() {
		_, _ = io.Copy(file, out)
		_ = out.Close()
	}()
	st.unharmed(s, h)
}

func slow(kind string) func(*stage) {
	return func(st *stage) {
		s := serve(st.T)
		st.withstands(s, befriend(s, sampleQuestions()), flood{Kind: kind, Connections: 1000, Every: time.Second, Review: forged(), once: true, alone: true})
	}
}

func idleConnections(st *stage) {
	s := serve(st.T)
	st.withstands(s, befriend(s, sampleQuestions()), flood{Kind: "open", Connections: 5000, Every: time.Second, once: true, alone: true})
}

func largeHeaders(st *stage) {
	s := serve(st.T)
	st.atOnce(s, flood{Kind: "post", Connections: 64, Together: true, Every: 700 * time.Millisecond, Review: forged(), Pad: 900_000})
}

// lateBody states a length and sends nothing.
func lateBody(st *stage) {
	s := serve(st.T)
	for _, begin := range []string{"", `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"late",`} {
		c, err := tls.Dial("tcp", s.listen, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}) //nolint:gosec // it is on this machine
		must(st.T, err)
		_, err = fmt.Fprintf(c, "POST %s?timeout=1s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n%s", s.path, begin)
		must(st.T, err)
		_ = c.SetReadDeadline(time.Now().Add(15 * time.Second))
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil { // closed, which is an answer, too
			_ = c.Close()
			continue
		}
		text, _ := io.ReadAll(response.Body)
		_ = c.Close()
		if response.StatusCode == http.StatusOK {
			st.Errorf("a review that never came whole was answered %s: %.300s", response.Status, text)
		}
	}
	st.lives(s)
}

// cbc tries TLS 1.2 with suites that are known to be weak, and with one that is not.
func cbc(st *stage) {
	s := serve(st.T)
	agree := func(suites ...uint16) error {
		c, err := tls.Dial("tcp", s.listen, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: suites}) //nolint:gosec // it is on this machine
		if err == nil {
			_ = c.Close()
		}
		return err
	}
	weak := []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
		tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
	}
	if agree(weak...) == nil {
		st.Error("a CBC suite was agreed on")
	}
	must(st.T, agree(tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256))
	st.lives(s)
}

// closedStdout is a reader that goes away after a line.
func closedStdout(st *stage) {
	s := newSubject(st.T, st.TempDir())
	out, in, err := os.Pipe()
	must(st.T, err)
	s.start(s.command(in))
	_ = in.Close()
	s.ready()
	h := befriend(s, sampleQuestions())
	_, err = bufio.NewReader(out).ReadString('\n')
	must(st.T, err)
	must(st.T, out.Close())
	h.during(2 * time.Second)
	h.right(st.T)
	st.lives(s)
	if !s.alive() {
		return
	}
	s.eventually("the lost records to be told", func(context.Context) (bool, error) {
		lost, written := s.sum("evictgate_records_lost_total", `output="stdout"`), s.sum("evictgate_records_written_total", `output="stdout"`)
		decided := s.sum("evictgate_decisions_total", "")
		return lost > 0 && lost+written == decided, fmt.Errorf("%d decisions, %d records written, %d lost", decided, written, lost)
	})
	if !strings.Contains(s.logged(), "lost") {
		st.Error("the log does not tell of lost records")
	}
}

// hangupSignal may end the program, but as SIGTERM does.
func hangupSignal(st *stage) {
	s := newSubject(st.T, st.TempDir())
	s.start(s.command(create(st.T, s.stdout), "--shutdown-delay", "3s"))
	s.ready()
	h := befriend(s, sampleQuestions())
	must(st.T, s.signal(syscall.SIGHUP))
	h.during(2 * time.Second)
	h.right(st.T)
	st.lives(s)
	s.exact(h.answered)
}

// laborious is an honest policy that has much to do: some 60 ms of a processor.
const laborious = `# METADATA
# title: Count a little
# description: Denies what the sample's owner of search asks for, after a long sum.
# custom:
#   id: laborious
#   enforcement: enforce
package eviction.laborious

deny contains {"reason": "this pod stays", "detail": {}} if {
	startswith(input.pod.metadata.name, "web-")
	total := sum([n | some i in numbers.range(1, 200); some j in numbers.range(1, 100); n := (i * j) % 7])
	total > count(input.pod.metadata.name)
}
`

// busyMachine takes the processors away from an honest policy.
func busyMachine(st *stage) {
	dir := st.TempDir()
	must(st.T, os.WriteFile(filepath.Join(dir, "laborious.rego"), []byte(laborious), 0o600))
	s := serve(st.T, "--policies", dir)
	web := review{Namespace: "shop", Pod: "web-7d4b9c6f5-2xkqv", User: "admin"}
	h := &honest{subject: s, client: s.client(), asked: []question{{web, answer{Code: http.StatusForbidden}}}}
	help(st.T, "spin", 24, "")
	for end := time.Now().Add(6 * time.Second); time.Now().Before(end); {
		h.ask(st.Context())
		st.row.sent++
	}
	st.unharmed(s, h)
	if n := s.sum("evictgate_policy_failures_total", ""); n > 0 {
		st.Errorf("policies failed %d times", n)
	}
}

// runSpin takes n processors until it is ended.
func runSpin(n int) error {
	runtime.GOMAXPROCS(n)
	for range n {
		go func() {
			for x := uint64(1); x != 0; x = x*6364136223846793005 + 1442695040888963407 {
			}
		}()
	}
	fmt.Println("ready")
	select {}
}
