package fate

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
)

// refusedBy makes the decision that a blocker of a kind leads to.
func refusedBy(kind record.BlockerKind) *policies.Decision {
	switch kind {
	case record.ByBudget:
		return &policies.Decision{Outcome: policies.Delayed, Code: 429, Causes: []policies.Cause{{Type: "DisruptionBudget", Field: "web"}}}
	case record.ByBudgets:
		return &policies.Decision{Outcome: policies.Denied, Code: 500, Causes: []policies.Cause{{Type: "DisruptionBudget", Field: "web-a,web-b"}}}
	case record.ByFailure:
		return &policies.Decision{Outcome: policies.Undecided, Code: 429, Failures: []policies.Failure{{Policy: "fails", Enforcement: policies.Enforce}}}
	case record.ByPolicy:
		return &policies.Decision{Outcome: policies.Denied, Code: 403, Causes: []policies.Cause{{Type: policies.PolicyCause, Field: "freeze"}}}
	}
	return &policies.Decision{Outcome: policies.Admitted, Code: 200}
}

const admitted = record.BlockerKind("")

// decided is a decision on the pod at a second.
func decided(second int, d *policies.Decision) (*policies.Input, *policies.Decision) {
	return &policies.Input{Now: metav1.NewTime(at(second)), Pod: podWith()}, d
}

// blocked is the episode of the pod after one refusal.
func blocked() *record.Episode {
	var e record.Episode
	e.Add(&record.Record{
		DecisionID: "d1", Timestamp: noon, Result: refusedBy(record.ByPolicy),
		Request: record.Request{Namespace: "shop", Name: "web-1"}, Pod: &record.Object{Kind: "Pod", Name: "web-1", UID: "u1"},
	})
	return &e
}

// quietly makes a memory with a clock that stands.
func quietly(now *time.Time) *Pods { return New(Options{Now: func() time.Time { return *now }}) }

func TestSinceWhenAPodIsRefused(t *testing.T) {
	type attempt struct {
		second int
		by     record.BlockerKind
		since  int
	}
	for name, attempts := range map[string][]attempt{
		"from the first refusal on":       {{0, record.ByBudget, 0}, {30, record.ByPolicy, 0}, {600, record.ByBudget, 0}},
		"an admitted eviction ends it":    {{0, record.ByBudget, 0}, {30, admitted, 30}, {60, record.ByBudget, 60}, {90, record.ByBudget, 60}},
		"a long silence ends it":          {{0, record.ByBudget, 0}, {900, record.ByBudget, 0}, {1801, record.ByBudget, 1801}},
		"an admitted eviction has no age": {{0, admitted, 0}, {30, admitted, 30}},
	} {
		t.Run(name, func(t *testing.T) {
			now := noon
			p := quietly(&now)
			for _, a := range attempts {
				now = at(a.second)
				if since := p.Note(decided(a.second, refusedBy(a.by))); !since.Equal(at(a.since)) {
					t.Errorf("at second %d it is refused since %s, expected second %d", a.second, since, a.since)
				}
			}
		})
	}
}

func TestWhatIsNotFollowed(t *testing.T) {
	for name, change := range map[string]func(*policies.Input){
		"a dry run":           func(in *policies.Input) { in.Request.DryRun = true },
		"a pod nobody knows":  func(in *policies.Input) { in.Pod = nil },
		"by a nil memory, it": nil,
	} {
		t.Run(name, func(t *testing.T) {
			now := noon
			p := quietly(&now)
			if change == nil {
				p, change = nil, func(*policies.Input) {}
			}
			in, d := decided(0, refusedBy(record.ByPolicy))
			change(in)
			if since := p.Note(in, d); !since.Equal(noon) || (p != nil && len(p.pods) > 0) {
				t.Errorf("refused since %s; remembered: %v", since, p)
			}
		})
	}
}

