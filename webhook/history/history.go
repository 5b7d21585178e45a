// Package history remembers which evictions happened, and since when policies have held a pod. Input.History
// is made of it.
//
// An eviction counts from the moment it is admitted, as a reservation: of two that would together exceed a
// limit the second knows of the first. Whether it happens is decided behind us, so a reservation is settled by
// the pod watch: it stays when the pod goes, and is given back when the pod is still there once the API server
// cannot carry the eviction out any more. An eviction that the watch shows though nobody here admitted it
// counts as well.
package history

import (
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evictgate/evictgate/policies"
)

const (
	// maxAge is how long an eviction is remembered.
	maxAge = 24 * time.Hour
	// maxListed bounds each list of past evictions: every decision converts and records those that are read.
	// One more is kept, since a list leaves out the pod's own.
	maxListed = 200
	// holdForgotten is after how long without an attempt a hold is over. Some clients, such as a
	// descheduler that runs as a CronJob, try seldom.
	holdForgotten = 48 * time.Hour
	// maxKeys and maxHeld bound the lists, and the pods with holds, that are remembered.
	maxKeys, maxHeld = 50_000, 20_000
)

// Ledger is the memory of one replica. A nil Ledger remembers nothing. It is safe for concurrent use.
type Ledger struct {
	turns turns
	// watch tells what becomes of the pods; nil when nobody watches, and then all that is admitted counts.
	watch *Watch
	// deciding is held while policies that read past evictions are evaluated. mu never is.
	deciding sync.Mutex

	mu       sync.Mutex
	past     map[key][]eviction // the newest last
	held     map[types.UID]*hold
	attempts map[types.UID]*attempt
	// looked is when the reservations were settled last, swept when room was made, and rebuilt whether the pods of before the start are
	// counted.
	looked, swept time.Time
	rebuilt       bool
	counts        Counts
}

// New makes an empty Ledger that takes what is admitted for what happens; see Follow.
func New() *Ledger {
	return &Ledger{
		turns: newTurns(), past: map[key][]eviction{}, held: map[types.UID]*hold{}, attempts: map[types.UID]*attempt{},
	}
}

// key is one list: what its evictions share, for example {"node", "node-1"}.
type key struct{ scope, name string }

// eviction is one that happened, or is reserved.
type eviction struct {
	at  metav1.Time
	pod types.UID
}

// hold is since when policies refuse the eviction of one pod, by the name of the binding.
type hold struct {
	since map[string]metav1.Time
	last  time.Time
}

// Decide calls decide with in.History filled in, and remembers what comes of it. When the policies read
// past evictions, decisions are made one after the other: of two that would together exceed a limit the
// second knows of the first.
func (l *Ledger) Decide(in *policies.Input, needs *policies.Needs, decide func() *policies.Decision) *policies.Decision {
	if l == nil || in.Pod == nil {
		return decide()
	}
	reads := needs.Reads("history")
	if reads {
		l.deciding.Lock()
		defer l.deciding.Unlock()
		in.History = l.read(in, needs)
	}
	d := decide()
	if !in.Request.DryRun {
		l.note(in, d, reads)
	}
	return d
}

func (l *Ledger) read(in *policies.Input, needs *policies.Needs) *policies.History {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle(in.Now.Time)
	return l.of(in, needs)
}

// of lists what the policies read.
func (l *Ledger) of(in *policies.Input, needs *policies.Needs) *policies.History {
	h := &policies.History{Holds: map[string]metav1.Time{}}
	for _, k := range keys(in) {
		if needs.Reads("history", k.scope) {
			*h.List(k.scope) = l.list(k, in, needs.HistoryDepth(k.scope, maxListed))
		}
	}
	if held, ok := l.held[in.Pod.UID]; ok && in.Now.Sub(held.last) < holdForgotten {
		for name, since := range held.since {
			h.Holds[name] = since
		}
	}
	return h
}

// keys are the lists that an eviction stands in.
func keys(in *policies.Input) []key {
	owner, zone := "", ""
	if in.Owner != nil {
		owner = in.Owner.UID
	}
	if in.Node != nil {
		zone = in.Node.Labels[corev1.LabelTopologyZone]
	}
	return keysOf(in.Pod, owner, zone)
}

