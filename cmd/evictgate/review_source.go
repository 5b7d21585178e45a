package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/webhook/review"
	"github.com/evictgate/evictgate/webhook/review/files"
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
	flags.StringSliceVar(&s.from, "from", nil, "look into these files instead of a store: records as serve prints them, in whatever carries logs (docs/platforms.md); - is stdin")
}

// open opens the store for reading, or reads the files into one in memory. The caller closes it.
func (s *recordSource) open(ctx context.Context, p output.Printer) (*store.Store, error) {
	switch {
	case len(s.from) > 0 && s.store != "":
		return nil, errors.New("--from and --store exclude each other")
	case len(s.from) > 0:
		return files.Store(ctx, s.from, p.Note)
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

// again is how a command is told to look at the same place; it never holds a password.
func (s *recordSource) again() string {
	switch {
	case len(s.from) > 0:
		return " --from " + output.ShellQuote(strings.Join(s.from, ","))
	case s.store == "" || s.store == defaultStore:
		return ""
	}
	if u, err := url.Parse(s.store); err == nil && u.User != nil {
		return " --store " + output.ShellQuote(u.Redacted())
	}
	return " --store " + output.ShellQuote(s.store)
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
func (f *reviewFlags) clock() (review.Clock, error) {
	c := review.Clock{Now: time.Now().UTC(), Zone: time.Local}
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
func (f *reviewFlags) choose(flags *pflag.FlagSet, c review.Clock) (store.Filter, error) {
	if len(f.from) > 0 && !flags.Changed("since") {
		f.asked["since"] = "all"
	}
	filter, err := f.read(c)
	if err == nil && f.time != "" && filter.Until.IsZero() {
		filter.Until = c.Now
	}
	return filter, err
}
