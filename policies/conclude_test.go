package policies

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evictgate/evictgate/policies/internal/limits"
)

// blocked is what a budget answers that allows no disruption.
func blocked() *Disruption {
	return &Disruption{
		Code: 429, Reason: "TooManyRequests", Message: BudgetSentence, Cause: "The disruption budget web needs 2 healthy pods and has 2 currently",
		Detail: "Budget shop/web needs 2 healthy of 3 expected pods and has 2", Budgets: []string{"web"},
		Blockers: []Blocker{{Name: "web-1", Why: "CrashLoopBackOff", Since: &noon}, {Name: "web-2", Why: "Terminating"}},
	}
}

func misconfigured() *Disruption {
	return &Disruption{Code: 500, Message: "This pod has more than one", Detail: "This pod has more than one budget: a and b", Budgets: []string{"a", "b"}}
}

func TestConclude(t *testing.T) {
	const (
		blockerLines = "pod web-1: CrashLoopBackOff since 2026-11-23T12:00:00Z|pod web-2: Terminating"
		undecided    = "policy f could not be evaluated, so this eviction is not decided; fix the policy (the log of evictgate names the line), or bind it with enforcement Audit"
	)
	deny := denied("d", "no")
	delay := Violation{Policy: "l", Effect: Delay, Enforcement: Enforce, Reason: "later"}
	as := func(v Violation, e Enforcement) Violation { v.Enforcement = e; return v }
	warning := Violation{Policy: "w", Effect: Warning, Enforcement: Enforce, Reason: "mind"}
	failure := Failure{Policy: "f", Enforcement: Enforce, Error: "f.rego:1:1: broken\nstack of a panic"}
	budgetCause := Cause{Type: "DisruptionBudget", Field: "web", Message: "The disruption budget web needs 2 healthy pods and has 2 currently"}
	twoCause := Cause{Type: "DisruptionBudget", Field: "a,b", Message: "This pod has more than one"}
	denyCause, delayCause := Cause{Type: PolicyCause, Field: "d", Message: "no"}, Cause{Type: PolicyCause, Field: "l", Message: "later"}

	for name, tt := range map[string]struct {
		violations []Violation
		failures   []Failure
		disruption *Disruption
		options    Options
		outcome    Outcome
		code       int32
		reason     string
		message    string
		causes     []Cause
		warnings   string // joined by |
	}{
		"nothing admits": {outcome: Admitted, code: 200},
		"a budget that allows admits": {
			disruption: &Disruption{Allowed: true, Code: 201, Budgets: []string{"web"}}, outcome: Admitted, code: 200,
		},
		"a budget that blocks delays, in the API server's words first": {
			disruption: blocked(), outcome: Delayed, code: 429, reason: "TooManyRequests",
			message: BudgetSentence + " Budget shop/web needs 2 healthy of 3 expected pods and has 2",
			causes:  []Cause{budgetCause}, warnings: blockerLines,
		},
		"a budget and a policy delay together": {
			violations: []Violation{delay}, disruption: blocked(), outcome: Delayed, code: 429, reason: "TooManyRequests",
			message: BudgetSentence + " Budget shop/web needs 2 healthy of 3 expected pods and has 2; later (policy l)",
			causes:  []Cause{budgetCause, delayCause}, warnings: blockerLines,
		},
		"deny goes before the budget, which is told in warnings": {
			violations: []Violation{deny}, disruption: blocked(), outcome: Denied, code: 403, reason: "Forbidden", message: "no (policy d)",
			causes: []Cause{denyCause}, warnings: "Budget shop/web needs 2 healthy of 3 expected pods and has 2|" + blockerLines,
		},
		"deny goes before delay": {
			violations: []Violation{delay, deny}, outcome: Denied, code: 403, reason: "Forbidden", message: "no (policy d)",
			causes: []Cause{denyCause}, warnings: "later (policy l)",
		},
		"two denials in one message": {
			violations: []Violation{denied("z", "never"), deny}, outcome: Denied, code: 403, reason: "Forbidden",
			message: "no (policy d); never (policy z)", causes: []Cause{denyCause, {Type: PolicyCause, Field: "z", Message: "never"}},
		},
		"deny goes before two budgets": {
			violations: []Violation{deny}, disruption: misconfigured(), outcome: Denied, code: 403, reason: "Forbidden", message: "no (policy d)",
			causes: []Cause{denyCause}, warnings: "This pod has more than one budget: a and b",
		},
		"two budgets go before delay": {
			violations: []Violation{delay}, disruption: misconfigured(), outcome: Denied, code: 500, message: "This pod has more than one budget: a and b",
			causes: []Cause{twoCause}, warnings: "later (policy l)",
		},
		"a budget that forbids": {
			disruption: &Disruption{Code: 403, Reason: "Forbidden", Message: "it is negative", Cause: "negative", Detail: "it is negative; see why", Budgets: []string{"web"}},
			outcome:    Denied, code: 403, reason: "Forbidden", message: "it is negative; see why", causes: []Cause{{Type: "DisruptionBudget", Field: "web", Message: "negative"}},
		},
		"who was interrupted is not to fix": {
			failures: []Failure{{Policy: "f", Enforcement: Enforce, Error: "f.rego:1:1: " + limits.NotInTime}}, outcome: Undecided, code: 429, reason: "TooManyRequests",
			message:  "policy f could not be evaluated in the time the API server gives the webhook, so this eviction is not decided; give evictgate more CPU, or the webhook a longer timeoutSeconds",
			warnings: "policy f could not be evaluated: f.rego:1:1: " + limits.NotInTime,
		},
		"a failure leaves it undecided": {
			failures: []Failure{failure}, outcome: Undecided, code: 429, reason: "TooManyRequests", message: undecided,
			warnings: "policy f could not be evaluated: f.rego:1:1: broken",
		},
		"a failure, on error deny": {
			failures: []Failure{failure}, options: Options{OnError: OnErrorDeny}, outcome: Undecided, code: 403, reason: "Forbidden", message: undecided,
			warnings: "policy f could not be evaluated: f.rego:1:1: broken",
		},
		"a failure, on error admit": {
			failures: []Failure{failure}, options: Options{OnError: OnErrorAdmit}, outcome: Undecided, code: 200, message: undecided,
			warnings: "policy f could not be evaluated: f.rego:1:1: broken",
		},
		"delay goes before a failure, whatever is done on errors": {
			violations: []Violation{delay}, failures: []Failure{failure}, options: Options{OnError: OnErrorAdmit},
			outcome: Delayed, code: 429, reason: "TooManyRequests", message: "later (policy l)", causes: []Cause{delayCause},
			warnings: "policy f could not be evaluated: f.rego:1:1: broken",
		},
		"what only warns is told, what is audited is not": {
			violations: []Violation{as(deny, Warn), as(delay, Warn), warning, as(denied("a", "hidden"), Audit), as(warning, Audit)},
			failures:   []Failure{{Policy: "f", Enforcement: Audit, Error: "hidden"}},
			outcome:    Admitted, code: 200, warnings: "would deny: no (policy d)|would delay: later (policy l)|mind (policy w)",
		},
		"advise admits and explains": {
			disruption: blocked(), options: Options{Budgets: AdviseBudgets}, outcome: Admitted, code: 200,
			warnings: "Budget shop/web needs 2 healthy of 3 expected pods and has 2|" + blockerLines,
		},
		"advise explains once, beside a denial, too": {
			violations: []Violation{deny}, disruption: blocked(), options: Options{Budgets: AdviseBudgets},
			outcome: Denied, code: 403, reason: "Forbidden", message: "no (policy d)", causes: []Cause{denyCause},
			warnings: "Budget shop/web needs 2 healthy of 3 expected pods and has 2|" + blockerLines,
		},
		"advise leaves two budgets to the API server": {
			disruption: misconfigured(), options: Options{Budgets: AdviseBudgets}, outcome: Admitted, code: 200, warnings: "This pod has more than one budget: a and b",
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := &Decision{Violations: tt.violations, Failures: tt.failures, Disruption: tt.disruption}
			conclude(d, inputFor(func(in *Input) { in.Disruption = tt.disruption }), tt.options.withDefaults())
			want := &Decision{
				Outcome: tt.outcome, Code: tt.code, Reason: tt.reason, Message: tt.message, Violations: d.Violations, Failures: tt.failures,
				Disruption: tt.disruption, Causes: tt.causes,
			}
			if tt.warnings != "" {
				want.Warnings = strings.Split(tt.warnings, "|")
			}
			if diff := cmp.Diff(want, d, decisionOnly); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if d.Allowed() != (tt.code < 400) {
				t.Errorf("allowed is %t with code %d", d.Allowed(), tt.code)
			}
		})
	}
}

