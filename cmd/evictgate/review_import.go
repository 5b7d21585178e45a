package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/evictgate/evictgate/webhook/hooks"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review"
	"github.com/evictgate/evictgate/webhook/review/apilog"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// importFlags are the flags of review import.
type importFlags struct {
	store        string
	events       apilog.Options
	since, until string
	report       bool
	utc          bool
	format       string
}

func newReviewImport(p printer) *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:   "import FILE... | - | --report",
		Short: "Read kube-apiserver audit logs and decision records, and prove that none is missing; exit 1 when one is",
		Long: `Import reads the audit log of kube-apiserver (JSON lines of audit.k8s.io/v1) and decision records as serve
prints them, from files, gzipped or not, or from stdin with -. Both may be in one file, and importing one
twice changes nothing. It keeps how the API server answered each eviction and each deletion of a pod, and
then compares: every decision must have its answer, and every answer that names a decision must find it, over
the time that both cover. Evictions that never passed evictgate, or that failed open, are listed. A decision
whose answer came after the end of the log counts as missing until the next log is imported.

An eviction is known to have passed by the audit annotation ` + hooks.Evictions + `/review-uid, which
the API server writes. Without one, and unless the API server refused it before it asks validating webhooks,
it was not seen: no webhook was registered for it, or it was exempt. Name exempt namespaces, or those that
the webhook's namespaceSelector takes, by --exempt-namespace or --namespace.

The API server has to log evictions and deletions of pods; this policy is enough (level Request also tells
the dry runs of kubectl drain, which are in the body):

  apiVersion: audit.k8s.io/v1
  kind: Policy
  omitStages: [RequestReceived]
  rules:
  - level: Request
    resources: [{group: "", resources: [pods/eviction]}]
  - level: Metadata
    verbs: [delete, deletecollection]
    resources: [{group: "", resources: [pods]}]
  - level: None

Instead of files, the API server can post its events to evictgate review serve as they come. It needs
--audit-webhook-config-file with this kubeconfig, and --audit-webhook-mode=batch:

  ` + strings.ReplaceAll(strings.TrimSpace(apilog.Kubeconfig), "\n", "\n  "),
		Example: `  evictgate review import /var/log/kubernetes/audit*.log.gz decisions.jsonl
  kubectl logs -n evictgate -l app=evictgate --tail=-1 | evictgate review import audit.log -
  evictgate review import --report --since 7d -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.validate(args); err != nil {
				return err
			}
			report, err := f.run(cmd.Context(), args, p)
			if err != nil {
				return err
			}
			if err := p.imported(f, report); err != nil {
				return err
			}
			if report.Found() {
				return errRefused
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.store, "store", defaultStore, "keep it in this store: sqlite:FILE, which is made, or postgres://USER@HOST/DATABASE")
	flags.StringVar(&f.events.WebhookName, "webhook-name", hooks.Evictions, "name of evictgate's webhook in the webhook configuration")
	flags.StringSliceVarP(&f.events.Namespaces, "namespace", "n", nil, "take what is in these namespaces only: those that the webhook is asked about")
	flags.StringSliceVar(&f.events.Exempt, "exempt-namespace", nil, "leave these namespaces out: the webhook is not asked about them")
	flags.BoolVar(&f.report, "report", false, "import nothing, only compare what is in the store")
	flags.StringVar(&f.since, "since", "", "compare from this time on: "+review.TimeForms+"; default: since decisions and audit log are both there")
	flags.StringVar(&f.until, "until", "", "compare what is before this time; default: to the end of the audit log")
	flags.BoolVar(&f.utc, "utc", false, "times in UTC; data has them so always")
	flags.StringVarP(&f.format, "output", "o", "table", "table, json or yaml")
	return cmd
}

func (f *importFlags) validate(args []string) error {
	switch {
	case f.report && len(args) > 0:
		return errors.New("--report imports nothing; leave it out, or the files")
	case !f.report && len(args) == 0:
		return errors.New("name the files to import, - for stdin, or --report to compare what is in the store")
	}
	if err := oneOf("output", f.format, "table", "json", "yaml"); err != nil {
		return err
	}
	for _, name := range args {
		if name == "-" {
			continue
		}
		if _, err := os.Stat(name); err != nil {
			return fmt.Errorf("import: %w", err)
		}
	}
	return nil
}

// importReport is what import prints.
type importReport struct {
	Files []importedFile `json:"files"`
	// Read sums up the files.
	Read apilog.Counts `json:"read"`
	// Decisions and Answers say what of it the store did not have yet.
	Decisions importedCount `json:"decisions"`
	Answers   importedCount `json:"answers"`
	// Problems are the first lines that could not be read, as FILE:LINE: why.
	Problems []string `json:"problems"`
	Covered  covered  `json:"covered"`
	// Completeness is of what the store has, or has between --since and --until. What lacks its counterpart
	// counts between its own since and until, which both cover.
	Completeness store.Completeness `json:"completeness"`
	// NotCompared lack theirs outside of that time.
	NotCompared notCompared `json:"not_compared"`
}

type importedFile struct {
	Name string `json:"name"`
	apilog.Counts
}

type importedCount struct {
	New   int `json:"new"`
	Known int `json:"known"`
}

func (c *importedCount) add(a store.Added) { c.New, c.Known = c.New+a.New, c.Known+a.Known }

// covered says from when to when there are decisions, and what the audit log covers.
type covered struct {
	Decisions store.Span `json:"decisions"`
	AuditLog  store.Span `json:"audit_log"`
}

type notCompared struct {
	Decisions int `json:"decisions"`
	Answers   int `json:"answers"`
}

// NotSeen counts the evictions that did not pass us.
func (r importReport) NotSeen() int {
	return r.Completeness.Passages[record.FailedOpen] + r.Completeness.Passages[record.Unseen]
}

// Found reports whether an eviction did not pass us, or something has no counterpart.
func (r importReport) Found() bool { return r.NotSeen() > 0 || !r.Completeness.Complete() }

// importStore is what import needs of a store.
type importStore interface {
	Add(ctx context.Context, records []record.Record) (store.Added, error)
	AddAnswers(ctx context.Context, answers []record.Answer) (store.Added, error)
	Covered(ctx context.Context) (decisions, answers store.Span, err error)
	Completeness(ctx context.Context, since, until time.Time) (store.Completeness, error)
}

func (f *importFlags) run(ctx context.Context, args []string, p printer) (report importReport, err error) {
	now := time.Now()
	since, until, err := f.period(now)
	if err != nil {
		return report, err
	}
	to, err := store.Open(ctx, f.store, store.Options{ReadOnly: f.report})
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	i := importer{to: to, printer: p, parser: apilog.NewParser(f.events), began: now, told: now}
	i.report.Files, i.report.Problems = []importedFile{}, []string{}
	done := make(chan error, 1)
	go func() { done <- i.files(ctx, args) }()
	select {
	case err = <-done:
	case <-ctx.Done():
		return importReport{}, ctx.Err() // the read of a pipe may never end, and the process does
	}
	if err != nil {
		return i.report, err
	}
	return i.report, i.report.compare(ctx, to, since, until)
}

// period reads --since and --until; what is not given is zero.
func (f *importFlags) period(now time.Time) (since, until time.Time, err error) {
	zone := time.Local
	if f.utc {
		zone = time.UTC
	}
	filter, err := review.Asked{"since": f.since, "until": f.until}.Filter(review.Clock{Now: now, Zone: zone}, flagTitle)
	return filter.Since, filter.Until, err
}

// compare fills in what is complete. What has its counterpart counts wherever it is; what has none counts from
// the first decision and the first audit event, whichever is later, up to the last audit event. An answer of an
// earlier time was decided before decisions were kept, and a decision of a later time is not answered yet.
func (r *importReport) compare(ctx context.Context, in importStore, since, until time.Time) error {
	decisions, answers, err := in.Covered(ctx)
	if err != nil {
		return err
	}
	answers = answers.And(store.Span{From: r.Read.From, Until: r.Read.Until})
	r.Covered = covered{Decisions: decisions, AuditLog: answers}
	if r.Completeness, err = in.Completeness(ctx, since, until); err != nil {
		return err
	}
	both := store.Completeness{WithoutAnswer: []store.Row{}, WithoutDecision: []record.Answer{}}
	first, last := latest(since, decisions.From, answers.From), answers.Until.Add(time.Microsecond)
	if !until.IsZero() && until.Before(last) {
		last = until
	}
	if !decisions.From.IsZero() && !answers.From.IsZero() && first.Before(last) {
		if both, err = in.Completeness(ctx, first, last); err != nil {
			return err
		}
	}
	r.restrict(both)
	return nil
}

// restrict takes what is missing outside of the time that both cover out of the count.
func (r *importReport) restrict(both store.Completeness) {
	c := &r.Completeness
	r.NotCompared = notCompared{Decisions: c.MissingAnswers - both.MissingAnswers, Answers: c.MissingDecisions - both.MissingDecisions}
	c.Since, c.Until = both.Since, both.Until
	c.Decisions -= r.NotCompared.Decisions
	c.Answers -= r.NotCompared.Answers
	c.MissingAnswers, c.WithoutAnswer = both.MissingAnswers, both.WithoutAnswer
	c.MissingDecisions, c.WithoutDecision = both.MissingDecisions, both.WithoutDecision
}

func latest(times ...time.Time) time.Time {
	return slices.MaxFunc(times, time.Time.Compare)
}

const (
	// importBatch is how many records or answers are stored in one transaction, and importBytes from how
	// many bytes of input on fewer are.
	importBatch = 1000
	importBytes = 8 << 20
	// maxProblems bounds the lines that are named.
	maxProblems = 10
	// tellEvery is how often progress is told.
	tellEvery = 2 * time.Second
)

// importer reads files into a store.
type importer struct {
	to      importStore
	printer printer
	parser  *apilog.Parser
	report  importReport

	records []record.Record
	answers []record.Answer
	bytes   int

	began, told time.Time
}

func (i *importer) files(ctx context.Context, names []string) error {
	for _, name := range names {
		if err := i.file(ctx, name); err != nil {
			return fmt.Errorf("import %s: %w", name, err)
		}
	}
	return nil
}

func (i *importer) file(ctx context.Context, name string) error {
	file := os.Stdin
	if name == "-" {
		name = "stdin"
	} else {
		var err error
		if file, err = os.Open(name); err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
	}
	r, err := apilog.NewReader(file, i.parser)
	if err != nil {
		return err
	}
	r.Progress = i.progress
	err = i.entries(ctx, name, r)
	i.report.Files = append(i.report.Files, importedFile{Name: name, Counts: r.Counts})
	i.report.Read.Add(r.Counts)
	if err != nil {
		return err
	}
	if r.Counts.Lines > 0 && r.Counts.Decisions == 0 && r.Counts.From.IsZero() && r.Counts.OutOfScope == 0 {
		return errors.New("it has neither audit events of kube-apiserver (JSON lines of audit.k8s.io/v1) nor records as evictgate serve prints them")
	}
	return nil
}

// entries stores what is found. What was read before a fault is stored.
func (i *importer) entries(ctx context.Context, name string, r *apilog.Reader) error {
	for {
		entry, err := r.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return errors.Join(err, i.flush(ctx))
		}
		switch {
		case entry.Err != nil:
			i.problem(name, entry)
		case entry.Kind == apilog.Decision:
			i.records = append(i.records, entry.Record)
			i.bytes += len(entry.Record.Input)
		case entry.Kind == apilog.Answered:
			i.answers = append(i.answers, entry.Answer)
		}
		if len(i.records) >= importBatch || len(i.answers) >= importBatch || i.bytes >= importBytes {
			if err := i.flush(ctx); err != nil {
				return err
			}
		}
	}
}

func (i *importer) flush(ctx context.Context) error {
	added, err := i.to.Add(ctx, i.records)
	if err != nil {
		return err
	}
	i.report.Decisions.add(added)
	if added, err = i.to.AddAnswers(ctx, i.answers); err != nil {
		return err
	}
	i.report.Answers.add(added)
	i.records, i.answers, i.bytes = i.records[:0], i.answers[:0], 0
	return nil
}

func (i *importer) problem(name string, e apilog.Entry) {
	if len(i.report.Problems) < maxProblems {
		i.report.Problems = append(i.report.Problems, fmt.Sprintf("%s:%d: %v", name, e.Line, e.Err))
	}
}

// progress tells how far a long import is.
func (i *importer) progress(c apilog.Counts) {
	now := time.Now()
	if now.Sub(i.told) < tellEvery {
		return
	}
	i.told = now
	c.Add(i.report.Read)
	i.printer.importing(c, now.Sub(i.began))
}
