package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/store"
	"github.com/evictgate/evictgate/webhook/review/upload"
)

// recordFlags say what records hold, and where they go beside standard output.
type recordFlags struct {
	masks []string
	input string
	queue int

	store string
	keep  keepFlags

	uploadURL, uploadToken, uploadCA string
	uploadLimit                      int
}

func (f *recordFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.store, "store", "", "keep records for review here, too: sqlite:FILE, sqlite::memory: or postgres://USER@HOST/DATABASE (the password by the environment, PGPASSWORD or PGPASSFILE)")
	f.keep.add(flags, "30d")
	flags.StringArrayVar(&f.masks, "record-mask", nil, `take a value out of all records: a path such as input.pod.spec.containers[].env or request.annotations["example.com/ticket"]; may be given again`)
	flags.StringVar(&f.input, "record-input", "read", "the input in records: read (what the policies read) or full (all of it, so that any policy can be tried on it; then all of it is watched and gathered)")
	flags.IntVar(&f.queue, "record-queue", record.DefaultQueue, "how many records, of 64 MiB in all, wait for the store while it is away, and as many for the upload; what comes beyond is lost to it, and counted")
	flags.StringVar(&f.uploadURL, "upload-url", "", "send records here, too, as OPA sends its decision log: the service's URL with /logs, or /logs/PARTITION, at its end")
	flags.StringVar(&f.uploadToken, "upload-token-file", "", "file with the bearer token for uploads; read for each of them")
	flags.StringVar(&f.uploadCA, "upload-ca", "", "PEM certificates to trust for uploads, beside the system's")
	flags.IntVar(&f.uploadLimit, "upload-limit", upload.DefaultLimit, "how many bytes an upload has at most, compressed")
}

func (f *recordFlags) full() bool { return f.input == "full" }

func (f *recordFlags) validate() error {
	errs := []error{oneOf("record-input", f.input, "read", "full")}
	if f.queue < 1 {
		errs = append(errs, fmt.Errorf("--record-queue is %d; expected at least 1", f.queue))
	}
	if f.store == "" && f.keep.maxSize != "" {
		errs = append(errs, errors.New("--store-max-size is for --store, and there is none"))
	}
	if f.uploadURL == "" && (f.uploadToken != "" || f.uploadCA != "") {
		errs = append(errs, errors.New("--upload-token-file and --upload-ca are for --upload-url, and there is none"))
	}
	_, err := f.keep.retention(f.store)
	return errors.Join(append(errs, err)...)
}

// recording is where the records of a server go.
type recording struct {
	*record.Writer
	form  record.Recording
	store *store.Late // nil without --store
	log   *slog.Logger
	close sync.Once
	// closers run when nothing is written any more.
	closers []func()
}

// open starts the outputs. What cannot be meant is an error; a PostgreSQL or a server that is away is not.
func (f *recordFlags) open(ctx context.Context, out io.Writer, log *slog.Logger) (*recording, error) {
	masks, err := record.ReadMasks(f.masks)
	if err != nil {
		return nil, fmt.Errorf("--record-mask: %w", err)
	}
	r := &recording{form: record.Recording{Full: f.full(), Masks: masks}, log: log}
	var targets []record.OutputOptions
	if f.uploadURL != "" {
		client, err := upload.NewClient(upload.ClientOptions{URL: f.uploadURL, TokenFile: f.uploadToken, CAFile: f.uploadCA, Limit: f.uploadLimit})
		if err != nil {
			return nil, fmt.Errorf("--upload-url: %w", err)
		}
		targets = append(targets, record.OutputOptions{Name: record.OutputUpload, Target: client, Linger: time.Second, LastRetry: 30 * time.Second})
		r.closers = append(r.closers, client.Close)
	}
	if f.store != "" {
		if r.store, err = f.openStore(ctx, log); err != nil {
			return nil, fmt.Errorf("--store: %w", err)
		}
		targets = append(targets, record.OutputOptions{Name: record.OutputStore, Target: r.store, Batch: store.BatchSize()})
		r.closers = append(r.closers, r.store.Close)
	}
	var outputs []*record.Output
	for _, o := range targets {
		o.Log, o.Queue = log, f.queue
		outputs = append(outputs, record.NewOutput(o))
	}
	r.Writer = record.NewWriter(out, log, outputs...)
	return r, nil
}

// Close writes what waits, as far as it can be, and tells what was lost.
func (r *recording) Close() {
	r.close.Do(func() {
		r.Writer.Close()
		for _, c := range r.Counts() {
			if c.Lost > 0 {
				r.log.Error("decision records were lost", "output", c.Output, "lost", c.Lost, "written", c.Written)
			}
		}
		for _, f := range r.closers {
			f()
		}
	})
}

// openStore opens a file at once, so that one that cannot be used keeps the server from starting.
func (f *recordFlags) openStore(ctx context.Context, log *slog.Logger) (*store.Late, error) {
	retention, err := f.keep.retention(f.store)
	if err != nil {
		return nil, err
	}
	s := store.NewLate(f.store, store.Options{Retention: retention, Log: log})
	return s, s.Begin(ctx)
}
