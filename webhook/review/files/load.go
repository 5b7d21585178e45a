// Package files reads the records of decisions from files, as serve prints them and as kubectl logs hands them on, and tells
// of lines that should be records and are not.
package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// Adder takes records; a store does.
type Adder interface {
	Add(ctx context.Context, records []record.Record) (store.Added, error)
}

// Note tells on the side what a user should know.
type Note func(format string, args ...any)

// Store reads files into a store in memory. It ends with ctx, even while it waits for stdin.
func Store(ctx context.Context, names []string, note Note) (*store.Store, error) {
	loaded, err := store.Open(ctx, "sqlite::memory:", store.Options{})
	if err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() { done <- Load(ctx, loaded, names, note) }()
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

// Load reads files of records into a store, one after the other; - is stdin. It is an error when there are lines and not one
// record in all of them: an empty list would be an answer.
func Load(ctx context.Context, to Adder, names []string, note Note) error {
	records, others := 0, 0
	for _, name := range names {
		file := os.Stdin
		if name != "-" {
			var err error
			if file, err = os.Open(name); err != nil {
				return fmt.Errorf("read records: %w", err)
			}
		}
		l := loader{lines: lines{name: name, note: note}, to: to}
		err := l.load(ctx, file)
		if name != "-" {
			_ = file.Close()
		}
		if err != nil {
			return fmt.Errorf("read records: %s: %w", name, err)
		}
		l.tell(len(names) > 1)
		records, others = records+l.records, others+l.malformed+l.others
	}
	if records == 0 && others > 0 {
		return fmt.Errorf("read records: no record of a decision in %d %s of %s", others, output.Plural("line", others), strings.Join(names, ", "))
	}
	return nil
}

// atOnce is how many records are added in one transaction.
const atOnce = 1000

// loader reads one file, and counts its records.
type loader struct {
	lines
	to      Adder
	records int
}

func (l *loader) load(ctx context.Context, file io.Reader) error {
	var batch []record.Record
	for r, err := range record.Read(file) {
		if l.passOver(err) {
			continue
		}
		if err != nil {
			return err
		}
		l.records++
		if batch = append(batch, r); len(batch) == atOnce {
			if _, err := l.to.Add(ctx, batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	_, err := l.to.Add(ctx, batch)
	return err
}

// tell says what is wrong with a file as a whole, one of others perhaps, which may hold more.
func (l *loader) tell(others bool) {
	if l.malformed > 0 {
		l.note("%s, %d read", l.skipped(), l.records)
	}
	if l.records == 0 && l.malformed == 0 && (others || l.others == 0) {
		l.note("%s: no record of a decision in %d %s", l.name, l.others, output.Plural("line", l.others))
	}
}

// maxTold bounds the unreadable lines of a file that are told one by one.
const maxTold = 10

// lines counts the lines of a file that hold no record: those that should, and others.
type lines struct {
	name              string
	note              Note
	malformed, others int
}

// passOver reports whether an error is about one line only, and tells of it.
func (l *lines) passOver(err error) bool {
	var line *record.LineError
	switch {
	case errors.Is(err, record.ErrOtherLine):
		l.others++
	case errors.As(err, &line):
		if l.malformed++; l.malformed <= maxTold {
			l.note("%s:%d: skipped: %v", l.name, line.Line, line.Err)
		}
	default:
		return false
	}
	return true
}

// skipped counts the lines that should be records.
func (l *lines) skipped() string {
	return fmt.Sprintf("%s: %d %s skipped that should be %s", l.name, l.malformed, output.Plural("line", l.malformed), output.OneOrMany("a record", "records", l.malformed))
}
