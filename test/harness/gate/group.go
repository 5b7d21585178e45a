package gate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/test/harness/kube"
	"github.com/evictgate/evictgate/webhook/record"
)

// Group are replicas of evictgate behind one address, with one webhook configuration and one CA, as a
// Deployment has them behind a Service.
type Group struct {
	Balancer *Balancer

	options Options
	kubelet Kubelet

	mu sync.Mutex
	// replicas run or have ended; all of them keep their records and logs until Stop.
	replicas []*Replica
	stop     sync.Once
}

// Replica is one of a Group.
type Replica struct {
	*Gate
	group         *Group
	deleted, lost chan struct{}
}

// StartGroup registers evictgate and starts n replicas, and returns when all are in rotation. Nothing is
// left behind when it fails.
func StartGroup(ctx context.Context, n int, k Kubelet, o Options) (*Group, error) {
	if o.Name == "" {
		o.Name = "evictgate"
	}
	balancer, err := Balance(k)
	if err != nil {
		return nil, err
	}
	g := &Group{Balancer: balancer, options: o, kubelet: k}
	if err := g.begin(ctx, n); err != nil {
		return nil, errors.Join(err, g.Stop())
	}
	return g, nil
}

func (g *Group) begin(ctx context.Context, n int) error {
	if err := g.serve(ctx); err != nil {
		return err
	}
	if err := g.options.register(ctx, g.Balancer.Address); err != nil {
		return err
	}
	var starting sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		starting.Go(func() { _, errs[i] = g.Add(ctx) })
	}
	starting.Wait()
	return errors.Join(errs...)
}

// serve makes the Service. It has an external name, since a Service's endpoints must not be loopback
// addresses: the API server resolves it itself, and calls it as any other Service.
func (g *Group) serve(ctx context.Context) error {
	if g.options.Service == "" {
		return nil
	}
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: g.options.Service},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "localhost"},
	}
	_, err := g.options.Plane.Client.CoreV1().Services("default").Create(ctx, service, metav1.CreateOptions{})
	return err
}

// Add starts one more replica, and returns when it is in rotation.
func (g *Group) Add(ctx context.Context) (*Replica, error) {
	r, err := g.prepare()
	if err != nil {
		return nil, err
	}
	if err := r.launch(); err != nil {
		return nil, err
	}
	g.Balancer.follow(endpoint{address: r.Listen, health: r.Health, exited: r.exited, deleted: r.deleted, lost: r.lost})
	if err := r.WaitReady(ctx); err != nil {
		return nil, err
	}
	return r, r.WaitInRotation(ctx, true)
}

// prepare makes a replica that is not started yet.
func (g *Group) prepare() (*Replica, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	o := g.options
	if o.Each != nil {
		o.Args = append(slices.Clone(o.Args), o.Each(len(g.replicas))...)
	}
	gate, err := prepare(o)
	if err != nil {
		return nil, err
	}
	r := &Replica{Gate: gate, group: g, deleted: make(chan struct{}), lost: make(chan struct{})}
	g.replicas = append(g.replicas, r)
	return r, nil
}

// WaitInRotation waits until the replica gets new connections, or does not any more.
func (r *Replica) WaitInRotation(ctx context.Context, in bool) error {
	what := fmt.Sprintf("%s in rotation: %t", r.Listen, in)
	return kube.Wait(ctx, what, func(context.Context) (bool, error) {
		return slices.Contains(r.group.Balancer.Rotation(), r.Listen) == in, nil
	})
}

// Delete ends the replica as the deletion of its pod does: at once it is on its way out of the rotation,
// after the preStop hook it gets SIGTERM. It returns the program's own end.
func (r *Replica) Delete() error {
	close(r.deleted)
	time.Sleep(r.group.kubelet.PreStop)
	return r.Terminate()
}

// LoseNode stops the replica as the loss of its node does for those who call it: nothing answers, nothing
// refuses, and no kubelet says so.
func (r *Replica) LoseNode() error {
	close(r.lost)
	return r.Signal(syscall.SIGSTOP)
}

// Running are the replicas that have not ended.
func (g *Group) Running() []*Replica {
	return slices.DeleteFunc(g.All(), func(r *Replica) bool {
		select {
		case <-r.exited:
			return true
		default:
			return r.command == nil
		}
	})
}

// All are the replicas that were ever started.
func (g *Group) All() []*Replica {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.replicas)
}

// Records are the decisions that all replicas recorded so far.
func (g *Group) Records() ([]record.Record, error) {
	var all []record.Record
	for _, r := range g.All() {
		records, err := r.Records()
		if err != nil {
			return nil, fmt.Errorf("replica %s: %w", r.Listen, err)
		}
		all = append(all, records...)
	}
	return all, nil
}

// RollingRestart replaces every replica as a Deployment with maxSurge 1 and maxUnavailable 0 does: the next
// new one starts when one is ready and an old one on its way out. It returns when the old ones have ended.
func (g *Group) RollingRestart(ctx context.Context) error {
	old := g.Running()
	ends := make([]error, len(old))
	var leaving sync.WaitGroup
	defer leaving.Wait()
	for i, r := range old {
		if _, err := g.Add(ctx); err != nil {
			return err
		}
		leaving.Go(func() { ends[i] = r.Delete() })
	}
	leaving.Wait()
	return errors.Join(ends...)
}

// Stop unregisters the webhooks, ends everything at once and removes the files.
func (g *Group) Stop() error {
	var errs []error
	g.stop.Do(func() {
		errs = append(errs, g.options.unregister())
		if g.options.Service != "" {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			errs = append(errs, g.options.Plane.Client.CoreV1().Services("default").Delete(ctx, g.options.Service, metav1.DeleteOptions{}))
		}
		var ending sync.WaitGroup
		for _, r := range g.All() {
			ending.Go(func() {
				if r.command != nil {
					r.Kill()
				}
				_ = r.discard()
			})
		}
		ending.Wait()
		g.Balancer.Stop()
	})
	return errors.Join(errs...)
}
