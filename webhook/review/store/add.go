package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/evictgate/evictgate/webhook/record"
)

// entry is a record on its way into the store.
type entry struct {
	facts
	id     string
	at     int64
	record *record.Record
	body   []byte
	// named are the keys under which the record's episode is found.
	named []string
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
		return s.count(ctx, w, fresh)
	})
	if err != nil {
		return Added{}, err
	}
	bodies := 0
	for _, e := range fresh {
		bodies += len(e.body)
	}
	s.took(len(fresh), bodies)
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
	const share = 64
	g.SetLimit(runtime.GOMAXPROCS(0))
	for part := range slices.Chunk(all, share) {
		g.Go(func() error {
			for _, e := range part {
				if err := s.prepare(e); err != nil {
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
func (s *Store) prepare(e *entry) error {
	r := e.record
	r.Timestamp = r.Timestamp.UTC().Round(0)
	r.Input = bytes.ToValidUTF8(r.Input, []byte("\uFFFD"))
	if len(r.Input) == 0 {
		r.Input = json.RawMessage("null")
	}
	text, err := marshal(r)
	if err != nil {
		return err
	}
	if bytes.Contains(text, []byte(`\ufffd`)) { // what was no UTF-8; the episode gets what the body has
		if err := json.Unmarshal(text, r); err != nil {
			return err
		}
	}
	e.facts, e.at, e.body = factsOf(r), r.Timestamp.UnixMicro(), s.codec.pack(text)
	if !e.dryRun {
		var alone record.Episode
		alone.Add(r)
		e.named = episodeNames(&alone)
	}
	return nil
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

var recordColumns = []string{
	"at", "id", "episode", "namespace", "pod", "node", "workload", "workload_name", "username", "evictor", "outcome", "dry_run", "body",
}

func insertRecords(ctx context.Context, w writer, fresh []*entry) error {
	decisions, records, names := make([][]any, len(fresh)), make([][]any, len(fresh)), [][]any{}
	times := make([]int64, len(fresh))
	for i, e := range fresh {
		times[i] = e.at
		decisions[i] = []any{e.id, e.at}
		records[i] = []any{
			e.at, e.id, e.episode, e.namespace, e.pod, e.node, e.workload, workloadName(e.workload), e.user, e.evictor, string(e.outcome),
			int64(bit(e.dryRun)), e.body,
		}
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

// fromMicros is the time that micros made.
func fromMicros(at int64) time.Time { return time.UnixMicro(at).UTC() }
