package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// recordSource says where the review commands find decisions: in a store, or in records as serve prints
// them.
type recordSource struct {
	store string
	from  []string
}

func (s *recordSource) add(flags *pflag.FlagSet) {
	flags.StringVar(&s.store, "store", "", "look into this store: sqlite:FILE, or postgres://USER@HOST/DATABASE; default: "+defaultStore)
	flags.StringSliceVar(&s.from, "from", nil, "look into these files instead of a store: records as serve prints them, also gzipped or in the output of kubectl logs; - is stdin")
}

// open opens the store for reading, or reads the files into one in memory. The caller closes it.
func (s *recordSource) open(ctx context.Context, p printer) (*store.Store, error) {
	switch {
	case len(s.from) > 0 && s.store != "":
		return nil, errors.New("--from and --store exclude each other")
	case len(s.from) > 0:
		return s.load(ctx, p)
	}
	if file, ok := strings.CutPrefix(s.url(), "sqlite:"); ok {
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no store %s; serve --store %s makes one, and without one the records that serve prints will do: kubectl logs -n evictgate deploy/evictgate | evictgate review stuck --from -", file, s.url())
		}
	}
	return store.Open(ctx, s.url(), store.Options{ReadOnly: true})
}

func (s *recordSource) url() string {
	if s.store == "" {
		return defaultStore
	}
	return s.store
}

// load reads the files into memory. It can be interrupted while it waits for stdin.
func (s *recordSource) load(ctx context.Context, p printer) (*store.Store, error) {
	loaded, err := store.Open(ctx, "sqlite::memory:", store.Options{})
	if err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() { done <- s.loadInto(ctx, loaded, p) }()
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err() // the read may never end, and the process does
	}
	if err != nil {
		return nil, errors.Join(err, loaded.Close())
	}
	return loaded, nil
}

// adder takes records; a store does.
type adder interface {
	Add(ctx context.Context, records []record.Record) (store.Added, error)
}

func (s *recordSource) loadInto(ctx context.Context, to adder, p printer) error {
	for _, name := range s.from {
		file := os.Stdin
		if name != "-" {
			var err error
			if file, err = os.Open(name); err != nil {
				return fmt.Errorf("read records: %w", err)
			}
		}
		l := loader{name: name, to: to, printer: p}
		err := l.load(ctx, file)
		if name != "-" {
			_ = file.Close()
		}
		if err != nil {
			return fmt.Errorf("read records: %s: %w", name, err)
		}
		l.tell()
	}
	return nil
}

// loadBatch is how many records are added in one transaction.
const loadBatch = 1000

// maxToldLines bounds the unreadable lines of a file that are told one by one.
const maxToldLines = 10

// loader reads one file. It counts its records, the lines that should be records and are not readable, and
// the other lines.
type loader struct {
	name                       string
	to                         adder
	printer                    printer
	records, malformed, others int
}

func (l *loader) load(ctx context.Context, file io.Reader) error {
	var batch []record.Record
	for r, err := range record.Read(file) {
		var line *record.LineError
		switch {
		case errors.Is(err, record.ErrOtherLine):
			l.others++
			continue
		case errors.As(err, &line):
			l.skip(line)
			continue
		case err != nil:
			return err
		}
		l.records++
		if batch = append(batch, r); len(batch) == loadBatch {
			if _, err := l.to.Add(ctx, batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	_, err := l.to.Add(ctx, batch)
	return err
}

func (l *loader) skip(line *record.LineError) {
	if l.malformed++; l.malformed <= maxToldLines {
		l.printer.note("%s:%d: skipped: %v", l.name, line.Line, line.Err)
	}
}

// tell says what is wrong with a file as a whole.
func (l *loader) tell() {
	if l.malformed > 0 {
		l.printer.note("%s: %d %s skipped that should be %s, %d read", l.name, l.malformed, plural("line", l.malformed), plural("record", l.malformed), l.records)
	}
	if l.records == 0 && l.malformed == 0 {
		l.printer.note("%s: no record of a decision in %d %s", l.name, l.others, plural("line", l.others))
	}
}

// again is how a command is told to look at the same place; it never holds a password.
func (s *recordSource) again() string {
	switch {
	case len(s.from) > 0:
		return " --from " + shellQuote(strings.Join(s.from, ","))
	case s.store == "" || s.store == defaultStore:
		return ""
	}
	if u, err := url.Parse(s.store); err == nil && u.User != nil {
		return " --store " + shellQuote(u.Redacted())
	}
	return " --store " + shellQuote(s.store)
}

// shellQuote quotes what a shell would not take as one word.
func shellQuote(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:@,=+", r)
	}
	if word != "" && strings.TrimFunc(word, plain) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// reviewFlags are what the commands that look into decisions share: where, which, and how to print.
type reviewFlags struct {
	recordSource
	filterFlags
	time   string
	utc    bool
	format string
}

// add adds the flags; formats are those of --output, the default first.
func (f *reviewFlags) add(flags *pflag.FlagSet, formats string) {
	f.recordSource.add(flags)
	flags.StringVar(&f.time, "at", "", "count ages from this time, RFC 3339; default: now")
	flags.BoolVar(&f.utc, "utc", false, "times in UTC; data has them so always")
	flags.StringVarP(&f.format, "output", "o", "table", formats)
}

// clock is the time that ages count from.
func (f *reviewFlags) clock() (clock, error) {
	c := clock{review.Clock{Now: time.Now().UTC(), Zone: time.Local}}
	if f.utc {
		c.Zone = time.UTC
	}
	if f.time == "" {
		return c, nil
	}
	var err error
	if c.Now, err = time.Parse(time.RFC3339, f.time); err != nil {
		return c, fmt.Errorf("--at is %q; expected a time as RFC 3339 has it, such as 2026-11-02T08:00:00Z", f.time)
	}
	return c, nil
}

// choose makes the filter. Of files all is looked at, unless --since is given.
func (f *reviewFlags) choose(flags *pflag.FlagSet, c clock) (store.Filter, error) {
	if len(f.from) > 0 && !flags.Changed("since") {
		f.asked["since"] = "all"
	}
	filter, err := f.read(c)
	if err == nil && f.time != "" && filter.Until.IsZero() {
		filter.Until = c.Now
	}
	return filter, err
}
