package store

import (
	"context"
	"strings"
	"time"
)

// What a sum says is kept by SQL, in rows that a record is added to when it comes and taken from when it goes: by day and
// by hour with all that a filter can ask for, and by minute for what happens over time. So sums never ask the records
// but for the parts of an hour, or of a minute, at both ends. Who sends evictions makes names up; each record adds one
// row to a table at most, so that sums are bounded as records are.

// total is a row of the tables by day and by hour.
type total struct {
	at time.Time
	facts
}

// moments is a row of the table by minute.
type moments struct {
	at      time.Time
	outcome string
	dryRun  bool
}

var (
	factsTable  = func(at string) []string { return append(append([]string{at, "key"}, factColumns...), "n") }
	minuteTable = []string{"minute", "outcome", "dry_run", "hour", "n"}
)

// count adds new records to the sums.
func count(ctx context.Context, w writer, fresh []*entry) error {
	days, hours, minutes := map[total]int{}, map[total]int{}, map[moments]int{}
	for _, e := range fresh {
		days[total{floor(e.at, day), e.facts}]++
		hours[total{floor(e.at, hour), e.facts}]++
		minutes[moments{floor(e.at, time.Minute), string(e.outcome), e.dryRun}]++
	}
	if err := addTotals(ctx, w, byDay, days); err != nil {
		return err
	}
	if err := addTotals(ctx, w, byHour, hours); err != nil {
		return err
	}
	var rows [][]any
	for m, n := range minutes {
		rows = append(rows, []any{m.at, m.outcome, m.dryRun, floor(m.at, hour), n})
	}
	return w.each(ctx, addStatement("decisions_by_minute", minuteTable, 3), rows)
}

func addTotals(ctx context.Context, w writer, to *subject, totals map[total]int) error {
	rows := make([][]any, 0, len(totals))
	for t, n := range totals {
		rows = append(rows, append(append([]any{t.at, t.digest()}, t.values()...), n))
	}
	table, _, _ := strings.Cut(to.table, " ")
	return w.each(ctx, addStatement(table, factsTable(to.at), 2), rows)
}

// uncount takes what was before a whole minute out of the sums. The records of that time are gone.
func uncount(ctx context.Context, w writer, before time.Time) error {
	thisDay, thisHour := floor(before, day), floor(before, hour)
	for _, d := range []struct {
		sql string
		at  time.Time
	}{
		{"DELETE FROM decisions_by_minute WHERE minute < $1", before},
		{"DELETE FROM decisions_by_hour WHERE hour <= $1", thisHour},
		{"DELETE FROM decisions_by_day WHERE day <= $1", thisDay},
	} {
		if _, err := w.exec(ctx, d.sql, d.at); err != nil {
			return err
		}
	}
	left, err := countRecords(ctx, w, before, thisHour.Add(hour))
	if err != nil {
		return err
	}
	if err := addTotals(ctx, w, byHour, left); err != nil {
		return err
	}
	columns := strings.Join(append([]string{"key"}, factColumns...), ", ")
	_, err = w.exec(ctx, "INSERT INTO decisions_by_day (day, "+columns+", n) SELECT $1, "+columns+", sum(n) FROM decisions_by_hour WHERE hour >= $2 AND hour < $3 GROUP BY "+columns,
		thisDay, thisDay, thisDay.Add(day))
	return err
}

// countRecords counts those of a part of an hour.
func countRecords(ctx context.Context, r reader, since, until time.Time) (map[total]int, error) {
	totals, at := map[total]int{}, floor(since, hour)
	c := recordTable.where(Filter{Since: since, Until: until, DryRuns: true})
	return totals, eachTotal(ctx, r, recordTable, c, func(f *facts, n int) { totals[total{at, *f}] += n })
}

// eachTotal calls add with what a table has, and how often. The facts are valid until it returns.
func eachTotal(ctx context.Context, r reader, t *subject, c *condition, add func(f *facts, n int)) error {
	columns := t.alias + strings.Join(factColumns, ", "+t.alias)
	selection, group := "SELECT "+columns+", c.n FROM "+t.table, ""
	if t.step == 0 {
		selection, group = "SELECT "+columns+", count(*) FROM "+t.table, " GROUP BY "+columns
	}
	return r.query(ctx, func(scan func(...any) error) error {
		var f facts
		var n int
		if err := scan(append(f.targets(), &n)...); err != nil {
			return err
		}
		add(&f, n)
		return nil
	}, selection+c.sql()+group, c.args...)
}

// piece is a part of a time, and the table that has it.
type piece struct {
	from         *subject
	since, until time.Time
}

// cut divides a time into whole steps of the first table, and what is left at both ends into those of the others; what
// none has as a whole is left to the records.
func cut(since, until time.Time, tables ...*subject) []piece {
	if !since.Before(until) {
		return nil
	}
	if len(tables) == 0 {
		return []piece{{recordTable, since, until}}
	}
	step := tables[0].step
	from, to := ceil(since, step), floor(until, step)
	if !from.Before(to) {
		return cut(since, until, tables[1:]...)
	}
	pieces := append(cut(since, from, tables[1:]...), piece{tables[0], from, to})
	return append(pieces, cut(to, until, tables[1:]...)...)
}

// eachPiece is the condition of a filter on each piece of its time.
func (f Filter) eachPiece(pieces []piece, ask func(*subject, *condition) error) error {
	for _, p := range pieces {
		f.Since, f.Until = p.since, p.until
		if err := ask(p.from, p.from.where(f)); err != nil {
			return err
		}
	}
	return nil
}

// eachCount calls add with the facts of the decisions that a filter chooses, and how many there were.
func eachCount(ctx context.Context, q reader, f Filter, add func(f *facts, n int)) error {
	var tables []*subject
	if byDay.answers(f) {
		tables = []*subject{byDay, byHour}
	}
	return f.eachPiece(cut(f.Since, f.Until, tables...), func(t *subject, c *condition) error { return eachTotal(ctx, q, t, c, add) })
}

// eachMoment calls add with the outcomes of the decisions that a filter chooses, when they were, to the step, and how
// many there were.
func (s *Store) eachMoment(ctx context.Context, q reader, f Filter, step time.Duration, add func(at time.Time, m moments, n int)) error {
	var tables []*subject
	switch whole := step%hour == 0; {
	case byMinute.answers(f):
		tables = []*subject{byMinute}
	case byHour.answers(f) && whole:
		tables = []*subject{byHour}
	}
	return f.eachPiece(cut(f.Since, f.Until, tables...), func(t *subject, c *condition) error {
		at, n := "c."+t.at, "CAST(sum(c.n) AS BIGINT)"
		switch {
		case t == recordTable:
			at, n = s.db.minuteOf("r.at"), "count(*)"
		case step%hour == 0:
			at = "c.hour"
		}
		columns := at + ", " + t.alias + "outcome, " + t.alias + "dry_run"
		return q.query(ctx, func(scan func(...any) error) error {
			var at moment
			var m moments
			var n int
			err := scan(&at, &m.outcome, &m.dryRun, &n)
			add(at.Time, m, n)
			return err
		}, "SELECT "+columns+", "+n+" FROM "+t.table+c.sql()+" GROUP BY "+columns, c.args...)
	})
}
