// Package fate follows the pods that somebody tried to evict, and says what became of each and which are
// stuck.
//
// The gate notes every decision, and the pod informer tells how the pods change. What it shows of a pod's
// end is a Sighting: the API server marks each pod that it evicts, so that an eviction, a deletion around us
// and a preemption can be told apart. What nobody watched, since evictgate was down, is found out from the
// store's unsettled episodes.
package fate

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
)

const (
	// maxPods bounds the pods that are remembered, about 300 bytes each. One more is not followed: it is
	// missing among the stuck ones, and its end is found out from the store.
	maxPods = 20_000
	// silence is after how long without an attempt a refused pod is not wanted gone any more.
	silence = 15 * time.Minute
	// sweepEvery is how often room is made at most.
	sweepEvery = time.Minute
)

// Pods remembers the pods that somebody tried to evict. A nil Pods remembers nothing. It is safe for
// concurrent use.
type Pods struct {
	cached func(namespace, name string) (*corev1.Pod, bool)
	sink   func(record.Sighting)
	now    func() time.Time

	mu sync.Mutex
	// refusals counts them by what refused.
	refusals map[record.BlockerKind]int
	pods     map[types.UID]*followed
	swept    time.Time
}

// followed is one pod.
type followed struct {
	// tried is the last attempt that was noted.
	tried time.Time
	// refused is since when the evictions are refused; zero when the last was admitted. Blocker refuses
	// them.
	refused time.Time
	blocker record.BlockerKind
	// seen is what the sink was told.
	seen record.Sighting
}

// Options are the surroundings of Pods.
type Options struct {
	// Cached reads a pod as the informers know it; nil when there are none.
	Cached func(namespace, name string) (*corev1.Pod, bool)
	// Sink is told what was seen of a pod, after its decision was noted. It must not block; nil when nobody
	// wants to know.
	Sink func(record.Sighting)
	// Now is the clock.
	Now func() time.Time
}

// New makes an empty memory.
func New(o Options) *Pods {
	p := &Pods{
		cached: o.Cached, sink: o.Sink, now: o.Now, refusals: map[record.BlockerKind]int{}, pods: map[types.UID]*followed{},
	}
	if p.cached == nil {
		p.cached = func(string, string) (*corev1.Pod, bool) { return nil, false }
	}
	if p.sink == nil {
		p.sink = func(record.Sighting) {}
	}
	return p
}

// Note remembers a decision, and returns since when the pod's evictions are refused, as far as it
// remembers. Dry runs are left out; of pods that nobody knows, only the refusal counts.
func (p *Pods) Note(in *policies.Input, d *policies.Decision) (since time.Time) {
	now := in.Now.Time
	if p == nil || in.Request.DryRun {
		return now
	}
	since, fresh := p.note(in.Pod, blockerOf(d), now)
	if !fresh {
		return since
	}
	// What happened before the pod was followed is told by nobody else.
	if pod, ok := p.cached(in.Pod.Namespace, in.Pod.Name); ok && pod.UID == in.Pod.UID {
		p.Changed(pod)
	}
	return since
}

// blockerOf is empty when the eviction is admitted.
func blockerOf(d *policies.Decision) record.BlockerKind {
	if d.Allowed() {
		return ""
	}
	return record.ReplyOf(d, time.Time{}).Kind
}

// note also reports whether the pod is followed from now on.
func (p *Pods) note(pod *corev1.Pod, blocker record.BlockerKind, now time.Time) (since time.Time, fresh bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if blocker != "" {
		p.refusals[blocker]++
	}
	if pod == nil {
		return now, false
	}
	known, ok := p.pods[pod.UID]
	if !ok {
		if known = p.add(pod.UID, now); known == nil {
			return now, false
		}
	}
	known.attempt(blocker, now)
	if known.refused.IsZero() {
		return now, !ok
	}
	return known.refused, !ok
}

// attempt notes that an eviction was tried; blocker is empty when it was admitted.
func (f *followed) attempt(blocker record.BlockerKind, now time.Time) {
	switch {
	case blocker == "" || f.over():
		f.refused = time.Time{}
	case f.refused.IsZero() || now.Sub(f.tried) > silence:
		f.refused = now
	}
	f.tried, f.blocker = now, blocker
}

// over reports whether the pod is gone or on its way.
func (f *followed) over() bool {
	return !f.seen.Terminating.IsZero() || !f.seen.Finished.IsZero() || !f.seen.Gone.IsZero()
}

// add makes room for a pod when it can; p.mu is held.
func (p *Pods) add(pod types.UID, now time.Time) *followed {
	if len(p.pods) >= maxPods {
		p.sweep(now)
	}
	if len(p.pods) >= maxPods {
		return nil
	}
	f := &followed{tried: now}
	p.pods[pod] = f
	return f
}

// sweep drops the pods that nobody tries to evict any more.
func (p *Pods) sweep(now time.Time) {
	if now.Sub(p.swept) < sweepEvery {
		return
	}
	p.swept = now
	for uid, f := range p.pods {
		if now.Sub(f.tried) > silence {
			delete(p.pods, uid)
		}
	}
}

// Changed takes the present state of a pod.
func (p *Pods) Changed(pod *corev1.Pod) {
	p.mu.Lock()
	known, ok := p.pods[pod.UID]
	if !ok {
		p.mu.Unlock()
		return
	}
	s, news := known.see(look(pod, p.now()))
	p.mu.Unlock()
	if news {
		p.sink(s)
	}
}

// Removed takes the last known state of a pod that is not there any more; seen says that its removal was,
// and not only found out later.
func (p *Pods) Removed(pod *corev1.Pod, seen bool) {
	p.mu.Lock()
	known, ok := p.pods[pod.UID]
	if !ok {
		p.mu.Unlock()
		return
	}
	s, _ := known.see(lookBack(pod, p.now(), seen))
	delete(p.pods, pod.UID)
	p.mu.Unlock()
	p.sink(s)
}
