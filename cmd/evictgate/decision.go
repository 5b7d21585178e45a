package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/evictgate/evictgate/policies"
)

// decisionFlags say how a decision is made: those of serve, and of what decides as it would.
type decisionFlags struct {
	budgets       string
	onError       string
	policyTimeout time.Duration
	override      policies.OverrideRule
}

func (f *decisionFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.budgets, "budgets", "answer", "when a budget blocks: answer (refuse and explain) or advise (admit, explain in a warning, let the API server refuse)")
	flags.StringVar(&f.onError, "on-error", "delay", "when a policy fails: delay (429), deny (403) or admit")
	flags.DurationVar(&f.policyTimeout, "policy-timeout", policies.DefaultPolicyTimeout, "how long one policy may take")
	flags.StringSliceVar(&f.override.Users, "override-users", nil, "users who may override policies by the annotation "+policies.OverrideAnnotation+" on an Eviction")
	flags.StringSliceVar(&f.override.Groups, "override-groups", nil, "groups whose members may override policies")
}

func (f *decisionFlags) validate() error {
	return errors.Join(
		oneOf("budgets", f.budgets, "answer", "advise"),
		oneOf("on-error", f.onError, "delay", "deny", "admit"),
	)
}

func (f *decisionFlags) options() policies.Options {
	return policies.Options{
		Budgets: policies.BudgetMode(f.budgets), OnError: policies.OnError(f.onError), PolicyTimeout: f.policyTimeout,
		Override: f.override,
	}
}

// oneOf refuses a value of a flag that is none of those allowed.
func oneOf(flag, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("--%s is %q; expected one of %s", flag, value, strings.Join(allowed, ", "))
}