// What happened before the decision was noted is told by no later notice.
func TestAPodThatIsOnItsWayAlready(t *testing.T) {
	var told []record.Sighting
	p := New(Options{
		Now: func() time.Time { return at(99) }, Sink: func(s record.Sighting) { told = append(told, s) },
		Cached: func(string, string) (*corev1.Pod, bool) { return podWith(evicted(10), deleted(10, 30)), true },
	})
	for range 3 {
		p.Note(decided(20, refusedBy(admitted)))
	}
	want := []record.Sighting{seen(func(s *record.Sighting) { s.EvictedByAPI, s.Terminating = true, at(10) })}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAnotherPodOfTheNameIsNotTakenForThePod(t *testing.T) {
	p := New(Options{
		Now: time.Now, Sink: func(s record.Sighting) { t.Errorf("told %+v", s) },
		Cached: func(string, string) (*corev1.Pod, bool) { return podWith(named("u2"), deleted(10, 30)), true },
	})
	p.Note(decided(20, refusedBy(record.ByBudget)))
}

func onPod(uid string, after time.Duration) (*policies.Input, *policies.Decision) {
	in := &policies.Input{Now: metav1.NewTime(noon.Add(after)), Pod: podWith(named(types.UID(uid)))}
	return in, refusedBy(record.ByPolicy)
}

func TestTheMemoryIsBounded(t *testing.T) {
	now := noon
	p := quietly(&now)
	for i := range maxPods + 500 {
		p.Note(onPod(fmt.Sprint("u", i), 0))
	}
	if len(p.pods) != maxPods {
		t.Errorf("%d pods are remembered, expected %d", len(p.pods), maxPods)
	}
	if since := p.Note(onPod("one more", 10*time.Minute)); !since.Equal(noon.Add(10 * time.Minute)) {
		t.Errorf("a pod without room is refused since %s", since)
	}
	p.Note(onPod("u7", 16*time.Minute))
	p.Note(onPod("much later", 16*time.Minute))
	if len(p.pods) != 2 {
		t.Errorf("%d pods are left when all others are quiet, expected 2", len(p.pods))
	}
}

func TestAFollowedPodIsSmall(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	p := New(Options{Now: time.Now})
	before := heap()
	for i := range maxPods {
		uid := types.UID(fmt.Sprintf("%036d", i))
		in, d := onPod(string(uid), 0)
		p.Note(in, d)
		p.Changed(podWith(named(uid), evicted(1), deleted(1, 30)))
	}
	each := (heap() - before) / maxPods
	t.Logf("%d bytes for each pod", each)
	if each > 500 {
		t.Errorf("%d bytes for each pod", each)
	}
	runtime.KeepAlive(p)
}

// Decisions and notices of the informer come at the same time; go test -race watches.
func TestEverythingAtOnce(t *testing.T) {
	var mu sync.Mutex
	gone := map[string]int{}
	p := New(Options{Now: time.Now, Sink: func(s record.Sighting) {
		mu.Lock()
		defer mu.Unlock()
		if !s.Gone.IsZero() {
			gone[s.PodUID]++
		}
	}})
	const pods = 200
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range pods {
				uid := fmt.Sprintf("u%d-%d", worker, i)
				p.Note(onPod(uid, 0))
				p.Changed(podWith(named(types.UID(uid)), evicted(1), deleted(1, 30)))
				p.Stuck()
				p.Removed(podWith(named(types.UID(uid)), evicted(1), deleted(1, 30)), true)
			}
		})
	}
	wg.Wait()
	if len(gone) != 4*pods || len(p.pods) != 0 {
		t.Errorf("%d of %d are gone, %d still followed", len(gone), 4*pods, len(p.pods))
	}
}

func BenchmarkNote(b *testing.B) {
	for _, kind := range []record.BlockerKind{admitted, record.ByPolicy, record.ByBudget} {
		b.Run("by="+string(kind), func(b *testing.B) {
			p := New(Options{Now: time.Now})
			inputs := make([]*policies.Input, 1000)
			for i := range inputs {
				inputs[i], _ = onPod(fmt.Sprint("2f6f5a3e-4a8b-4c55-9d77-", i), 0)
			}
			d := refusedBy(kind)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				p.Note(inputs[i%len(inputs)], d)
				i++
			}
		})
	}
}

// What the pod informer tells of pods that nobody evicts, which is nearly all it tells.
func BenchmarkChangedOfAnotherPod(b *testing.B) {
	p := New(Options{Now: time.Now})
	for i := range 1000 {
		p.Note(onPod(fmt.Sprint("u", i), 0))
	}
	other := podWith(named("other"))
	b.ReportAllocs()
	for b.Loop() {
		p.Changed(other)
	}
}

func BenchmarkStuckOfAFullMemory(b *testing.B) {
	p := New(Options{Now: time.Now})
	for i := range maxPods {
		p.Note(onPod(fmt.Sprint("u", i), 0))
	}
	b.ReportAllocs()
	for b.Loop() {
		p.Stuck()
	}
}
