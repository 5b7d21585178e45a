package main

import (
	"context"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/webhook/review/report"
)

// statsFlags are the flags of review stats.
type statsFlags struct {
	reviewFlags
	ascii bool
}

func newReviewStats(p output.Printer) *cobra.Command {
	var f statsFlags
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Sum up decisions: how many, when, by whom, refused by what, and what became of the pods",
		Long: `Stats counts the decisions of a time: over time, by outcome, by what refused them, by policy (also those
that only warn or audit), by who evicts, and by where; and the pods by what became of them. The lists have
at most 20 lines, the greatest first.

Dry runs are counted by themselves. In csv each number has a row: section, name, measure, value.`,
		Example: `  evictgate review stats --since 7d
  evictgate review stats -n shop --evictor karpenter
  evictgate review stats --since all -o csv`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.Context(), cmd.Flags(), p)
		},
	}
	flags := cmd.Flags()
	f.reviewFlags.add(flags, "table, json, yaml or csv")
	f.filterFlags.add(flags)
	flags.BoolVar(&f.ascii, "ascii", false, "draw with ASCII; default: when the locale is not UTF-8")
	return cmd
}

func (f *statsFlags) run(ctx context.Context, flags *pflag.FlagSet, p output.Printer) error {
	if err := oneOf("output", f.format, "table", "json", "yaml", "csv"); err != nil {
		return err
	}
	c, err := f.clock()
	if err != nil {
		return err
	}
	filter, err := f.choose(flags, c)
	if err != nil {
		return err
	}
	from, err := f.open(ctx, p)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	stats, err := from.Stats(ctx, filter)
	if err != nil {
		return err
	}
	return report.Stats{Stats: stats, Clock: c, ASCII: f.ascii || !output.UnicodeLocale()}.Print(p, f.format)
}
