package follow

import (
	"context"
	"iter"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/cluster"
	"github.com/evictgate/evictgate/webhook/fate"
	"github.com/evictgate/evictgate/webhook/history"
	"github.com/evictgate/evictgate/webhook/record"
)

// patience is how long a test waits for what the watch tells.
const patience = 30 * time.Second

// pod is one of namespace shop on node n1; its UID is its name.
func pod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name)},
		Spec:       corev1.PodSpec{NodeName: "n1"}, Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

// terminating is a pod of which the deletion was asked for a minute ago.
func terminating(p *corev1.Pod) {
	at := metav1.NewTime(time.Now().Add(-time.Minute))
	p.DeletionTimestamp, p.Finalizers = &at, []string{"evictgate.dev/test"}
}

// evicted is a pod that the API server marked when it evicted it.
func evicted(p *corev1.Pod) {
	terminating(p)
	p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI", LastTransitionTime: *p.DeletionTimestamp,
	})
}

// world is a cluster that is watched.
type world struct {
	*testing.T
	client   *fake.Clientset
	informed *cluster.Informed
}

func watch(t *testing.T, objects ...runtime.Object) *world {
	t.Helper()
	client := fake.NewClientset(objects...)
	informed, err := cluster.Watch(client)
	if err != nil {
		t.Fatal(err)
	}
	return &world{t, client, informed}
}

// run runs what has to, until the test ends.
func (w *world) run(runs ...interface{ Start(context.Context) error }) {
	w.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, r := range runs {
		running.Go(func() {
			if err := r.Start(ctx); err != nil {
				w.Error(err)
			}
		})
	}
	w.Cleanup(func() { cancel(); running.Wait() })
}

// put changes a pod, as the API server would.
func (w *world) put(p *corev1.Pod) {
	w.Helper()
	if _, err := w.client.CoreV1().Pods(p.Namespace).Update(w.Context(), p, metav1.UpdateOptions{}); err != nil {
		w.Fatal(err)
	}
}

func (w *world) remove(p *corev1.Pod) {
	w.Helper()
	if err := w.client.CoreV1().Pods(p.Namespace).Delete(w.Context(), p.Name, metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
}

// until waits until something is so.
func (w *world) until(what string, is func() bool) {
	w.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("%s: not within %s", what, patience)
		}
	}
}

func set(t *testing.T, rule string) *policies.Set {
	t.Helper()
	var parts policies.Parts
	parts.Add(policies.File{Name: "x.rego", Data: []byte("package eviction.x\n\n" + rule + "\n")})
	s, problems := policies.New(parts)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return s
}

// counted are the evictions of the namespace before now, as a decision about another pod is told.
func counted(ledger *history.Ledger) int {
	in := &policies.Input{Now: metav1.Now(), Request: policies.Request{Namespace: "shop", Name: "asked"}, Pod: pod("asked")}
	n := 0
	ledger.Decide(in, policies.EverythingNeeded(), func() *policies.Decision {
		n = len(in.History.Namespace)
		return &policies.Decision{Outcome: policies.Denied, Code: 403}
	})
	return n
}

// What the watch shows of evictions counts for the history: those of before the start, and those of later.
func TestEvictionsThatTheWatchShowsCount(t *testing.T) {
	w := watch(t, pod("evicted-before", evicted), pod("deleted-before", terminating), pod("goes"), pod("is-deleted"), pod("stays"))
	ledger := history.New()
	rebuild, err := Evictions(ledger, w.informed, &cluster.Gatherer{Store: w.informed.Store}, func() *policies.Set { return nil })
	if err != nil {
		t.Fatal(err)
	}
	w.run(w.informed, rebuild)
	w.until("the eviction of before the start", func() bool { return counted(ledger) == 1 })
	w.put(pod("goes", evicted))
	w.put(pod("is-deleted", terminating))
	w.until("an eviction of later", func() bool { return counted(ledger) == 2 })
	w.remove(pod("goes"))
	w.remove(pod("evicted-before"))
	// The watch tells one after the other: what it told before has been counted by now, and once.
	w.put(pod("stays", evicted))
	w.until("the last eviction", func() bool { return counted(ledger) == 3 })
	if seen := ledger.Counts().Seen; seen != 3 {
		t.Errorf("%d evictions were seen", seen)
	}
}

// While no policy reads the history, nothing is counted; while it is not known what policies read, everything is.
func TestEvictionsCountWhenTheyAreRead(t *testing.T) {
	for name, tt := range map[string]struct {
		set  *policies.Set
		want int64
	}{
		"no set yet":                      {nil, 1},
		"a set that reads the history":    {set(t, `deny contains "x" if count(input.history.namespace) > 5`), 1},
		"a set that reads something else": {set(t, `deny contains "x" if input.pod.metadata.name == "x"`), 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := watch(t, pod("evicted", evicted))
			ledger := history.New()
			runnable, err := Evictions(ledger, w.informed, &cluster.Gatherer{Store: w.informed.Store}, func() *policies.Set { return tt.set })
			if err != nil {
				t.Fatal(err)
			}
			w.run(w.informed)
			w.until("the first lists", func() bool { return w.informed.Ready(nil) == nil })
			if err := runnable.Start(t.Context()); err != nil { // it ends once the pods of before are counted
				t.Fatal(err)
			}
			if seen := ledger.Counts().Seen; seen != tt.want {
				t.Errorf("%d evictions were seen, want %d", seen, tt.want)
			}
		})
	}
}

