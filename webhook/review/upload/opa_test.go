package upload

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/evictgate/evictgate/test/harness/kube"
)

// logText collects the log of a program.
type logText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// startOPA runs the real opa as a server with this configuration.
func startOPA(t *testing.T, config string) (address string, log *logText) {
	t.Helper()
	kube.Need(t, "opa")
	program, _ := kube.Program("opa")
	file := filepath.Join(t.TempDir(), "opa.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	address, err := kube.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	log = &logText{}
	opa := exec.Command(program, "run", "--server", "--addr", address, "--config-file", file, "--log-level", "debug", "--disable-telemetry")
	opa.Stdout, opa.Stderr = log, log
	if err := opa.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = opa.Process.Signal(syscall.SIGTERM)
		_ = opa.Wait()
	})
	eventually(t, log, "OPA serves", func() bool {
		response, err := http.Get("http://" + address + "/health")
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
	return address, log
}

func eventually(t *testing.T, log fmt.Stringer, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in 30 s: %s\n%s", what, log)
		}
	}
}

// An OPA whose decision log leads to us has its events skipped, and is content with that.
func TestTheRealOPAUploadsItsDecisionLog(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("s3cret"), 0o600); err != nil {
		t.Fatal(err)
	}
	k := &kept{}
	h := Handler(HandlerOptions{Add: k.add, Authenticate: BearerToken(token), Log: quiet})
	var skipped, failed, paths atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if failed.Add(1) == 1 { // OPA tries again
			http.Error(w, "not now", http.StatusServiceUnavailable)
			return
		}
		if r.URL.Path == "/review/logs/eu-1" {
			paths.Add(1)
		}
		recorder := httptest.NewRecorder()
		http.StripPrefix("/review", h).ServeHTTP(recorder, r)
		var a Answer
		if err := json.Unmarshal(recorder.Body.Bytes(), &a); err != nil || recorder.Code != http.StatusOK {
			t.Errorf("%d %s", recorder.Code, recorder.Body)
		}
		skipped.Add(int64(a.SkippedCount))
		w.WriteHeader(recorder.Code)
		_, _ = w.Write(recorder.Body.Bytes())
	}))
	defer server.Close()
	address, log := startOPA(t, fmt.Sprintf(`
services:
  evictgate:
    url: %s/review
    credentials: {bearer: {token: s3cret}}
decision_logs:
  service: evictgate
  partition_name: eu-1
  reporting: {min_delay_seconds: 1, max_delay_seconds: 1}
`, server.URL))
	const decisions = 50
	for range decisions {
		response, err := http.Post("http://"+address+"/v1/data/nothing", "application/json", strings.NewReader(`{"input":{"pod":"web-0"}}`))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
	}
	// OPA logs /health, too, when it is asked as a decision; the decisions are a lower bound.
	eventually(t, log, "all events arrive", func() bool { return skipped.Load() >= decisions })
	eventually(t, log, "OPA says so", func() bool { return strings.Contains(log.String(), "Logs uploaded successfully") })
	if n := strings.Count(log.String(), "log upload failed"); n > 1 || len(k.records) > 0 || paths.Load() == 0 {
		t.Errorf("%d uploads failed, %d records stored, %d uploads to the partition\n%s", n, len(k.records), paths.Load(), log)
	}
	if n := skipped.Load(); n != decisions {
		t.Errorf("%d events skipped of %d", n, decisions)
	}
	http.DefaultClient.CloseIdleConnections()
}
