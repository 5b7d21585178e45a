package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review"
	"github.com/evictgate/evictgate/webhook/review/report"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// listFlags are the flags of review list.
type listFlags struct {
	reviewFlags
	episodes bool
	page     store.Page
	all      bool
}

func newReviewList(p output.Printer) *cobra.Command {
	var f listFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List decisions, newest first; with --episodes, the pods and what became of them",
		Long: `List prints decisions, newest first. The table gives each reason once, below, under the number that the
rows give it; wide has it in the row. An ID may be shortened for review show as the table shortens it.

With --episodes it lists pods instead: all tries to evict one pod, folded, and what became of it.

A list longer than --limit ends with the command that goes on; JSON and YAML have "next", to be given to
--after. In csv, lists are separated by semicolons, control characters are made visible, and a cell that a
spreadsheet would take for a formula begins with an apostrophe.`,
		Example: `  evictgate review list --since 7d --outcome denied
  evictgate review list --episodes --node worker-3
  kubectl logs -n evictgate deploy/evictgate | evictgate review list --from - -n shop
  evictgate review list --policy freeze_window --all -o csv`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.Context(), cmd.Flags(), p)
		},
	}
	flags := cmd.Flags()
	f.reviewFlags.add(flags, "table, wide, json, yaml or csv")
	f.filterFlags.add(flags)
	flags.BoolVar(&f.episodes, "episodes", false, "list pods: all tries to evict one, folded, and what became of it")
	flags.IntVar(&f.page.Limit, "limit", 100, "at most so many")
	flags.StringVar(&f.page.After, "after", "", "go on behind a list that ended with this as its next")
	flags.BoolVar(&f.all, "all", false, "all of them, whatever --limit says")
	return cmd
}

func (f *listFlags) run(ctx context.Context, flags *pflag.FlagSet, p output.Printer) error {
	if err := f.validate(flags); err != nil {
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
	if f.episodes && filter.DryRuns {
		return errors.New("--dry-runs is not for --episodes, which never count them")
	}
	from, err := f.open(ctx, p)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	list := report.Listing{Format: f.format, Filter: filter, After: f.page.After, Clock: c}
	if f.episodes {
		episodes, err := f.readEpisodes(ctx, from, filter)
		if err != nil {
			return err
		}
		return list.Episodes(p, episodes)
	}
	rows, err := f.readRows(ctx, from, filter)
	if err != nil {
		return err
	}
	return list.Decisions(p, rows)
}

func (f *listFlags) validate(flags *pflag.FlagSet) error {
	switch {
	case f.page.Limit < 1:
		return fmt.Errorf("--limit is %d; expected 1 or more, or --all", f.page.Limit)
	case f.all && flags.Changed("limit"):
		return errors.New("--all and --limit exclude each other")
	case f.asked["fate"] != "" && !f.episodes:
		return errors.New("--fate is of episodes: give --episodes, too")
	}
	return oneOf("output", f.format, "table", "wide", "json", "yaml", "csv")
}

func (f *listFlags) readRows(ctx context.Context, from *store.Store, filter store.Filter) (store.Rows, error) {
	if !f.all {
		return from.List(ctx, filter, f.page)
	}
	rows, err := review.All(f.page.After, func(p store.Page) ([]store.Row, string, error) {
		r, err := from.List(ctx, filter, p)
		return r.Rows, r.Next, err
	})
	return store.Rows{Rows: rows}, err
}

func (f *listFlags) readEpisodes(ctx context.Context, from *store.Store, filter store.Filter) (store.Episodes, error) {
	if !f.all {
		return from.Episodes(ctx, filter, f.page)
	}
	episodes, err := review.All(f.page.After, func(p store.Page) ([]record.Episode, string, error) {
		e, err := from.Episodes(ctx, filter, p)
		return e.Episodes, e.Next, err
	})
	return store.Episodes{Episodes: episodes}, err
}
