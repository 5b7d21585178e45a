package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// stuckFlags are the flags of review stuck.
type stuckFlags struct {
	reviewFlags
	triedWithin string
	olderThan   string
	all         bool
}

func newReviewStuck(p printer) *cobra.Command {
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
			report, err := f.run(cmd.Context(), p)
			if err != nil {
				return err
			}
			if err := p.reviewStuck(f.format, report); err != nil {
				return err
			}
			if len(report.Stuck) > 0 {
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

// stuckReport is what review stuck prints.
type stuckReport struct {
	At time.Time `json:"at"`
	// TriedSince is zero when those given up are listed, too.
	TriedSince time.Time        `json:"tried_since,omitzero"`
	Stuck      []record.Episode `json:"stuck"`
	// within is --tried-within; givenUp counts the pods that would be listed with --all.
	within  time.Duration
	givenUp int
	clock   clock
	again   string
}

func (f *stuckFlags) run(ctx context.Context, p printer) (stuckReport, error) {
	report := stuckReport{Stuck: []record.Episode{}, again: f.again()}
	var err error
	if report.clock, err = f.clock(); err != nil {
		return report, err
	}
	report.At = report.clock.Now
	if report.within, err = ageFlag("tried-within", f.triedWithin); err != nil {
		return report, err
	}
	older, err := ageFlag("older-than", f.olderThan)
	if err != nil {
		return report, err
	}
	filter, err := f.read(report.clock)
	if err != nil {
		return report, err
	}
	if err := oneOf("output", f.format, "table", "wide", "json", "yaml", "csv"); err != nil {
		return report, err
	}
	from, err := f.open(ctx, p)
	if err != nil {
		return report, err
	}
	defer func() { _ = from.Close() }()
	return report, f.look(ctx, from, filter, older, &report)
}

// stucker finds blocked pods; a store does.
type stucker interface {
	Stuck(ctx context.Context, f store.Filter, triedSince time.Time) ([]record.Episode, error)
}

// look asks for all that are blocked, and keeps those that are tried still, or all.
func (f *stuckFlags) look(ctx context.Context, from stucker, filter store.Filter, older time.Duration, report *stuckReport) error {
	since := report.At.Add(-report.within)
	blocked, err := from.Stuck(ctx, filter, time.Time{})
	if err != nil {
		return err
	}
	blocked = slices.DeleteFunc(blocked, func(e record.Episode) bool { return e.FirstRefused.After(report.At.Add(-older)) })
	if f.all {
		report.Stuck = append(report.Stuck, blocked...)
		return nil
	}
	report.TriedSince = since
	for _, e := range blocked {
		if e.Stuck(since) {
			report.Stuck = append(report.Stuck, e)
		}
	}
	report.givenUp = len(blocked) - len(report.Stuck)
	return nil
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
