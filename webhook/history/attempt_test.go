package history

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evictgate/evictgate/policies"
)

// watched is a ledger with the pods that it follows, and a clock.
type watched struct {
	*Ledger
	now     time.Time
	pods    map[string]*corev1.Pod // by name
	current bool
	wanted  bool
	// listless is when no policy reads the history.
	listless bool
}

// nothing is read by policies that there are none of.
var nothing = policies.None().Needs()

// apiMark stands on a pod that the API server evicted.
const apiMark = "evicted-by-api"

func follow() *watched {
	w := &watched{Ledger: New(), now: noon, pods: map[string]*corev1.Pod{}, current: true, wanted: true}
	w.restart()
	return w
}

// restart begins a new memory over the same pods.
func (w *watched) restart() {
	w.Ledger = New()
	w.Follow(Watch{
		Pod:     func(_, name string) (*corev1.Pod, bool) { pod, ok := w.pods[name]; return pod, ok },
		Current: func() bool { return w.current },
		Evicted: func(pod *corev1.Pod) (time.Time, bool) {
			if pod.DeletionTimestamp == nil {
				return w.now, pod.Annotations[apiMark] != ""
			}
			return pod.DeletionTimestamp.Time, pod.Annotations[apiMark] != ""
		},
		Around: func(*corev1.Pod) (string, string) { return "web", "east" },
		Wanted: func() bool { return w.wanted },
		Now:    func() time.Time { return w.now },
	})
	var list []*corev1.Pod
	for _, pod := range w.pods {
		list = append(list, pod)
	}
	w.Rebuild(list)
}

// pod is one of Deployment web on node n1.
func (w *watched) pod(name string) *corev1.Pod {
	if w.pods[name] == nil {
		w.pods[name] = input(name, "n1", "east", 0).Pod
		w.pods[name].ResourceVersion = "100"
	}
	return w.pods[name]
}

// evict asks for the eviction of a pod, which no policy refuses.
func (w *watched) evict(name string, change ...func(*policies.Input)) {
	in := input(name, "n1", "east", w.now.Sub(noon))
	in.Pod = w.pod(name)
	for _, c := range change {
		c(in)
	}
	needs := everything
	if w.listless {
		needs = nothing
	}
	w.Decide(in, needs, answer(200))
}

// terminate shows that a pod terminates; mark is the API server's.
func (w *watched) terminate(name string, mark bool) {
	pod := w.pod(name).DeepCopy()
	at := metav1.NewTime(w.now)
	pod.DeletionTimestamp = &at
	if mark {
		pod.Annotations = map[string]string{apiMark: "true"}
	}
	w.pods[name] = pod
	w.Changed(pod)
}

func (w *watched) remove(name string) {
	pod := w.pods[name]
	delete(w.pods, name)
	w.Removed(pod)
}

func (w *watched) pass(d time.Duration) { w.now = w.now.Add(d) }

// counted is what another pod of the Deployment sees of it.
func (w *watched) counted() *policies.History {
	in := input("onlooker", "n1", "east", w.now.Sub(noon))
	w.Decide(in, everything, answer(429))
	return in.History
}

// long is when the API server cannot carry out an eviction any more.
const long = reservedFor + settleEvery

func version(rv string) func(*policies.Input) {
	return func(in *policies.Input) {
		in.Request.DeleteOptions = &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &rv}}
	}
}

func live(in *policies.Input) { in.Confirmed = []string{policies.ConfirmedPod} }

