package main

import (
	"context"
	"time"

	"github.com/evictgate/evictgate/webhook/fate"
	"github.com/evictgate/evictgate/webhook/follow"
	"github.com/evictgate/evictgate/webhook/record"
)

// fates follow the pods that somebody tried to evict. Over a snapshot no pod is seen to go.
func (v view) fates(api api, records *recording) (follow.Fates, error) {
	if v.informed == nil {
		return follow.Nothing(), nil
	}
	var to follow.Store
	if records.store != nil {
		to = follow.Store{Queue: sightings(records), Unsettled: records.store.Unsettled}
	}
	return follow.Pods(v.informed, api.client, to, records.log)
}

// sightings is the queue to the store. What is left of it is sent when the records are closed, and written.
func sightings(records *recording) *fate.Queue {
	queue := fate.NewQueue(fate.QueueOptions{
		Add: records.store.AddSightings, Log: records.log,
		Progress: func() fate.Progress { return fate.ProgressOf(records.Writer, record.OutputStore) },
	})
	end := func() {
		ctx, cancel := context.WithTimeout(context.Background(), lastSightings)
		defer cancel()
		queue.Close(ctx)
	}
	records.closers = append([]func(){end}, records.closers...) // before the store is closed
	return queue
}

// lastSightings is how long the sightings that wait at the end may take.
const lastSightings = 5 * time.Second
