package history

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evictgate/evictgate/policies"
)

const (
	// requestLimit is the API server's own limit of a request: an eviction that was not carried out by then
	// never is. See https://github.com/kubernetes/kubernetes/blob/v1.37.2/staging/src/k8s.io/apiserver/pkg/endpoints/handlers/rest.go
	requestLimit = 34 * time.Second
	// watchLag is what the pod watch may be behind.
	watchLag = 4 * time.Second
	// reservedFor is how long an admitted eviction counts though the pod does not show it.
	reservedFor = requestLimit + watchLag
	// failedOften is after how many failures in a row the evictions of a pod are reserved for retriedFor only:
	// somebody who goes on trying what something behind us refuses must not keep others waiting for ever.
	failedOften = 3
	retriedFor  = 2 * time.Second
	// leavingFor is how long an admitted eviction counts as under way where nobody watches the pods.
	leavingFor = 30 * time.Second
	// settleEvery is how often reservations are looked at, at most.
	settleEvery = time.Second
	// attemptForgotten is after how long what is settled is forgotten.
	attemptForgotten = 10 * time.Minute
	// maxAttempts bounds the pods whose attempts are remembered, about 400 bytes each. What finds no room
	// counts for good.
	maxAttempts = 20_000
)

// attempt is the last eviction of a pod that was admitted here, or seen, until the pod is gone.
type attempt struct {
	namespace, name string
	at              time.Time
	// until is when the reservation ends.
	until time.Time
	state state
	// failures counts the evictions in a row that were admitted and did not happen.
	failures int
	// lists are those that the reservation stands in.
	lists []key
}

// state is what is known of an attempt.
type state int

const (
	reserved state = iota
	happened
	failed
)

// goes reports whether the pod is on its way, or will be.
func (a *attempt) goes(now time.Time, watched bool) bool {
	if !watched {
		return now.Sub(a.at) < leavingFor
	}
	return a.state != failed
}

// Counts says what became of evictions.
type Counts struct {
	// Confirmed were admitted here and happened, GivenBack were admitted here and did not, Foreseen were admitted
	// here though it was known that the API server would refuse them, and Seen happened though nobody here
	// admitted them.
	Confirmed, GivenBack, Foreseen, Seen int64
}

// Counts is what became of evictions since the start.
func (l *Ledger) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts
}

// reserve counts an admitted eviction until it is known what became of it. l.mu is held.
func (l *Ledger) reserve(in *policies.Input, lists []key) {
	if l.watch != nil && neverHappens(in) {
		l.counts.Foreseen++
		return
	}
	before := l.attempts[in.Pod.UID]
	if before != nil && before.state == happened {
		return // the cache that this decision rests on does not show it yet
	}
	a := &attempt{namespace: in.Pod.Namespace, name: in.Pod.Name, at: in.Now.Time, until: in.Now.Add(reservedFor), lists: lists}
	if before != nil && before.state == reserved {
		l.retried(in.Pod.UID, before, in.Now.Time)
	}
	if before != nil {
		a.failures = before.failures
	}
	if a.failures >= failedOften {
		a.until = in.Now.Add(retriedFor)
	}
	for _, k := range lists {
		l.add(k, eviction{at: in.Now, pod: in.Pod.UID}, in.Now.Time)
	}
	l.remember(in.Pod.UID, a)
}

// retried gives back what is tried again: who does so was told that it failed. Two clients that evict a pod at the
// same moment have not been told anything yet.
func (l *Ledger) retried(pod types.UID, a *attempt, now time.Time) {
	failures := a.failures
	l.giveBack(pod, a)
	if now.Sub(a.at) < settleEvery {
		a.failures = failures
	}
}

// remember keeps an attempt when there is room.
func (l *Ledger) remember(pod types.UID, a *attempt) {
	if _, known := l.attempts[pod]; !known && len(l.attempts) >= maxAttempts {
		l.forgetAttempts(a.at)
	}
	if _, known := l.attempts[pod]; known || len(l.attempts) < maxAttempts {
		l.attempts[pod] = a
	}
}

// forgetAttempts makes room. What is settled goes first; then one that is not, which counts for good.
func (l *Ledger) forgetAttempts(now time.Time) {
	if now.Sub(l.swept) < settleEvery {
		return
	}
	l.swept = now
	for uid, a := range l.attempts {
		if a.state != reserved || (l.watch == nil && !a.goes(now, false)) {
			delete(l.attempts, uid)
		}
	}
}