func TestWhatCountsInTheEnd(t *testing.T) {
	blocked := func(in *policies.Input) { in.Disruption = &policies.Disruption{Code: 429} }
	notReady := func(in *policies.Input) { in.Budgets = []policies.Budget{{Name: "web"}} }
	invalid := func(in *policies.Input) {
		no, propagation := true, metav1.DeletePropagationOrphan
		in.Request.DeleteOptions = &metav1.DeleteOptions{OrphanDependents: &no, PropagationPolicy: &propagation} //nolint:staticcheck // what a client may send
	}
	for name, tt := range map[string]struct {
		happens     func(*watched)
		soon, later int // how many count at once, and after the API server's limit
	}{
		"admitted and carried out":                  {func(w *watched) { w.evict("a"); w.terminate("a", true) }, 1, 1},
		"carried out and gone":                      {func(w *watched) { w.evict("a"); w.terminate("a", true); w.remove("a") }, 1, 1},
		"gone at once":                              {func(w *watched) { w.evict("a"); w.remove("a") }, 1, 1},
		"gone, and nobody was told":                 {func(w *watched) { w.evict("a"); delete(w.pods, "a") }, 1, 1},
		"another pod has its name, untold":          {func(w *watched) { w.evict("a"); w.pods["a"] = w.pod("b") }, 1, 1},
		"deleted by somebody while it is reserved":  {func(w *watched) { w.evict("a"); w.terminate("a", false) }, 1, 1},
		"refused behind us":                         {func(w *watched) { w.evict("a") }, 1, 0},
		"refused behind us, and tried again":        {func(w *watched) { w.evict("a"); w.pass(5 * time.Second); w.evict("a") }, 1, 0},
		"carried out at the second try":             {func(w *watched) { w.evict("a"); w.pass(5 * time.Second); w.evict("a"); w.terminate("a", true) }, 1, 1},
		"carried out, and asked for again":          {func(w *watched) { w.evict("a"); w.terminate("a", true); w.evict("a") }, 1, 1},
		"carried out after all":                     {func(w *watched) { w.evict("a"); w.pass(long); w.counted(); w.terminate("a", true) }, 1, 1},
		"deleted by somebody long after":            {func(w *watched) { w.evict("a"); w.pass(long); w.counted(); w.terminate("a", false) }, 0, 0},
		"nobody here admitted it":                   {func(w *watched) { w.terminate("a", true) }, 1, 1},
		"nobody here admitted it, and it is gone":   {func(w *watched) { w.terminate("a", true); w.remove("a") }, 1, 1},
		"told again and again":                      {func(w *watched) { w.terminate("a", true); w.terminate("a", true) }, 1, 1},
		"deleted by somebody":                       {func(w *watched) { w.terminate("a", false); w.remove("a") }, 0, 0},
		"a terminating pod is evicted":              {func(w *watched) { w.terminate("a", false); w.evict("a") }, 0, 0},
		"a dry run":                                 {func(w *watched) { w.evict("a", func(in *policies.Input) { in.Request.DryRun = true }) }, 0, 0},
		"of an older version of the pod":            {func(w *watched) { w.evict("a", version("99")) }, 0, 0},
		"of no version of the pod":                  {func(w *watched) { w.evict("a", version("none")) }, 0, 0},
		"of no version of the pod as read live":     {func(w *watched) { w.evict("a", version("none"), live) }, 0, 0},
		"of a newer version than the cache's":       {func(w *watched) { w.evict("a", version("101")) }, 1, 0},
		"of a newer version than the API server's":  {func(w *watched) { w.evict("a", version("101"), live) }, 0, 0},
		"of the pod's version":                      {func(w *watched) { w.evict("a", version("100"), live) }, 1, 0},
		"of a version that does not count":          {func(w *watched) { w.evict("a", version("99"), notReady) }, 1, 0},
		"of an older version, but it happens":       {func(w *watched) { w.evict("a", version("99")); w.terminate("a", true) }, 1, 1},
		"with options that are refused":             {func(w *watched) { w.evict("a", invalid) }, 0, 0},
		"admitted while its budget blocks":          {func(w *watched) { w.evict("a", blocked) }, 0, 0},
		"two pods, of which one goes":               {func(w *watched) { w.evict("a"); w.evict("b"); w.terminate("b", true) }, 2, 1},
		"the watch cannot be relied on":             {func(w *watched) { w.evict("a"); w.current = false }, 1, 1},
		"carried out before a restart":              {func(w *watched) { w.evict("a"); w.terminate("a", true); w.restart() }, 1, 1},
		"under way at a restart":                    {func(w *watched) { w.evict("a"); w.restart(); w.terminate("a", true) }, 1, 1},
		"gone before a restart":                     {func(w *watched) { w.evict("a"); w.terminate("a", true); w.remove("a"); w.restart() }, 0, 0},
		"no policy reads what the watch shows":      {func(w *watched) { w.wanted = false; w.terminate("a", true) }, 0, 0},
		"the clock of the API server is in advance": {func(w *watched) { w.pass(time.Hour); w.terminate("a", true); w.pass(-time.Second) }, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := follow()
			tt.happens(w)
			w.expect(t, "soon", tt.soon)
			w.pass(long)
			w.expect(t, "later", tt.later)
		})
	}
}

