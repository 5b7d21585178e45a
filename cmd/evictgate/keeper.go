package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// keepFlags say how much a store keeps.
type keepFlags struct{ age, maxSize string }

func (f *keepFlags) add(flags *pflag.FlagSet, age string) {
	flags.StringVar(&f.age, "store-keep", age, "how long the store keeps records; 0 for ever")
	flags.StringVar(&f.maxSize, "store-max-size", "", "how large the store may grow, such as 500Mi; beyond it the oldest records go; 0 for no bound; default: "+
		"2Gi for SQLite, 128Mi for SQLite in memory, no bound for PostgreSQL")
}

const (
	// sqliteSize holds about 1.5 million records, which a busy cluster makes in a month. Who floods the gate with
	// evictions fills no disk, which other programs need as well.
	sqliteSize = 2 << 30
	memorySize = 128 << 20
)

// defaultSize is how large a store grows when nobody says it. A PostgreSQL has a volume, and somebody who watches it:
// it is their decision.
func defaultSize(url string) int64 {
	switch {
	case isPostgres(url):
		return 0
	case url == memoryStore:
		return memorySize
	}
	return sqliteSize
}

// retention is what --store-keep and --store-max-size say of a store.
func (f *keepFlags) retention(url string) (store.Retention, error) {
	var r store.Retention
	var err error
	if r.Age, err = review.ReadAge(f.age); err != nil {
		return r, fmt.Errorf("--store-keep is %q; expected an age such as 720h or 30d", f.age)
	}
	if f.maxSize == "" {
		r.Size = defaultSize(url)
		return r, nil
	}
	size, err := resource.ParseQuantity(f.maxSize)
	if err != nil || size.Sign() < 0 {
		return r, fmt.Errorf("--store-max-size is %q; expected a size such as 500Mi or 2Gi", f.maxSize)
	}
	r.Size = size.Value()
	return r, nil
}

// keeper has the store, which may be away when the server starts. It is the target of an output.
type keeper struct {
	url     string
	options store.Options
	log     *slog.Logger

	opened atomic.Pointer[store.Store]
	// opening is held by who tries.
	opening sync.Mutex
	told    sync.Once
}

const (
	// storePatience bounds one use of the store: a server that neither answers nor ends a connection must
	// not be waited for.
	storePatience = 30 * time.Second
	// retentionEvery is how often what is too old is removed.
	retentionEvery = 5 * time.Minute
	// reopenEvery is how often a store that is away is looked for when there is nothing to write.
	reopenEvery = 5 * time.Second
)

// Now is the store, if it was ever there; then it finds its way back by itself.
func (k *keeper) Now() (*store.Store, error) {
	if s := k.opened.Load(); s != nil {
		return s, nil
	}
	return nil, errors.New("the store has not been reached since the start; see the log")
}

// open opens the store, if it is not open.
func (k *keeper) open(ctx context.Context) (*store.Store, error) {
	k.opening.Lock()
	defer k.opening.Unlock()
	if s := k.opened.Load(); s != nil {
		return s, nil
	}
	s, err := store.Open(ctx, k.url, k.options)
	if err != nil {
		return nil, err
	}
	k.opened.Store(s)
	if !k.options.ReadOnly {
		k.log.Info("the store is open", "keep", k.options.Retention.Age, "max_bytes", k.options.Retention.Size)
	}
	return s, nil
}

// Send stores records: all, or none.
func (k *keeper) Send(ctx context.Context, records []record.Record) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	s, err := k.open(ctx)
	if err != nil {
		return 0, err
	}
	if _, err := s.Add(ctx, records); err != nil {
		return 0, orRefused(err)
	}
	return len(records), nil
}

// orRefused tells data that a database will never take from one that is away; see Appendix A of
// PostgreSQL's manual.
func orRefused(err error) error {
	var answer *pgconn.PgError
	if errors.As(err, &answer) && strings.HasPrefix(answer.Code, "22") {
		return fmt.Errorf("%w: %w", record.ErrRefused, err)
	}
	return err
}

// Start removes what is too old or too much, again and again, until ctx is done. Much that was written is looked at
// at once.
func (k *keeper) Start(ctx context.Context) error {
	for {
		pause := k.retain(ctx)
		var grown <-chan struct{}
		if s := k.opened.Load(); s != nil {
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
func (k *keeper) retain(ctx context.Context) time.Duration {
	bounded, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	s, err := k.open(bounded)
	if err != nil {
		if ctx.Err() == nil {
			k.told.Do(func() { k.log.Warn("the store is away; records wait for it", "error", err.Error()) })
		}
		return reopenEvery
	}
	bounded, cancel = context.WithTimeout(ctx, retentionEvery)
	defer cancel()
	removed, err := s.Retain(bounded, time.Now())
	switch {
	case err != nil && ctx.Err() == nil:
		k.log.Warn("old records cannot be removed from the store", "error", err.Error())
	case removed > 0:
		k.log.Info("old records removed from the store", "records", removed)
	}
	return retentionEvery
}

func (k *keeper) close() {
	s := k.opened.Load()
	if s == nil {
		return
	}
	if err := s.Close(); err != nil {
		k.log.Warn("the store was not closed well", "error", err.Error())
	}
}

// NeedLeaderElection is false: every replica keeps its records.
func (*keeper) NeedLeaderElection() bool { return false }
