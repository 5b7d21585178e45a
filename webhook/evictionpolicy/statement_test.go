package evictionpolicy

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/policies/v1alpha1"
)

var noon = time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC)

func handed(t *testing.T, spec string) object {
	t.Helper()
	return object{uid: "u", generation: 3, policy: "inline", unit: unit(t, "x", spec)}
}

func TestAVerdictBecomesAStatement(t *testing.T) {
	const right, wrong = "library: freeze_window", "rego: |\n  package eviction.a\n  deny contains nope(1)"
	for name, c := range map[string]struct {
		spec    string
		verdict source.Verdict
		want    statement
	}{
		"it compiles": {right, source.Verdict{}, statement{ready: true, serves: true, reason: "Compiled", message: "the policy is compiled and serves"}},
		"it does not": {
			wrong, source.Verdict{Problems: policies.Problems{{File: "EvictionPolicy/x", Path: "spec.rego", InnerRow: 2, InnerCol: 15, Message: "undefined function nope"}}},
			statement{reason: "Invalid", message: "spec.rego:2:15: undefined function nope\nthe policy does not serve"},
		},
		"it does not, but did before": {
			wrong, source.Verdict{Kept: true, Problems: policies.Problems{{File: "EvictionPolicy/x", Path: "spec.rego", InnerRow: 2, InnerCol: 15, Message: "undefined function nope"}}},
			statement{serves: true, reason: "Invalid", message: "spec.rego:2:15: undefined function nope\nits last good version goes on serving"},
		},
		"it is right by itself, but another source has its name": {
			right, source.Verdict{RightAlone: true, Problems: policies.Problems{{File: "EvictionPolicy/x", Message: "EvictionPolicy x stands in policies/x.yaml, too"}}},
			statement{reason: "Conflict", message: "spec: EvictionPolicy x stands in policies/x.yaml, too\nthe policy does not serve"},
		},
		"it cannot be compiled to an end": {
			wrong, source.Verdict{Beyond: true, Problems: policies.Problems{{File: "EvictionPolicy/x", Message: "could not be compiled in 4s of CPU time"}}},
			statement{reason: "Invalid", message: "spec: could not be compiled in 4s of CPU time\nthe policy does not serve"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.want.uid, c.want.generation, c.want.policy, c.want.revision = "u", 3, "inline", "r"
			if diff := cmp.Diff(c.want, stateOf(handed(t, c.spec), c.verdict, "r"), cmp.AllowUnexported(statement{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestALongMessageFitsACondition(t *testing.T) {
	verdict := source.Verdict{Kept: true, Problems: policies.Problems{{Message: strings.Repeat("ä", 2*maxMessage)}}}
	message := stateOf(handed(t, "library: nope"), verdict, "r").message
	if n := len([]rune(message)); n != maxMessage || !strings.HasSuffix(message, "…\nits last good version goes on serving") {
		t.Errorf("%d characters, ending in %q", n, message[len(message)-60:])
	}
}

func TestChangeOfAStatus(t *testing.T) {
	at := func(d time.Duration) metav1.Time { return metav1.Time{Time: noon.Add(d)} }
	condition := func(status metav1.ConditionStatus, reason, message string, generation int64, since metav1.Time) metav1.Condition {
		return metav1.Condition{Type: "Ready", Status: status, Reason: reason, Message: message, ObservedGeneration: generation, LastTransitionTime: since}
	}
	good := &statement{generation: 3, policy: "inline", ready: true, serves: true, reason: "Compiled", message: "ok", revision: "r3"}
	bad := &statement{generation: 3, policy: "inline", reason: "Invalid", message: "no", revision: "r3"}
	other := metav1.Condition{Type: "Reviewed", Status: metav1.ConditionTrue, Reason: "Yes", LastTransitionTime: at(-time.Hour)}
	last := at(-time.Minute)
	before := v1alpha1.EvictionPolicyStatus{
		ObservedGeneration: 2, Policy: "inline", Revision: "r2", Counts: v1alpha1.Counts{Refused: 5, LastViolation: &last},
		Conditions: []metav1.Condition{other, condition(metav1.ConditionTrue, "Compiled", "ok", 2, at(-time.Hour))},
	}
	for name, c := range map[string]struct {
		current   v1alpha1.EvictionPolicyStatus
		statement *statement
		tally     tally
		want      func(*v1alpha1.EvictionPolicyStatus)
	}{
		"nothing to say": {before, nil, tally{}, func(*v1alpha1.EvictionPolicyStatus) {}},
		"counts alone leave the rest": {before, nil, tally{refused: 2, warned: 1, audited: 3, failed: 4, last: noon}, func(s *v1alpha1.EvictionPolicyStatus) {
			now := at(0)
			s.Counts = v1alpha1.Counts{Refused: 7, Warned: 1, Audited: 3, Failed: 4, LastViolation: &now}
		}},
		"an older violation does not move the last": {before, nil, tally{refused: 1, last: noon.Add(-time.Hour)}, func(s *v1alpha1.EvictionPolicyStatus) { s.Counts.Refused = 6 }},
		"still good keeps the transition": {before, good, tally{}, func(s *v1alpha1.EvictionPolicyStatus) {
			s.ObservedGeneration, s.Revision = 3, "r3"
			s.Conditions[1].ObservedGeneration = 3
		}},
		"gone bad moves it, and has no revision": {before, bad, tally{}, func(s *v1alpha1.EvictionPolicyStatus) {
			s.ObservedGeneration, s.Revision = 3, ""
			s.Conditions[1] = condition(metav1.ConditionFalse, "Invalid", "no", 3, at(0))
		}},
		"said of a later generation already": {
			v1alpha1.EvictionPolicyStatus{ObservedGeneration: 4, Revision: "r4"}, bad, tally{refused: 1, last: noon},
			func(s *v1alpha1.EvictionPolicyStatus) {
				now := at(0)
				s.Counts = v1alpha1.Counts{Refused: 1, LastViolation: &now}
			},
		},
		"the first time": {v1alpha1.EvictionPolicyStatus{}, good, tally{}, func(s *v1alpha1.EvictionPolicyStatus) {
			*s = v1alpha1.EvictionPolicyStatus{ObservedGeneration: 3, Policy: "inline", Revision: "r3", Conditions: []metav1.Condition{condition(metav1.ConditionTrue, "Compiled", "ok", 3, at(0))}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			want := *c.current.DeepCopy()
			c.want(&want)
			kept := *c.current.DeepCopy()
			if diff := cmp.Diff(want, change(c.current, c.statement, c.tally, noon)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(kept, c.current); diff != "" {
				t.Errorf("the status it was made from changed:\n%s", diff)
			}
		})
	}
}

func TestAPatchHoldsItsVersionAndOnlyOurFields(t *testing.T) {
	status := v1alpha1.EvictionPolicyStatus{ObservedGeneration: 3}
	if patch, err := patchOf("7", status, status); patch != nil || err != nil {
		t.Errorf("no change gives %s (%v)", patch, err)
	}
	next := status
	next.Counts.Refused = 1
	patch, err := patchOf("7", status, next)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(patch, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"metadata": map[string]any{"resourceVersion": "7"},
		"status": map[string]any{
			"observedGeneration": 3.0, "policy": "", "revision": "", "conditions": nil,
			"counts": map[string]any{"refused": 1.0, "warned": 0.0, "audited": 0.0, "failed": 0.0},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAStatusThatCannotBeReadIsNone(t *testing.T) {
	for _, status := range []any{nil, "text", map[string]any{"observedGeneration": "two"}} {
		o := &unstructured.Unstructured{Object: map[string]any{"status": status}}
		if diff := cmp.Diff(v1alpha1.EvictionPolicyStatus{}, statusOf(o)); diff != "" {
			t.Errorf("%v:\n%s", status, diff)
		}
	}
}
