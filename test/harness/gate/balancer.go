package gate

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Kubelet says when an endpoint enters and leaves the rotation of a Balancer: what in a cluster the kubelet,
// the EndpointSlice controller and kube-proxy do one after the other.
type Kubelet struct {
	// Period and Failures are the readiness probe's periodSeconds and failureThreshold, Timeout its
	// timeoutSeconds. One success is enough.
	Period, Timeout time.Duration
	Failures        int
	// Relist is how often the kubelet looks whether containers have ended.
	Relist time.Duration
	// Propagation is the way from the pod's status to the rules on the nodes.
	Propagation time.Duration
	// PreStop is the hook's sleep before SIGTERM.
	PreStop time.Duration
	// NodeGrace is how long the pods of a node that is not heard of count as ready:
	// kube-controller-manager's --node-monitor-grace-period.
	NodeGrace time.Duration
}

// AsInstalled is what config/ gives the pods, with Kubernetes' own defaults and a way of half a second.
func AsInstalled() Kubelet {
	return Kubelet{
		Period: 2 * time.Second, Timeout: time.Second, Failures: 2,
		Relist: time.Second, Propagation: 500 * time.Millisecond, PreStop: 5 * time.Second,
		NodeGrace: 50 * time.Second,
	}
}

// Balancer is a Service on 127.0.0.1: it hands each new connection to the next endpoint in rotation. A
// connection stays with its endpoint until one side closes it, as conntrack keeps it, also when the endpoint
// has left the rotation.
type Balancer struct {
	// Address is where it listens.
	Address string

	kubelet  Kubelet
	listener net.Listener
	running  sync.WaitGroup
	ctx      context.Context
	cancel   context.CancelFunc

	mu       sync.Mutex
	rotation []string // addresses of endpoints
	next     int
	pipes    map[*net.TCPConn]bool
}

// Balance starts a Balancer without endpoints.
func Balance(k Kubelet) (*Balancer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &Balancer{Address: l.Addr().String(), kubelet: k, listener: l, pipes: map[*net.TCPConn]bool{}}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.running.Go(b.accept)
	return b, nil
}

// Stop closes everything.
func (b *Balancer) Stop() {
	b.cancel()
	_ = b.listener.Close()
	b.mu.Lock()
	for c := range b.pipes {
		_ = c.Close()
	}
	b.mu.Unlock()
	b.running.Wait()
}

// Rotation are the addresses that get new connections.
func (b *Balancer) Rotation() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.rotation)
}

func (b *Balancer) accept() {
	for {
		c, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.running.Go(func() { b.carry(c.(*net.TCPConn)) })
	}
}

// pick is the next endpoint; empty when there is none.
func (b *Balancer) pick() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.rotation) == 0 {
		return ""
	}
	b.next++
	return b.rotation[b.next%len(b.rotation)]
}

// carry connects the client with an endpoint. Where kube-proxy's rules would have the client refused, it
// is reset: it was accepted by us already.
func (b *Balancer) carry(client *net.TCPConn) {
	defer b.hold(client)()
	to, err := net.DialTimeout("tcp", b.pick(), 30*time.Second)
	if err != nil {
		_ = client.SetLinger(0)
		return
	}
	endpoint := to.(*net.TCPConn)
	defer b.hold(endpoint)()
	var both sync.WaitGroup
	both.Go(func() { stream(endpoint, client) })
	both.Go(func() { stream(client, endpoint) })
	both.Wait()
}

// hold remembers a connection for Stop, and returns what closes it.
func (b *Balancer) hold(c *net.TCPConn) (closeIt func()) {
	b.mu.Lock()
	b.pipes[c] = true
	b.mu.Unlock()
	return func() {
		_ = c.Close()
		b.mu.Lock()
		delete(b.pipes, c)
		b.mu.Unlock()
	}
}

// stream passes on what one side sends, and how it ends: by an end of file, or by a reset.
func stream(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		_ = to.SetLinger(0)
		_ = to.Close()
		_ = from.Close()
		return
	}
	_ = to.CloseWrite()
}

// endpoint is what a Balancer follows of a replica.
type endpoint struct {
	address, health string
	exited          <-chan struct{}
	// deleted is closed when the pod is being deleted, and lost when its node is not heard of any more.
	deleted, lost <-chan struct{}
}

// follow keeps an endpoint in rotation while it is ready, until it is deleted or has ended.
func (b *Balancer) follow(e endpoint) {
	b.running.Go(func() {
		defer b.remove(e.address)
		tick := time.NewTicker(b.kubelet.Period)
		defer tick.Stop()
		for failed := 0; ; {
			if ready(b.ctx, e.health, b.kubelet.Timeout) {
				failed = 0
				b.later(b.kubelet.Propagation, func() { b.add(e) })
			} else if failed++; failed >= b.kubelet.Failures {
				b.later(b.kubelet.Propagation, func() { b.remove(e.address) })
			}
			select {
			case <-tick.C:
			case <-b.ctx.Done():
				return
			case <-e.deleted:
				b.sleep(b.kubelet.Propagation)
				return
			case <-e.lost:
				b.sleep(b.kubelet.NodeGrace + b.kubelet.Propagation)
				return
			case <-e.exited: // on average half a relist goes by; the whole is the worst
				b.sleep(b.kubelet.Relist + b.kubelet.Propagation)
				return
			}
		}
	})
}

// ready asks once, as a probe does.
func ready(ctx context.Context, health string, timeout time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, code, err := Get(ctx, "http://"+health+"/readyz")
	return err == nil && code == http.StatusOK
}

func (b *Balancer) later(d time.Duration, f func()) {
	b.running.Go(func() {
		b.sleep(d)
		f()
	})
}

func (b *Balancer) sleep(d time.Duration) {
	select {
	case <-time.After(d):
	case <-b.ctx.Done():
	}
}

func (b *Balancer) add(e endpoint) {
	select {
	case <-e.deleted: // it was ready when it was asked
		return
	case <-e.exited:
		return
	default:
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Contains(b.rotation, e.address) {
		b.rotation = append(b.rotation, e.address)
	}
}

func (b *Balancer) remove(address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rotation = slices.DeleteFunc(b.rotation, func(a string) bool { return a == address })
}
