package gate

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/evictgate/evictgate/test/harness/kube"
)

var quick = Kubelet{
	Period: 50 * time.Millisecond, Timeout: time.Second, Failures: 2,
	Relist: 200 * time.Millisecond, Propagation: 100 * time.Millisecond,
}

// standIn answers each line with its name, and is ready as long as it is told.
type standIn struct {
	endpoint
	unready         atomic.Bool
	refused         atomic.Int32 // probes
	deleted, exited chan struct{}
}

func newStandIn(t *testing.T, b *Balancer, name string, ready bool) *standIn {
	t.Helper()
	s := &standIn{deleted: make(chan struct{}), exited: make(chan struct{})}
	s.unready.Store(!ready)
	health := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if s.unready.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			s.refused.Add(1)
		}
	}))
	t.Cleanup(health.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				for lines := bufio.NewScanner(c); lines.Scan(); {
					_, _ = io.WriteString(c, name+"\n")
				}
			}()
		}
	}()
	s.endpoint = endpoint{address: l.Addr().String(), health: strings.TrimPrefix(health.URL, "http://"), exited: s.exited, deleted: s.deleted}
	b.follow(s.endpoint)
	return s
}

func balance(t *testing.T) *Balancer {
	t.Helper()
	b, err := Balance(quick)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Stop)
	return b
}

// size waits until so many endpoints are in rotation, and says how long that took.
func size(t *testing.T, b *Balancer, n int) time.Duration {
	t.Helper()
	began := time.Now()
	err := kube.Wait(t.Context(), "the rotation to change", func(context.Context) (bool, error) { return len(b.Rotation()) == n, nil })
	if err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

// ask sends a line and reads one.
func ask(c net.Conn) (string, error) {
	if _, err := io.WriteString(c, "who\n"); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line), err
}

func dial(t *testing.T, b *Balancer) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", b.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// askAnew may be reset while it dials, or later.
func askAnew(b *Balancer) error {
	c, err := net.Dial("tcp", b.Address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_, err = ask(c)
	return err
}

func TestNewConnectionsGoRoundThoseThatAreReady(t *testing.T) {
	b := balance(t)
	newStandIn(t, b, "a", true)
	newStandIn(t, b, "b", true)
	newStandIn(t, b, "c", false)
	size(t, b, 2)
	var asked []string
	for range 4 {
		name, err := ask(dial(t, b))
		if err != nil {
			t.Fatal(err)
		}
		asked = append(asked, name)
	}
	slices.Sort(asked)
	if want := []string{"a", "a", "b", "b"}; !slices.Equal(asked, want) {
		t.Errorf("asked %v, expected %v", asked, want)
	}
}

func TestAnEndpointLeavesTheRotation(t *testing.T) {
	for name, c := range map[string]struct {
		leave  func(*standIn)
		least  time.Duration
		probes int32 // that failed
	}{
		// By how much they are apart is the ticker's, which makes up for a probe that was slow.
		"when its probe failed twice": {leave: func(s *standIn) { s.unready.Store(true) }, least: quick.Propagation, probes: 2},
		"when its pod is deleted":     {leave: func(s *standIn) { close(s.deleted) }, least: quick.Propagation},
		"when its process ends":       {leave: func(s *standIn) { close(s.exited) }, least: quick.Relist + quick.Propagation},
	} {
		t.Run(name, func(t *testing.T) {
			b := balance(t)
			s := newStandIn(t, b, "a", true)
			size(t, b, 1)
			kept := dial(t, b)
			if _, err := ask(kept); err != nil {
				t.Fatal(err)
			}
			c.leave(s)
			if took := size(t, b, 0); took < c.least {
				t.Errorf("left after %s, expected %s at least", took, c.least)
			}
			if failed := s.refused.Load(); failed < c.probes {
				t.Errorf("left after %d failed probes, expected %d at least", failed, c.probes)
			}
			if _, err := ask(kept); err != nil {
				t.Errorf("a kept connection ended: %v", err)
			}
			if err := askAnew(b); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("a new connection got %v, expected a reset", err)
			}
		})
	}
}
