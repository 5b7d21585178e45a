package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review"
	"github.com/evictgate/evictgate/webhook/review/replay"
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

func newReviewReplay(p printer) *cobra.Command {
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
			report, err := f.run(cmd.Context(), p)
			switch {
			case err != nil:
				return err
			case report.Changed() > 0:
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

func (f *replayFlags) run(ctx context.Context, p printer) (*replay.Report, error) {
	if err := f.validate(); err != nil {
		return nil, err
	}
	if len(f.from) > 0 && !f.sinceGiven {
		f.asked["since"] = "all" // files are chosen already
	}
	filter, err := f.read(clock{review.Clock{Now: time.Now(), Zone: time.Local}})
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
	defer source.close()
	if f.format == "csv" {
		o.Each = p.replayedLines()
	}
	o.Progress = p.replayProgress(source.done)
	report, err := replay.Run(ctx, source.records, set, o)
	if err != nil {
		return nil, err
	}
	if report.Records == 0 {
		return nil, errors.New("there is no decision to replay; choose others by --since, --from and the other flags")
	}
	if err := p.replayed(f.format, report); err != nil {
		return nil, err
	}
	if report.Judged() == 0 {
		return nil, errors.New("no decision could be judged")
	}
	return report, nil
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

// replaySource is where the records of a replay come from.
type replaySource struct {
	records iter.Seq2[record.Record, error]
	// done is what part of them has been read, of 1; 0 when that is not known.
	done  func(records int) float64
	close func()
}

// records finds the records. Files are read as a stream: there may be more records than memory.
func (f *replayFlags) records(ctx context.Context, filter store.Filter, p printer) (replaySource, error) {
	if len(f.from) > 0 && f.store == "" {
		return replayFiles(ctx, f.from, filter, p)
	}
	opened, err := f.recordSource.open(ctx, p)
	if err != nil {
		return replaySource{}, err
	}
	total, err := opened.Count(ctx, filter)
	if err != nil {
		return replaySource{}, errors.Join(err, opened.Close())
	}
	done := func(records int) float64 { return float64(records) / float64(max(total, 1)) }
	return replaySource{opened.Records(ctx, filter), done, func() { _ = opened.Close() }}, nil
}

// replayFiles reads files of records, one after the other.
func replayFiles(ctx context.Context, names []string, filter store.Filter, p printer) (replaySource, error) {
	var files replayFileList
	for _, name := range names {
		if err := files.open(name); err != nil {
			files.close()
			return replaySource{}, fmt.Errorf("--from: %w", err)
		}
	}
	records := func(yield func(record.Record, error) bool) {
		for _, file := range files.list {
			if !file.records(ctx, filter, p, yield) {
				return
			}
		}
	}
	return replaySource{records, files.done, files.close}, nil
}

// replayFileList are files that are read one after the other.
type replayFileList struct {
	list []*replayFile
	// size is in bytes; 0 when it is not known.
	size    int64
	unsized bool
	read    atomic.Int64
}

// replayFile is a file of records; what is read of it counts.
type replayFile struct {
	*os.File
	name string
	read *atomic.Int64
	// Lines that hold a record which cannot be read, and other lines.
	malformed, others int
}

func (l *replayFileList) open(name string) error {
	file := &replayFile{File: os.Stdin, name: "stdin", read: &l.read}
	if name != "-" {
		opened, err := os.Open(name)
		if err != nil {
			return err
		}
		file.File, file.name = opened, name
	}
	l.list = append(l.list, file)
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		l.unsized = true
		return err
	}
	l.size += info.Size()
	return nil
}

func (l *replayFileList) close() {
	for _, file := range l.list {
		_ = file.Close()
	}
}

func (l *replayFileList) done(int) float64 {
	if l.unsized || l.size == 0 {
		return 0
	}
	return float64(l.read.Load()) / float64(l.size)
}

func (f *replayFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	f.read.Add(int64(n))
	return n, err
}

// records yields the records that the filter chooses; false when no more are wanted. Lines that should be
// records and are none are told on standard error.
func (f *replayFile) records(ctx context.Context, filter store.Filter, p printer, yield func(record.Record, error) bool) bool {
	defer func() { p.skippedLines(f) }()
	for r, err := range replay.Lines(ctx, f) {
		var line *record.LineError
		switch {
		case errors.Is(err, record.ErrOtherLine):
			f.others++
			continue
		case errors.As(err, &line):
			f.malformed++
			p.skippedLine(f, line)
			continue
		case err != nil:
			return yield(r, fmt.Errorf("read %s: %w", f.name, err))
		}
		if chosen(&filter, &r) && !yield(r, nil) {
			return false
		}
	}
	return true
}

// chosen reports whether a filter chooses a record, as a store would.
func chosen(f *store.Filter, r *record.Record) bool {
	workload := r.Workload()
	_, workloadName, _ := strings.Cut(workload, "/")
	pod, node := r.EpisodeID(), ""
	if r.Pod != nil {
		node = r.Pod.Node
	}
	inTime := !r.Timestamp.Before(f.Since) && (f.Until.IsZero() || r.Timestamp.Before(f.Until))
	return inTime && (f.DryRuns || !r.Request.DryRun) &&
		either(f.Namespace, r.Request.Namespace) && either(f.Pod, r.Request.Name, pod) &&
		either(f.Workload, workload, workloadName) && either(f.Node, node) &&
		either(f.Evictor, r.Request.Evictor) && either(f.User, r.Request.User.Username) &&
		either(string(f.Outcome), string(r.Result.Outcome)) &&
		either(f.Policy, policiesIn(r.Result)...) && either(f.Budget, budgetsIn(r)...)
}

// either reports whether what is wanted is one of some values; nothing wanted is fine.
func either(wanted string, values ...string) bool {
	return wanted == "" || slices.Contains(values, wanted)
}

func policiesIn(d *policies.Decision) []string {
	var names []string
	for _, v := range d.Violations {
		names = append(names, v.Policy)
	}
	for _, f := range d.Failures {
		names = append(names, f.Policy)
	}
	return names
}

// budgetsIn are the budgets that refuse, by name and by namespace/name.
func budgetsIn(r *record.Record) []string {
	reply := record.ReplyOf(r.Result, r.Timestamp)
	names := reply.Budgets
	for _, name := range reply.Budgets {
		names = append(names, r.Request.Namespace+"/"+name)
	}
	return names
}