// giveBack takes an eviction that did not happen out of the lists.
func (l *Ledger) giveBack(pod types.UID, a *attempt) {
	for _, k := range a.lists {
		l.remove(k, pod)
	}
	a.state, a.lists = failed, nil
	a.failures++
	l.counts.GivenBack++
}

// confirm lets an eviction that happened count for good.
func (l *Ledger) confirm(a *attempt) {
	a.state, a.lists = happened, nil
	l.counts.Confirmed++
}

// settle looks at the reservations that are over, as long as the pod watch can be relied on. l.mu is held.
func (l *Ledger) settle(now time.Time) {
	if l.watch == nil || now.Sub(l.looked) < settleEvery || !l.watch.Current() {
		return
	}
	l.looked = now
	for uid, a := range l.attempts {
		switch {
		case a.state != reserved:
			if now.Sub(a.at) > attemptForgotten {
				delete(l.attempts, uid)
			}
		case now.Before(a.until):
		case l.watch.stays(uid, a):
			l.giveBack(uid, a)
		default:
			l.confirm(a)
		}
	}
}

// Watch is how a Ledger knows what becomes of pods.
type Watch struct {
	// Pod reads a pod as the watch shows it now.
	Pod func(namespace, name string) (*corev1.Pod, bool)
	// Current reports whether the watch can be relied on. While it cannot, nothing is given back.
	Current func() bool
	// Evicted reports whether a pod that terminates or is gone was evicted by the API server, and when.
	Evicted func(*corev1.Pod) (time.Time, bool)
	// Around names the owner, by its UID, and the zone of a pod; what is not known is empty.
	Around func(*corev1.Pod) (owner, zone string)
	// Wanted reports whether any policy reads past evictions.
	Wanted func() bool
	// Now is the clock.
	Now func() time.Time
}

// stays reports whether the pod of an attempt is there and does not terminate.
func (w *Watch) stays(uid types.UID, a *attempt) bool {
	pod, ok := w.Pod(a.namespace, a.name)
	return ok && pod.UID == uid && pod.DeletionTimestamp == nil
}

// Follow lets the ledger count what the watch shows. Changed, Removed and Rebuild must then be called. It
// comes before the first decision.
func (l *Ledger) Follow(w Watch) { l.watch = &w }

// Changed takes the present state of a pod. The API server's mark on a pod that is not deleted says
// nothing: it is written before the deletion, which may fail.
func (l *Ledger) Changed(pod *corev1.Pod) {
	if pod.DeletionTimestamp == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.see(pod)
}

// Removed takes the last known state of a pod that is not there any more.
func (l *Ledger) Removed(pod *corev1.Pod) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.see(pod)
	delete(l.attempts, pod.UID)
}

// see takes a pod that terminates or is gone.
func (l *Ledger) see(pod *corev1.Pod) {
	a := l.attempts[pod.UID]
	switch {
	case a != nil && a.state == reserved:
		l.confirm(a)
	case a != nil && a.state == happened, !l.rebuilt, !l.watch.Wanted():
	default:
		l.count(pod)
	}
}

// count lists an eviction that nobody here reserved: another replica admitted it, or it passed while we were
// away, or its reservation was given back too early.
func (l *Ledger) count(pod *corev1.Pod) {
	at, evicted := l.watch.Evicted(pod)
	now := l.watch.Now()
	if !evicted || now.Sub(at) > maxAge {
		return
	}
	if at.After(now) {
		at = now
	}
	owner, zone := l.watch.Around(pod)
	for _, k := range keysOf(pod, owner, zone) {
		l.add(k, eviction{at: metav1.NewTime(at.UTC()), pod: pod.UID}, now)
	}
	l.remember(pod.UID, &attempt{namespace: pod.Namespace, name: pod.Name, at: now, state: happened})
	l.counts.Seen++
}

// Rebuild counts the pods that terminate at the start, once all around them is known. What was gone before is
// forgotten.
func (l *Ledger) Rebuild(pods []*corev1.Pod) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rebuilt = true
	for _, pod := range pods {
		if pod.DeletionTimestamp != nil {
			l.see(pod)
		}
	}
}
