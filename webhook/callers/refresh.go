package callers

import (
	"context"
	"time"
)

const (
	// refreshEvery is how often unknown secrets have the objects read anew at most, refreshWithin how long that may
	// take.
	refreshEvery, refreshWithin = time.Second, 2 * time.Second
	// maxWaiting bounds the reviews that wait for that: any secret that somebody makes up is one.
	maxWaiting = 32
)

// refresher reads something anew for those who wait, all of them at once, and seldom.
type refresher struct {
	waiting, turn chan struct{}
	every         time.Duration
	// begun is when the last reading began; only who has the turn touches it.
	begun *time.Time
}

func newRefresher() refresher {
	return refresher{every: refreshEvery, waiting: make(chan struct{}, maxWaiting), turn: make(chan struct{}, 1), begun: new(time.Time)}
}

// do returns when something was read anew since it was called, or that is not to be.
func (r refresher) do(ctx context.Context, read func(context.Context) error) {
	called := time.Now()
	select {
	case r.waiting <- struct{}{}:
		defer func() { <-r.waiting }()
	default:
		return
	}
	ctx, cancel := context.WithTimeout(ctx, refreshWithin)
	defer cancel()
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return
	}
	if r.begun.After(called) {
		return
	}
	select {
	case <-time.After(time.Until(r.begun.Add(r.every))):
	case <-ctx.Done():
		return
	}
	*r.begun = time.Now()
	_ = read(ctx) // what could not be read is not known
}
