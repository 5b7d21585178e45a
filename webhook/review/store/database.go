package store

import (
	"context"
	"strings"
	"time"
)

// database is what SQLite and PostgreSQL do each in its own way. Statements have the parameters $1, $2, …; a time among
// them is a time.Time.
type database interface {
	// read runs f on one state of the data.
	read(ctx context.Context, f func(reader) error) error
	// write runs f in a transaction, which is committed when write returns nil. There is one at a time,
	// whoever writes: what f has read does not change before it writes. Its error is a record.ErrRefused when
	// the data will never be taken.
	write(ctx context.Context, f func(writer) error) error
	// kinds replaces {text} and the like in a statement of the schema.
	kinds() *strings.Replacer
	// minuteOf is the expression for the minute in which a time is.
	minuteOf(column string) string
	// size is the room on disk that the data takes, in bytes.
	size(ctx context.Context) (int64, error)
	// grain is the time of which all records must go before size shrinks.
	grain() time.Duration
	// tidy gives room back and brings the planner's statistics up to date, each as far as that is cheap.
	tidy(ctx context.Context) error
	close() error
}

// reader asks for rows.
type reader interface {
	// query calls each for every row.
	query(ctx context.Context, each func(scan func(...any) error) error, sql string, args ...any) error
	// in is the condition that a column is one of a list, which becomes parameter n, and its argument.
	in(column string, n int, list []string) (string, any)
}

// writer changes rows.
type writer interface {
	reader
	exec(ctx context.Context, sql string, args ...any) (int64, error)
	// insert adds many rows whose keys are new.
	insert(ctx context.Context, table string, columns []string, rows [][]any) error
	// each runs a statement for many rows of arguments.
	each(ctx context.Context, sql string, rows [][]any) error
	// makeRoom sees to it that rows of these times can be inserted; dropBefore removes records of before,
	// as cheaply as it can.
	makeRoom(ctx context.Context, times []time.Time) error
	dropBefore(ctx context.Context, before time.Time) (int, error)
}

// put adds many rows, or replaces those with the same key, which are the first columns.
func put(ctx context.Context, w writer, table string, columns []string, keys int, rows [][]any) error {
	return w.each(ctx, putStatement(table, columns, keys), rows)
}

// parameters are $1, $2, … for n columns.
func parameters(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(parameter(i + 1))
	}
	return b.String()
}

func insertStatement(table string, columns []string) string {
	return "INSERT INTO " + table + " (" + strings.Join(columns, ", ") + ") VALUES (" + parameters(len(columns)) + ")"
}

func putStatement(table string, columns []string, keys int) string {
	var set []string
	for _, c := range columns[keys:] {
		set = append(set, c+" = excluded."+c)
	}
	on := onConflict(columns[:keys])
	if len(set) == 0 {
		return insertStatement(table, columns) + on + "NOTHING"
	}
	return insertStatement(table, columns) + on + "UPDATE SET " + strings.Join(set, ", ")
}

// addStatement adds n, the last column, to that of the row with the same key.
func addStatement(table string, columns []string, keys int) string {
	return insertStatement(table, columns) + onConflict(columns[:keys]) + "UPDATE SET n = " + table + ".n + excluded.n"
}

func onConflict(keys []string) string { return " ON CONFLICT (" + strings.Join(keys, ", ") + ") DO " }
