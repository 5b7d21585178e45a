package policies

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/evictgate/evictgate/policies/v1alpha1"
)

// matcher is a compiled v1alpha1.Match. The zero matcher matches every eviction.
type matcher struct {
	scope    scope
	excludes []scope
}

type scope struct {
	namespace, pod labels.Selector
	evictors       []v1alpha1.EvictorMatch
}

func newMatcher(m *v1alpha1.Match) (matcher, error) {
	if m == nil {
		return matcher{}, nil
	}
	included, err := newScope(m.Scope)
	if err != nil {
		return matcher{}, fmt.Errorf("spec.match: %w", err)
	}
	compiled := matcher{scope: included}
	for i, e := range m.Excludes {
		excluded, err := newScope(e)
		if err != nil {
			return matcher{}, fmt.Errorf("spec.match.excludes[%d]: %w", i, err)
		}
		if excluded.namespace == nil && excluded.pod == nil && len(excluded.evictors) == 0 {
			return matcher{}, fmt.Errorf("spec.match.excludes[%d] is empty and would exclude every eviction; name a namespaceSelector, podSelector or evictors", i)
		}
		compiled.excludes = append(compiled.excludes, excluded)
	}
	return compiled, nil
}

func newScope(s v1alpha1.Scope) (scope, error) {
	namespace, err := newSelector("namespaceSelector", s.NamespaceSelector)
	if err != nil {
		return scope{}, err
	}
	pod, err := newSelector("podSelector", s.PodSelector)
	if err != nil {
		return scope{}, err
	}
	for i, e := range s.Evictors {
		if e == (v1alpha1.EvictorMatch{}) {
			return scope{}, fmt.Errorf("evictors[%d] is empty; name a kind, user or group", i)
		}
	}
	return scope{namespace: namespace, pod: pod, evictors: s.Evictors}, nil
}

func newSelector(field string, s *metav1.LabelSelector) (labels.Selector, error) {
	if s == nil {
		return nil, nil
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	return selector, nil
}

func (m matcher) matches(in *Input) bool {
	return m.scope.covers(in) && !slices.ContainsFunc(m.excludes, func(s scope) bool { return s.covers(in) })
}

// readsNamespace reports whether the namespace's labels are needed to match.
func (m matcher) readsNamespace() bool {
	return m.scope.namespace != nil || slices.ContainsFunc(m.excludes, func(s scope) bool { return s.namespace != nil })
}

func (s scope) covers(in *Input) bool {
	if s.namespace != nil && (in.Namespace == nil || !s.namespace.Matches(labels.Set(in.Namespace.Labels))) {
		return false
	}
	if s.pod != nil && (in.Pod == nil || !s.pod.Matches(labels.Set(in.Pod.Labels))) {
		return false
	}
	return len(s.evictors) == 0 || slices.ContainsFunc(s.evictors, func(e v1alpha1.EvictorMatch) bool { return evictorFits(e, &in.Request) })
}

func evictorFits(e v1alpha1.EvictorMatch, r *Request) bool {
	return (e.Kind == "" || e.Kind == r.Evictor) &&
		(e.User == "" || e.User == r.User.Username) &&
		(e.Group == "" || slices.Contains(r.User.Groups, e.Group))
}
