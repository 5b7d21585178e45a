package page

import (
	"context"
	"time"

	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// Late is a store that may not have been reached yet: its error says so.
func Late(now func() (*store.Store, error)) Store { return lateStore{now} }

type lateStore struct {
	now func() (*store.Store, error)
}

func late[T any](l lateStore, ask func(*store.Store) (T, error)) (T, error) {
	s, err := l.now()
	if err != nil {
		var none T
		return none, err
	}
	return ask(s)
}

func (l lateStore) List(ctx context.Context, f store.Filter, p store.Page) (store.Rows, error) {
	return late(l, func(s *store.Store) (store.Rows, error) { return s.List(ctx, f, p) })
}

func (l lateStore) Record(ctx context.Context, id string) (record.Record, error) {
	return late(l, func(s *store.Store) (record.Record, error) { return s.Record(ctx, id) })
}

func (l lateStore) Episodes(ctx context.Context, f store.Filter, p store.Page) (store.Episodes, error) {
	return late(l, func(s *store.Store) (store.Episodes, error) { return s.Episodes(ctx, f, p) })
}

func (l lateStore) Episode(ctx context.Context, id string) (record.Episode, error) {
	return late(l, func(s *store.Store) (record.Episode, error) { return s.Episode(ctx, id) })
}

func (l lateStore) StuckPage(ctx context.Context, f store.Filter, since time.Time, p store.Page) (store.StuckPage, error) {
	return late(l, func(s *store.Store) (store.StuckPage, error) { return s.StuckPage(ctx, f, since, p) })
}

func (l lateStore) Stats(ctx context.Context, f store.Filter) (store.Stats, error) {
	return late(l, func(s *store.Store) (store.Stats, error) { return s.Stats(ctx, f) })
}