// keysOf are the lists that the eviction of a pod stands in; what is empty is not known, and has none.
func keysOf(pod *corev1.Pod, owner, zone string) []key {
	list := []key{{"cluster", ""}, {"namespace", pod.Namespace}}
	for _, k := range []key{{"owner", owner}, {"node", pod.Spec.NodeName}, {"zone", zone}} {
		if k.name != "" {
			list = append(list, k)
		}
	}
	return list
}

// list is one list as far as it is read, the newest first, without the pod's own evictions and those that are too old.
func (l *Ledger) list(k key, in *policies.Input, depth int) []metav1.Time {
	past := l.past[k]
	list := make([]metav1.Time, 0, min(len(past), depth))
	for _, e := range slices.Backward(past) {
		if len(list) == depth || in.Now.Sub(e.at.Time) > maxAge {
			break
		}
		if e.pod != in.Pod.UID {
			list = append(list, e.at)
		}
	}
	return list
}

// note remembers a decision: an admitted eviction as a reservation, a refusal as a hold. The lists are kept only
// while policies read them.
func (l *Ledger) note(in *policies.Input, d *policies.Decision, listed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lists []key
	if listed {
		lists = keys(in)
		l.noteHolds(in, d)
	}
	if d.Allowed() {
		l.reserve(in, lists)
	}
}

// add puts an eviction into a list, the newest last. A pod counts once.
func (l *Ledger) add(k key, e eviction, now time.Time) {
	past := slices.DeleteFunc(l.past[k], func(old eviction) bool {
		return old.pod == e.pod || now.Sub(old.at.Time) > maxAge
	})
	if len(past) == 0 && len(l.past) >= maxKeys {
		l.forgetLists(now)
	}
	at := len(past)
	for at > 0 && past[at-1].at.After(e.at.Time) {
		at--
	}
	past = slices.Insert(past, at, e)
	l.past[k] = slices.Delete(past, 0, max(0, len(past)-maxListed-1))
}

// remove takes a pod's eviction out of a list.
func (l *Ledger) remove(k key, pod types.UID) {
	past := slices.DeleteFunc(l.past[k], func(e eviction) bool { return e.pod == pod })
	if len(past) == 0 {
		delete(l.past, k)
		return
	}
	l.past[k] = past
}

// forgetLists drops the lists whose newest eviction is too old; when that is not enough, all of them:
// memory must stay bounded.
func (l *Ledger) forgetLists(now time.Time) {
	for k, past := range l.past {
		if len(past) == 0 || now.Sub(past[len(past)-1].at.Time) > maxAge {
			delete(l.past, k)
		}
	}
	if len(l.past) >= maxKeys {
		clear(l.past)
	}
}

// noteHolds keeps since when each policy refuses the pod. One that refuses no more holds no more, whether the
// eviction happens then or fails behind us: a hold that went on would let maxHold end too early.
func (l *Ledger) noteHolds(in *policies.Input, d *policies.Decision) {
	refusing := d.Holding()
	if len(refusing) == 0 {
		delete(l.held, in.Pod.UID)
		return
	}
	before := l.held[in.Pod.UID]
	if before == nil {
		l.forgetHolds(in.Now.Time)
	}
	now := &hold{since: map[string]metav1.Time{}, last: in.Now.Time}
	for _, name := range refusing {
		now.since[name] = nextSecond(in.Now)
		if before != nil && in.Now.Sub(before.last) < holdForgotten {
			if since, ok := before.since[name]; ok {
				now.since[name] = since
			}
		}
	}
	l.held[in.Pod.UID] = now
}

// nextSecond is when a hold begins: maxHold is counted in whole seconds, as records have them, and must not
// end early.
func nextSecond(t metav1.Time) metav1.Time {
	return metav1.NewTime(t.Add(time.Second - time.Nanosecond).Truncate(time.Second))
}

// forgetHolds makes room for one more pod.
func (l *Ledger) forgetHolds(now time.Time) {
	if len(l.held) < maxHeld {
		return
	}
	var oldest types.UID
	for uid, h := range l.held {
		if now.Sub(h.last) >= holdForgotten {
			delete(l.held, uid)
		} else if oldest == "" || h.last.Before(l.held[oldest].last) {
			oldest = uid
		}
	}
	if len(l.held) >= maxHeld {
		delete(l.held, oldest)
	}
}
