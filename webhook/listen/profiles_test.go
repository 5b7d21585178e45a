package listen

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestProfilesAreOnlyForTheMachineItself(t *testing.T) {
	for address, want := range map[string]string{
		":6060":         "expected a loopback address",
		"0.0.0.0:6060":  "expected a loopback address",
		"[::]:6060":     "expected a loopback address",
		"10.0.0.1:6060": "expected a loopback address",
		"example:6060":  "expected a loopback address",
		"127.0.0.1":     "missing port",
	} {
		if _, err := OpenProfiles(address); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, expected %q", address, err, want)
		}
	}
	if p, err := OpenProfiles("0"); p != nil || err != nil {
		t.Errorf("0 does not turn profiles off: %v %v", p, err)
	}
}

func TestProfilesAreServed(t *testing.T) {
	p, err := OpenProfiles("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- p.Start(ctx) }()
	for path, want := range map[string]string{
		"/debug/pprof/":                        "goroutine",
		"/debug/pprof/goroutine?debug=1":       "goroutine profile: total",
		"/debug/pprof/heap?debug=1":            "heap profile",
		"/debug/pprof/cmdline":                 "listen.test",
		"/debug/pprof/profile?seconds=1":       "",
		"/debug/pprof/trace?seconds=0.1":       "go 1.",
		"/debug/pprof/symbol":                  "num_symbols",
		"/debug/pprof/block?debug=1":           "contention",
		"/debug/pprof/threadcreate?debug=1":    "threadcreate",
		"/debug/pprof/allocs?debug=1&gc=false": "heap profile",
	} {
		response, err := http.Get("http://" + p.listener.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK || len(body) == 0 || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d, %v, and %q is not in the answer", path, response.StatusCode, err, want)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
