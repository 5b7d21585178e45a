package policies

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/policies/internal/limits"
	"github.com/evictgate/evictgate/policies/internal/rego"
)

// BudgetSentence is how the API server begins its refusal by a budget. Clients look for it (Cluster
// API's conditions do), so a refusal by a budget, and no other, begins with it.
const BudgetSentence = "Cannot evict pod as it would violate the pod's disruption budget."

// conclude weighs what was found: denied before misconfigured before delayed before undecided. The
// message tells the reasons of the outcome that won; everything else is told in warnings.
func conclude(d *Decision, in *Input, o Options) {
	sortViolations(d.Violations)
	denies, delays := enforced(d.Violations, Deny), enforced(d.Violations, Delay)
	failed := enforcingFailures(d.Failures)
	if d.Override = o.Override.judge(&in.Request, policyNames(denies, delays, failed)); d.Override.used() {
		denies, delays, failed = nil, nil, nil
	}
	budget := budgetCode(in, o)
	switch {
	case len(denies) > 0:
		d.refuse(Denied, http.StatusForbidden, "", denies)
		d.warn(texts(delays)...)
		if budget != 0 {
			d.warnBudget(in)
		}
	case budget == http.StatusInternalServerError, budget == http.StatusForbidden:
		d.refuse(Denied, budget, in.Disruption.Detail, nil)
		d.warn(texts(delays)...)
	case budget != 0:
		d.refuse(Delayed, budget, BudgetSentence+" "+in.Disruption.Detail, delays)
	case len(delays) > 0:
		d.refuse(Delayed, http.StatusTooManyRequests, "", delays)
	case len(failed) > 0:
		d.undecided(failed, o.OnError)
	default:
		d.set(Admitted, http.StatusOK, "")
	}
	if o.Budgets == AdviseBudgets {
		d.warnBudget(in)
	}
	d.explain(in)
}

func enforced(all []Violation, effect Effect) []Violation {
	var list []Violation
	for _, v := range all {
		if v.Enforcing() && v.Effect == effect {
			list = append(list, v)
		}
	}
	return list
}

func texts(violations []Violation) []string {
	list := make([]string, len(violations))
	for i, v := range violations {
		list[i] = v.Text()
	}
	return list
}

// refuse sets a refusal by a budget (when its sentence is given) and by violations.
func (d *Decision) refuse(outcome Outcome, code int32, budget string, violations []Violation) {
	reasons := texts(violations)
	if budget != "" {
		reasons = append([]string{budget}, reasons...)
		d.Causes = append(d.Causes, Cause{
			Type: string(policyv1.DisruptionBudgetCause), Field: strings.Join(d.Disruption.Budgets, ","),
			Message: cmp.Or(d.Disruption.Cause, d.Disruption.Message),
		})
	}
	for _, v := range violations {
		d.Causes = append(d.Causes, Cause{Type: PolicyCause, Field: v.Policy, Message: v.Reason})
	}
	d.set(outcome, code, strings.Join(reasons, "; "))
}

// budgetCode is the status with which a budget refuses, or 0.
func budgetCode(in *Input, o Options) int32 {
	if in.Disruption == nil || in.Disruption.Allowed || o.Budgets == AdviseBudgets {
		return 0
	}
	return in.Disruption.Code
}

func enforcingFailures(failures []Failure) []string {
	var names []string
	for _, f := range failures {
		if f.Enforcement == Enforce {
			names = append(names, f.Policy)
		}
	}
	return names
}

func (d *Decision) undecided(policies []string, o OnError) {
	what := "policy " + policies[0] + " could not be evaluated"
	if len(policies) > 1 {
		what = "policies " + strings.Join(policies, ", ") + " could not be evaluated"
	}
	cure := "fix the policy (the log of evictgate names the line), or bind it with enforcement Audit"
	if !slices.ContainsFunc(d.Failures, Failure.isThePolicys) {
		what += " in the time the API server gives the webhook"
		cure = "give evictgate more CPU, or the webhook a longer timeoutSeconds"
	}
	d.set(Undecided, o.code(), what+", so this eviction is not decided; "+cure)
}

// isThePolicys: a policy in force that was interrupted is not to blame, since its own work has a limit of its own.
func (f Failure) isThePolicys() bool {
	return f.Enforcement == Enforce && !strings.HasSuffix(f.Error, ": "+limits.NotInTime) && !strings.HasSuffix(f.Error, ": "+notBack)
}

