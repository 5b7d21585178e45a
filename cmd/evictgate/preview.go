package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/webhook/preview"
)

// previewFlags are the flags of preview.
type previewFlags struct {
	lookFlags
	readyAfter time.Duration
	all        bool
	format     string
}

func newPreview(p output.Printer) *cobra.Command {
	var f previewFlags
	cmd := &cobra.Command{
		Use:   "preview node/NAME | pod/NAMESPACE/NAME | deployment/NAMESPACE/NAME | --all",
		Short: "Say what evictions would meet, without evicting; exit 1 when one would be refused",
		Long: `Preview decides, for each pod, what an eviction would be answered now, by budgets and policies, and
plays kubectl drain forward: each admitted eviction uses up its budget, its replacement is ready after
--ready-after when a node takes it, and what is refused with 429 is tried again every 5 s. It says when
each pod goes, which end stuck and which are given up. Replacements are placed by node selector, node
affinity and taints, not by resources. A real drain tries the pods of a node beside each other, so
which of them get the last disruptions of a budget may differ.

With --all it decides for every pod of the cluster, and lists the budgets that can never let a drain
finish.`,
		Example: `  evictgate preview node/worker-3
  evictgate preview --snapshot cluster.yaml --policies ./policies deployment/shop/web
  evictgate preview --all -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			report, err := f.run(cmd.Context(), args, p)
			if err != nil {
				return err
			}
			if err := report.Print(p, f.format); err != nil {
				return err
			}
			if report.Refused() {
				return errRefused
			}
			return nil
		},
	}
	cmd.Annotations = map[string]string{runs: runsBriefly}
	flags := cmd.Flags()
	f.lookFlags.add(flags)
	flags.DurationVar(&f.readyAfter, "ready-after", 30*time.Second, "how long a replacement takes to become ready")
	flags.BoolVar(&f.all, "all", false, "every pod of the cluster, and the budgets that can never allow an eviction")
	flags.StringVarP(&f.format, "output", "o", "table", "table, wide, json or yaml")
	return cmd
}

func (f *previewFlags) run(ctx context.Context, args []string, p output.Printer) (preview.Report, error) {
	var report preview.Report
	if (len(args) == 1) == f.all {
		return report, fmt.Errorf("give one of node/NAME, pod/NAMESPACE/NAME, deployment/NAMESPACE/NAME and --all")
	}
	if !slices.Contains([]string{"table", "wide", "json", "yaml"}, f.format) {
		return report, fmt.Errorf("--output is %q; expected one of table, wide, json, yaml", f.format)
	}
	o, err := f.options(ctx, p)
	if err != nil {
		return report, err
	}
	world, err := f.world(ctx, o.Policies.Needs())
	if err != nil {
		return report, err
	}
	report.Revision, report.At = o.Policies.Revision(), o.Now
	if f.all {
		report.Target = "all"
		report.Budgets = preview.ImpossibleBudgets(world.Store)
		report.Pods, err = preview.Ask(ctx, world.Store, world.Pods(), o)
		return report, err
	}
	report.Target, report.Drained = args[0], true
	pods, err := preview.Target(world, args[0], &o)
	if err != nil {
		return report, err
	}
	report.Pods, err = preview.Drain(ctx, world, pods, o)
	return report, err
}

func (f *previewFlags) options(ctx context.Context, p output.Printer) (preview.Options, error) {
	o := preview.Options{User: f.as, ReadyAfter: f.readyAfter}
	var err error
	if o.Now, err = f.time(); err != nil {
		return o, err
	}
	if f.readyAfter < 0 {
		return o, fmt.Errorf("--ready-after is %s; expected no less than 0s", f.readyAfter)
	}
	if o.Evictors, err = policies.ReadEvictors(f.evictors); err != nil {
		return o, err
	}
	o.Policies, err = f.set(ctx, p)
	last := time.Now()
	o.Progress = func(decided int) {
		if time.Since(last) > 2*time.Second {
			last = time.Now()
			p.Aside("preview: %d decisions\n", decided)
		}
	}
	return o, err
}
