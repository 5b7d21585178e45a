package fate

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evictgate/evictgate/webhook/record"
)

const (
	// maxWaiting bounds the sightings that wait for the store, about 200 bytes each.
	maxWaiting = 20_000
	// maxBatch is how many sightings are added at once.
	maxBatch = 500
	// lookEvery is how often it is seen whether the records are there, and lastRetry the longest pause while
	// the store takes nothing.
	lookEvery, lastRetry = 200 * time.Millisecond, 5 * time.Second
)

// Progress says how far the records are on their way to the store.
type Progress struct {
	// Offered records were handed over; of these the store has Written, will never have Lost, and Waiting
	// are on their way.
	Offered, Written, Lost, Waiting int64
}

// QueueOptions are the parts of a Queue.
type QueueOptions struct {
	// Add gives sightings to the store, which leaves out those of pods without a record. What it will never
	// take it answers with a record.ErrRefused.
	Add func(context.Context, []record.Sighting) error
	// Progress is that of the records. It reads what is lost before what is offered.
	Progress func() Progress
	Log      *slog.Logger
}

// Queue hands sightings to a store, each after the records that were written before it was seen. It takes
// them without waiting, and tries again while the store is away.
type Queue struct {
	QueueOptions
	lost atomic.Int64

	// sending is held while sightings are sent: the last ones are while Start may still be at it.
	sending sync.Mutex

	mu      sync.Mutex
	waiting []waiting
	wake    chan struct{}
}

// waiting is a sighting, and how far the records must be before it.
type waiting struct {
	sighting      record.Sighting
	offered, lost int64
}

// NewQueue makes an empty queue; Start empties it.
func NewQueue(o QueueOptions) *Queue { return &Queue{QueueOptions: o, wake: make(chan struct{}, 1)} }

// Put queues a sighting; it never blocks. One that finds the queue full is lost and counted.
func (q *Queue) Put(s record.Sighting) {
	p := q.Progress()
	q.mu.Lock()
	full := len(q.waiting) >= maxWaiting
	if !full {
		q.waiting = append(q.waiting, waiting{s, p.Offered, p.Lost})
	}
	q.mu.Unlock()
	if full {
		q.lose(1, "the queue is full")
		return
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Lost is the number of sightings lost so far.
func (q *Queue) Lost() int64 { return q.lost.Load() }

// lose counts, and tells the first loss and every thousandth.
func (q *Queue) lose(n int, why string) {
	after := q.lost.Add(int64(n))
	if before := after - int64(n); before == 0 || before/1000 != after/1000 {
		q.Log.Error("sightings of pods lost", "lost", after, "why", why)
	}
}

// NeedLeaderElection is false: every replica tells what it saw.
func (*Queue) NeedLeaderElection() bool { return false }

// Start empties the queue until ctx is done; Flush sends the rest. It is a controller-runtime Runnable.
func (q *Queue) Start(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-q.wake:
			q.drain(ctx)
		}
	}
}

// Flush sends what is left once the records are written, until ctx is done, and counts the rest as lost.
func (q *Queue) Flush(ctx context.Context) {
	q.drain(ctx)
	q.mu.Lock()
	n := len(q.waiting)
	q.waiting = nil
	q.mu.Unlock()
	if n > 0 {
		q.lose(n, "the store did not take them before the end")
	}
}

// drain returns when nothing waits, or ctx is done. A batch that is refused is halved, so that only what is
// refused alone is lost.
func (q *Queue) drain(ctx context.Context) {
	q.sending.Lock()
	defer q.sending.Unlock()
	failing, pause, size := false, lookEvery, maxBatch
	for {
		batch, more := q.due(size)
		if !more || ctx.Err() != nil {
			return
		}
		if len(batch) > 0 {
			err := q.Add(ctx, batch)
			switch {
			case err == nil:
				q.remove(len(batch))
				failing, pause, size = false, lookEvery, min(2*size, maxBatch)
				continue
			case errors.Is(err, record.ErrRefused) && len(batch) > 1:
				size = len(batch) / 2
				continue
			case errors.Is(err, record.ErrRefused):
				q.remove(1)
				q.lose(1, err.Error())
				continue
			}
			q.tellAway(&failing, err)
			pause = min(2*pause, lastRetry)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (q *Queue) tellAway(told *bool, err error) {
	if !*told {
		*told = true
		q.Log.Warn("sightings of pods wait, the store does not take them", "error", err.Error())
	}
}

// due lists the oldest sightings whose records are in the store or lost, at most size; more is whether any
// wait.
func (q *Queue) due(size int) (batch []record.Sighting, more bool) {
	p := q.Progress()
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, w := range q.waiting {
		// Losses since then may be of later records; when some were of earlier ones, nothing waits in the end.
		if len(batch) == size || (p.Waiting > 0 && p.Written+w.lost < w.offered) {
			break
		}
		batch = append(batch, w.sighting)
	}
	return batch, len(q.waiting) > 0
}

func (q *Queue) remove(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.waiting[:n])
	if q.waiting = q.waiting[n:]; len(q.waiting) == 0 {
		q.waiting = nil
	}
}

// ProgressOf reads how far the records of a writer are on their way to one of its outputs.
func ProgressOf(w *record.Writer, output string) Progress {
	var p Progress
	for i, c := range w.Counts() {
		if i == 0 { // a record is made for the JSON lines, then handed to the other outputs
			p.Waiting = c.Waiting
		}
		if c.Output == output {
			p.Written, p.Lost = c.Written, c.Lost
			if i > 0 {
				p.Waiting += c.Waiting
			}
		}
	}
	p.Offered = w.Offered()
	return p
}
