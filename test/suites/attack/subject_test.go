package attack

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
)

// subject is a program under attack.
type subject struct {
	*testing.T
	box *box
	// listen, metrics and health are its addresses, path where reviews are posted.
	listen, metrics, health, path string
	// given is how many seconds a review may take, as the API server says it.
	given       int
	stdout, log string
	exited      <-chan struct{}
	signal      func(syscall.Signal) error
}

const sampleCluster = "../../../config/samples/cluster.yaml"

// serve starts the program over the sample cluster, in a box of its own, and returns when it is ready.
func serve(t *testing.T, arguments ...string) *subject {
	t.Helper()
	dir := t.TempDir()
	s := newSubject(t, dir)
	out := create(t, s.stdout)
	s.start(s.command(out, arguments...))
	s.ready()
	return s
}

func newSubject(t *testing.T, dir string) *subject {
	t.Helper()
	ports := got(kube.FreePorts(3))(t)
	address := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", ports[i]) }
	return &subject{
		T: t, box: newBox(t, binary(t)), listen: address(0), metrics: address(1), health: address(2), path: "/validate-eviction", given: 5,
		stdout: filepath.Join(dir, "records.jsonl"), log: filepath.Join(dir, "log"),
	}
}

func (s *subject) command(stdout io.Writer, arguments ...string) *exec.Cmd {
	s.Helper()
	cmd := exec.Command(s.box.program, append([]string{
		"serve", "--snapshot", sampleCluster, "--listen", s.listen, "--metrics-listen", s.metrics, "--health-listen", s.health,
		"--shutdown-delay", "0s",
	}, arguments...)...)
	cmd.Stdout, cmd.Stderr = stdout, create(s.T, s.log)
	return cmd
}

func create(t *testing.T, name string) *os.File {
	t.Helper()
	f := got(os.Create(name))(t)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// start spawns the program, and ends it after the test.
func (s *subject) start(cmd *exec.Cmd) {
	s.Helper()
	must(s.T, kube.Spawn(cmd))
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	s.exited = exited
	s.signal = func(sig syscall.Signal) error { return cmd.Process.Signal(sig) }
	s.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
		if s.Failed() {
			s.Logf("log of evictgate:\n%s", tail(s.logged()))
		}
	})
}

func tail(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i, line := range lines {
		lines[i] = line[:min(len(line), 400)]
	}
	return strings.Join(lines[max(0, len(lines)-6):], "\n")
}

func (s *subject) logged() string {
	text, _ := os.ReadFile(s.log)
	return string(text)
}

// alive is whether the program runs.
func (s *subject) alive() bool {
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

// eventually waits for what must come, for as long as a busy machine may take.
func (s *subject) eventually(what string, ok func(context.Context) (bool, error)) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 3*time.Minute)
	defer cancel()
	err := kube.Wait(ctx, what, func(ctx context.Context) (bool, error) {
		if !s.alive() {
			cancel()
			return false, errors.New("the program has ended")
		}
		return ok(ctx)
	})
	if err != nil {
		s.Fatal(err)
	}
}

func (s *subject) ready() {
	s.Helper()
	s.eventually("evictgate to be ready", func(ctx context.Context) (bool, error) {
		text, code, err := gate.Get(ctx, "http://"+s.health+"/readyz?verbose")
		if err == nil && code != http.StatusOK {
			err = errors.New(text)
		}
		return err == nil, err
	})
}

// sum adds up the samples of a metric whose labels hold this text.
func (s *subject) sum(metric, labels string) int {
	s.Helper()
	text, code, err := gate.Get(s.Context(), "http://"+s.metrics+"/metrics")
	if err != nil || code != http.StatusOK {
		s.Fatalf("the metrics cannot be read: %d %v", code, err)
	}
	sum := 0.0
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if base, _, _ := strings.Cut(name, "{"); base != metric || !strings.Contains(name, labels) {
			continue
		}
		n, err := strconv.ParseFloat(value[strings.LastIndexByte(value, ' ')+1:], 64)
		must(s.T, err)
		sum += n
	}
	return int(sum)
}

// client calls the program as the API server does, by HTTP/1.1 over connections that are kept.
func (s *subject) client() *http.Client {
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}, //nolint:gosec // it is on this machine
		MaxIdleConnsPerHost: 25,
	}
	s.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Duration(s.given+5) * time.Second}
}

func (s *subject) url() string {
	return fmt.Sprintf("https://%s%s?timeout=%ds", s.listen, s.path, s.given)
}

// recorded is what the records say: the ids, how long the longest line is, and how long all are.
type recorded struct {
	ids            map[string]bool
	twice          int
	longest, bytes int
	last           json.RawMessage
}

// records reads the lines on standard output once all that wait are written.
func (s *subject) records() recorded {
	s.Helper()
	s.eventually("the records to be written", func(context.Context) (bool, error) {
		return s.sum("evictgate_records_waiting", `output="stdout"`) == 0, nil
	})
	raw := got(os.ReadFile(s.stdout))(s.T)
	r := recorded{ids: map[string]bool{}, bytes: len(raw)}
	for line := range bytes.Lines(raw) {
		var of struct {
			ID string `json:"decision_id"`
		}
		if err := json.Unmarshal(line, &of); err != nil {
			s.Fatalf("record %d, %.100q: %v", len(r.ids)+1, line, err)
		}
		if r.ids[of.ID] {
			r.twice++
		}
		r.ids[of.ID] = true
		r.longest = max(r.longest, len(line))
		r.last = bytes.Clone(line)
	}
	return r
}

// exact holds the records to the decisions: each has one, or is counted as lost, and of those whose answers came,
// as long as nothing was lost, none lacks. What an attack began may still be decided.
func (s *subject) exact(answered []string) {
	s.Helper()
	if !s.alive() {
		return // which is reported elsewhere
	}
	var r recorded
	ctx, cancel := context.WithTimeout(s.Context(), 15*time.Second)
	defer cancel()
	err := kube.Wait(ctx, "a record of every decision", func(context.Context) (bool, error) {
		r = s.records()
		lost := s.sum("evictgate_records_lost_total", `output="stdout"`)
		decided := s.sum("evictgate_decisions_total", "")
		return len(r.ids)+r.twice+lost == decided, fmt.Errorf("%d decisions, %d records and %d told to be lost", decided, len(r.ids)+r.twice, lost)
	})
	if err != nil {
		s.Error(err)
	}
	lacking := 0
	for _, id := range answered {
		if !r.ids[id] {
			lacking++
		}
	}
	if lost := s.sum("evictgate_records_lost_total", `output="stdout"`); lacking > lost {
		s.Errorf("%d of %d answered reviews have no record, and %d are told to be lost", lacking, len(answered), lost)
	}
}
