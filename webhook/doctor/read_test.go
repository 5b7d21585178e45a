package doctor

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPodsThatHaveJustBecomeReadyAreWaitedFor(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	ready := func(ago time.Duration) corev1.Pod {
		c := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-ago))}
		return corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{c}}}
	}
	for name, tt := range map[string]struct {
		pods []corev1.Pod
		want time.Duration
	}{
		"no pod":                        {nil, 0},
		"ready for long":                {[]corev1.Pod{ready(time.Hour)}, 0},
		"the last one decides":          {[]corev1.Pod{ready(time.Hour), ready(time.Second), ready(2 * time.Second)}, 3 * time.Second},
		"a clock that is behind theirs": {[]corev1.Pod{ready(-time.Hour)}, settling},
	} {
		t.Run(name, func(t *testing.T) {
			if got := unsettled(tt.pods, now); got != tt.want {
				t.Errorf("waits %s, expected %s", got, tt.want)
			}
		})
	}
}
