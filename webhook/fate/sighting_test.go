package fate

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evictgate/evictgate/webhook/record"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// at is so many seconds after noon.
func at(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }

// change makes one state of a pod of another.
type change func(*corev1.Pod)

func podWith(changes ...change) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1", UID: "u1"},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionTrue},
		}},
	}
	for _, c := range changes {
		c(pod)
	}
	return pod
}

// deleted is what the API server makes of a deletion asked for at that second.
func deleted(second, grace int) change {
	return func(pod *corev1.Pod) {
		stamp := metav1.NewTime(at(second + grace))
		pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &stamp, new(int64(grace))
	}
}

func disrupted(second int, reason string, status corev1.ConditionStatus) change {
	return func(pod *corev1.Pod) {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: status, Reason: reason, LastTransitionTime: metav1.NewTime(at(second)),
		})
	}
}

func evicted(second int) change { return disrupted(second, evictedByAPI, corev1.ConditionTrue) }

func phase(p corev1.PodPhase) change { return func(pod *corev1.Pod) { pod.Status.Phase = p } }

func named(uid types.UID) change { return func(pod *corev1.Pod) { pod.UID = uid } }

// seen is a sighting of the pod, but for what changes.
func seen(change func(*record.Sighting)) record.Sighting {
	s := record.Sighting{Namespace: "shop", Pod: "web-1", PodUID: "u1"}
	if change != nil {
		change(&s)
	}
	return s
}

