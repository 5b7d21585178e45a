package store

import (
	"slices"

	"github.com/evictgate/evictgate/webhook/record"
)

// Chooses reports whether the filter chooses a record that is in no store, as a store that has it would.
func (f Filter) Chooses(r *record.Record) bool {
	e := entry{record: r}
	e.describe()
	if (!f.Since.IsZero() && e.at.Before(kept(f.Since))) || (!f.Until.IsZero() && !e.at.Before(kept(f.Until))) {
		return false
	}
	row := e.row()
	return !slices.ContainsFunc(f.clean().criteria(), func(k criterion) bool { return !e.meets(k, row) })
}

// meets is condition.meet for the row that an entry will be.
func (e *entry) meets(k criterion, row []any) bool {
	switch columns := recordTable.columnsOf(k); {
	case columns != nil:
		return slices.ContainsFunc(columns, func(column string) bool { return row[slices.Index(recordColumns, column)] == k.value })
	case recordTable.named[k.field]:
		return slices.Contains(e.names(), k.name())
	}
	return true
}
