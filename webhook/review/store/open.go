package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
)

// ErrNotFound is returned for a record or an episode that the store does not have.
var ErrNotFound = errors.New("not found in the store")

// Options say how a Store is used. The zero value writes, keeps everything and logs to nobody.
type Options struct {
	// ReadOnly opens what is there, and changes nothing.
	ReadOnly bool
	// Retention is what Retain goes by.
	Retention Retention
	// Log is told of what no caller is.
	Log *slog.Logger
}

// Store keeps records. It is for use by many goroutines at once.
type Store struct {
	db        database
	retention Retention
	readOnly  bool
	log       *slog.Logger
	// written counts records since the planner's statistics were brought up to date, and room about the bytes that
	// they took since Retain; grown tells that these are many.
	written, room atomic.Int64
	grown         chan struct{}
}

// Open opens a store: sqlite:FILE, sqlite::memory: or postgres://…. A store that is new, or of an older
// version, is brought to the form that this version knows; one of a newer version is refused.
func Open(ctx context.Context, url string, o Options) (*Store, error) {
	s := &Store{retention: o.Retention, readOnly: o.ReadOnly, log: o.Log, grown: make(chan struct{}, 1)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if s.db, err = open(ctx, url, o.ReadOnly, s.log); err != nil {
		return nil, err
	}
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func open(ctx context.Context, url string, readOnly bool, log *slog.Logger) (database, error) {
	scheme, file, _ := strings.Cut(url, ":")
	switch {
	case scheme == "sqlite" && file != "":
		return openSQLite(ctx, file, readOnly, log)
	case scheme == "postgres", scheme == "postgresql":
		return openPostgres(ctx, url, readOnly)
	}
	return nil, fmt.Errorf("%q is not a store; expected sqlite:FILE, sqlite::memory: or postgres://USER@HOST/DATABASE", scheme)
}

// Close ends all connections. What was acknowledged is kept.
func (s *Store) Close() error {
	return s.db.close()
}

// write refuses in a store that is opened for reading.
func (s *Store) write(ctx context.Context, f func(writer) error) error {
	if s.readOnly {
		return errors.New("the store is opened for reading only")
	}
	return s.db.write(ctx, f)
}
