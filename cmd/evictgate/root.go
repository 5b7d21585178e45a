package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
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
func run(ctx context.Context, args []string, p printer) int {
	root := newRoot(p)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errRefused):
		return exitRefused
	}
	p.failure(err)
	return exitFailed
}

func newRoot(p printer) *cobra.Command {
	root := &cobra.Command{
		Use:   "evictgate",
		Short: "Decides every Kubernetes eviction by policy, and says why",
		Long: `Evictgate is a Kubernetes admission webhook. It intercepts every CREATE of pods/eviction (kubectl
drain, autoscalers, the descheduler, node upgraders), weighs Rego policies and PodDisruptionBudgets,
and admits or refuses with an explanation, before the API server deletes anything.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetOut(p.out)
	root.SetErr(p.err)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(newServe(p), newPolicy(p), newPreview(p), newReview(p), newDoctor(p), newVersion(p))
	return root
}
