package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/webhook/hooks"
	"github.com/evictgate/evictgate/webhook/review"
	"github.com/evictgate/evictgate/webhook/review/apilog"
	"github.com/evictgate/evictgate/webhook/review/completeness"
	"github.com/evictgate/evictgate/webhook/review/report"
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

var importLong = `Import reads the audit log of kube-apiserver (JSON lines of audit.k8s.io/v1) and decision records as serve
prints them, from files or from stdin with -, as they are or in whatever carries logs: with prefixes, in
the JSON of clouds and collectors, in lines of container runtimes, gzipped (docs/platforms.md). Both may be
in one file, and importing one twice changes nothing. A line that may hold one of them and cannot be read is
told; nothing is called complete then. It keeps how the API server answered each eviction and each deletion of a pod, and
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

  ` + strings.ReplaceAll(strings.TrimSpace(apilog.Kubeconfig), "\n", "\n  ")

func newReviewImport(p output.Printer) *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:   "import FILE... | - | --report",
		Short: "Read kube-apiserver audit logs and decision records, and prove that none is missing; exit 1 when one is",
		Long:  importLong,
		Example: `  evictgate review import /var/log/kubernetes/audit*.log.gz decisions.jsonl
  kubectl logs -n evictgate -l app=evictgate --tail=-1 | evictgate review import audit.log -
  evictgate review import --report --since 7d -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.validate(args); err != nil {
				return err
			}
			found, err := f.run(cmd.Context(), args, p)
			if err != nil {
				return err
			}
			if err := (report.Import{Report: found, Zone: f.zone(), NothingRead: f.report}).Print(p, f.format); err != nil {
				return err
			}
			if found.Found() {
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

func (f *importFlags) run(ctx context.Context, args []string, p output.Printer) (r completeness.Report, err error) {
	since, until, err := f.period(time.Now())
	if err != nil {
		return r, err
	}
	to, err := store.Open(ctx, f.store, store.Options{ReadOnly: f.report})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	r, err = completeness.Import(ctx, to, args, completeness.Options{
		Events: f.events, Progress: func(c apilog.Counts, took time.Duration) { report.Importing(p, c, took) },
	})
	if err != nil {
		return r, err
	}
	return r, r.Compare(ctx, to, since, until)
}

func (f *importFlags) zone() *time.Location {
	if f.utc {
		return time.UTC
	}
	return time.Local
}

// period reads --since and --until; what is not given is zero.
func (f *importFlags) period(now time.Time) (since, until time.Time, err error) {
	filter, err := review.Asked{"since": f.since, "until": f.until}.Filter(review.Clock{Now: now, Zone: f.zone()}, flagTitle)
	return filter.Since, filter.Until, err
}
