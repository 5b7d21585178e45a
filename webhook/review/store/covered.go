package store

import (
	"context"
	"time"
)

// Span is a time from the first to the last of something; zero when there is none.
type Span struct {
	From  time.Time `json:"from,omitzero"`
	Until time.Time `json:"until,omitzero"`
}

// And is the time from the first to the last of both.
func (s Span) And(o Span) Span {
	switch {
	case s.From.IsZero():
		return o
	case o.From.IsZero():
		return s
	}
	if o.From.Before(s.From) {
		s.From = o.From
	}
	if o.Until.After(s.Until) {
		s.Until = o.Until
	}
	return s
}

// Covered says from when to when there are decisions, and answers of the API server.
func (s *Store) Covered(ctx context.Context) (decisions, answers Span, err error) {
	err = s.db.read(ctx, func(q reader) error {
		if err := span(ctx, q, &decisions, "records"); err != nil {
			return err
		}
		return span(ctx, q, &answers, "answers")
	})
	return decisions, answers, err
}

func span(ctx context.Context, q reader, to *Span, table string) error {
	return q.query(ctx, func(scan func(...any) error) error {
		var first, last moment
		err := scan(&first, &last)
		to.From, to.Until = first.Time, last.Time
		return err
	}, "SELECT min(at), max(at) FROM "+table)
}
