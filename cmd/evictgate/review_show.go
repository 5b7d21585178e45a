package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/webhook/review"
	"github.com/evictgate/evictgate/webhook/review/report"
)

// showFlags are the flags of review show.
type showFlags struct {
	reviewFlags
	input bool
}

func newReviewShow(p output.Printer) *cobra.Command {
	var f showFlags
	cmd := &cobra.Command{
		Use:   "show ID | NAMESPACE/POD",
		Short: "Tell the story of one decision, or of all tries to evict a pod",
		Long: `Show tells one decision (by its id), or all tries to evict one pod (by the pod's UID, by NAMESPACE/POD
or by its name, which is its latest episode): who tried what, when and how often, what they were told and
why, what became of the pod and how that is known, and what unblocks it. The beginning of an id will do,
if no other begins so.`,
		Example: `  evictgate review show shop/api-7d4b9c6f5-4c8tr
  evictgate review show 03fd39c3 --input
  kubectl logs -n evictgate deploy/evictgate | evictgate review show --from - shop/api-7d4b9c6f5-4c8tr`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd.Context(), args[0], p)
		},
	}
	flags := cmd.Flags()
	f.reviewFlags.add(flags, "table, json or yaml")
	flags.BoolVar(&f.input, "input", false, "also what the policies were given, as JSON")
	return cmd
}

func (f *showFlags) run(ctx context.Context, id string, p output.Printer) error {
	if err := oneOf("output", f.format, "table", "json", "yaml"); err != nil {
		return err
	}
	if id == "" {
		return errors.New("give the id of a decision, a pod UID, or NAMESPACE/POD")
	}
	c, err := f.clock()
	if err != nil {
		return err
	}
	from, err := f.open(ctx, p)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	s, err := review.FindStory(ctx, from, id)
	if err != nil {
		return err
	}
	return report.Story{Story: s, Clock: c, Again: f.again(), Input: f.input}.Print(p, f.format)
}
