package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/evictgate/evictgate/policies"
)

// decisionFlags say how a decision is made: those of serve, and of what decides as it would.
type decisionFlags struct {
	budgets  string
	onError  string
	steps    policySteps
	override policies.OverrideRule
}

func (f *decisionFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.budgets, "budgets", "answer", "when a budget blocks: answer (refuse and explain) or advise (admit, explain in a warning, let the API server refuse)")
	flags.StringVar(&f.onError, "on-error", "delay", "when a policy fails: delay (429), deny (403) or admit")
	f.steps.add(flags)
	flags.StringSliceVar(&f.override.Users, "override-users", nil, "users who may override policies by the annotation "+policies.OverrideAnnotation+" on an Eviction")
	flags.StringSliceVar(&f.override.Groups, "override-groups", nil, "groups whose members may override policies")
}

func (f *decisionFlags) validate() error {
	return errors.Join(
		oneOf("budgets", f.budgets, "answer", "advise"),
		oneOf("on-error", f.onError, "delay", "deny", "admit"),
		f.steps.validate(),
	)
}

// policySteps is the limit of one policy.
type policySteps struct{ most int }

func (s *policySteps) add(flags *pflag.FlagSet) {
	flags.IntVar(&s.most, "policy-steps", policies.DefaultPolicySteps, "how many steps one policy may take: the default is about half a second of an idle core")
	flags.Var(goneTimeout{}, "policy-timeout", "")
	_ = flags.MarkHidden("policy-timeout") // it is there
}

func (s *policySteps) validate() error {
	if s.most < 1 {
		return fmt.Errorf("--policy-steps is %d; expected at least 1", s.most)
	}
	return nil
}

// goneTimeout is the flag that bounded a policy by the clock, which other work moves.
type goneTimeout struct{}

// String is part of pflag.Value.
func (goneTimeout) String() string { return "" }

// Type is part of pflag.Value.
func (goneTimeout) Type() string { return "duration" }

// Set refuses every value.
func (goneTimeout) Set(string) error {
	return fmt.Errorf("it is gone, since a busy machine moved it; a policy is bounded by --policy-steps (%d by default)", policies.DefaultPolicySteps)
}

func (f *decisionFlags) options() policies.Options {
	return policies.Options{
		Budgets: policies.BudgetMode(f.budgets), OnError: policies.OnError(f.onError), PolicySteps: f.steps.most,
		Override: f.override,
	}
}

// oneOf refuses a value of a flag that is not one of those allowed.
func oneOf(flag, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("--%s is %q; expected one of %s", flag, value, strings.Join(allowed, ", "))
}
