package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/webhook/review"
	"github.com/evictgate/evictgate/webhook/review/report"
)

// stuckFlags are the flags of review stuck.
type stuckFlags struct {
	reviewFlags
	triedWithin string
	olderThan   string
	all         bool
}

func newReviewStuck(p output.Printer) *cobra.Command {
	var f stuckFlags
	cmd := &cobra.Command{
		Use:   "stuck",
		Short: "List the pods whose eviction is refused again and again, why, and what unblocks them; exit 1 when there are any",
		Long: `Stuck lists the pods whose last eviction was refused and was tried not long ago, the oldest first: for how
long they block, what blocks them, who tries, and what unblocks them. A pod that was seen to go is not
stuck any more.

Exit 1 when it lists a pod, 0 when nothing is stuck.`,
		Example: `  kubectl logs -n evictgate deploy/evictgate | evictgate review stuck --from -
  evictgate review stuck --node worker-3 --older-than 1h
  evictgate review stuck --all -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := f.run(cmd.Context(), p)
			if err != nil {
				return err
			}
			if err := r.Print(p, f.format); err != nil {
				return err
			}
			if len(r.Stuck) > 0 {
				return errRefused
			}
			return nil
		},
	}
	flags := cmd.Flags()
	f.reviewFlags.add(flags, "table, wide, json, yaml or csv")
	f.addBut(flags, "since", "until", "outcome", "fate", "dry-runs")
	flags.StringVar(&f.triedWithin, "tried-within", review.DefaultTried, "tried again within this time; kubectl drain tries every 5 s, an autoscaler may take minutes")
	flags.StringVar(&f.olderThan, "older-than", "", "refused for the first time at least this long ago, such as 1h or 2d")
	flags.BoolVar(&f.all, "all", false, "also those that nobody tries to evict any more")
	return cmd
}

func (f *stuckFlags) run(ctx context.Context, p output.Printer) (report.Stuck, error) {
	r := report.Stuck{Again: f.again()}
	var err error
	if r.Clock, err = f.clock(); err != nil {
		return r, err
	}
	ask, err := f.ask(r.Clock)
	if err != nil {
		return r, err
	}
	if err := oneOf("output", f.format, "table", "wide", "json", "yaml", "csv"); err != nil {
		return r, err
	}
	from, err := f.open(ctx, p)
	if err != nil {
		return r, err
	}
	defer func() { _ = from.Close() }()
	r.StuckPods, err = review.FindStuck(ctx, from, ask)
	return r, err
}

func (f *stuckFlags) ask(c review.Clock) (review.AskStuck, error) {
	ask := review.AskStuck{At: c.Now, All: f.all}
	var err error
	if ask.TriedWithin, err = ageFlag("tried-within", f.triedWithin); err != nil {
		return ask, err
	}
	if ask.OlderThan, err = ageFlag("older-than", f.olderThan); err != nil {
		return ask, err
	}
	ask.Filter, err = f.read(c)
	return ask, err
}

// ageFlag reads a flag that is an age; empty is 0.
func ageFlag(name, text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	age, err := review.ReadAge(text)
	if err != nil {
		return 0, fmt.Errorf("--%s is %q; expected an age such as 90m or 2d", name, text)
	}
	return age, nil
}
