package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/policies/report"
	"github.com/evictgate/evictgate/webhook/preview"
)

// evalFlags are the flags of policy eval.
type evalFlags struct {
	lookFlags
	decisionFlags
	annotations map[string]string
	input       bool
	explain     bool
	format      string
}

func newPolicyEval(p output.Printer) *cobra.Command {
	var f evalFlags
	cmd := &cobra.Command{
		Use:   "eval NAMESPACE/NAME...",
		Short: "Decide the eviction of pods as the server would, and explain it; exit 1 when one is refused",
		Long: `Eval prints, for each pod, the decision that the server would make: outcome, code and message, what each
policy found, and the warnings. Nothing is evicted. There is no history: nothing was evicted before.

With --explain it tells of every rule of deny, delay and warn what it found, or the expression at which it
stopped, with the values in it, and so for the helper rules that the expression asks. With --input it
prints what the policies are given instead, as JSON: only what they read.`,
		Example: `  evictgate policy eval --snapshot cluster.yaml shop/web-6d4cf56db6-a
  evictgate policy eval --policies ./policies --kubeconfig ~/.kube/config --explain shop/web-6d4cf56db6-a
  evictgate policy eval --snapshot cluster.yaml --as system:serviceaccount:kube-system:descheduler -o json shop/web-0 shop/web-1
  evictgate policy eval --snapshot cluster.yaml --input shop/web-0 > input.json`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, pods []string) error {
			r, err := f.eval(cmd.Context(), pods, p)
			if err != nil {
				return err
			}
			if err := r.Print(p, f.format, report.Parts{Input: f.input, Explanations: f.explain}); err != nil {
				return err
			}
			if r.Refused() && (!f.input || f.format != "table") {
				return errRefused
			}
			return nil
		},
	}
	cmd.Annotations = map[string]string{runs: runsBriefly}
	flags := cmd.Flags()
	f.lookFlags.add(flags)
	flags.StringToStringVar(&f.annotations, "annotation", nil, "an annotation of the Eviction itself, as KEY=VALUE; may be given several times")
	f.decisionFlags.add(flags)
	flags.BoolVar(&f.input, "input", false, "print what the policies are given, as JSON, instead of the decision")
	flags.BoolVar(&f.explain, "explain", false, "say of every rule what it found, or where it stopped and why")
	flags.StringVarP(&f.format, "output", "o", "table", "table, json or yaml")
	return cmd
}

func (f *evalFlags) validate() error {
	return errors.Join(
		oneOf("output", f.format, "table", "json", "yaml"),
		f.decisionFlags.validate(),
	)
}

func (f *evalFlags) eval(ctx context.Context, pods []string, p output.Printer) (report.Evaluations, error) {
	var r report.Evaluations
	if err := f.validate(); err != nil {
		return r, err
	}
	at, err := f.time()
	if err != nil {
		return r, err
	}
	set, err := f.set(ctx, p)
	if err != nil {
		return r, err
	}
	world, err := f.world(ctx, set.Needs())
	if err != nil {
		return r, err
	}
	evictors, err := policies.ReadEvictors(f.evictors)
	if err != nil {
		return r, err
	}
	r.Revision, r.At, r.User = set.Revision(), at, f.as.Username
	r.Evictor = evictors.Of(f.as)
	r.Pods, err = preview.Evaluate(ctx, world, set, pods, preview.EvaluateOptions{
		At: at, User: f.as, Annotations: f.annotations, Evictors: evictors,
		Decide: f.options(), Input: f.input, Explain: f.explain,
	})
	return r, err
}
