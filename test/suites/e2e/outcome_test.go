package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// storeFile is where a gate of this test keeps its records, and the flags that say so.
func storeFile(t *testing.T) (url string, flags []string) {
	t.Helper()
	url = "sqlite:" + filepath.Join(t.TempDir(), "evictgate.db")
	return url, []string{"--store", url}
}

// reader reads a store beside the program that writes it.
func reader(t *testing.T, url string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), url, store.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// episode waits until the episode of a pod is as wanted.
func episode(t *testing.T, s *store.Store, pod types.UID, what string, wanted func(*record.Episode) bool) record.Episode {
	t.Helper()
	var e record.Episode
	err := kube.Wait(t.Context(), "an episode that "+what, func(ctx context.Context) (bool, error) {
		var err error
		e, err = s.Episode(ctx, string(pod))
		return err == nil && wanted(&e), err
	})
	if err != nil {
		t.Fatalf("%v; it is %+v, its sighting %+v", err, e, e.Sighting)
	}
	return e
}

func isGone(e *record.Episode) bool { return e.Sighting != nil && !e.Sighting.Gone.IsZero() }

func deletePod(t *testing.T, namespace, name string, o metav1.DeleteOptions) {
	t.Helper()
	if err := shared.Client.CoreV1().Pods(namespace).Delete(t.Context(), name, o); err != nil {
		t.Fatal(err)
	}
}

// refusedOnce lets an eviction of a pod be refused, and waits until the store has it.
func refusedOnce(t *testing.T, s *store.Store, namespace string, pod *corev1.Pod) {
	t.Helper()
	if evict(t.Context(), namespace, pod.Name, nil) == nil {
		t.Fatalf("the eviction of %s was admitted", pod.Name)
	}
	episode(t, s, pod.UID, "is blocked", func(e *record.Episode) bool { return e.Fate == record.Blocked })
}

// A kubectl drain tries every five seconds, until the owners relax the budget. Each pod has one episode.
func TestADrainThatIsHeldUpIsOneEpisodeAPod(t *testing.T) {
	url, flags := storeFile(t)
	page := freePort(t)
	_, namespace := start(t, gate.Options{Args: append(flags, "--review-listen", page)})
	s := reader(t, url)
	host := node(t)
	pods := deploy(t, namespace, "api", 2, host, nil)
	createBudget(t, kube.Budget(namespace, "api", intstr.FromInt32(2)))
	waitForCache(t, namespace, pods[0].Name, "needs 2 healthy of 2 expected pods and has 2")
	began := time.Now()
	d := startDrain(t, host, "--pod-selector=app=api")
	d.sees(t, "needs 2 healthy of 2 expected pods", 4)
	patch := []byte(`{"spec":{"minAvailable":0}}`)
	if _, err := shared.Client.PolicyV1().PodDisruptionBudgets(namespace).Patch(t.Context(), "api", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := d.wait(t); err != nil {
		t.Fatalf("drain: %v\n%s", err, d.text())
	}
	for _, pod := range pods {
		checkHeldUp(t, episode(t, s, pod.UID, "is over, and the pod gone", isGone), namespace, host, began)
	}
	all, err := s.Episodes(t.Context(), store.Filter{Namespace: namespace}, store.Page{})
	if err != nil || len(all.Episodes) != len(pods) {
		t.Errorf("%d episodes for %d pods, %v", len(all.Episodes), len(pods), err)
	}
	stuck, err := s.Stuck(t.Context(), store.Filter{Namespace: namespace}, began)
	if err != nil || len(stuck) > 0 {
		t.Errorf("still stuck: %+v, %v", stuck, err)
	}
	checkToldByCommandAndPage(t, all.Episodes, url, "http://"+page)
}

// checkToldByCommandAndPage: what the store has is what people are told.
func checkToldByCommandAndPage(t *testing.T, want []record.Episode, url, page string) {
	t.Helper()
	namespace := want[0].Namespace
	var listed struct {
		Episodes []record.Episode `json:"episodes"`
	}
	if err := json.Unmarshal(review(t, "list", "--episodes", "--store", url, "-n", namespace, "-o", "json"), &listed); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, listed.Episodes); diff != "" {
		t.Errorf("review list: -store +listed:\n%s", diff)
	}
	for _, e := range want {
		_, text := look(t, page+"/episodes/"+e.ID, "")
		for where, text := range map[string]string{"review show": string(review(t, "show", "--store", url, e.ID)), "page": text} {
			text = strings.Join(strings.Fields(text), " ")
			for _, fact := range []string{e.Pod, "Deployment/api", "evictgate-test-admin", "needs 2 healthy of 2 expected pods", "EvictionByEvictionAPI", fmt.Sprint(e.Attempts)} {
				if !strings.Contains(text, fact) {
					t.Errorf("%s of %s does not say %q:\n%s", where, e.Pod, fact, text)
				}
			}
		}
	}
	if _, text := look(t, page+"/episodes?namespace="+namespace+"&fate=evicted", ""); !strings.Contains(text, want[0].Pod) || !strings.Contains(text, want[1].Pod) {
		t.Errorf("the page's list lacks a pod:\n%s", text)
	}
}

