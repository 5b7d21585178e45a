package files

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"sync/atomic"

	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/replay"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// Source is where the records of a replay come from.
type Source struct {
	Records iter.Seq2[record.Record, error]
	// Done is what part of them has been read, of 1; 0 when that is not known.
	Done  func(records int) float64
	Close func()
}

// Stored are the records of a store that a filter chooses. Close closes the store, which is also done when it fails.
func Stored(ctx context.Context, from *store.Store, filter store.Filter) (*Source, error) {
	total, err := from.Count(ctx, filter)
	if err != nil {
		return nil, errors.Join(err, from.Close())
	}
	done := func(records int) float64 { return float64(records) / float64(max(total, 1)) }
	return &Source{from.Records(ctx, filter), done, func() { _ = from.Close() }}, nil
}

// Open streams the records of files that a filter chooses, one file after the other; - is stdin. Lines that should be records
// and are not are noted.
func Open(ctx context.Context, names []string, filter store.Filter, note Note) (*Source, error) {
	var all list
	for _, name := range names {
		if err := all.open(name, note); err != nil {
			all.close()
			return nil, fmt.Errorf("--from: %w", err)
		}
	}
	records := func(yield func(record.Record, error) bool) {
		for _, f := range all.files {
			if !f.records(ctx, filter, yield) {
				return
			}
		}
	}
	return &Source{records, all.done, all.close}, nil
}

// list are files that are read one after the other.
type list struct {
	files []*file
	// size is in bytes; 0 when it is not known.
	size    int64
	unsized bool
	read    atomic.Int64
}

// file is one of records; what is read of it counts.
type file struct {
	*os.File
	lines
	read *atomic.Int64
}

func (l *list) open(name string, note Note) error {
	f := &file{File: os.Stdin, lines: lines{name: "stdin", note: note}, read: &l.read}
	if name != "-" {
		opened, err := os.Open(name)
		if err != nil {
			return err
		}
		f.File, f.name = opened, name
	}
	l.files = append(l.files, f)
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		l.unsized = true
		return err
	}
	l.size += info.Size()
	return nil
}

func (l *list) close() {
	for _, f := range l.files {
		_ = f.Close()
	}
}

func (l *list) done(int) float64 {
	if l.unsized || l.size == 0 {
		return 0
	}
	return float64(l.read.Load()) / float64(l.size)
}

func (f *file) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	f.read.Add(int64(n))
	return n, err
}

// records yields the records that the filter chooses; false when no more are wanted.
func (f *file) records(ctx context.Context, filter store.Filter, yield func(record.Record, error) bool) bool {
	defer func() {
		if f.malformed > 0 {
			f.note("%s", f.skipped())
		}
	}()
	for r, err := range replay.Lines(ctx, f) {
		if f.passOver(err) {
			continue
		}
		if err != nil {
			return yield(r, fmt.Errorf("read %s: %w", f.name, err))
		}
		if filter.Chooses(&r) && !yield(r, nil) {
			return false
		}
	}
	return true
}
