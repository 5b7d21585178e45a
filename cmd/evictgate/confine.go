package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/evictgate/evictgate/policies/confined"
	"github.com/evictgate/evictgate/policies/output"
)

// How a command runs: by the annotation runs of its own or a parent's.
const (
	runs = "runs"
	// runsConfined is for commands that compile what they are given and need nothing else: again, under
	// limits of CPU time and memory.
	runsConfined = "confined"
	// runsBriefly is for commands that a signal may end at any time.
	runsBriefly = "briefly"
)

const (
	flagMaxCPU    = "max-cpu"
	flagMaxMemory = "max-memory"
)

// addLimits lets a command run under limits.
func addLimits(cmd *cobra.Command, cpu time.Duration, memory int64) {
	cmd.Annotations = map[string]string{runs: runsConfined}
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error { return validLimits(cmd) }
	cmd.Flags().Duration(flagMaxCPU, cpu, "how much CPU time the command may take; exit 2 beyond it")
	cmd.Flags().String(flagMaxMemory, fmt.Sprintf("%dMi", memory>>20), "how much memory the command may take; exit 2 beyond it")
}

// limitsOf reads the flags of a command line; false when it has none, or not well formed, which the command
// itself says.
func limitsOf(cmd *cobra.Command, args []string) (confined.Limits, bool) {
	if cmd.ParseFlags(args) != nil {
		return confined.Limits{}, false
	}
	cpu, err1 := cmd.Flags().GetDuration(flagMaxCPU)
	text, err2 := cmd.Flags().GetString(flagMaxMemory)
	memory, err3 := resource.ParseQuantity(text)
	limits := confined.Limits{CPU: cpu, Memory: memory.Value()}
	return limits, errors.Join(err1, err2, err3) == nil && validLimits(cmd) == nil
}

// validLimits refuses limits with which nothing can be done.
func validLimits(cmd *cobra.Command) error {
	cpu, _ := cmd.Flags().GetDuration(flagMaxCPU)
	text, _ := cmd.Flags().GetString(flagMaxMemory)
	memory, err := resource.ParseQuantity(text)
	switch {
	case cpu <= 0:
		return fmt.Errorf("--%s is %s; expected more than 0s", flagMaxCPU, cpu)
	case err != nil || memory.Value() <= 0:
		return fmt.Errorf("--%s is %q; expected an amount such as 384Mi", flagMaxMemory, text)
	}
	return nil
}

// confine runs a command line again under limits, when its command asks for that. It reports false when the
// command is to be run here, and whether a signal may end it at any time.
func confine(args []string, p output.Printer) (code int, done, brief bool) {
	cmd, rest, err := newRoot(p).Find(args)
	if err != nil {
		return 0, false, false
	}
	how := cmd.Annotations[runs]
	if how == runsConfined && !confined.Inside() {
		if limits, ok := limitsOf(cmd, rest); ok {
			code, err := confined.Again(limits, os.Stdin, p.Out, p.Err)
			if err != nil {
				failure(p, fmt.Errorf("what is given %w; --%s and --%s raise the limits", err, flagMaxCPU, flagMaxMemory))
				return exitFailed, true, true
			}
			return code, true, true
		}
	}
	return 0, false, how != ""
}

// start runs the command line of this process, as its command asks for.
func start(args []string, p output.Printer) int {
	code, done, brief := confine(args, p)
	switch {
	case done:
		return code
	case brief: // no handler, so a signal ends it whatever it does
		return run(context.Background(), args, p)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx, args, p)
}
