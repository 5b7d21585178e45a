package completeness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/apilog"
)

const (
	// atOnce is how many records or answers are stored in one transaction, and bytesAtOnce from how
	// many bytes of input on fewer are.
	atOnce      = 1000
	bytesAtOnce = 8 << 20
	// maxProblems bounds the lines that are named.
	maxProblems = 10
	// tellEvery is how often progress is told.
	tellEvery = 2 * time.Second
)

// Options says how files are read.
type Options struct {
	// Events says which events of the audit log count.
	Events apilog.Options
	// Progress is told every two seconds what was read so far, and how long that took.
	Progress func(read apilog.Counts, took time.Duration)
}

// Import reads files of audit events and of decision records into a store; - is stdin. It ends with ctx, even while it waits
// for a pipe.
func Import(ctx context.Context, to Store, names []string, o Options) (Report, error) {
	now := time.Now()
	i := importer{to: to, parser: apilog.NewParser(o.Events), progress: o.Progress, began: now, told: now}
	i.report.Files, i.report.Problems = []File{}, []string{}
	done := make(chan error, 1)
	go func() { done <- i.files(ctx, names) }()
	select {
	case err := <-done:
		return i.report, err
	case <-ctx.Done():
		return Report{}, ctx.Err() // the read of a pipe may never end, and the process does
	}
}

// importer reads files into a store.
type importer struct {
	to       Store
	parser   *apilog.Parser
	progress func(apilog.Counts, time.Duration)
	report   Report

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
	r.Progress = i.tell
	err = i.entries(ctx, name, r)
	i.report.Files = append(i.report.Files, File{Name: name, Counts: r.Counts})
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
		if len(i.records) >= atOnce || len(i.answers) >= atOnce || i.bytes >= bytesAtOnce {
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

// tell says how far a long import is.
func (i *importer) tell(c apilog.Counts) {
	now := time.Now()
	if now.Sub(i.told) < tellEvery {
		return
	}
	i.told = now
	c.Add(i.report.Read)
	i.progress(c, now.Sub(i.began))
}
