package history

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// world is a cluster with an API server that carries evictions out, or does not, and a watch that is behind.
type world struct {
	*watched
	random *rand.Rand
	// server is how the pods are; the ledger sees them when their notices arrive.
	server  map[string]*corev1.Pod
	notices []notice
	// requests are admitted evictions that the API server may still carry out.
	requests []request
	// admitted is when each pod's eviction was admitted last, evicted which pods the API server evicted and when,
	// and otherwise which were deleted by another hand.
	admitted, evicted, otherwise map[types.UID]time.Time
	made                         int
}

// notice is what the watch will tell at a time.
type notice struct {
	at   time.Time
	tell func()
}

type request struct {
	pod   types.UID
	name  string
	until time.Time
}

// lagAtMost is what the watch of the world is behind.
const lagAtMost = 2 * time.Second

func newWorld(seed uint64) *world {
	w := &world{
		watched: follow(), random: rand.New(rand.NewPCG(seed, 1)), server: map[string]*corev1.Pod{}, //nolint:gosec // a test
		admitted: map[types.UID]time.Time{}, evicted: map[types.UID]time.Time{}, otherwise: map[types.UID]time.Time{},
	}
	for i := range 6 {
		w.make(fmt.Sprint("web-", i))
	}
	w.deliver(w.now.Add(time.Hour))
	return w
}

// make makes a pod with a UID of its own.
func (w *world) make(name string) {
	w.made++
	pod := input(name, "n1", "east", 0).Pod
	pod.UID = types.UID(fmt.Sprintf("%s#%d", name, w.made))
	pod.ResourceVersion = fmt.Sprint(w.made)
	w.server[name] = pod
	w.notify(func() {
		if before := w.pods[name]; before != nil { // it went and came back while nobody watched
			w.Removed(before)
		}
		w.pods[name] = pod
		w.Changed(pod)
	})
}

// notify tells the watch, in order.
func (w *world) notify(tell func()) {
	at := w.now.Add(time.Duration(w.random.Int64N(int64(lagAtMost))))
	if n := len(w.notices); n > 0 && at.Before(w.notices[n-1].at) {
		at = w.notices[n-1].at
	}
	w.notices = append(w.notices, notice{at, tell})
}

// deliver lets the notices arrive that are due.
func (w *world) deliver(until time.Time) {
	for len(w.notices) > 0 && !w.notices[0].at.After(until) {
		tell := w.notices[0].tell
		w.notices = w.notices[1:]
		tell()
	}
}

func (w *world) name() string { return fmt.Sprint("web-", w.random.IntN(6)) }

// attempt evicts a pod as the ledger's cache knows it.
func (w *world) attempt(name string) {
	pod := w.pods[name]
	if pod == nil {
		return
	}
	in := input(name, "n1", "east", w.now.Sub(noon))
	in.Pod = pod
	impossible := w.random.IntN(5) == 0
	if impossible {
		version("0")(in)
	}
	w.Decide(in, everything, answer(200))
	if impossible {
		return
	}
	w.admitted[pod.UID] = w.now
	if w.random.IntN(3) > 0 { // else the client went away, or another webhook refuses
		w.requests = append(w.requests, request{pod.UID, name, w.now.Add(requestLimit)})
	}
}

// carryOut lets the API server do what it was asked for, or its time be over.
func (w *world) carryOut() {
	if len(w.requests) == 0 {
		return
	}
	i := w.random.IntN(len(w.requests))
	r := w.requests[i]
	w.requests = slices.Delete(w.requests, i, i+1)
	if pod := w.server[r.name]; pod != nil && pod.UID == r.pod && pod.DeletionTimestamp == nil && !w.now.After(r.until) {
		w.delete(pod, true)
	}
}

// delete begins the end of a pod.
func (w *world) delete(pod *corev1.Pod, evicted bool) {
	now := metav1.NewTime(w.now)
	pod = pod.DeepCopy()
	pod.DeletionTimestamp = &now
	into := w.otherwise
	if evicted {
		pod.Annotations = map[string]string{apiMark: "true"}
		into = w.evicted
	}
	into[pod.UID] = w.now
	w.server[pod.Name] = pod
	w.notify(func() { w.pods[pod.Name] = pod; w.Changed(pod) })
}

// finish lets a pod that terminates be gone.
func (w *world) finish(name string) {
	if pod := w.server[name]; pod != nil && pod.DeletionTimestamp != nil {
		delete(w.server, name)
		w.notify(func() { delete(w.pods, name); w.Removed(pod) })
	}
}