// review runs a review command, and returns what it prints.
func review(t *testing.T, args ...string) []byte {
	t.Helper()
	command := exec.Command(shared.binary, append([]string{"review"}, args...)...)
	var stderr strings.Builder
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("review %v: %v\n%s", args, err, stderr.String())
	}
	return out
}

// checkHeldUp is about the episode of a pod that the drain evicted in the end.
func checkHeldUp(t *testing.T, e record.Episode, namespace, host string, began time.Time) {
	t.Helper()
	refused := e.Outcomes[policies.Delayed]
	type facts struct {
		Fate     record.Fate
		Node     string
		Workload string
		Outcomes map[policies.Outcome]int
		Evictors []string
		Evicted  bool
		Kinds    map[record.BlockerKind]int
	}
	got := facts{Fate: e.Fate, Node: e.Node, Workload: e.Workload, Outcomes: e.Outcomes, Evicted: e.Sighting.EvictedByAPI, Kinds: map[record.BlockerKind]int{}}
	for _, a := range e.Evictors {
		got.Evictors = append(got.Evictors, fmt.Sprintf("%s %s %d", a.Evictor, a.User, a.Count))
	}
	for _, r := range e.Replies {
		got.Kinds[r.Kind] += r.Count
		if r.Kind == record.ByBudget && (len(r.Budgets) != 1 || len(r.Cures) == 0) {
			t.Errorf("a budget's reply names %v with the cures %v", r.Budgets, r.Cures)
		}
	}
	want := facts{
		Fate: record.Evicted, Node: host, Workload: "Deployment/api", Evicted: true,
		Outcomes: map[policies.Outcome]int{policies.Delayed: refused, policies.Admitted: 1},
		Evictors: []string{fmt.Sprintf("user evictgate-test-admin %d", refused+1)},
		Kinds:    map[record.BlockerKind]int{record.ByBudget: refused, "": 1},
	}
	if diff := cmp.Diff(want, got); diff != "" || refused < 2 {
		t.Errorf("the episode of %s/%s, refused %d times: -want +got:\n%s", namespace, e.Pod, refused, diff)
	}
	// The API server's times have whole seconds.
	when := e.Sighting.Terminating
	if when.Before(e.LastAdmitted.Add(-time.Second)) || when.After(e.LastAdmitted.Add(5*time.Second)) || e.FirstRefused.Before(began) || e.Sighting.Gone.Before(when) {
		t.Errorf("began %s, refused since %s, admitted %s, asked to go %s, gone %s", began, e.FirstRefused, e.LastAdmitted, when, e.Sighting.Gone)
	}
}

func TestWhatBecomesOfRefusedPods(t *testing.T) {
	url, flags := storeFile(t)
	policy := policyDir(t, "closed.rego", denyAll)
	g, namespace := start(t, gate.Options{Args: append(flags, "--policies", policy)})
	s := reader(t, url)
	host := node(t)
	for name, tt := range map[string]struct {
		// make changes the pod before it is made.
		make func(*corev1.Pod)
		do   func(t *testing.T, pod *corev1.Pod)
		fate record.Fate
		by   string
	}{
		"deleted": {
			do:   func(t *testing.T, pod *corev1.Pod) { deletePod(t, namespace, pod.Name, metav1.DeleteOptions{}) },
			fate: record.Deleted,
		},
		"deleted-by-force": {
			do: func(t *testing.T, pod *corev1.Pod) {
				deletePod(t, namespace, pod.Name, *metav1.NewDeleteOptions(0))
			},
			fate: record.Deleted,
		},
		"still-there": {do: func(*testing.T, *corev1.Pod) {}, fate: record.Blocked},
		"finished": {
			do: func(t *testing.T, pod *corev1.Pod) {
				setPhase(t, pod, corev1.PodSucceeded)
			},
			fate: record.Gone,
		},
		"preempted": {
			make: takeMost,
			do: func(t *testing.T, _ *corev1.Pod) {
				preempt(t, namespace, host)
			},
			fate: record.Deleted, by: "PreemptionByScheduler",
		},
	} {
		t.Run(name, func(t *testing.T) {
			bare(t, namespace, name, func(pod *corev1.Pod) {
				pinned(host)(pod)
				if tt.make != nil {
					tt.make(pod)
				}
			})
			pod := phase(t, namespace, name, corev1.PodRunning)
			awaitAnswer(t, namespace, name, "the gate is closed")
			refusedOnce(t, s, namespace, pod)
			tt.do(t, pod)
			e := episode(t, s, pod.UID, "has the fate "+string(tt.fate), func(e *record.Episode) bool { return e.Fate == tt.fate })
			if by := e.Sighting; (by == nil) != (tt.fate == record.Blocked) || by != nil && by.DisruptedBy != tt.by {
				t.Errorf("seen: %+v", by)
			}
		})
	}
	checkStuck(t, s, namespace)
	metrics, err := g.MetricsText(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	contains(t, metrics, `evictgate_refusals_total{blocker="policy"} 5`, "evictgate_sightings_lost_total 0")
}

// checkStuck expects the one pod that is still there.
func checkStuck(t *testing.T, s *store.Store, namespace string) {
	t.Helper()
	stuck, err := s.Stuck(t.Context(), store.Filter{Namespace: namespace}, time.Now().Add(-15*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if len(stuck) != 1 || stuck[0].Pod != "still-there" || stuck[0].Latest.Kind != record.ByPolicy {
		t.Errorf("stuck are %+v", stuck)
	}
}

// preempt creates a pod that needs the place of others on the node.
func preempt(t *testing.T, namespace, host string) {
	t.Helper()
	class := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: namespace}, Value: 1000}
	if _, err := shared.Client.SchedulingV1().PriorityClasses().Create(t.Context(), class, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "first-class"},
		Spec:       corev1.PodSpec{PriorityClassName: class.Name, Containers: []corev1.Container{{Name: "main", Image: "registry.example/main"}}},
	}
	pinned(host)(pod)
	takeMost(pod)
	err := kube.Wait(t.Context(), "the API server to know the priority", func(ctx context.Context) (bool, error) {
		_, err := shared.Client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{})
		return err == nil, err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// pinned sends a pod to a node, away from those that other tests drain.
func pinned(host string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) { pod.Spec.NodeSelector = map[string]string{corev1.LabelHostname: host} }
}

// takeMost leaves no room for another such pod on the node.
func takeMost(pod *corev1.Pod) {
	pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("40")}
}

