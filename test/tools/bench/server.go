package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// server is a child process that answers reviews on 127.0.0.1.
type server struct {
	name    string
	address string
	pid     int
	roots   *x509.CertPool
	// bodies are the reviews it is asked, round robin, and sent is how many it was.
	bodies [][]byte
	sent   int

	// keeps is set for a server with a store, which keeps each review's id once.
	keeps bool

	pods    int    // in its cluster
	metrics string // address of /metrics; empty when it has none
	command *exec.Cmd
	exited  chan struct{}
	log     string
}

// program says how to start a server: the arguments follow from the address and the CA's file.
type program struct {
	name, path string
	arguments  func(address, ca string) []string
	metrics    string
	bodies     [][]byte
	pods       int
	keeps      bool
}

// start runs the program; its stdout, where evictgate writes its records, goes to /dev/null. It must be
// called on the main goroutine: see childAttributes.
func start(ctx context.Context, dir string, p program) (*server, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	ca := filepath.Join(dir, p.name+".ca.crt")
	s := &server{
		name: p.name, address: address, bodies: p.bodies, metrics: p.metrics, pods: p.pods, keeps: p.keeps,
		exited: make(chan struct{}), log: filepath.Join(dir, p.name+".log"),
	}
	log, err := os.Create(s.log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the child holds its own descriptor
	s.command = exec.CommandContext(ctx, p.path, p.arguments(address, ca)...)
	s.command.Stderr = log
	s.command.SysProcAttr = childAttributes()
	s.command.Cancel = func() error { return s.command.Process.Signal(syscall.SIGTERM) }
	s.command.WaitDelay = 10 * time.Second
	if err := s.command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w; build evictgate first with: make build", p.name, err)
	}
	s.pid = s.command.Process.Pid
	go func() {
		_ = s.command.Wait() // the state is in ProcessState
		close(s.exited)
	}()
	if err := s.ready(ctx, ca); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// ready waits until the server has written its CA and takes a TLS connection.
func (s *server) ready(ctx context.Context, ca string) error {
	for {
		pem, err := os.ReadFile(ca)
		pool := x509.NewCertPool()
		if err == nil && pool.AppendCertsFromPEM(pem) {
			s.roots = pool
			dialer := tls.Dialer{Config: s.tls("http/1.1")}
			if connection, err := dialer.DialContext(ctx, "tcp", s.address); err == nil {
				return connection.Close()
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.exited:
			text, _ := os.ReadFile(s.log)
			return fmt.Errorf("%s stopped: %s\n%s", s.name, s.command.ProcessState, text)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (s *server) tls(protocol string) *tls.Config {
	return &tls.Config{RootCAs: s.roots, NextProtos: []string{protocol}, MinVersion: tls.VersionTLS12}
}

// stop ends the server, first kindly, and returns when it is gone.
func (s *server) stop() {
	_ = s.command.Process.Signal(syscall.SIGTERM) // an error means that it is gone
	select {
	case <-s.exited:
	case <-time.After(s.command.WaitDelay):
		_ = s.command.Process.Kill()
		<-s.exited
	}
}

// complaint is the first line of the server's log that makes its figures worthless: a record that was lost
// or a policy that failed has cost less than it should.
func (s *server) complaint() error {
	text, err := os.ReadFile(s.log)
	if err != nil {
		return err
	}
	for line := range bytes.Lines(text) {
		if bytes.Contains(line, []byte("level=ERROR")) {
			return fmt.Errorf("%s: %s", s.name, bytes.TrimSpace(line))
		}
	}
	return nil
}

// liveHeap is how much the server's last garbage collection found in use.
func (s *server) liveHeap(ctx context.Context) (float64, error) {
	return s.metric(ctx, "go_gc_heap_live_bytes")
}

// remembered is the share of the policies' answers that were not evaluated, since the server's start; not a
// number for one that has no policies.
func (s *server) remembered(ctx context.Context) (float64, error) {
	if s.metrics == "" {
		return math.NaN(), nil
	}
	known, err := s.metric(ctx, `evictgate_policy_answers_total{from="memory"}`)
	if err != nil {
		return 0, err
	}
	evaluated, err := s.metric(ctx, `evictgate_policy_answers_total{from="evaluation"}`)
	return known / (known + evaluated), err
}

// metric reads one metric, named with its labels.
func (s *server) metric(ctx context.Context, name string) (float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.metrics+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	if response.StatusCode != http.StatusOK {
		return 0, errors.New("metrics: " + response.Status)
	}
	return metricValue(bytes.NewReader(text), name)
}
