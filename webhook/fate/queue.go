package fate

import (
	"context"
	"log/slog"
	"time"

	"github.com/evictgate/evictgate/webhook/internal/queue"
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
	progress func() Progress
	waiting  *queue.Queue[waiting]
}

// waiting is a sighting, and how far the records must be before it.
type waiting struct {
	sighting      record.Sighting
	offered, lost int64
}

// NewQueue starts a queue. Close ends it.
func NewQueue(o QueueOptions) *Queue {
	q := &Queue{progress: o.Progress}
	q.waiting = queue.New(queue.Options[waiting]{
		Send: func(ctx context.Context, list []waiting) (int, error) {
			sightings := make([]record.Sighting, len(list))
			for i, w := range list {
				sightings[i] = w.sighting
			}
			return 0, o.Add(ctx, sightings) // all, or none
		},
		Ready: q.due, Length: maxWaiting, Batch: maxBatch, FirstRetry: lookEvery, LastRetry: lastRetry, Log: o.Log,
		Texts: queue.Texts{
			Lost: "sightings of pods lost", Closed: "the queue is closed", Late: "the store did not take them before the end",
			Away: "sightings of pods wait, the store does not take them",
		},
	})
	return q
}

// Put queues a sighting; it never blocks. One that finds the queue full is lost and counted.
func (q *Queue) Put(s record.Sighting) {
	p := q.progress()
	q.waiting.Put(waiting{s, p.Offered, p.Lost}, 0)
}

// Lost is the number of sightings lost so far.
func (q *Queue) Lost() int64 { return q.waiting.Counts().Lost }

// Close sends what is left once the records are written, until ctx is done, and counts the rest as lost.
func (q *Queue) Close(ctx context.Context) { q.waiting.Close(ctx) }

// due counts the oldest sightings whose records are in the store or lost.
func (q *Queue) due(list []waiting) (n int) {
	p := q.progress()
	// Losses since then may be of later records; when some were of earlier ones, nothing waits in the end.
	for n < len(list) && (p.Waiting == 0 || p.Written+list[n].lost >= list[n].offered) {
		n++
	}
	return n
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
