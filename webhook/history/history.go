// Package history remembers what this replica has decided: which evictions it admitted, and since when
// policies have held a pod. Input.History is made of it.
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
	// maxAge is how long an admitted eviction is remembered.
	maxAge = 24 * time.Hour
	// maxListed bounds each list of past evictions: every decision converts and records those that are read.
	// One more is kept, since a list leaves out the pod's own.
	maxListed = 200
	// holdForgotten is after how long without an attempt a hold is over. Some clients, such as a
	// descheduler that runs as a CronJob, try seldom.
	holdForgotten = 48 * time.Hour
	// leavingFor is how long an admitted eviction counts as under way though the pod does not show it: the
	// API server may refuse it after us.
	leavingFor = 30 * time.Second
	// maxKeys and maxHeld bound the lists, and the pods with holds, that are remembered.
	maxKeys, maxHeld = 50_000, 20_000
)

// Ledger is the memory of one replica. A nil Ledger remembers nothing. It is safe for concurrent use.
type Ledger struct {
	turns turns

	mu      sync.Mutex
	past    map[key][]eviction // the newest last
	held    map[types.UID]*hold
	leaving map[types.UID]time.Time // when their evictions were admitted
}

// New makes an empty Ledger.
func New() *Ledger {
	return &Ledger{
		turns: newTurns(), past: map[key][]eviction{}, held: map[types.UID]*hold{}, leaving: map[types.UID]time.Time{},
	}
}

// key is one list: what its evictions share, for example {"node", "node-1"}.
type key struct{ scope, name string }

// eviction is one that was admitted.
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
	if !needs.Reads("history") {
		d := decide()
		if d.Allowed() && !in.Request.DryRun {
			l.mu.Lock()
			l.noteLeaving(in)
			l.mu.Unlock()
		}
		return d
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	in.History = l.of(in, needs)
	d := decide()
	if !in.Request.DryRun {
		l.note(in, d)
	}
	return d
}

// of lists what the policies read.
func (l *Ledger) of(in *policies.Input, needs *policies.Needs) *policies.History {
	h := &policies.History{Holds: map[string]metav1.Time{}}
	lists := map[string]*[]metav1.Time{
		"owner": &h.Owner, "node": &h.Node, "namespace": &h.Namespace, "zone": &h.Zone, "cluster": &h.Cluster,
	}
	for _, k := range keys(in) {
		if needs.Reads("history", k.scope) {
			*lists[k.scope] = l.list(k, in, needs.HistoryDepth(k.scope, maxListed))
		}
	}
	if held, ok := l.held[in.Pod.UID]; ok && in.Now.Sub(held.last) < holdForgotten {
		for name, since := range held.since {
			h.Holds[name] = since
		}
	}
	return h
}

// keys are the lists that an eviction stands in; what is not known has none.
func keys(in *policies.Input) []key {
	list := []key{{"cluster", ""}, {"namespace", in.Pod.Namespace}}
	if in.Owner != nil {
		list = append(list, key{"owner", in.Owner.UID})
	}
	if in.Pod.Spec.NodeName != "" {
		list = append(list, key{"node", in.Pod.Spec.NodeName})
	}
	if in.Node != nil && in.Node.Labels[corev1.LabelTopologyZone] != "" {
		list = append(list, key{"zone", in.Node.Labels[corev1.LabelTopologyZone]})
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

// note remembers a decision: an admitted eviction in every list, a refusal as a hold.
func (l *Ledger) note(in *policies.Input, d *policies.Decision) {
	if d.Allowed() {
		l.noteLeaving(in)
		for _, k := range keys(in) {
			l.add(k, in)
		}
	}
	l.noteHolds(in, d)
}

// add appends to a list. A pod that is admitted again, since something behind us refused it, counts
// once.
func (l *Ledger) add(k key, in *policies.Input) {
	past := slices.DeleteFunc(l.past[k], func(e eviction) bool {
		return e.pod == in.Pod.UID || in.Now.Sub(e.at.Time) > maxAge
	})
	if len(past) > maxListed {
		past = slices.Delete(past, 0, len(past)-maxListed)
	}
	if len(past) == 0 && len(l.past) >= maxKeys {
		l.forgetLists(in.Now.Time)
	}
	l.past[k] = append(past, eviction{at: in.Now, pod: in.Pod.UID})
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

// noteHolds keeps since when each policy refuses the pod. One that refuses no more holds no more.
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