// held creates a pod that stays when it is deleted: on a node where nobody, not even kwok, looks after it.
func held(t *testing.T, namespace, name string) {
	t.Helper()
	pod := bare(t, namespace, name, func(pod *corev1.Pod) {
		pod.Finalizers, pod.Spec.NodeName = []string{"evictgate.dev/held"}, "nowhere"
	})
	setPhase(t, pod, corev1.PodRunning)
}

func setPhase(t *testing.T, pod *corev1.Pod, to corev1.PodPhase) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"status":{"phase":%q}}`, to)
	if _, err := shared.Client.CoreV1().Pods(pod.Namespace).Patch(t.Context(), pod.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
}

// What happens while evictgate is down is found out when it is back.
func TestWhatHappenedWhileEvictgateWasDown(t *testing.T) {
	url, flags := storeFile(t)
	g, namespace := start(t, gate.Options{Args: append(flags, closed(t)...)})
	s := reader(t, url)
	host := node(t)
	refused := map[string]*corev1.Pod{}
	for _, name := range []string{"gone", "made-anew", "terminating", "still-there"} {
		if name == "terminating" {
			held(t, namespace, name)
		} else {
			bare(t, namespace, name, pinned(host))
		}
		refused[name] = phase(t, namespace, name, corev1.PodRunning)
		awaitAnswer(t, namespace, name, "the gate is closed")
		refusedOnce(t, s, namespace, refused[name])
	}
	if err := g.Terminate(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"gone", "made-anew", "terminating"} {
		deletePod(t, namespace, name, *metav1.NewDeleteOptions(0))
	}
	if bare(t, namespace, "made-anew", pinned(host)).UID == refused["made-anew"].UID {
		t.Fatal("the pod was not made anew")
	}
	if err := g.Relaunch(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"gone", "made-anew"} {
		episode(t, s, refused[name].UID, "has the fate gone", func(e *record.Episode) bool { return e.Fate == record.Gone && isGone(e) })
	}
	episode(t, s, refused["terminating"].UID, "is deleted, but not gone", func(e *record.Episode) bool { return e.Fate == record.Deleted && !isGone(e) })
	patch := []byte(`{"metadata":{"finalizers":null}}`)
	if _, err := shared.Client.CoreV1().Pods(namespace).Patch(t.Context(), "terminating", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	episode(t, s, refused["terminating"].UID, "is gone", isGone) // it is followed, though nobody tried again
	checkStuck(t, s, namespace)
}

// A pod that goes while the program ends has its end in the store, too.
func TestNothingThatWasSeenIsLostAtTheEnd(t *testing.T) {
	url, flags := storeFile(t)
	g, namespace := start(t, gate.Options{Args: flags})
	pod := running(t, namespace, "web")
	known(t, g, namespace, "web")
	if err := evict(t.Context(), namespace, "web", nil); err != nil {
		t.Fatal(err)
	}
	err := kube.Wait(t.Context(), "the pod to go", func(context.Context) (bool, error) { return gone(t, namespace, "web"), nil })
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond) // the watch is told soon, the store after 200 ms
	if err := g.Terminate(); err != nil {
		t.Fatal(err)
	}
	e, err := reader(t, url).Episode(t.Context(), string(pod.UID))
	if err != nil || e.Fate != record.Evicted {
		t.Errorf("the fate is %s, %+v, %v", e.Fate, e.Sighting, err)
	}
}
