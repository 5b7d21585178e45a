package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/evictgate/evictgate/webhook/record"
)

// entry is a record on its way into the store.
type entry struct {
	facts
	id, episode, pod string
	at               time.Time
	record           *record.Record
	reply            record.Reply
	text             string
}

// Add stores records, in one transaction that is committed when it returns. Those whose decision is known
// already are left out. A record that cannot be stored fails all, and the error names it.
func (s *Store) Add(ctx context.Context, records []record.Record) (Added, error) {
	fresh, err := s.entries(ctx, records)
	switch {
	case err != nil:
		return Added{}, err
	case len(fresh) == 0:
		return Added{Known: len(records)}, nil
	}
	err = s.write(ctx, func(w writer) error {
		known, err := knownOf(ctx, w, fresh)
		if fresh = slices.DeleteFunc(fresh, func(e *entry) bool { return known[e.id] }); err != nil || len(fresh) == 0 {
			return err
		}
		if err := insertRecords(ctx, w, fresh); err != nil {
			return fmt.Errorf("store records: %w", err)
		}
		if err := s.foldRecords(ctx, w, fresh); err != nil {
			return fmt.Errorf("fold records into episodes: %w", err)
		}
		return count(ctx, w, fresh)
	})
	if err != nil {
		return Added{}, err
	}
	bytes := 0
	for _, e := range fresh {
		bytes += len(e.text)
	}
	s.took(len(fresh), bytes)
	s.wrote(ctx, len(fresh))
	return Added{New: len(fresh), Known: len(records) - len(fresh)}, nil
}

// plannedAfter is after how many records the planner is told what is in the tables.
const plannedAfter = 100_000

// wrote brings the planner's statistics up to date from time to time.
func (s *Store) wrote(ctx context.Context, n int) {
	before := s.written.Add(int64(n)) - int64(n)
	if before/plannedAfter == (before+int64(n))/plannedAfter {
		return
	}
	if err := s.db.tidy(ctx); err != nil {
		s.log.Warn("the store's statistics are not up to date", "error", err)
	}
}

// share is how many records are prepared on one core.
const share = 64

// BatchSize is how many records are best stored at once by who has other work to do: one core is left to that.
func BatchSize() int { return share * min(8, max(1, runtime.GOMAXPROCS(0)-1)) }

// entries prepares records on all cores, but for doubles and for what the store has: preparing takes the most time, and
// who got no answer sends all of an upload again.
func (s *Store) entries(ctx context.Context, records []record.Record) ([]*entry, error) {
	var all []*entry
	seen := make(map[string]bool, len(records))
	for i := range records {
		e, err := newEntry(records[i])
		if err != nil {
			return nil, fmt.Errorf("record %q: %w", records[i].DecisionID, err)
		}
		if !seen[e.id] {
			seen[e.id] = true
			all = append(all, e)
		}
	}
	var known map[string]bool
	err := s.db.read(ctx, func(r reader) (err error) {
		known, err = knownOf(ctx, r, all)
		return err
	})
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(e *entry) bool { return known[e.id] })
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for part := range slices.Chunk(all, share) {
		g.Go(func() error {
			for _, e := range part {
				if err := e.prepare(); err != nil {
					return fmt.Errorf("record %q: %w", e.record.DecisionID, err)
				}
			}
			return nil
		})
	}
	return all, g.Wait()
}

// newEntry has the id of a record, and the record.
func newEntry(r record.Record) (*entry, error) {
	switch {
	case r.DecisionID == "":
		return nil, errors.New("it has no decision_id")
	case r.Result == nil:
		return nil, errors.New("it has no result")
	}
	return &entry{id: clean(r.DecisionID), record: &r}, nil
}

// prepare makes of an entry's record what the tables get.
func (e *entry) prepare() (err error) {
	r := e.record
	r.Timestamp = r.Timestamp.UTC().Round(0)
	r.Input = bytes.ToValidUTF8(r.Input, []byte("\uFFFD"))
	if len(r.Input) == 0 {
		r.Input = json.RawMessage("null")
	}
	if e.text, err = marshal(r); err != nil {
		return err
	}
	if strings.Contains(e.text, `\ufffd`) { // in place of what is not a character; the episode gets what the record has
		if err := json.Unmarshal([]byte(e.text), r); err != nil {
			return err
		}
	}
	e.describe()
	return nil
}

// describe finds out what the entry's record is found by.
func (e *entry) describe() {
	r := e.record
	e.reply = record.ReplyOf(r.Result, r.Timestamp)
	e.facts, e.at, e.episode, e.pod = factsOf(r, &e.reply), kept(r.Timestamp), clean(r.EpisodeID()), clean(r.Request.Name)
}

// row are the values of recordColumns.
func (e *entry) row() []any {
	return append(append([]any{e.at, e.id, e.episode, e.pod}, e.values()...), e.text)
}

// knownOf are the ids of entries that the store has.
func knownOf(ctx context.Context, r reader, entries []*entry) (map[string]bool, error) {
	ids := make([]string, len(entries))
	for i, e := range entries {
		ids[i] = e.id
	}
	return texts(ctx, r, "SELECT id FROM decisions WHERE ", "id", ids)
}

// texts asks for those of a list that a column has.
func texts(ctx context.Context, r reader, selection, column string, list []string) (map[string]bool, error) {
	found := map[string]bool{}
	in, arg := r.in(column, 1, list)
	err := r.query(ctx, func(scan func(...any) error) error {
		var text string
		err := scan(&text)
		found[text] = true
		return err
	}, selection+in, arg)
	return found, err
}

var recordColumns = append(append([]string{"at", "id", "episode", "pod"}, factColumns...), "record")

func insertRecords(ctx context.Context, w writer, fresh []*entry) error {
	decisions, records, names := make([][]any, len(fresh)), make([][]any, len(fresh)), [][]any{}
	times := make([]time.Time, len(fresh))
	for i, e := range fresh {
		times[i] = e.at
		decisions[i] = []any{e.id, e.at}
		records[i] = e.row()
		for _, name := range e.names() {
			names = append(names, []any{name, e.at, e.id})
		}
	}
	if err := w.makeRoom(ctx, times); err != nil {
		return err
	}
	if err := w.insert(ctx, "decisions", []string{"id", "at"}, decisions); err != nil {
		return err
	}
	if err := w.insert(ctx, "records", recordColumns, records); err != nil {
		return err
	}
	return w.insert(ctx, "record_names", []string{"name", "at", "id"}, names)
}
