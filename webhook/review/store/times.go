package store

import (
	"fmt"
	"time"
)

// timeForm is a time in SQLite, which has no type for it: RFC 3339, in UTC, of one length, so that it sorts.
const timeForm = "2006-01-02T15:04:05.000000Z"

// minuteForm is the beginning of it, up to the minute.
const minuteForm = "2006-01-02T15:04"

// moment reads a time from a row: a text of SQLite, or what PostgreSQL's driver makes of its own; zero for NULL.
type moment struct{ time.Time }

// Scan is that of sql.Scanner.
func (m *moment) Scan(value any) (err error) {
	switch v := value.(type) {
	case nil:
		m.Time = time.Time{}
	case time.Time:
		m.Time = v.UTC()
	case string:
		m.Time, err = parseTime(v)
	default:
		err = fmt.Errorf("a time of the store is a %T", value)
	}
	return err
}

func parseTime(text string) (time.Time, error) {
	if len(text) == len(minuteForm) {
		return time.Parse(minuteForm, text)
	}
	return time.Parse(timeForm, text)
}

const (
	hour = time.Hour
	day  = 24 * time.Hour
)

// floor is the multiple of a step since 1970 that is not after a time.
func floor(at time.Time, step time.Duration) time.Time {
	micros, width := at.UnixMicro(), step.Microseconds()
	rest := micros % width
	if rest < 0 {
		rest += width
	}
	return fromMicros(micros - rest)
}

// ceil is the multiple of a step since 1970 that is not before a time.
func ceil(at time.Time, step time.Duration) time.Time {
	from := floor(at, step)
	if from.Before(at) {
		return from.Add(step)
	}
	return from
}

// fromMicros is a time by its microseconds since 1970; a store keeps no less.
func fromMicros(at int64) time.Time { return time.UnixMicro(at).UTC() }

// orNull is NULL for a time that is not known.
func orNull(at time.Time) any {
	if at.IsZero() {
		return nil
	}
	return kept(at)
}

// kept is a time as a store keeps it.
func kept(at time.Time) time.Time { return fromMicros(at.UnixMicro()) }