// elsewhere is an eviction that another replica admits.
func (w *world) elsewhere(name string) {
	if pod := w.server[name]; pod != nil && pod.DeletionTimestamp == nil {
		w.delete(pod, true)
	}
}

func (w *world) deleteByHand(name string) {
	if pod := w.server[name]; pod != nil && pod.DeletionTimestamp == nil {
		w.delete(pod, false)
	}
}

func (w *world) recreate(name string) {
	if w.server[name] == nil {
		w.make(name)
	}
}

// again begins a new process, that lists the pods: of those that are gone it cannot know.
func (w *world) again() {
	w.notices = nil
	w.pods = map[string]*corev1.Pod{}
	for name, pod := range w.server {
		w.pods[name] = pod
	}
	w.restart()
	w.admitted = map[types.UID]time.Time{}
	for uid := range w.evicted {
		if !slices.ContainsFunc(w.present(), func(pod *corev1.Pod) bool { return pod.UID == uid }) {
			delete(w.evicted, uid)
		}
	}
}

func (w *world) present() []*corev1.Pod {
	var list []*corev1.Pod
	for _, pod := range w.server {
		list = append(list, pod)
	}
	return list
}

// step does something.
func (w *world) step() string {
	name := w.name()
	n := w.random.IntN(100)
	switch {
	case n < 25:
		w.attempt(name)
		return "attempt " + name
	case n < 50:
		w.carryOut()
		return "carry out"
	case n < 60:
		w.finish(name)
		return "finish " + name
	case n < 68:
		w.recreate(name)
		return "recreate " + name
	case n < 71:
		w.elsewhere(name)
		return "elsewhere " + name
	case n < 74:
		w.deleteByHand(name)
		return "delete " + name
	case n < 75:
		w.again()
		return "restart"
	}
	d := time.Duration(w.random.Int64N(int64(12 * time.Second)))
	w.pass(d)
	w.deliver(w.now)
	return "pass " + d.String()
}

// listed are the pods that count in the whole cluster.
func (w *world) listed() map[types.UID]bool {
	w.counted() // settles what is due
	list := map[types.UID]bool{}
	for _, e := range w.past[key{"cluster", ""}] {
		if list[e.pod] {
			list["twice "+e.pod] = true
		}
		list[e.pod] = true
	}
	return list
}

// wrong is what the ledger should not say, or does not; empty when all is right.
func (w *world) wrong() string {
	list := w.listed()
	for uid := range list {
		_, happened := w.evicted[uid]
		gone, other := w.otherwise[uid]
		admitted, asked := w.admitted[uid]
		switch {
		case happened:
		case asked && w.now.Sub(admitted) <= reservedFor+settleEvery:
		case asked && other && gone.Sub(admitted) <= reservedFor+settleEvery: // it went before it was given back
		default:
			return fmt.Sprintf("%s counts, and was not evicted", uid)
		}
	}
	for uid, at := range w.evicted {
		if w.now.Sub(at) > lagAtMost && !list[uid] {
			return fmt.Sprintf("%s was evicted %s ago, and does not count", uid, w.now.Sub(at))
		}
	}
	for uid, at := range w.admitted {
		for _, r := range w.requests {
			if r.pod == uid && w.now.Sub(at) <= requestLimit && !list[uid] && w.attempts[uid] != nil && w.attempts[uid].failures < failedOften && w.server[r.name] != nil && w.server[r.name].UID == uid && w.server[r.name].DeletionTimestamp == nil {
				return fmt.Sprintf("%s may be evicted at any moment, and does not count", uid)
			}
		}
	}
	return ""
}

// Whatever happens in whatever order, what counts is what happened, or may still happen.
func TestCountsAreWhatHappened(t *testing.T) {
	for seed := range uint64(20) {
		w := newWorld(seed)
		var steps []string
		for range 200 {
			steps = append(steps, w.step())
			w.deliver(w.now)
			if wrong := w.wrong(); wrong != "" {
				t.Fatalf("seed %d: %s after\n%q", seed, wrong, steps)
			}
		}
	}
}

// The property fails when reservations are not settled, as it did before they were.
func TestThePropertySeesWhatIsNeverGivenBack(t *testing.T) {
	for seed := range uint64(20) {
		w := newWorld(seed)
		w.current = false
		for range 200 {
			w.step()
			w.deliver(w.now)
			if w.wrong() != "" {
				return
			}
		}
	}
	t.Error("nothing was wrong")
}