// No other refusal imitates the API server's sentence, since clients look for it.
func TestOnlyABudgetsDelayBeginsWithItsSentence(t *testing.T) {
	for _, d := range []*Disruption{nil, misconfigured()} {
		for _, v := range [][]Violation{{denied("x", "no")}, {{Policy: "x", Effect: Delay, Enforcement: Enforce, Reason: "later"}}} {
			got := &Decision{Violations: v, Disruption: d}
			conclude(got, inputFor(func(in *Input) { in.Disruption = d }), Options{}.withDefaults())
			if strings.Contains(got.Message, BudgetSentence) {
				t.Errorf("message %q", got.Message)
			}
		}
	}
}

func TestViolationsAreSorted(t *testing.T) {
	var list []Violation
	for _, s := range []string{"warn b 1", "delay a 2", "deny b 1", "delay a 1", "deny a 9"} {
		var v Violation
		if _, err := fmt.Sscan(s, &v.Effect, &v.Policy, &v.Reason); err != nil {
			t.Fatal(err)
		}
		list = append(list, v)
	}
	sortViolations(list)
	var got []string
	for _, v := range list {
		got = append(got, fmt.Sprint(v.Effect, " ", v.Policy, " ", v.Reason))
	}
	if diff := cmp.Diff([]string{"deny a 9", "deny b 1", "delay a 1", "delay a 2", "warn b 1"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestUndecidedBy(t *testing.T) {
	got := UndecidedBy("evictgate", "panic: a\nb", "r1", Options{OnError: OnErrorDeny})
	want := &Decision{
		Outcome: Undecided, Code: 403, Reason: "Forbidden", Revision: "r1",
		Message:  "evictgate could not decide this eviction: panic: a b",
		Failures: []Failure{{Policy: "evictgate", Enforcement: Enforce, Error: "panic: a b"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if admitted := UndecidedBy("evictgate", "panic", "r1", Options{OnError: OnErrorAdmit}); !admitted.Allowed() || len(admitted.Warnings) != 1 {
		t.Errorf("who is let through undecided is not told: %+v", admitted)
	}
}
