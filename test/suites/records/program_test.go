// Package records holds the real program to what it promises of records: faults of stores and upload
// targets lose no more than is counted, and no answer waits for them.
package records

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// binary is the program, built as it is now.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "evictgate-records-")
	if err != nil {
		return "", err
	}
	return gate.Build(dir)
})

func TestMain(m *testing.M) {
	code := m.Run()
	if file, err := binary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(file))
	}
	os.Exit(code)
}

// program is a running evictgate serve over the sample cluster.
type program struct {
	t                *testing.T
	address, metrics string
	stdout, log      string
	command          *exec.Cmd
	exited           chan struct{}
	client           *http.Client
}

func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := kube.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// serve starts the program with more arguments, and returns when it answers.
func serve(t *testing.T, arguments ...string) *program {
	t.Helper()
	file, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p := &program{
		t: t, address: freeAddress(t), metrics: freeAddress(t),
		stdout: filepath.Join(dir, "records.jsonl"), log: filepath.Join(dir, "log"), exited: make(chan struct{}),
	}
	ca := filepath.Join(dir, "ca.crt")
	p.command = exec.Command(file, append([]string{
		"serve", "--snapshot", "../../../config/samples/cluster.yaml", "--certs", "self", "--ca-out", ca, "--listen", p.address,
		"--metrics-listen", p.metrics, "--health-listen", "0", "--shutdown-delay", "0s",
	}, arguments...)...)
	p.command.Stdout, p.command.Stderr = create(t, p.stdout), create(t, p.log)
	if err := kube.Spawn(p.command); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.command.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = p.command.Process.Kill()
		<-p.exited
	})
	p.connect(ca)
	return p
}

func create(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// connect waits for the CA, which is written before the program listens, and for the first answer.
func (p *program) connect(ca string) {
	p.t.Helper()
	pool := x509.NewCertPool()
	p.eventually("the program answers", func() bool {
		pem, err := os.ReadFile(ca)
		if err != nil || !pool.AppendCertsFromPEM(pem) {
			return false
		}
		p.client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 16,
		}}
		connection, err := tls.Dial("tcp", p.address, &tls.Config{RootCAs: pool})
		if err != nil {
			return false
		}
		return connection.Close() == nil
	})
	p.t.Cleanup(p.client.CloseIdleConnections)
}

func (p *program) eventually(what string, ok func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		select {
		case <-p.exited:
			p.t.Fatalf("the program stopped: %s\n%s", p.command.ProcessState, p.logged())
		default:
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("not in a minute: %s\n%s", what, p.logged())
		}
	}
}

func (p *program) logged() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}

// end sends SIGTERM and waits; the program must leave by itself, and well.
func (p *program) end() {
	p.t.Helper()
	_ = p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(time.Minute):
		p.t.Fatalf("the program does not end\n%s", p.logged())
	}
	if code := p.command.ProcessState.ExitCode(); code != 0 {
		p.t.Errorf("exit %d\n%s", code, p.logged())
	}
}

// kill is kill -9.
func (p *program) kill() {
	_ = p.command.Process.Kill()
	<-p.exited
}

// count reads a metric of one output; -1 when the program cannot be asked.
func (p *program) count(metric, output string) int {
	response, err := http.Get("http://" + p.metrics + "/metrics")
	if err != nil {
		return -1
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return -1
	}
	prefix := fmt.Sprintf("evictgate_records_%s{output=%q} ", metric, output)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, prefix); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				p.t.Fatal(err)
			}
			return int(n)
		}
	}
	return -1
}

// settled waits until nothing waits for the output, and returns what it wrote and lost.
func (p *program) settled(output string) (written, lost int) {
	p.t.Helper()
	p.eventually("nothing waits for "+output, func() bool {
		return p.count("waiting", "stdout") == 0 && p.count("waiting", output) == 0
	})
	return p.count("written_total", output), p.count("lost_total", output)
}

// pods are of the sample cluster: admitted, delayed by a policy and by a budget, denied, and unknown.
var pods = []string{"web-7d4b9c6f5-2xkqv", "cart-7d4b9c6f5-5hj2n", "api-7d4b9c6f5-4c8tr", "ledger-7d4b9c6f5-c3f6k", "no-such-pod"}