func TestWhatAStateShows(t *testing.T) {
	for name, tt := range map[string]struct {
		pod  *corev1.Pod
		want func(*record.Sighting)
	}{
		"a pod that runs": {podWith(), nil},
		"an evicted pod was asked to go when the grace period began": {
			podWith(evicted(10), deleted(10, 30)),
			func(s *record.Sighting) { s.EvictedByAPI, s.Terminating = true, at(10) },
		},
		"an evicted pod without a grace period": {
			podWith(evicted(10), deleted(11, 0)),
			func(s *record.Sighting) { s.EvictedByAPI, s.Terminating = true, at(11) },
		},
		"a deleted pod": {
			podWith(deleted(10, 30)),
			func(s *record.Sighting) { s.Terminating = at(10) },
		},
		"a deleted pod that somebody evicts while it terminates": {
			podWith(deleted(10, 30), evicted(25)),
			func(s *record.Sighting) { s.Terminating = at(10) },
		},
		"a pod that an eviction marked and failed to delete": {podWith(evicted(10)), nil},
		"a deleted pod whose mark was taken back": {
			podWith(disrupted(5, evictedByAPI, corev1.ConditionFalse), deleted(200, 30)),
			func(s *record.Sighting) { s.Terminating = at(200) },
		},
		"a preempted pod": {
			podWith(disrupted(10, "PreemptionByScheduler", corev1.ConditionTrue), deleted(10, 30)),
			func(s *record.Sighting) { s.DisruptedBy, s.Terminating = "PreemptionByScheduler", at(10) },
		},
		"a pod driven out by a taint": {
			podWith(disrupted(10, "DeletionByTaintManager", corev1.ConditionTrue), deleted(12, 30)),
			func(s *record.Sighting) { s.DisruptedBy, s.Terminating = "DeletionByTaintManager", at(12) },
		},
		"a pod with a hostile reason": {
			podWith(disrupted(10, "Gone\x00<b>\x1b[31m_2\n"+strings.Repeat("x", 1<<20), corev1.ConditionTrue), deleted(10, 30)),
			func(s *record.Sighting) { s.DisruptedBy, s.Terminating = "Goneb31m_2"+strings.Repeat("x", 54), at(10) },
		},
		"a pod that the kubelet ended": {
			podWith(disrupted(10, "TerminationByKubelet", corev1.ConditionTrue), phase(corev1.PodFailed)),
			func(s *record.Sighting) { s.DisruptedBy, s.Finished = "TerminationByKubelet", at(99) },
		},
		"a pod that succeeded":          {podWith(phase(corev1.PodSucceeded)), func(s *record.Sighting) { s.Finished = at(99) }},
		"a pod that failed":             {podWith(phase(corev1.PodFailed)), func(s *record.Sighting) { s.Finished = at(99) }},
		"a pod whose node nobody hears": {podWith(phase(corev1.PodUnknown)), nil},
		"a pod that finished after an eviction of it failed": {
			podWith(evicted(10), phase(corev1.PodSucceeded)),
			func(s *record.Sighting) { s.Finished = at(99) },
		},
		"an evicted pod that has stopped": {
			podWith(evicted(10), deleted(10, 30), phase(corev1.PodSucceeded)),
			func(s *record.Sighting) { s.EvictedByAPI, s.Terminating, s.Finished = true, at(10), at(99) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(seen(tt.want), look(tt.pod, at(99))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// step is one notice of the informer; removed is nil for a change.
type step struct {
	pod     *corev1.Pod
	removed *bool
}

func changes(states ...*corev1.Pod) []step {
	var steps []step
	for _, s := range states {
		steps = append(steps, step{pod: s})
	}
	return steps
}

func removal(last *corev1.Pod, watched bool) step { return step{pod: last, removed: &watched} }

func TestWhatBecomesOfAPod(t *testing.T) {
	running := podWith()
	for name, tt := range map[string]struct {
		steps []step
		// told is what the sink gets at second 99, and fate what it makes of an episode whose last answer is
		// a refusal.
		told []func(*record.Sighting)
		fate record.Fate
	}{
		"nothing": {changes(running, running), nil, record.Blocked},
		"it is evicted, stops and goes": {
			append(changes(running, podWith(evicted(10)), podWith(evicted(10), deleted(10, 30)), podWith(evicted(10), deleted(10, 30))),
				removal(podWith(evicted(10), deleted(10, 30)), true)),
			[]func(*record.Sighting){
				func(s *record.Sighting) { s.EvictedByAPI, s.Terminating = true, at(10) },
				func(s *record.Sighting) { s.EvictedByAPI, s.Terminating, s.Gone = true, at(10), at(99) },
			}, record.Evicted,
		},
		"it is evicted and goes at once": {
			append(changes(running, podWith(evicted(10))), removal(podWith(evicted(10)), true)),
			[]func(*record.Sighting){
				func(s *record.Sighting) { s.EvictedByAPI, s.Terminating, s.Gone = true, at(99), at(99) },
			}, record.Evicted,
		},
		"it is deleted and goes": {
			append(changes(running, podWith(deleted(10, 30))), removal(podWith(deleted(10, 30)), true)),
			[]func(*record.Sighting){
				func(s *record.Sighting) { s.Terminating = at(10) },
				func(s *record.Sighting) { s.Terminating, s.Gone = at(10), at(99) },
			}, record.Deleted,
		},
		"it is deleted by force": {
			append(changes(running), removal(running, true)),
			[]func(*record.Sighting){
				func(s *record.Sighting) { s.Terminating, s.Gone = at(99), at(99) },
			}, record.Deleted,
		},
		"it is deleted, and evicted while it terminates": {
			append(changes(podWith(deleted(10, 30)), podWith(deleted(10, 30), evicted(12))), removal(podWith(deleted(10, 30), evicted(12)), true)),
			[]func(*record.Sighting){
				func(s *record.Sighting) { s.Terminating = at(10) },
				func(s *record.Sighting) { s.Terminating, s.Gone = at(10), at(99) },
			}, record.Deleted,
		},
		"it is preempted": {
			changes(podWith(disrupted(10, "PreemptionByScheduler", corev1.ConditionTrue)),
				podWith(disrupted(10, "PreemptionByScheduler", corev1.ConditionTrue), deleted(10, 30))),
			[]func(*record.Sighting){
				func(s *record.Sighting) { s.DisruptedBy, s.Terminating = "PreemptionByScheduler", at(10) },
			}, record.Deleted,
		},
		"it finishes, and is cleaned up much later": {
			append(changes(podWith(phase(corev1.PodSucceeded)), podWith(phase(corev1.PodSucceeded), deleted(80, 0))), removal(podWith(phase(corev1.PodSucceeded)), true)),
			[]func(*record.Sighting){
				func(s *record.Sighting) { s.Finished = at(99) },
				func(s *record.Sighting) { s.Finished, s.Gone = at(99), at(99) },
			}, record.Gone,
		},
		"it finishes, and is evicted": {
			changes(podWith(phase(corev1.PodFailed)), podWith(phase(corev1.PodFailed), evicted(80), deleted(80, 0))),
			[]func(*record.Sighting){
				func(s *record.Sighting) { s.Finished = at(99) },
				func(s *record.Sighting) { s.Finished, s.Terminating, s.EvictedByAPI = at(99), at(80), true },
			}, record.Evicted,
		},
		"it went while the watch was interrupted": {
			append(changes(running), removal(running, false)),
			[]func(*record.Sighting){func(s *record.Sighting) { s.Gone = at(99) }}, record.Gone,
		},
		"it was marked, and went while the watch was interrupted": {
			append(changes(running, podWith(evicted(10))), removal(podWith(evicted(10)), false)),
			[]func(*record.Sighting){func(s *record.Sighting) { s.EvictedByAPI, s.Gone = true, at(99) }}, record.Evicted,
		},
		"it terminated, and went while the watch was interrupted": {
			append(changes(running), removal(podWith(evicted(10), deleted(10, 30)), false)),
			[]func(*record.Sighting){
				func(s *record.Sighting) { s.EvictedByAPI, s.Terminating, s.Gone = true, at(10), at(99) },
			}, record.Evicted,
		},
		"another pod goes": {
			append(changes(podWith(named("u2"), deleted(10, 30))), removal(podWith(named("u2")), true)), nil, record.Blocked,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var told []record.Sighting
			p := New(Options{Now: func() time.Time { return at(99) }, Sink: func(s record.Sighting) { told = append(told, s) }})
			p.Note(decided(0, refusedBy(record.ByPolicy)))
			e := blocked()
			for _, s := range tt.steps {
				if s.removed == nil {
					p.Changed(s.pod)
				} else {
					p.Removed(s.pod, *s.removed)
				}
			}
			var want []record.Sighting
			for _, w := range tt.told {
				want = append(want, seen(w))
			}
			if diff := cmp.Diff(want, told); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			// Several replicas tell the same, in any order.
			other := blocked()
			for i := range told {
				e.See(told[i])
				other.See(told[len(told)-1-i])
				other.See(told[i])
			}
			if diff := cmp.Diff(e, other); diff != "" {
				t.Errorf("told twice and in another order: -want +got:\n%s", diff)
			}
			if e.Fate != tt.fate {
				t.Errorf("the fate is %s, expected %s", e.Fate, tt.fate)
			}
		})
	}
}
