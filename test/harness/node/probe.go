//go:build linux

package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// probes are those of one run of a container.
type probes struct {
	failed chan *corev1.Probe // a startup or liveness probe that fails
	cancel context.CancelFunc
	others context.CancelFunc // of startup and liveness
	wg     sync.WaitGroup
}

func (p *pod) startProbes(i int, c *corev1.Container) *probes {
	all, cancel := context.WithCancel(p.ctx)
	others, cancelOthers := context.WithCancel(all)
	s := &probes{failed: make(chan *corev1.Probe, 1), cancel: cancel, others: cancelOthers}
	s.wg.Go(func() {
		if !s.startUp(others, p, i, c) {
			return
		}
		if c.LivenessProbe != nil {
			s.wg.Go(func() { s.liveness(others, p, c) })
		}
		if c.ReadinessProbe != nil {
			p.watch(all, c, c.ReadinessProbe, func(ok bool) bool {
				p.update(i, func(status *corev1.ContainerStatus) { status.Ready = ok })
				return true
			})
		}
	})
	return s
}

// stop ends all probes and waits for them.
func (s *probes) stop() {
	s.cancel()
	s.wg.Wait()
}

// onlyReadiness ends those that could restart the container.
func (s *probes) onlyReadiness() { s.others() }

// startUp holds the other probes back until the container has started.
func (s *probes) startUp(ctx context.Context, p *pod, i int, c *corev1.Container) bool {
	if c.StartupProbe == nil {
		return true
	}
	up := false
	p.watch(ctx, c, c.StartupProbe, func(ok bool) bool {
		up = ok
		return false
	})
	if !up {
		s.fail(ctx, c.StartupProbe)
		return false
	}
	p.update(i, func(status *corev1.ContainerStatus) {
		status.Started, status.Ready = new(true), c.ReadinessProbe == nil
	})
	return true
}

func (s *probes) liveness(ctx context.Context, p *pod, c *corev1.Container) {
	p.watch(ctx, c, c.LivenessProbe, func(ok bool) bool { return ok })
	s.fail(ctx, c.LivenessProbe)
}

func (s *probes) fail(ctx context.Context, probe *corev1.Probe) {
	if ctx.Err() == nil {
		s.failed <- probe
	}
}

// watch probes again and again, and reports each result that came often enough in a row, until report says
// that it is enough.
func (p *pod) watch(ctx context.Context, c *corev1.Container, probe *corev1.Probe, report func(ok bool) bool) {
	if !sleep(ctx, time.Duration(probe.InitialDelaySeconds)*time.Second) {
		return
	}
	var last bool
	var row int32
	for {
		ok := p.probe(ctx, c, probe)
		if ctx.Err() != nil {
			return
		}
		if ok != last {
			last, row = ok, 0
		}
		row++
		if threshold := threshold(probe, ok); row == threshold && !report(ok) {
			return
		}
		if !sleep(ctx, time.Duration(max(1, probe.PeriodSeconds))*time.Second) {
			return
		}
	}
}

func threshold(probe *corev1.Probe, ok bool) int32 {
	if ok {
		return max(1, probe.SuccessThreshold)
	}
	return max(1, probe.FailureThreshold)
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// probe asks once.
func (p *pod) probe(ctx context.Context, c *corev1.Container, probe *corev1.Probe) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(max(1, probe.TimeoutSeconds))*time.Second)
	defer cancel()
	if probe.TCPSocket != nil {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.target(c, probe.TCPSocket.Host, probe.TCPSocket.Port))
		if err != nil {
			return false
		}
		return conn.Close() == nil
	}
	get := probe.HTTPGet
	scheme := strings.ToLower(string(get.Scheme))
	if scheme == "" {
		scheme = "http"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s://%s/%s", scheme, p.target(c, get.Host, get.Port), strings.TrimPrefix(get.Path, "/")), nil)
	if err != nil {
		return false
	}
	for _, h := range get.HTTPHeaders {
		request.Header.Add(h.Name, h.Value)
	}
	request.Header.Set("User-Agent", "kube-probe/1.37")
	response, err := p.agent.prober.Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode >= 200 && response.StatusCode < 400
}

// newProber opens a connection per probe, does not check certificates and follows nothing, like a kubelet.
func newProber() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// target is host and port of a probe; the host is the pod by default.
func (p *pod) target(c *corev1.Container, host string, port intstr.IntOrString) string {
	if host == "" {
		host = p.network.address()
	}
	number := port.IntValue()
	for _, named := range c.Ports {
		if port.Type == intstr.String && named.Name == port.StrVal {
			number = int(named.ContainerPort)
		}
	}
	return net.JoinHostPort(host, strconv.Itoa(number))
}
