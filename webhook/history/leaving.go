package history

import (
	"context"
	"hash/maphash"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Leaving reports whether the eviction of a pod was admitted just before, so that the pod goes though
// nobody sees it yet.
func (l *Ledger) Leaving(pod types.UID, now time.Time) bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle(now)
	a := l.attempts[pod]
	return a != nil && a.goes(now, l.watch != nil)
}

// turns lets decisions about one workload wait for each other, by the hash of its name.
type turns struct {
	seed maphash.Seed
	one  [64]chan struct{}
}

func newTurns() turns {
	t := turns{seed: maphash.MakeSeed()}
	for i := range t.one {
		t.one[i] = make(chan struct{}, 1)
	}
	return t
}

// Turn waits until no other decision about the workload is under way, so that the second of two evictions
// at once sees that the first pod leaves. The caller ends its turn with done. The error is ctx's.
func (l *Ledger) Turn(ctx context.Context, workload string) (done func(), err error) {
	if l == nil || workload == "" {
		return func() {}, nil
	}
	one := l.turns.one[maphash.String(l.turns.seed, workload)%uint64(len(l.turns.one))]
	select {
	case one <- struct{}{}:
		return func() { <-one }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
