package main

import (
	"context"
	"iter"
	"time"

	"github.com/evictgate/evictgate/webhook/fate"
	"github.com/evictgate/evictgate/webhook/follow"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// fates follow the pods that somebody tried to evict. Over a snapshot no pod is seen to go.
func (v view) fates(api api, records *recording) (follow.Fates, error) {
	if v.informed == nil {
		return follow.Nothing(), nil
	}
	var to follow.Store
	if records.store != nil {
		to = follow.Store{Queue: sightings(records), Unsettled: records.store.unsettled}
	}
	return follow.Pods(v.informed, api.client, to, records.log)
}

// sightings is the queue to the store. What is left of it is sent when the records are closed, and written.
func sightings(records *recording) *fate.Queue {
	queue := fate.NewQueue(fate.QueueOptions{
		Add: records.store.see, Log: records.log,
		Progress: func() fate.Progress { return fate.ProgressOf(records.Writer, record.OutputStore) },
	})
	flush := func() {
		ctx, cancel := context.WithTimeout(context.Background(), lastSightings)
		defer cancel()
		queue.Flush(ctx)
	}
	records.closers = append([]func(){flush}, records.closers...) // before the store is closed
	return queue
}

// lastSightings is how long the sightings that wait at the end may take.
const lastSightings = 5 * time.Second

// see stores what was seen of pods.
func (k *keeper) see(ctx context.Context, list []record.Sighting) error {
	return k.use(ctx, func(ctx context.Context, s *store.Store) error { return orRefused(s.AddSightings(ctx, list)) })
}

// unsettledAtOnce is how many episodes are read at once: none of them is kept until the next are.
const unsettledAtOnce = 500

// unsettled goes through the episodes that are not over, page by page.
func (k *keeper) unsettled(ctx context.Context) iter.Seq2[record.Episode, error] {
	return func(yield func(record.Episode, error) bool) {
		for page := (store.Page{Limit: unsettledAtOnce}); ; {
			var list store.Episodes
			err := k.use(ctx, func(ctx context.Context, s *store.Store) (err error) {
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

// use does something with the store, for a bounded time.
func (k *keeper) use(ctx context.Context, do func(context.Context, *store.Store) error) error {
	ctx, cancel := context.WithTimeout(ctx, storePatience)
	defer cancel()
	s, err := k.open(ctx)
	if err != nil {
		return err
	}
	return do(ctx, s)
}
