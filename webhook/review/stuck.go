package review

import (
	"context"
	"slices"
	"time"

	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// AskStuck says which blocked pods are looked for.
type AskStuck struct {
	// At is the time that the others count from.
	At     time.Time
	Filter store.Filter
	// TriedWithin is how long ago the last try may be, and OlderThan how long ago at least the first refusal.
	TriedWithin, OlderThan time.Duration
	// All asks for those, too, that nobody tries to evict any more.
	All bool
}

// StuckPods are those whose eviction is refused again and again, the oldest first.
type StuckPods struct {
	At time.Time `json:"at"`
	// TriedSince is zero when those given up are listed, too.
	TriedSince time.Time        `json:"tried_since,omitzero"`
	Stuck      []record.Episode `json:"stuck"`
	// Within is how long ago the last try may be; GivenUp counts the pods that AskStuck.All would add.
	Within  time.Duration `json:"-"`
	GivenUp int           `json:"-"`
}

// Blocked finds blocked pods; a store does.
type Blocked interface {
	Stuck(ctx context.Context, f store.Filter, triedSince time.Time) ([]record.Episode, error)
}

// FindStuck asks for all that are blocked, and keeps those that are tried still, or all.
func FindStuck(ctx context.Context, from Blocked, ask AskStuck) (StuckPods, error) {
	found := StuckPods{At: ask.At, Stuck: []record.Episode{}, Within: ask.TriedWithin}
	blocked, err := from.Stuck(ctx, ask.Filter, time.Time{})
	if err != nil {
		return found, err
	}
	blocked = slices.DeleteFunc(blocked, func(e record.Episode) bool { return e.FirstRefused.After(ask.At.Add(-ask.OlderThan)) })
	if ask.All {
		found.Stuck = append(found.Stuck, blocked...)
		return found, nil
	}
	found.TriedSince = ask.At.Add(-ask.TriedWithin)
	for _, e := range blocked {
		if e.Stuck(found.TriedSince) {
			found.Stuck = append(found.Stuck, e)
		}
	}
	found.GivenUp = len(blocked) - len(found.Stuck)
	return found, nil
}
