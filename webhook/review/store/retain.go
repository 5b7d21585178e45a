package store

import (
	"context"
	"errors"
	"math"
	"strconv"
	"time"
)

// Grown tells, once a time, when so much was written since Retain that the store may be too large: a part of its size,
// by which it can exceed that.
func (s *Store) Grown() <-chan struct{} { return s.grown }

const (
	// grownPart is that part of the size.
	grownPart = 32
	// rowsSize is about what a record or an answer takes beside its JSON, in tables and indexes.
	rowsSize = 1 << 10
)

// took notes what was written.
func (s *Store) took(rows, bytes int) {
	room := s.room.Add(int64(rows*rowsSize + bytes))
	if s.retention.Size == 0 || room < s.retention.Size/grownPart {
		return
	}
	select {
	case s.grown <- struct{}{}:
	default:
	}
}

// Retain removes what is older than the store keeps, and then the oldest as long as it takes too much
// room. It goes by whole minutes, and says how many records it removed. What PostgreSQL takes shrinks by
// whole days only, and the last day stays.
func (s *Store) Retain(ctx context.Context, now time.Time) (removed int, err error) {
	s.room.Store(0)
	if s.retention.Age > 0 {
		if removed, err = s.removeBefore(ctx, floor(now.Add(-s.retention.Age), time.Minute)); err != nil {
			return removed, err
		}
	}
	if s.retention.Size > 0 {
		n, err := s.shrink(ctx)
		return removed + n, errors.Join(err, s.tidied(ctx, removed+n))
	}
	return removed, s.tidied(ctx, removed)
}

func (s *Store) tidied(ctx context.Context, removed int) error {
	if removed == 0 {
		return nil
	}
	return s.db.tidy(ctx)
}

// shrink removes a part of the time, again and again, since how much room it gives back is an estimate.
func (s *Store) shrink(ctx context.Context) (removed int, err error) {
	for last := int64(math.MaxInt64); ; {
		size, err := s.db.size(ctx)
		if err != nil || size <= s.retention.Size || size >= last {
			return removed, err
		}
		last = size
		before, err := s.oldest(ctx, float64(size-s.retention.Size)/float64(size))
		if err != nil || before.IsZero() {
			return removed, err
		}
		n, err := s.removeBefore(ctx, before)
		if removed += n; err != nil {
			return removed, err
		}
	}
}

// oldest is the time before which a share of all records were decided, at least a grain of them; zero when
// there is not more than one. Where there are more answers than records, it is that of answers.
func (s *Store) oldest(ctx context.Context, share float64) (before time.Time, err error) {
	return before, s.db.read(ctx, func(q reader) error {
		table, total, answers := "records", 0, 0
		if err := one(ctx, q, &total, "SELECT count(*) FROM records", nil); err != nil {
			return err
		}
		if err := one(ctx, q, &answers, "SELECT count(*) FROM answers", nil); err != nil {
			return err
		}
		if answers > total {
			table, total = "answers", answers
		}
		first, after, err := boundsOf(ctx, q, table)
		if err != nil || first.IsZero() {
			return err
		}
		var at moment
		err = q.query(ctx, func(scan func(...any) error) error { return scan(&at) },
			"SELECT at FROM "+table+" ORDER BY at LIMIT 1 OFFSET "+strconv.Itoa(min(int(float64(total)*share), total-1)))
		grain := s.db.grain()
		from := floor(first, grain).Add(grain)
		if share := floor(at.Time, grain); share.After(from) {
			from = share
		}
		if !from.After(floor(after.Add(-time.Microsecond), grain)) {
			before = from
		}
		return err
	})
}

// removedAtOnce bounds the records of a transaction, so that writers have their turn.
const removedAtOnce = 5000

func (s *Store) removeBefore(ctx context.Context, before time.Time) (removed int, err error) {
	for {
		n := 0
		err := s.write(ctx, func(w writer) error {
			n, err = w.dropBefore(ctx, before)
			return err
		})
		removed += n
		if err != nil {
			return removed, err
		}
		if n == 0 {
			break
		}
	}
	return removed, s.write(ctx, func(w writer) error { return removeRest(ctx, w, before) })
}

// removeRest removes what is beside the records.
func removeRest(ctx context.Context, w writer, before time.Time) error {
	for _, sql := range []string{
		"DELETE FROM episode_names WHERE episode IN (SELECT id FROM episodes WHERE last < $1)",
		"DELETE FROM episodes WHERE last < $1",
		"DELETE FROM answers WHERE at < $1",
	} {
		if _, err := w.exec(ctx, sql, before); err != nil {
			return err
		}
	}
	return uncount(ctx, w, before)
}

// deleteBefore removes the oldest records row by row, at most removedAtOnce and those of the same time.
func deleteBefore(ctx context.Context, w writer, before time.Time) (int, error) {
	n := 0
	err := w.query(ctx, func(scan func(...any) error) error {
		var last moment
		err := scan(&last)
		before = last.Add(time.Microsecond)
		return err
	},
		"SELECT at FROM records WHERE at < $1 ORDER BY at LIMIT 1 OFFSET "+strconv.Itoa(removedAtOnce), before)
	if err != nil {
		return 0, err
	}
	if err := deleteNames(ctx, w, before); err != nil {
		return 0, err
	}
	for _, sql := range []string{
		"DELETE FROM decisions WHERE id IN (SELECT id FROM records WHERE at < $1)",
		"DELETE FROM records WHERE at < $1",
	} {
		rows, err := w.exec(ctx, sql, before)
		if err != nil {
			return 0, err
		}
		n = int(rows)
	}
	return n, nil
}

// deleteNames goes from name to name: there are few, and their rows are sorted by time.
func deleteNames(ctx context.Context, w writer, before time.Time) error {
	for name, more := "", true; more; {
		if _, err := w.exec(ctx, "DELETE FROM record_names WHERE name = $1 AND at < $2", name, before); err != nil {
			return err
		}
		more = false
		err := w.query(ctx, func(scan func(...any) error) error {
			more = true
			return scan(&name)
		}, "SELECT name FROM record_names WHERE name > $1 ORDER BY name LIMIT 1", name)
		if err != nil {
			return err
		}
	}
	return nil
}
