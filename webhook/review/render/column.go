// Package render declares how lists of decisions and of evictions look: each column once, for tables, for CSV, and for
// whoever shows them.
package render

import (
	"strings"
	"time"

	"github.com/evictgate/evictgate/policies/output"
)

// Column is one of a list of T.
type Column[T any] struct {
	// Name is that of CSV: the field's name in JSON, if it is one there.
	Name string
	// Data is the cell of CSV.
	Data func(*T) string
	// Title heads the column in a table; empty where tables lack it.
	Title string
	// In says which tables have it.
	In Layout
	// Cell is that of a table; nil where it is Data, or - where that is empty.
	Cell func(*Style, *T) string
}

// Layout is a set of tables.
type Layout int

const (
	// Table fits a terminal.
	Table Layout = 1 << iota
	// Wide has more columns.
	Wide
)

// Style says how a table writes what depends on all of it, or on who reads it.
type Style struct {
	Layout Layout
	// Time writes a time.
	Time func(time.Time) string
	// ID writes an id.
	ID func(string) string
	// Message writes what clients were told.
	Message func(string) string
}

// Sheet is a list's columns, in their order.
type Sheet[T any] []Column[T]

// Rows are the lines of a table, its header first.
func (s Sheet[T]) Rows(style *Style, list []T) [][]string {
	rows := make([][]string, len(list)+1)
	for _, c := range s {
		if c.In&style.Layout == 0 {
			continue
		}
		rows[0] = append(rows[0], c.Title)
		for i := range list {
			rows[i+1] = append(rows[i+1], c.cell(style, &list[i]))
		}
	}
	return rows
}

func (c *Column[T]) cell(style *Style, of *T) string {
	if c.Cell != nil {
		return c.Cell(style, of)
	}
	return output.OrDash(c.Data(of))
}

// Names are the header of CSV.
func (s Sheet[T]) Names() []string {
	names := make([]string, len(s))
	for i, c := range s {
		names[i] = c.Name
	}
	return names
}

// Record is a line of CSV before WriteCSV.
func (s Sheet[T]) Record(of *T) []string {
	cells := make([]string, len(s))
	for i, c := range s {
		cells[i] = c.Data(of)
	}
	return cells
}

// Lines are those of CSV, its header first, before WriteCSV.
func (s Sheet[T]) Lines(list []T) [][]string {
	lines := [][]string{s.Names()}
	for i := range list {
		lines = append(lines, s.Record(&list[i]))
	}
	return lines
}

// Time is a time in data: RFC 3339 in UTC, with its fractions; empty when it is not known.
func Time(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// List is a list in one cell of data.
func List(list []string) string { return strings.Join(list, ";") }
