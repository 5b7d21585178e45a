// Package preview says what evictions would meet, without evicting: for each pod what budgets and
// policies answer now, and how a drain would go on from there. It plays on a copy of the cluster, with
// the same Gather and Evaluate as the webhook.
package preview

import (
	"context"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/cluster"
)

// Options say what is asked of whom.
type Options struct {
	// Policies and Decision are those of the server.
	Policies *policies.Set
	Decision policies.Options
	// User is who evicts.
	User policies.User
	// Evictors names who evicts; nil for the default rules.
	Evictors *policies.Evictors
	// Now is when the preview begins.
	Now time.Time
	// ReadyAfter is how long a replacement takes to become ready.
	ReadyAfter time.Duration
	// Drain is the node that is drained, if one is: no replacement goes there.
	Drain string
	// Progress is told after every decision; it may be nil.
	Progress func(decided int)
}

// Result is what becomes of one pod.
type Result struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	Node      string `json:"node"`
	Owner     string `json:"owner"`
	// Skipped says why a drain leaves the pod alone; then nothing else is decided.
	Skipped string `json:"skipped"`
	// Now is the decision if it were evicted at once; null when skipped.
	Now *policies.Decision `json:"now"`
	// Evicted is when a drain gets the pod evicted, in seconds from its start; null when it does not.
	Evicted *float64 `json:"evicted_after_seconds"`
	// Stuck is the decision a drain ends with when the pod is not evicted.
	Stuck *policies.Decision `json:"stuck"`
}

// Refused reports whether the eviction would be refused now.
func (r Result) Refused() bool { return r.Now != nil && !r.Now.Allowed() }

// retryEvery is how long kubectl drain waits between attempts; decisions of one attempt share a time.
const retryEvery = 5 * time.Second

// Ask decides for each pod what an eviction would be answered now.
func Ask(ctx context.Context, store *cluster.Store, pods []*corev1.Pod, o Options) ([]Result, error) {
	p := newPlayer(store, o)
	results := make([]Result, len(pods))
	for i, pod := range pods {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		in := p.gather(ctx, pod, o.Now)
		results[i] = result(pod, in)
		if results[i].Skipped == "" {
			results[i].Now = p.decide(ctx, in)
		}
	}
	return results, nil
}

// Drain decides like Ask, and then plays the drain forward: each admitted eviction uses up its budget,
// its replacement is ready after ReadyAfter when a node takes it, and what is refused is tried again
// until nothing changes any more. It changes the snapshot.
func Drain(ctx context.Context, world *cluster.Snapshot, pods []*corev1.Pod, o Options) ([]Result, error) {
	results, err := Ask(ctx, world.Store, pods, o)
	if err != nil {
		return nil, err
	}
	sim := &simulation{world: world, readyAfter: o.ReadyAfter, now: o.Now}
	if o.Drain != "" {
		if err := sim.cordon(o.Drain); err != nil {
			return nil, fmt.Errorf("play the cordon of %s: %w", o.Drain, err)
		}
	}
	return results, newPlayer(world.Store, o).play(ctx, sim, pods, results)
}

type player struct {
	gatherer cluster.Gatherer
	options  Options
	decided  int
}

// newPlayer lets budgets answer in every mode: with advise it is the API server that refuses.
func newPlayer(store *cluster.Store, o Options) *player {
	o.Decision.Budgets = policies.AnswerBudgets
	return &player{gatherer: cluster.Gatherer{Store: store, Evictors: o.Evictors}, options: o}
}

func result(pod *corev1.Pod, in *policies.Input) Result {
	r := Result{Namespace: pod.Namespace, Pod: pod.Name, Node: pod.Spec.NodeName, Skipped: skipped(pod)}
	if in.Owner != nil {
		r.Owner = in.Owner.Kind + "/" + in.Owner.Name
	}
	return r
}

// skipped says why kubectl drain does not evict a pod.
func skipped(pod *corev1.Pod) string {
	if _, ok := pod.Annotations[corev1.MirrorPodAnnotationKey]; ok {
		return "mirror pod: the kubelet runs it from a file"
	}
	if ref := metav1.GetControllerOfNoCopy(pod); ref != nil && ref.Kind == "DaemonSet" && !finished(pod) {
		return "DaemonSet pod: it would come back at once"
	}
	return ""
}

func (p *player) gather(ctx context.Context, pod *corev1.Pod, now time.Time) *policies.Input {
	request := policies.Request{
		UID: "preview", Namespace: pod.Namespace, Name: pod.Name, DryRun: true, User: p.options.User,
	}
	in, _ := p.gatherer.Gather(ctx, request, p.options.Policies.Needs(), now)
	return in
}

func (p *player) decide(ctx context.Context, in *policies.Input) *policies.Decision {
	d := p.options.Policies.Evaluate(ctx, in, p.options.Decision)
	p.decided++
	if p.options.Progress != nil {
		p.options.Progress(p.decided)
	}
	return d
}

// play tries the pods round by round, as kubectl drain does: a pod refused with 429 is tried again, one
// refused otherwise is given up. When a round changes nothing, the clock goes on to the next replacement
// that becomes ready; when there is none, what is left is stuck.
func (p *player) play(ctx context.Context, sim *simulation, pods []*corev1.Pod, results []Result) error {
	left := make([]bool, len(pods))
	for i := range pods {
		left[i] = results[i].Skipped == ""
	}
	for {
		moved := false
		for i, pod := range pods {
			if !left[i] {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			d := p.decide(ctx, p.gather(ctx, pod, sim.now))
			results[i].Stuck = d
			switch {
			case d.Allowed():
				if err := sim.evict(pod); err != nil {
					return fmt.Errorf("play the eviction of %s/%s: %w", pod.Namespace, pod.Name, err)
				}
				after := sim.now.Sub(p.options.Now).Seconds()
				results[i].Evicted, results[i].Stuck, left[i] = &after, nil, false
				moved = true
			case d.Code != http.StatusTooManyRequests:
				left[i] = false
			}
		}
		ready, err := sim.advance(moved)
		if err != nil {
			return err
		}
		if !moved && !ready {
			return nil
		}
	}
}