// A replica that ends before the cluster is known counts nothing, and does not wait.
func TestCountingEndsWithItsContext(t *testing.T) {
	w := watch(t, pod("evicted", evicted))
	ledger := history.New()
	runnable, err := Evictions(ledger, w.informed, &cluster.Gatherer{Store: w.informed.Store}, func() *policies.Set { return nil })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := runnable.Start(ctx); err != nil || ledger.Counts().Seen != 0 {
		t.Errorf("%v, %d evictions were seen", err, ledger.Counts().Seen)
	}
}

// refusal is a decision that refuses the eviction of a pod.
func refusal(f Fates, p *corev1.Pod) {
	f.Note(&policies.Input{Now: metav1.Now(), Request: policies.Request{Namespace: p.Namespace, Name: p.Name}, Pod: p}, &policies.Decision{Outcome: policies.Denied, Code: 403})
}

// keeping is a store that is told of pods.
type keeping struct {
	mu   sync.Mutex
	told []record.Sighting
}

func (k *keeping) add(_ context.Context, list []record.Sighting) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.told = append(k.told, list...)
	return nil
}

// of is the last that was told of a pod.
func (k *keeping) of(uid string) (last record.Sighting) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.told {
		if s.PodUID == uid {
			last = s
		}
	}
	return last
}

func (k *keeping) queue() *fate.Queue {
	return fate.NewQueue(fate.QueueOptions{Add: k.add, Progress: func() fate.Progress { return fate.Progress{} }, Log: slog.New(slog.DiscardHandler)})
}

// unsettled are the episodes of pods.
func unsettled(uids ...string) func(context.Context) iter.Seq2[record.Episode, error] {
	return func(context.Context) iter.Seq2[record.Episode, error] {
		return func(yield func(record.Episode, error) bool) {
			for _, uid := range uids {
				if !yield(record.Episode{Namespace: "shop", Pod: uid, PodUID: uid}, nil) {
					return
				}
			}
		}
	}
}

// A store is told what became of the pods that somebody tried to evict, and of no others.
func TestAStoreIsToldOfPods(t *testing.T) {
	var to keeping
	w := watch(t, pod("evicted"), pod("goes"), pod("not-asked"))
	f, err := Pods(w.informed, w.client, Store{Queue: to.queue(), Unsettled: unsettled("went-before")}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	refusal(f, pod("evicted"))
	refusal(f, pod("goes"))
	w.run(w.informed, f.Settler)
	t.Cleanup(func() { f.Queue.Close(context.WithoutCancel(t.Context())) })
	w.until("a pod of before the start", func() bool { return !to.of("went-before").Gone.IsZero() })
	w.put(pod("evicted", evicted))
	w.until("an eviction", func() bool { return to.of("evicted").EvictedByAPI })
	w.remove(pod("not-asked"))
	w.remove(pod("goes"))
	w.until("a removal", func() bool { return !to.of("goes").Gone.IsZero() })
	if s := to.of("not-asked"); s.PodUID != "" {
		t.Errorf("a pod that nobody tried to evict is told of: %+v", s)
	}
	if n := testutil.ToFloat64(f.SightingsLost()); n != 0 {
		t.Errorf("%v sightings are lost", n)
	}
}

// Without a store the pods are followed all the same, and nothing has to run for one.
func TestWithoutAStore(t *testing.T) {
	w := watch(t, pod("goes"))
	f, err := Pods(w.informed, w.client, Store{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if f.Queue != nil || f.Settler != nil {
		t.Errorf("queue %v, settler %v", f.Queue, f.Settler)
	}
	if n := testutil.ToFloat64(f.SightingsLost()); n != 0 {
		t.Errorf("%v sightings are lost", n)
	}
	for name, fates := range map[string]Fates{"a cluster": f, "a snapshot": Nothing()} {
		refusal(fates, pod("goes"))
		if diff := cmp.Diff(4, len(fates.Stuck())); diff != "" {
			t.Errorf("%s: kinds of blockers -want +got:\n%s", name, diff)
		}
	}
}

// What comes too late for the store is counted.
func TestLostSightingsAreCounted(t *testing.T) {
	var to keeping
	f := Fates{Pods: Nothing().Pods, Queue: to.queue()}
	f.Queue.Close(t.Context())
	f.Queue.Put(record.Sighting{PodUID: "a"})
	if n := testutil.ToFloat64(f.SightingsLost()); n != 1 {
		t.Errorf("%v sightings are lost", n)
	}
}
