package policies

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// held refuses by a policy that denies, one that delays and one that fails.
func held(t *testing.T) *Set {
	t.Helper()
	return compiled(t,
		policy("denying", `deny contains "never"`),
		policy("delaying", `delay contains "later"`),
		policy("failing", `deny contains "x" if 1 / count(input.peers) > 0`),
		bind("auditing", "enforcement: Audit\n"+inline("watching", `deny contains "seen"`)),
	)
}

func overriding(user, reason string, groups ...string) *Input {
	return inputFor(func(in *Input) {
		in.Request.User = User{Username: user, Groups: groups}
		in.Request.Annotations = map[string]string{OverrideAnnotation: reason}
	})
}

func TestOverride(t *testing.T) {
	o := Options{Override: OverrideRule{Users: []string{"jane"}, Groups: []string{"oncall"}}}
	all := []string{"delaying", "denying", "failing"}
	for name, tt := range map[string]struct {
		in      *Input
		outcome Outcome
		want    *Override
		warning string
	}{
		"a user who may":             {overriding("jane", "INC-1"), Admitted, &Override{Reason: "INC-1", Used: true, Policies: all}, "policies overridden (delaying, denying, failing) for this reason: INC-1"},
		"a member of a group":        {overriding("joe", "INC-1\n", "dev", "oncall"), Admitted, &Override{Reason: "INC-1", Used: true, Policies: all}, "overridden, would deny: never (policy denying)"},
		"somebody else":              {overriding("joe", "INC-1", "dev"), Denied, &Override{Reason: "INC-1", Ignored: "user joe may not override policies"}, "annotation evictgate.dev/override is ignored: user joe may not override policies"},
		"without a reason":           {overriding("jane", " \n"), Denied, &Override{Ignored: "it states no reason"}, "annotation evictgate.dev/override is ignored: it states no reason"},
		"nobody asked":               {inputFor(), Denied, nil, "later (policy delaying)"},
		"the user is named as group": {overriding("oncall", "INC-1"), Denied, &Override{Reason: "INC-1", Ignored: "user oncall may not override policies"}, "is ignored"},
	} {
		t.Run(name, func(t *testing.T) {
			d := held(t).Evaluate(t.Context(), tt.in, o)
			if d.Outcome != tt.outcome || d.Allowed() != (tt.outcome == Admitted) {
				t.Errorf("outcome %s %d, want %s", d.Outcome, d.Code, tt.outcome)
			}
			if diff := cmp.Diff(tt.want, d.Override); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if !slices.ContainsFunc(d.Warnings, func(w string) bool { return strings.Contains(w, tt.warning) }) {
				t.Errorf("no warning has %q: %q", tt.warning, d.Warnings)
			}
			if len(d.Violations) != 3 {
				t.Errorf("an override must not hide what it overrides: %v", d.Violations)
			}
		})
	}
}

// The API server asks the budgets itself, so an override does not help against them.
func TestAnOverrideDoesNotReachBudgets(t *testing.T) {
	in := overriding("jane", "INC-1")
	in.Disruption = &Disruption{Code: 429, Message: BudgetSentence, Detail: "budget shop/web has 0 left", Budgets: []string{"web"}}
	d := held(t).Evaluate(t.Context(), in, Options{Override: OverrideRule{Users: []string{"jane"}}})
	if d.Outcome != Delayed || !d.Override.Used || !strings.HasPrefix(d.Message, BudgetSentence) {
		t.Errorf("%s %q, override %+v", d.Outcome, d.Message, d.Override)
	}
}

func TestAnUnneededOverrideIsSaid(t *testing.T) {
	set := compiled(t, policy("open", `delay contains "x" if input.request.namespace == "other"`))
	d := set.Evaluate(t.Context(), overriding("jane", "to be sure"), Options{Override: OverrideRule{Users: []string{"jane"}}})
	if d.Outcome != Admitted || d.Override == nil || d.Override.Used || !slices.Contains(d.Warnings, "annotation evictgate.dev/override was not needed: no policy refuses") {
		t.Errorf("%s, override %+v, warnings %q", d.Outcome, d.Override, d.Warnings)
	}
}

func TestMaxHold(t *testing.T) {
	set := compiled(t, bind("bounded", "maxHold: 24h\n"+inline("x", `delay contains "wait"`)), bind("unbounded", inline("y", `delay contains "wait longer"`)))
	began := inputFor().Now.Add(-24 * time.Hour)
	for name, tt := range map[string]struct {
		since *time.Time
		want  Enforcement
	}{
		"never seen before":         {nil, Enforce},
		"a moment before its end":   {ptr(began.Add(time.Second)), Enforce},
		"at its end":                {ptr(began), Warn},
		"long after its end":        {ptr(began.Add(-time.Hour)), Warn},
		"a clock that went forward": {ptr(began.Add(48 * time.Hour)), Enforce},
	} {
		t.Run(name, func(t *testing.T) {
			in := inputFor(func(in *Input) {
				in.History = &History{Holds: map[string]metav1.Time{}}
				if tt.since != nil {
					in.History.Holds["bounded"] = metav1.NewTime(*tt.since)
				}
			})
			d := set.Evaluate(t.Context(), in, Options{})
			if d.Violations[0].Policy != "bounded" || d.Violations[0].Enforcement != tt.want || (d.Violations[0].Expired != nil) != (tt.want == Warn) {
				t.Errorf("%+v", d.Violations[0])
			}
			if diff := cmp.Diff([]string{"bounded", "unbounded"}, d.Holding()); diff != "" {
				t.Errorf("an expired hold goes on counting; -want +got:\n%s", diff)
			}
			told := slices.ContainsFunc(d.Warnings, func(w string) bool {
				return strings.Contains(w, "would delay: wait (policy bounded); it has held this pod since ") && strings.Contains(w, "longer than its maxHold of 24h")
			})
			if told != (tt.want == Warn) || strings.Contains(d.Message, "(policy bounded)") == told || d.Outcome != Delayed {
				t.Errorf("%s, message %q, warnings %q", d.Outcome, d.Message, d.Warnings)
			}
		})
	}
	if !set.Needs().Reads("history", "holds") {
		t.Error("a binding with maxHold must read input.history.holds")
	}
}

func TestDurationsAreWrittenAsAPersonWould(t *testing.T) {
	for d, want := range map[time.Duration]string{24 * time.Hour: "24h", 90 * time.Minute: "1h30m", 10 * time.Minute: "10m", 90 * time.Second: "1m30s", 20 * time.Second: "20s", time.Hour + time.Second: "1h0m1s"} {
		if got := duration(d); got != want {
			t.Errorf("%d is written %s, want %s", d, got, want)
		}
	}
}
