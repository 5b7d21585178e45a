package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/policies/report"
)

// Exit codes of every command.
const (
	exitOK      = 0 // admitted, or nothing found
	exitRefused = 1 // denied, or problems found
	exitFailed  = 2 // could not run
)

// errRefused ends a command with exitRefused when its output already says all.
var errRefused = errors.New("refused")

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, p output.Printer) int {
	root := newRoot(p)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errRefused):
		return exitRefused
	}
	failure(p, err)
	return exitFailed
}

// failure prints the error of a command that could not run.
func failure(p output.Printer, err error) {
	var problems policies.Problems
	if errors.As(err, &problems) {
		report.Problems(p, problems)
		return
	}
	p.Failure(err)
}

func newRoot(p output.Printer) *cobra.Command {
	root := &cobra.Command{
		Use:   "evictgate",
		Short: "Decides every Kubernetes eviction by policy, and says why",
		Long: `Evictgate is a Kubernetes admission webhook. It intercepts every CREATE of pods/eviction (kubectl
drain, autoscalers, the descheduler, node upgraders), weighs Rego policies and PodDisruptionBudgets,
and admits or refuses with an explanation, before the API server deletes anything.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetOut(p.Out)
	root.SetErr(p.Err)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newServe(p), newPolicy(p), newPreview(p), newReview(p), newDoctor(p), newVersion(p))
	return root
}