// code is the status of an answer without a decision.
func (o OnError) code() int32 {
	switch o {
	case OnErrorDeny:
		return http.StatusForbidden
	case OnErrorAdmit:
		return http.StatusOK
	}
	return http.StatusTooManyRequests
}

func (d *Decision) set(outcome Outcome, code int32, message string) {
	d.Outcome, d.Code, d.Message = outcome, code, message
	switch code {
	case http.StatusTooManyRequests:
		d.Reason = string(metav1.StatusReasonTooManyRequests)
	case http.StatusForbidden:
		d.Reason = string(metav1.StatusReasonForbidden)
	case http.StatusInternalServerError:
		// The API server gives no reason for misconfigured budgets; clients fall back to the code.
		d.Reason = ""
	}
}

// warnBudget tells the budget's part when another reason decides.
func (d *Decision) warnBudget(in *Input) {
	if in.Disruption != nil && !in.Disruption.Allowed {
		d.warn(in.Disruption.Detail)
	}
}

// explain adds the warnings that go with every outcome: the pods a budget waits for, the policies
// that only warn, and those that failed.
func (d *Decision) explain(in *Input) {
	if in.Disruption != nil && !in.Disruption.Allowed {
		for _, b := range in.Disruption.Blockers {
			d.warn(b.text())
		}
		if len(in.Disruption.Cures) > 0 {
			d.warn(cureText(in.Disruption.Cures))
		}
	}
	d.warn(d.Override.text())
	for _, v := range d.Violations {
		switch {
		case v.Enforcing() && d.Override.used():
			d.warn(fmt.Sprintf("overridden, would %s: %s", v.Effect, v.Text()))
		case v.Expired != nil:
			d.warn(fmt.Sprintf("would %s: %s; it has held this pod since %s, longer than its maxHold of %s, so it only warns now", v.Effect, v.Text(), at(v.Expired.Since), v.Expired.MaxHold))
		case v.Effect == Warning && v.Enforcement != Audit:
			d.warn(v.Text())
		case v.Effect != Warning && v.Enforcement == Warn:
			d.warn(fmt.Sprintf("would %s: %s", v.Effect, v.Text()))
		}
	}
	for _, f := range d.Failures {
		if f.Enforcement != Audit {
			why, _, _ := strings.Cut(f.Error, "\n") // a panic's stack is for the record and the log
			d.warn(fmt.Sprintf("policy %s could not be evaluated: %s", f.Policy, why))
		}
	}
}

func (d *Decision) warn(lines ...string) {
	for _, line := range lines {
		if line = rego.OneLine(line); line != "" {
			d.Warnings = append(d.Warnings, line)
		}
	}
}

// Text is the reason with the policy that gives it, as clients are told.
func (v Violation) Text() string { return fmt.Sprintf("%s (policy %s)", v.Reason, v.Policy) }

func (b Blocker) text() string {
	parts := []string{fmt.Sprintf("pod %s: %s", b.Name, b.Why)}
	if b.Since != nil {
		parts = append(parts, "since "+at(*b.Since))
	}
	if b.Until != nil {
		parts = append(parts, "with a grace period until "+at(*b.Until))
	}
	if b.Detail != "" {
		parts = append(parts, "("+b.Detail+")")
	}
	return strings.Join(parts, " ")
}

// duration is written as a person would: 24h, not 24h0m0s.
func duration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func at(t metav1.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// cureText numbers the cures on one line.
func cureText(cures []string) string {
	numbered := make([]string, len(cures))
	for i, c := range cures {
		numbered[i] = fmt.Sprintf("%d. %s", i+1, c)
	}
	return "to unblock: " + strings.Join(numbered, "; ")
}

// UndecidedBy is the decision when something other than a policy failed; what names it.
func UndecidedBy(what, why, revision string, o Options) *Decision {
	d := &Decision{Revision: revision, Failures: []Failure{{Policy: what, Enforcement: Enforce, Error: rego.OneLine(why)}}}
	d.set(Undecided, o.withDefaults().OnError.code(), fmt.Sprintf("%s could not decide this eviction: %s", what, rego.OneLine(why)))
	if d.Allowed() {
		d.warn(d.Message) // nobody reads the message of an answer that allows
	}
	return d
}
