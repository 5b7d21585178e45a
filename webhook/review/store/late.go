package store

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/evictgate/evictgate/webhook/record"
)

const (
	// fileSize holds about 500,000 records. Who floods the gate with evictions fills no disk, which other programs need as
	// well.
	fileSize = 2 << 30
	// MemorySize is the DefaultSize of a store in memory.
	MemorySize = 128 << 20
)

// DefaultSize is how large a store grows, in bytes, when nobody says it; 0 is no bound. A PostgreSQL has a volume, and
// somebody who watches it: it is their decision.
func DefaultSize(url string) int64 {
	switch {
	case isPostgres(url):
		return 0
	case isMemory(url):
		return MemorySize
	}
	return fileSize
}

func isPostgres(url string) bool {
	return strings.HasPrefix(url, "postgres:") || strings.HasPrefix(url, "postgresql:")
}

func isMemory(url string) bool { return url == "sqlite:"+memory }

// Late is a store that may be away when it is wanted first: it is opened as soon as it is there. It is the target of a
// record.Output.
type Late struct {
	url     string
	options Options
	log     *slog.Logger

	opened atomic.Pointer[Store]
	// opening is held by who tries.
	opening sync.Mutex
	told    sync.Once
}

const (
	// patience bounds one use of the store: a server that neither answers nor ends a connection must not be waited for.
	patience = 30 * time.Second
	// retentionEvery is how often what is too old is removed.
	retentionEvery = 5 * time.Minute
	// reopenEvery is how often a store that is away is looked for when there is nothing to write.
	reopenEvery = 5 * time.Second
)

// NewLate is the store of a URL, which Open opens, or the first use of it.
func NewLate(url string, o Options) *Late {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Late{url: url, options: o, log: log}
}

// InMemory reports whether the store ends with the process.
func (l *Late) InMemory() bool { return isMemory(l.url) }

// Begin opens a file at once, so that one that cannot be used is told. A database may be away; only its URL must be one.
func (l *Late) Begin(ctx context.Context) error {
	if isPostgres(l.url) {
		_, err := pgxpool.ParseConfig(l.url) // its errors hide the password
		return err
	}
	_, err := l.Open(ctx)
	return err
}

// Now is the store, if it was ever there; then it finds its way back by itself.
func (l *Late) Now() (*Store, error) {
	if s := l.opened.Load(); s != nil {
		return s, nil
	}
	return nil, errors.New("the store has not been reached since the start; see the log")
}

// Open opens the store, if it is not open.
func (l *Late) Open(ctx context.Context) (*Store, error) {
	l.opening.Lock()
	defer l.opening.Unlock()
	if s := l.opened.Load(); s != nil {
		return s, nil
	}
	s, err := Open(ctx, l.url, l.options)
	if err != nil {
		return nil, err
	}
	l.opened.Store(s)
	if !l.options.ReadOnly {
		l.log.Info("the store is open", "keep", l.options.Retention.Age, "max_bytes", l.options.Retention.Size)
	}
	return s, nil
}

// use does something with the store, for a bounded time.
func (l *Late) use(ctx context.Context, do func(context.Context, *Store) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s, err := l.Open(ctx)
	if err != nil {
		return err
	}
	return do(ctx, s)
}

// Send stores records: all, or none.
func (l *Late) Send(ctx context.Context, records []record.Record) (int, error) {
	err := l.use(ctx, func(ctx context.Context, s *Store) error {
		_, err := s.Add(ctx, records)
		return err
	})
	if err != nil {
		return 0, err
	}
	return len(records), nil
}

// AddSightings stores what was seen of pods.
func (l *Late) AddSightings(ctx context.Context, list []record.Sighting) error {
	return l.use(ctx, func(ctx context.Context, s *Store) error { return s.AddSightings(ctx, list) })
}

// unsettledAtOnce is how many episodes are read at once: none of them is kept until the next are.
const unsettledAtOnce = 500

// Unsettled goes through the episodes that are not over, page by page.
func (l *Late) Unsettled(ctx context.Context) iter.Seq2[record.Episode, error] {
	return func(yield func(record.Episode, error) bool) {
		for page := (Page{Limit: unsettledAtOnce}); ; {
			var list Episodes
			err := l.use(ctx, func(ctx context.Context, s *Store) (err error) {
				list, err = s.Unsettled(ctx, page)
				return err
			})
			if err != nil {
				yield(record.Episode{}, err)
				return
			}
			for _, e := range list.Episodes {
				if !yield(e, nil) {
					return
				}
			}
			if page.After = list.Next; page.After == "" {
				return
			}
		}
	}
}

// Start removes what is too old or too much, again and again, until ctx is done. Much that was written is looked at
// at once.
func (l *Late) Start(ctx context.Context) error {
	for {
		pause := l.retain(ctx)
		var grown <-chan struct{}
		if s := l.opened.Load(); s != nil {
			grown = s.Grown()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-grown:
		case <-time.After(pause):
		}
	}
}

// retain returns how long to wait before the next time.
func (l *Late) retain(ctx context.Context) time.Duration {
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s, err := l.Open(bounded)
	if err != nil {
		if ctx.Err() == nil {
			l.told.Do(func() { l.log.Warn("the store is away; records wait for it", "error", err.Error()) })
		}
		return reopenEvery
	}
	bounded, cancel = context.WithTimeout(ctx, retentionEvery)
	defer cancel()
	removed, err := s.Retain(bounded, time.Now())
	switch {
	case err != nil && ctx.Err() == nil:
		l.log.Warn("old records cannot be removed from the store", "error", err.Error())
	case removed > 0:
		l.log.Info("old records removed from the store", "records", removed)
	}
	return retentionEvery
}

// Close closes the store, if it is open.
func (l *Late) Close() {
	s := l.opened.Load()
	if s == nil {
		return
	}
	if err := s.Close(); err != nil {
		l.log.Warn("the store was not closed well", "error", err.Error())
	}
}

// NeedLeaderElection is false: every replica keeps its records.
func (*Late) NeedLeaderElection() bool { return false }