// answer posts one review of a user's and reports whether it was answered.
func (p *program) answer(ctx context.Context, uid, pod, user string) bool {
	id, err := json.Marshal(uid)
	if err != nil {
		p.t.Error(err)
	}
	name, err := json.Marshal(user)
	if err != nil {
		p.t.Error(err)
	}
	body := fmt.Sprintf(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":%s,
"kind":{"group":"policy","version":"v1","kind":"Eviction"},"resource":{"group":"","version":"v1","resource":"pods"},"subResource":"eviction",
"name":%q,"namespace":"shop","operation":"CREATE","userInfo":{"username":%s,"groups":["system:masters"]},
"object":{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":%q,"namespace":"shop"}},"dryRun":false}}`, id, pod, name, pod)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+p.address+"/validate-eviction?timeout=5s", strings.NewReader(body))
	if err != nil {
		p.t.Error(err)
		return false
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := p.client.Do(request)
	if err != nil {
		return false
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	return err == nil && response.StatusCode == http.StatusOK && bytes.Contains(raw, id)
}

// load is a stream of reviews.
type load struct {
	p    *program
	stop context.CancelFunc
	done sync.WaitGroup
	sent atomic.Int64

	mu        sync.Mutex
	answered  []string
	latencies []time.Duration
}

// startLoad asks at about this rate (per second) until it is stopped, or until the program is gone.
func (p *program) startLoad(rate int) *load {
	const workers = 4
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{p: p, stop: cancel}
	for w := range workers {
		l.done.Go(func() {
			tick := time.NewTicker(time.Second * workers / time.Duration(rate))
			defer tick.Stop()
			for i := 0; ; i++ {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				l.one(fmt.Sprintf("load-%p-%d-%d", l, w, i), pods[(w+i)%len(pods)], "admin")
			}
		})
	}
	p.t.Cleanup(func() { l.end() })
	return l
}

func (l *load) one(uid, pod, user string) {
	l.sent.Add(1)
	start := time.Now()
	if !l.p.answer(context.Background(), uid, pod, user) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answered = append(l.answered, uid)
	l.latencies = append(l.latencies, time.Since(start))
}

// end stops asking and returns the ids of the reviews that were answered, sorted.
func (l *load) end() []string {
	l.stop()
	l.done.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := slices.Clone(l.answered)
	slices.Sort(ids)
	return ids
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.answered)
}

// quantile is of the latencies, after end.
func (l *load) quantile(q float64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	sorted := slices.Clone(l.latencies)
	slices.Sort(sorted)
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// lines are the ids of the records on standard output, sorted.
func (p *program) lines() []string {
	p.t.Helper()
	ids := p.written()
	slices.Sort(ids)
	return ids
}

// written are the ids of the records on standard output, in their order.
func (p *program) written() []string {
	p.t.Helper()
	raw, err := os.ReadFile(p.stdout)
	if err != nil {
		p.t.Fatal(err)
	}
	var ids []string
	for line := range bytes.Lines(raw) {
		var r record.Record
		if err := json.Unmarshal(line, &r); err != nil {
			p.t.Fatalf("%.100q: %v", line, err)
		}
		ids = append(ids, r.DecisionID)
	}
	return ids
}

// stored reads the ids in a store.
func stored(t *testing.T, url string) []string {
	t.Helper()
	s, err := store.Open(t.Context(), url, store.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	var ids []string
	for r, err := range s.Records(t.Context(), store.Filter{DryRuns: true}) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, r.DecisionID)
	}
	slices.Sort(ids)
	return ids
}

// holds reports what an output lacks of the ids that were answered, and what it has twice. It may have
// more: of a review whose answer did not arrive.
func holds(t *testing.T, output string, have, answered []string) {
	t.Helper()
	if n := len(slices.Compact(slices.Clone(have))); n != len(have) {
		t.Errorf("%s has %d records twice", output, len(have)-n)
	}
	if missing := missing(have, answered); len(missing) > 0 {
		t.Errorf("%s lacks %d of %d records, such as %s", output, len(missing), len(answered), missing[0])
	}
}

// missing are those of sorted ids that the sorted list lacks.
func missing(have, ids []string) (list []string) {
	for _, id := range ids {
		if _, ok := slices.BinarySearch(have, id); !ok {
			list = append(list, id)
		}
	}
	return list
}
