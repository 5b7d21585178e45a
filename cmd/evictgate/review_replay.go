package main

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/webhook/review"
	"github.com/evictgate/evictgate/webhook/review/files"
	"github.com/evictgate/evictgate/webhook/review/replay"
	"github.com/evictgate/evictgate/webhook/review/report"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// replayFlags are the flags of review replay.
type replayFlags struct {
	recordSource
	filterFlags
	look     lookFlags // its policies and kubeconfig
	evictors string
	budgets  string
	onError  string
	steps    policySteps
	override policies.OverrideRule
	workers  int
	format   string
	// sinceGiven and overrideGiven say that the flags were.
	sinceGiven, overrideGiven bool
}

func newReviewReplay(p output.Printer) *cobra.Command {
	var f replayFlags
	cmd := &cobra.Command{
		Use:   "replay --policies DIR",
		Short: "Try other policies on recorded decisions; exit 1 when some would be others",
		Long: `Replay decides recorded evictions again, by the policies that are given, and prints what would change:
which decisions would be answered otherwise, by which policy, for whom, and with which message. Each
decision is made at its own time, from what its record holds, with the evictions and holds that had come
before it then: what the other policies would have made of those is not played forward.

A record holds what the policies of its time read. A decision for which the given policies read more is
counted as not judged, with what is missing, and never guessed. What a policy reads does not matter where
its match leaves the pod out. To try any policy later, serve with --record-input=full.

The exit code is 0 when every decision that could be judged stays as it is, 1 when some would be others,
and 2 when none could be judged.`,
		Example: `  evictgate review replay --policies ./policies --since 7d
  evictgate review replay --policies ./policies --from decisions.jsonl.gz -o csv > changes.csv
  kubectl logs -n evictgate deploy/evictgate | evictgate review replay --policies ./policies --from -
  evictgate review replay --policies default --budgets advise --namespace shop -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.sinceGiven = cmd.Flags().Changed("since")
			f.overrideGiven = cmd.Flags().Changed("override-users") || cmd.Flags().Changed("override-groups")
			r, err := f.run(cmd.Context(), p)
			switch {
			case err != nil:
				return err
			case r.Changed() > 0:
				return errRefused
			}
			return nil
		},
	}
	cmd.Annotations = map[string]string{runs: runsBriefly}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.look.policies, "policies", nil, "directories or files of policies, cluster (the EvictionPolicies) or default, the first having precedence; default: the embedded library's default set")
	flags.StringVar(&f.look.kubeconfig, "kubeconfig", "", "reach the cluster by this kubeconfig, for --policies cluster; default: the pod's service account")
	f.recordSource.add(flags)
	f.filterFlags.add(flags)
	flags.StringVar(&f.evictors, "evictors", "", "name who evicts anew, by the rules in this file and the default ones; default: as recorded")
	flags.StringVar(&f.budgets, "budgets", "", "answer or advise; default: as recorded")
	flags.StringVar(&f.onError, "on-error", "", "delay, deny or admit; default: as recorded")
	flags.StringSliceVar(&f.override.Users, "override-users", nil, "users who may override policies; default: as recorded")
	flags.StringSliceVar(&f.override.Groups, "override-groups", nil, "groups whose members may override policies; default: as recorded")
	f.steps.add(flags)
	flags.IntVar(&f.workers, "workers", 0, "how many decisions are judged at once; default: one for each processor")
	flags.StringVarP(&f.format, "output", "o", "table", "table, json, yaml, or csv (one line for each decision that changes)")
	return cmd
}

func (f *replayFlags) validate() error {
	var fate error
	if f.asked["fate"] != "" {
		fate = errors.New("--fate is of episodes; a replay is of decisions")
	}
	return errors.Join(
		oneOf("output", f.format, "table", "json", "yaml", "csv"),
		oneOf("budgets", cmp.Or(f.budgets, "answer"), "answer", "advise"),
		oneOf("on-error", cmp.Or(f.onError, "delay"), "delay", "deny", "admit"),
		fate,
		f.steps.validate(),
	)
}

func (f *replayFlags) run(ctx context.Context, p output.Printer) (*replay.Report, error) {
	if err := f.validate(); err != nil {
		return nil, err
	}
	if len(f.from) > 0 && !f.sinceGiven {
		f.asked["since"] = "all" // files are chosen already
	}
	filter, err := f.read(review.Clock{Now: time.Now(), Zone: time.Local})
	if err != nil {
		return nil, err
	}
	o, err := f.options()
	if err != nil {
		return nil, err
	}
	set, err := f.look.set(ctx, p)
	if err != nil {
		return nil, err
	}
	source, err := f.records(ctx, filter, p)
	if err != nil {
		return nil, err
	}
	defer source.Close()
	if f.format == "csv" {
		o.Each = report.Changes(p)
	}
	o.Progress = report.ReplayProgress(p, source.Done)
	r, err := replay.Run(ctx, source.Records, set, o)
	if err != nil {
		return nil, err
	}
	if r.Records == 0 {
		return nil, errors.New("there is no decision to replay; choose others by --since, --from and the other flags")
	}
	if err := report.Replay(p, f.format, r); err != nil {
		return nil, err
	}
	if r.Judged() == 0 {
		return nil, errors.New("no decision could be judged")
	}
	return r, nil
}

func (f *replayFlags) options() (replay.Options, error) {
	o := replay.Options{
		Workers: f.workers, Budgets: policies.BudgetMode(f.budgets), OnError: policies.OnError(f.onError), PolicySteps: f.steps.most,
	}
	if f.overrideGiven {
		o.Override = &f.override
	}
	if f.evictors == "" {
		return o, nil
	}
	var err error
	o.Evictors, err = policies.ReadEvictors(f.evictors)
	return o, err
}

// records finds the records, and says what part of them was read, of 1. Files are read as a stream: there may be more records
// than memory.
func (f *replayFlags) records(ctx context.Context, filter store.Filter, p output.Printer) (*files.Source, error) {
	if len(f.from) > 0 && f.store == "" {
		return files.Open(ctx, f.from, filter, p.Note)
	}
	opened, err := f.recordSource.open(ctx, p)
	if err != nil {
		return nil, err
	}
	return files.Stored(ctx, opened, filter)
}
