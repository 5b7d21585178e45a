package store

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/evictgate/evictgate/webhook/record"
)

// ErrPage is returned for a Page.After that no page has given as Next.
var ErrPage = errors.New("not a page of a list")

// place in a list: of what stands there, its time and its id.
type position struct {
	at time.Time
	id string
}

func (p position) String() string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(p.at.UnixMicro(), 10) + " " + p.id))
}

func parsePosition(text string) (position, error) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	at, id, ok := strings.Cut(string(raw), " ")
	n, atErr := strconv.ParseInt(at, 10, 64)
	if err != nil || !ok || atErr != nil || clean(id) != id {
		return position{}, fmt.Errorf("%q is %w; take what the page before gives as next", text, ErrPage)
	}
	return position{fromMicros(n), id}, nil
}

const defaultLimit = 100

// maxPageBytes bounds a page beside its limit: about how many bytes its members take as JSON. A page ends with the
// member that goes beyond.
const maxPageBytes = 16 << 20

// errEnough ends a query whose page is full.
var errEnough = errors.New("the page is full")

func unlessEnough(err error) error {
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// page is the statement's end for a page, by a column with the time and one with the id, newest first.
// It asks for one more, which tells whether there is a next page.
func (c *condition) page(p Page, at, id string) (limit int, end string, err error) {
	return c.pageBy(p, at, id, "<", " DESC")
}

// pageUp is page for a list with the smallest first.
func (c *condition) pageUp(p Page, at, id string) (limit int, end string, err error) {
	return c.pageBy(p, at, id, ">", "")
}

// pageBy goes on beyond the page's position, by an operator and the order that belongs to it.
func (c *condition) pageBy(p Page, at, id, beyond, order string) (limit int, end string, err error) {
	if limit = p.Limit; limit <= 0 {
		limit = defaultLimit
	}
	if p.After != "" {
		after, err := parsePosition(p.After)
		if err != nil {
			return 0, "", err
		}
		c.and(at+" "+beyond+"= ?", after.at)
		c.and("("+at+" "+beyond+" ? OR "+id+" "+beyond+" ?)", after.at, after.id)
	}
	return limit, " ORDER BY " + at + order + ", " + id + order + " LIMIT " + strconv.Itoa(limit+1), nil
}

// List is a page of the records that a filter chooses.
func (s *Store) List(ctx context.Context, f Filter, p Page) (Rows, error) {
	rows := Rows{Rows: []Row{}}
	var last position
	size := 0
	err := s.db.read(ctx, func(q reader) error {
		c, err := chooseRecords(ctx, q, f.clean())
		if err != nil {
			return err
		}
		limit, end, err := c.page(p, c.by+".at", c.by+".id")
		if err != nil {
			return err
		}
		return unlessEnough(q.query(ctx, func(scan func(...any) error) error {
			here, r, err := scanRecord(scan)
			if err != nil {
				return err
			}
			if len(rows.Rows) == limit || size > maxPageBytes {
				rows.Next = last.String()
				return errEnough
			}
			row := rowOf(&r)
			rows.Rows, last, size = append(rows.Rows, row), here, size+row.size()
			return nil
		}, "SELECT "+c.columns+c.from+c.sql()+end, c.args...))
	})
	return rows, err
}

// size is about how many bytes the row takes.
func (r *Row) size() int {
	n := 512 + len(r.Message) + len(r.User)
	for _, list := range [][]string{r.Policies, r.Budgets} {
		for _, name := range list {
			n += 16 + len(name)
		}
	}
	return n
}

// scanRecord reads a row of chosen.columns.
func scanRecord(scan func(...any) error) (at position, r record.Record, err error) {
	var when moment
	var text []byte
	if err := scan(&when, &at.id, &text); err != nil {
		return at, r, err
	}
	at.at = when.Time
	return at, r, readRecord(text, &r)
}

// readRecord reads the JSON of a record. PostgreSQL sets its input's keys in another order, with spaces in between.
func readRecord(text []byte, r *record.Record) error {
	if err := json.Unmarshal(text, r); err != nil {
		return err
	}
	var input bytes.Buffer
	err := json.Compact(&input, r.Input)
	r.Input = input.Bytes()
	return err
}

// Record is that of a decision, or ErrNotFound.
func (s *Store) Record(ctx context.Context, id string) (record.Record, error) {
	var r record.Record
	found := false
	err := s.db.read(ctx, func(q reader) error {
		var at moment
		err := q.query(ctx, func(scan func(...any) error) error { return scan(&at) }, "SELECT at FROM decisions WHERE id = $1", clean(id))
		if err != nil {
			return err
		}
		return q.query(ctx, func(scan func(...any) error) error {
			found = true
			var text []byte
			if err := scan(&text); err != nil {
				return err
			}
			return readRecord(text, &r)
		}, "SELECT record FROM records WHERE at = $1 AND id = $2", at.Time, clean(id))
	})
	if err == nil && !found {
		err = fmt.Errorf("decision %s: %w", id, ErrNotFound)
	}
	return r, err
}

// Records are the whole records that a filter chooses, oldest first.
func (s *Store) Records(ctx context.Context, f Filter) iter.Seq2[record.Record, error] {
	f = f.clean()
	return func(yield func(record.Record, error) bool) {
		var after *position
		for {
			list, last, err := s.following(ctx, f, after)
			for _, r := range list {
				if !yield(r, nil) {
					return
				}
			}
			if err != nil {
				yield(record.Record{}, err)
			}
			if err != nil || last == nil {
				return
			}
			after = last
		}
	}
}

// readAtOnce is how many records are read before they are handed on: nothing waits for who takes them.
const readAtOnce = 500

// following are the next records after a position, which is nil at the beginning; last is nil at the end.
func (s *Store) following(ctx context.Context, f Filter, after *position) (list []record.Record, last *position, err error) {
	err = s.db.read(ctx, func(q reader) error {
		c, err := chooseRecords(ctx, q, f)
		if err != nil {
			return err
		}
		if after != nil {
			c.and(c.by+".at >= ?", after.at)
			c.and("("+c.by+".at > ? OR "+c.by+".id > ?)", after.at, after.id)
		}
		return q.query(ctx, func(scan func(...any) error) error {
			here, r, err := scanRecord(scan)
			if err != nil {
				return err
			}
			list, last = append(list, r), &here
			return nil
		}, "SELECT "+c.columns+c.from+c.sql()+" ORDER BY "+c.by+".at, "+c.by+".id LIMIT "+strconv.Itoa(readAtOnce), c.args...)
	})
	if len(list) < readAtOnce {
		last = nil
	}
	return list, last, err
}

// Count is how many records a filter chooses.
func (s *Store) Count(ctx context.Context, f Filter) (int, error) {
	n := 0
	err := s.db.read(ctx, func(q reader) error {
		f := f.clean()
		if f.Since.IsZero() || f.Until.IsZero() {
			first, last, err := bounds(ctx, q)
			if err != nil {
				return err
			}
			f.Since, f.Until = orElse(f.Since, first), orElse(f.Until, last)
		}
		return s.eachMoment(ctx, q, f, hour, func(_ time.Time, _ moments, m int) { n += m })
	})
	return n, err
}

func orElse(t, other time.Time) time.Time {
	if t.IsZero() {
		return other
	}
	return t
}

// Episodes is a page of the episodes that a filter chooses.
func (s *Store) Episodes(ctx context.Context, f Filter, p Page) (Episodes, error) {
	page := Episodes{Episodes: []record.Episode{}}
	err := s.db.read(ctx, func(q reader) error {
		c, err := chooseEpisodes(ctx, q, f.clean(), true)
		if err != nil {
			return err
		}
		limit, end, err := c.page(p, "e.last", "e.id")
		if err != nil {
			return err
		}
		page.Episodes, page.Next, err = pageOf(ctx, q, c, "e.last", end, limit)
		return err
	})
	return page, err
}

// pageOf reads a page of episodes, and the mark of the next one; by is the column that they are sorted by, before
// their ids.
func pageOf(ctx context.Context, q reader, c *condition, by, end string, limit int) (list []record.Episode, next string, err error) {
	list = []record.Episode{}
	size := 0
	var last position
	err = q.query(ctx, func(scan func(...any) error) error {
		var at moment
		var here position
		var text []byte
		if err := scan(&at, &here.id, &text); err != nil {
			return err
		}
		here.at = at.Time
		if len(list) == limit || size > maxPageBytes {
			next = last.String()
			return errEnough
		}
		var e record.Episode
		err := json.Unmarshal(text, &e)
		list, last, size = append(list, e), here, size+len(text)
		return err
	}, "SELECT "+by+", e.id, e.episode FROM episodes e"+c.sql()+end, c.args...)
	return list, next, unlessEnough(err)
}

// Episode is that of an id, or ErrNotFound.
func (s *Store) Episode(ctx context.Context, id string) (record.Episode, error) {
	var list []record.Episode
	err := s.db.read(ctx, func(q reader) (err error) {
		c := &condition{}
		c.and("e.id = ?", clean(id))
		list, _, err = pageOf(ctx, q, c, "e.last", "", 1)
		return err
	})
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("episode %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return record.Episode{}, err
	}
	return list[0], nil
}

// StuckPage is a part of the episodes that are blocked, the longest refused first.
type StuckPage struct {
	Episodes []record.Episode
	// Total counts all that were tried since the time asked for, on whatever page; GivenUp those that are blocked
	// and were not.
	Total, GivenUp int
	// Next is empty on the last page.
	Next string
}

// StuckPage is a page of the episodes that are blocked and were tried since, the longest refused first.
func (s *Store) StuckPage(ctx context.Context, f Filter, triedSince time.Time, p Page) (StuckPage, error) {
	f.Fate = record.Blocked
	f = f.clean()
	var page StuckPage
	err := s.db.read(ctx, func(q reader) error {
		if err := countStuck(ctx, q, f, triedSince, &page); err != nil {
			return err
		}
		c, err := chooseEpisodes(ctx, q, f, false)
		if err != nil {
			return err
		}
		c.between("e.last", triedSince, time.Time{})
		limit, end, err := c.pageUp(p, "e.first_refused", "e.id")
		if err != nil {
			return err
		}
		page.Episodes, page.Next, err = pageOf(ctx, q, c, "e.first_refused", end, limit)
		return err
	})
	return page, err
}

func countStuck(ctx context.Context, q reader, f Filter, triedSince time.Time, page *StuckPage) error {
	c, err := chooseEpisodes(ctx, q, f, false)
	if err != nil {
		return err
	}
	c.between("e.last", triedSince, time.Time{})
	if err := one(ctx, q, &page.Total, "SELECT count(*) FROM episodes e"+c.sql(), c.args); err != nil || triedSince.IsZero() {
		return err
	}
	if c, err = chooseEpisodes(ctx, q, f, false); err != nil {
		return err
	}
	c.between("e.last", time.Time{}, triedSince)
	return one(ctx, q, &page.GivenUp, "SELECT count(*) FROM episodes e"+c.sql(), c.args)
}

// stuckAtOnce is large, since each page looks at all that are stuck.
const stuckAtOnce = 10_000

// Stuck are all pages of StuckPage, for who prints them all.
func (s *Store) Stuck(ctx context.Context, f Filter, triedSince time.Time) ([]record.Episode, error) {
	list := []record.Episode{}
	for p := (Page{Limit: stuckAtOnce}); ; {
		page, err := s.StuckPage(ctx, f, triedSince, p)
		list = append(list, page.Episodes...)
		if err != nil || page.Next == "" {
			return list, err
		}
		p.After = page.Next
	}
}

// Unsettled is a page of the episodes that are not over, those with the latest attempt first.
func (s *Store) Unsettled(ctx context.Context, p Page) (Episodes, error) {
	var page Episodes
	err := s.db.read(ctx, func(q reader) error {
		c := &condition{}
		c.and("e.fate IN (?, ?, ?, ?)", string(record.AdmittedOnly), string(record.Blocked), string(record.RefusedByBudget), string(record.RefusedElsewhere))
		limit, end, err := c.page(p, "e.last", "e.id")
		if err != nil {
			return err
		}
		page.Episodes, page.Next, err = pageOf(ctx, q, c, "e.last", end, limit)
		return err
	})
	return page, err
}
