package evictionpolicy

import (
	"encoding/json"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/policies/v1alpha1"
)

// maxMessage is the API server's bound on the message of a condition, in characters.
const maxMessage = 32768

// statement is what a replica has to say of one policy.
type statement struct {
	uid             types.UID
	generation      int64
	policy          string
	ready           bool
	reason, message string
	// serves says that evictions are decided by the policy, be it by its last good version.
	serves   bool
	revision string
}

// stateOf makes the statement of a verdict.
func stateOf(o object, v source.Verdict, revision string) statement {
	s := statement{uid: o.uid, generation: o.generation, policy: o.policy, revision: revision}
	if len(v.Problems) == 0 {
		s.ready, s.serves, s.reason, s.message = true, true, v1alpha1.ReasonCompiled, "the policy is compiled and serves"
		return s
	}
	s.serves, s.reason = v.Kept, v1alpha1.ReasonInvalid
	if v.RightAlone {
		s.reason = v1alpha1.ReasonConflict
	}
	consequence := "\nthe policy does not serve"
	if v.Kept {
		consequence = "\nits last good version goes on serving"
	}
	s.message = cut(linesOf(o.unit, v.Problems), maxMessage-len(consequence)) + consequence
	return s
}

// agrees reports whether two statements say the same, the revision aside: that one changes with every
// policy.
func (s statement) agrees(other statement) bool {
	s.revision = other.revision
	return s == other
}

// change is the status after a statement and a tally; a nil statement leaves the conditions alone. What
// was said of a later generation stays.
func change(current v1alpha1.EvictionPolicyStatus, s *statement, t tally, now time.Time) v1alpha1.EvictionPolicyStatus {
	next := *current.DeepCopy()
	next.Counts = t.addTo(next.Counts)
	if s == nil || s.generation < current.ObservedGeneration {
		return next
	}
	next.ObservedGeneration, next.Policy, next.Revision = s.generation, s.policy, s.revision
	if !s.serves {
		next.Revision = ""
	}
	ready := metav1.ConditionFalse
	if s.ready {
		ready = metav1.ConditionTrue
	}
	meta.SetStatusCondition(&next.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: ready, Reason: s.reason, Message: s.message,
		ObservedGeneration: s.generation, LastTransitionTime: metav1.Time{Time: now.UTC().Truncate(time.Second)},
	})
	return next
}

// observed reports whether the stored status has a Ready condition of the statement's generation.
func (s statement) observed(stored v1alpha1.EvictionPolicyStatus) bool {
	ready := meta.FindStatusCondition(stored.Conditions, v1alpha1.ConditionReady)
	return ready != nil && ready.ObservedGeneration >= s.generation
}

// statusOf reads the status of a stored policy; what cannot be read is written anew.
func statusOf(o *unstructured.Unstructured) v1alpha1.EvictionPolicyStatus {
	var status v1alpha1.EvictionPolicyStatus
	raw, err := json.Marshal(o.Object["status"])
	if err != nil || json.Unmarshal(raw, &status) != nil {
		return v1alpha1.EvictionPolicyStatus{}
	}
	return status
}

// patchOf is the merge patch from one status to another, on exactly the version that was read; nil when
// they are the same. A newer version's fields stay.
func patchOf(version string, from, to v1alpha1.EvictionPolicyStatus) ([]byte, error) {
	if equality.Semantic.DeepEqual(from, to) {
		return nil, nil
	}
	status := map[string]any{
		"observedGeneration": to.ObservedGeneration, "policy": to.Policy, "revision": to.Revision,
		"conditions": to.Conditions, "counts": to.Counts,
	}
	return json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": version}, "status": status})
}
