package history

import (
	"context"
	"hash/maphash"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/evictgate/evictgate/policies"
)

// maxLeaving bounds the pods that are remembered as leaving.
const maxLeaving = 20_000

// Leaving reports whether the eviction of a pod was admitted just before, so that the pod goes though
// nobody sees it yet.
func (l *Ledger) Leaving(pod types.UID, now time.Time) bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	at, ok := l.leaving[pod]
	return ok && now.Sub(at) < leavingFor
}

func (l *Ledger) noteLeaving(in *policies.Input) {
	if len(l.leaving) >= maxLeaving {
		l.forgetLeaving(in.Now.Time)
	}
	l.leaving[in.Pod.UID] = in.Now.Time
}

// forgetLeaving drops what is over; when that is not enough, all: memory must stay bounded.
func (l *Ledger) forgetLeaving(now time.Time) {
	for uid, at := range l.leaving {
		if now.Sub(at) >= leavingFor {
			delete(l.leaving, uid)
		}
	}
	if len(l.leaving) >= maxLeaving {
		clear(l.leaving)
	}
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
