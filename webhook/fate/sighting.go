package fate

import (
	"cmp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/evictgate/evictgate/webhook/record"
)

// evictedByAPI is the reason of the condition DisruptionTarget that the API server writes when it carries
// out an eviction: https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/registry/core/pod/storage/eviction.go
const evictedByAPI = "EvictionByEvictionAPI"

// maxReason bounds the reason of a disruption, in bytes.
const maxReason = 64

// look says what a pod's state shows of its end; now stands for times that it does not hold.
func look(pod *corev1.Pod, now time.Time) record.Sighting {
	s := stateOf(pod, now)
	if !s.Terminating.IsZero() || !s.Finished.IsZero() {
		mark(&s, pod)
	}
	return s
}

// lookBack says what the last state of a removed pod shows. When the removal was seen and no deletion
// before it, it was the deletion: nothing waited for the pod to stop.
func lookBack(pod *corev1.Pod, now time.Time, seen bool) record.Sighting {
	s := stateOf(pod, now)
	s.Gone = now
	if seen && s.Terminating.IsZero() {
		s.Terminating = now
	}
	mark(&s, pod)
	return s
}

// Evicted reports whether a pod that terminates or is gone was evicted by the API server, and when; gone pods
// that nobody saw terminate were at now.
func Evicted(pod *corev1.Pod, now time.Time) (time.Time, bool) {
	s := lookBack(pod, now, true)
	return s.Terminating, s.EvictedByAPI
}

func stateOf(pod *corev1.Pod, now time.Time) record.Sighting {
	s := record.Sighting{Namespace: pod.Namespace, Pod: pod.Name, PodUID: string(pod.UID), Terminating: asked(pod)}
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		s.Finished = now
	}
	return s
}

// asked is when the deletion of a pod was asked for. A later request that shortens the grace period moves
// the deletion timestamp with it; see BeforeDelete in k8s.io/apiserver/pkg/registry/rest.
func asked(pod *corev1.Pod) time.Time {
	if pod.DeletionTimestamp == nil {
		return time.Time{}
	}
	var grace time.Duration
	if seconds := pod.DeletionGracePeriodSeconds; seconds != nil {
		grace = time.Duration(*seconds) * time.Second
	}
	return pod.DeletionTimestamp.Add(-grace).UTC()
}

// mark says who disrupted the pod, by its condition DisruptionTarget. One that was written after the
// deletion was asked for is of somebody who came too late: the API server marks a pod that it evicts before
// it deletes it, and marks one that terminates already, too, when it is asked to. Its mark on a pod that is
// not deleted is of an eviction that failed after it.
func mark(s *record.Sighting, pod *corev1.Pod) {
	i := slices.IndexFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue
	})
	if i < 0 {
		return
	}
	c := &pod.Status.Conditions[i]
	if pod.DeletionTimestamp != nil && c.LastTransitionTime.After(s.Terminating) {
		return
	}
	if c.Reason != evictedByAPI {
		s.DisruptedBy = word(c.Reason)
		return
	}
	s.EvictedByAPI = !s.Terminating.IsZero() || !s.Gone.IsZero()
}

// word keeps of a reason what reasons consist of: whoever may write a pod's status may write anything there.
func word(reason string) string {
	clean := strings.Map(func(r rune) rune {
		if r == '_' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, reason)
	return clean[:min(len(clean), maxReason)]
}

// see adds what is seen to what was, and reports whether that is news. The removal of a pod that had
// finished before is not a disruption, unless it was evicted.
func (f *followed) see(s record.Sighting) (record.Sighting, bool) {
	old := f.seen
	if !old.Finished.IsZero() && old.Terminating.IsZero() && !s.EvictedByAPI {
		s.Terminating, s.DisruptedBy = time.Time{}, ""
	}
	s.Terminating = cmp.Or(old.Terminating, s.Terminating)
	s.Finished = cmp.Or(old.Finished, s.Finished)
	s.Gone = cmp.Or(old.Gone, s.Gone)
	s.EvictedByAPI = old.EvictedByAPI || s.EvictedByAPI
	s.DisruptedBy = cmp.Or(old.DisruptedBy, s.DisruptedBy)
	f.seen = s
	return s, s != old && f.over()
}
