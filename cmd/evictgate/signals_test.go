package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/evictgate/evictgate/test/harness/kube"
)

// running is this program as a process of its own, serving over the sample.
type running struct {
	*exec.Cmd
	listen, metrics string
	stderr          *bytes.Buffer
	ended           chan error
}

// startProgram runs the test's own binary by the name of the command, as TestScripts does.
func startProgram(t *testing.T, stdout *os.File, wrap ...string) *running {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "evictgate")
	if err := os.Symlink(self, program); err != nil {
		t.Fatal(err)
	}
	// A program that nohup starts ignores SIGHUP, and so do those that it starts: one that is caught is theirs again.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(hangup) })
	p := &running{listen: freePort(t), metrics: freePort(t), stderr: new(bytes.Buffer), ended: make(chan error, 1)}
	args := append(slices.Clone(wrap), program, "serve", "--snapshot", "../../config/samples/cluster.yaml", "--shutdown-delay", "0s",
		"--listen", p.listen, "--metrics-listen", p.metrics, "--health-listen", "0")
	p.Cmd = exec.Command(args[0], args[1:]...)
	p.Stdout, p.Stderr = stdout, p.stderr
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.ended <- p.Wait() }()
	t.Cleanup(func() { _ = p.Process.Kill() })
	return p
}

// awaitEnd waits until the program has ended well.
func (p *running) awaitEnd(t *testing.T) {
	t.Helper()
	select {
	case err := <-p.ended:
		if err != nil {
			t.Errorf("the gate ended with %v:\n%s", err, p.stderr)
		}
	case <-time.After(time.Minute):
		_ = p.Process.Kill()
		t.Fatalf("the gate did not end:\n%s", p.stderr)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	address, err := kube.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

const evictionReview = `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","kind":{"group":"policy","version":"v1","kind":"Eviction"},` +
	`"resource":{"group":"","version":"v1","resource":"pods"},"subResource":"eviction","namespace":"shop","name":"web-7d4b9c6f5-2xkqv","operation":"CREATE",` +
	`"userInfo":{"username":"ana"},"object":{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"web-7d4b9c6f5-2xkqv","namespace":"shop"}}}}`

// post sends a review, for as long as the program is not there yet.
func (p *running) post(t *testing.T) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, Timeout: 30 * time.Second}
	defer client.CloseIdleConnections()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		response, err := client.Post("https://"+p.listen+"/validate-eviction?timeout=30s", "application/json", strings.NewReader(evictionReview))
		if err == nil {
			defer func() { _ = response.Body.Close() }()
			body, _ := io.ReadAll(response.Body)
			return string(body)
		}
		select {
		case ended := <-p.ended:
			t.Fatalf("the gate ended with %v:\n%s", ended, p.stderr)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// lost asks the metrics how many records stdout lost.
func (p *running) lost(t *testing.T) string {
	t.Helper()
	response, err := http.Get("http://" + p.metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if n, ok := strings.CutPrefix(lines.Text(), `evictgate_records_lost_total{output="stdout"} `); ok {
			return n
		}
	}
	return "no metric"
}

// serve … | head -1, and then the terminal goes.
func TestServeOutlivesItsStdoutAndDrainsOnHangup(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := startProgram(t, write)
	_ = write.Close()
	p.post(t)
	_ = read.Close()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if answer := p.post(t); !strings.Contains(answer, `"allowed":true`) {
			t.Fatalf("answered %s", answer)
		}
		if n := p.lost(t); n != "0" && n != "no metric" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no record is counted as lost")
		}
	}
	if err := p.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	p.awaitEnd(t)
	if !strings.Contains(p.stderr.String(), "shutting down") || strings.Count(p.stderr.String(), "decision records lost") != 1 {
		t.Errorf("the log is\n%s", p.stderr)
	}
}

// With nohup a program goes on when its terminal goes.
func TestServeUnderNohupIgnoresHangup(t *testing.T) {
	if _, err := exec.LookPath("nohup"); err != nil {
		t.Skip(err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	p := startProgram(t, null, "nohup")
	p.post(t)
	for range 3 {
		if err := p.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		p.post(t)
	}
	if err := p.Process.Kill(); err != nil {
		t.Fatal(fmt.Errorf("the gate did not go on: %w", err))
	}
}