// expect compares how many count, which is the same in every list.
func (w *watched) expect(t *testing.T, when string, want int) {
	t.Helper()
	h := w.counted()
	got := map[string]int{"owner": len(h.Owner), "node": len(h.Node), "namespace": len(h.Namespace), "zone": len(h.Zone), "cluster": len(h.Cluster)}
	if diff := cmp.Diff(map[string]int{"owner": want, "node": want, "namespace": want, "zone": want, "cluster": want}, got); diff != "" {
		t.Errorf("%s, -want +got:\n%s", when, diff)
	}
}

func TestAPodLeavesUntilItsEvictionIsGivenBack(t *testing.T) {
	w := follow()
	w.evict("a")
	w.evict("b")
	w.terminate("b", true)
	w.pass(reservedFor - time.Second)
	if !w.Leaving("uid-a", w.now) || !w.Leaving("uid-b", w.now) {
		t.Error("both evictions may still be under way")
	}
	w.pass(2 * time.Second)
	if w.Leaving("uid-a", w.now) || !w.Leaving("uid-b", w.now) {
		t.Error("only b goes")
	}
	if diff := cmp.Diff(Counts{Confirmed: 1, GivenBack: 1}, w.Counts()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Who tries again and again what something behind us refuses leaves room for others.
func TestWhatFailsOftenIsReservedForAMomentOnly(t *testing.T) {
	w := follow()
	free := 0
	for range 60 {
		w.evict("a")
		w.pass(3 * time.Second)
		if len(w.counted().Cluster) == 0 {
			free++
		}
		w.pass(2 * time.Second)
	}
	if free < 50 {
		t.Errorf("others found room at %d of 60 moments", free)
	}
	w.evict("a")
	w.terminate("a", true)
	w.pass(long)
	w.expect(t, "at last it happens", 1)
}

// Clients that evict a pod at the same moment do not know yet that it failed.
func TestAttemptsAtOnceAreNoFailures(t *testing.T) {
	w := follow()
	for range 10 {
		w.evict("a")
		w.pass(settleEvery / 20)
	}
	w.pass(retriedFor + settleEvery)
	w.expect(t, "it may still be under way", 1)
}

func TestAHoldEndsWithTheAttemptThatNothingHeld(t *testing.T) {
	w := follow()
	hold := func(d func() *policies.Decision) map[string]metav1.Time {
		in := input("a", "n1", "east", w.now.Sub(noon))
		in.Pod = w.pod("a")
		w.Decide(in, everything, d)
		return in.History.Holds
	}
	hold(answer(429, holding("freeze")))
	w.pass(time.Hour)
	hold(answer(200))
	w.pass(time.Hour)
	if h := hold(answer(429, holding("freeze"))); len(h) > 0 {
		t.Errorf("given back, but held since %v", h)
	}
}

func TestAttemptsAreBounded(t *testing.T) {
	for name, w := range map[string]*watched{"followed": follow(), "not followed": {Ledger: New(), now: noon, pods: map[string]*corev1.Pod{}}} {
		t.Run(name, func(t *testing.T) {
			w.listless = true
			for i := range maxAttempts + 100 {
				w.evict(fmt.Sprint("web-", i))
			}
			if len(w.attempts) > maxAttempts {
				t.Errorf("%d attempts are remembered, at most %d may be", len(w.attempts), maxAttempts)
			}
			w.pass(attemptForgotten + long)
			w.counted()
			w.pass(attemptForgotten)
			w.counted()
			w.evict("one-more")
			if w.watch != nil && len(w.attempts) > 1 {
				t.Errorf("%d attempts are remembered when nobody tries any more", len(w.attempts))
			}
		})
	}
}

// What the watch tells of pods that nobody evicts must cost nothing.
func BenchmarkChangedOfAPodThatStays(b *testing.B) {
	w := follow()
	pod := w.pod("a")
	b.ReportAllocs()
	for b.Loop() {
		w.Changed(pod)
	}
}

func BenchmarkDecideWithHistory(b *testing.B) {
	w := follow()
	for i := range 200 {
		w.evict(fmt.Sprint("web-", i))
	}
	in := input("web", "n1", "east", 0)
	d := answer(429)
	b.ReportAllocs()
	for b.Loop() {
		w.Decide(in, everything, d)
	}
}

func BenchmarkLeaving(b *testing.B) {
	w := follow()
	for i := range maxAttempts {
		w.evict(fmt.Sprint("web-", i))
	}
	b.ReportAllocs()
	for b.Loop() {
		w.Leaving(types.UID("uid-web-7"), w.now)
	}
}
