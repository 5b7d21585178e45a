package policies

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/evictgate/evictgate/policies/internal/rego"
	"github.com/evictgate/evictgate/policies/v1alpha1"
)

// matcher is a compiled v1alpha1.Match. The zero matcher matches every eviction.
type matcher struct {
	scope    scope
	excludes []scope
}

type scope struct {
	namespace, pod labels.Selector
	state          *podState
	evictors       []v1alpha1.EvictorMatch
}

// podState is a compiled v1alpha1.PodState.
type podState struct {
	crashLooping bool
	unreadyFor   time.Duration // 0: not looked at
}

func newMatcher(m *v1alpha1.Match) (matcher, error) {
	if m == nil {
		return matcher{}, nil
	}
	included, err := newScope("spec.match", m.Scope)
	if err != nil {
		return matcher{}, err
	}
	compiled := matcher{scope: included}
	for i, e := range m.Excludes {
		field := fmt.Sprintf("spec.match.excludes[%d]", i)
		excluded, err := newScope(field, e)
		if err != nil {
			return matcher{}, err
		}
		if excluded.namespace == nil && excluded.pod == nil && excluded.state == nil && len(excluded.evictors) == 0 {
			return matcher{}, rego.FieldErrorf(field, "%s is empty and would exclude every eviction; name a namespaceSelector, podSelector, podState or evictors", field)
		}
		compiled.excludes = append(compiled.excludes, excluded)
	}
	return compiled, nil
}

// newScope compiles the scope that stands in a field.
func newScope(field string, s v1alpha1.Scope) (scope, error) {
	namespace, err := newSelector(field+".namespaceSelector", s.NamespaceSelector)
	if err != nil {
		return scope{}, err
	}
	pod, err := newSelector(field+".podSelector", s.PodSelector)
	if err != nil {
		return scope{}, err
	}
	for i, e := range s.Evictors {
		if e == (v1alpha1.EvictorMatch{}) {
			at := fmt.Sprintf("%s.evictors[%d]", field, i)
			return scope{}, rego.FieldErrorf(at, "%s is empty; name a kind, user or group", at)
		}
	}
	state, err := newPodState(field+".podState", s.PodState)
	if err != nil {
		return scope{}, err
	}
	return scope{namespace: namespace, pod: pod, state: state, evictors: s.Evictors}, nil
}

func newPodState(field string, s *v1alpha1.PodState) (*podState, error) {
	if s == nil {
		return nil, nil
	}
	state := &podState{crashLooping: s.CrashLooping}
	if s.UnreadyFor != nil {
		if state.unreadyFor = s.UnreadyFor.Duration; state.unreadyFor <= 0 {
			return nil, rego.FieldErrorf(field+".unreadyFor", "%s.unreadyFor is %s; give a time such as 1h", field, state.unreadyFor)
		}
	}
	if *state == (podState{}) {
		return nil, rego.FieldErrorf(field, "%s is empty; give crashLooping: true or unreadyFor", field)
	}
	return state, nil
}

func newSelector(field string, s *metav1.LabelSelector) (labels.Selector, error) {
	if s == nil {
		return nil, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return nil, rego.FieldErrorf(field, "%s: %w", field, err)
	}
	return selector, nil
}

func (m matcher) matches(in *Input) bool {
	return m.scope.covers(in) && !slices.ContainsFunc(m.excludes, func(s scope) bool { return s.covers(in) })
}

// reads lists the input paths that are needed to match.
func (m matcher) reads() []string {
	var paths []string
	for _, s := range append([]scope{m.scope}, m.excludes...) {
		if s.namespace != nil {
			paths = append(paths, "input.namespace.labels")
		}
		if s.pod != nil {
			paths = append(paths, "input.pod.metadata.labels")
		}
		if s.state != nil {
			paths = append(paths, "input.pod.metadata.creationTimestamp", "input.pod.status")
		}
		if len(s.evictors) > 0 {
			paths = append(paths, "input.request.evictor", "input.request.user")
		}
	}
	return paths
}

func (s scope) covers(in *Input) bool {
	if s.namespace != nil && (in.Namespace == nil || !s.namespace.Matches(labels.Set(in.Namespace.Labels))) {
		return false
	}
	if s.pod != nil && (in.Pod == nil || !s.pod.Matches(labels.Set(in.Pod.Labels))) {
		return false
	}
	if s.state != nil && (in.Pod == nil || !s.state.fits(in.Pod, in.Now.Time)) {
		return false
	}
	return len(s.evictors) == 0 || slices.ContainsFunc(s.evictors, func(e v1alpha1.EvictorMatch) bool { return evictorFits(e, &in.Request) })
}

func (s *podState) fits(pod *corev1.Pod, now time.Time) bool {
	if s.crashLooping && !crashLooping(pod) {
		return false
	}
	return s.unreadyFor == 0 || (!PodReady(pod) && now.Sub(unreadySince(pod)) >= s.unreadyFor)
}

func crashLooping(pod *corev1.Pod) bool {
	loops := func(c corev1.ContainerStatus) bool {
		return c.State.Waiting != nil && c.State.Waiting.Reason == "CrashLoopBackOff"
	}
	return slices.ContainsFunc(pod.Status.ContainerStatuses, loops) || slices.ContainsFunc(pod.Status.InitContainerStatuses, loops)
}

// unreadySince is when a pod that is not ready stopped being so, or was made.
func unreadySince(pod *corev1.Pod) time.Time {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.PodReady && !c.LastTransitionTime.IsZero() {
			return c.LastTransitionTime.Time
		}
	}
	return pod.CreationTimestamp.Time
}

func evictorFits(e v1alpha1.EvictorMatch, r *Request) bool {
	return (e.Kind == "" || e.Kind == r.Evictor) &&
		(e.User == "" || e.User == r.User.Username) &&
		(e.Group == "" || slices.Contains(r.User.Groups, e.Group))
}
