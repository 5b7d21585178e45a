// Package queue holds what waits for a receiver that may be away: records on their way to a store or an upload, and
// what was seen of pods. Nobody who hands something over waits for it, what waits is bounded, and what is lost is
// counted.
package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// ErrRefused is what an error of Options.Send wraps when the receiver is there and will never take these items as
// they are: to send them again is of no use.
var ErrRefused = errors.New("refused")

// Options describe a queue.
type Options[T any] struct {
	// Send says how many of the items the receiver has now, counted from the first; all of them when it returns no
	// error. What it has not is sent again, but for an ErrRefused.
	Send func(ctx context.Context, items []T) (sent int, err error)
	// Ready says how many of the oldest items may be sent by now, and is asked again after FirstRetry when none may.
	// Nil when all may.
	Ready func(items []T) int
	// Length is how many items wait at most, those that are being sent included, and MaxBytes how many bytes they may
	// have together; a single item may have more. An item that comes beyond is lost: what waits stays whole, from the
	// first that the receiver missed on, and the gap lies at the end of its absence.
	Length, MaxBytes int
	// Batch is how many items are sent at once at most, and MaxBatchBytes of how many bytes; a single item may have
	// more. Linger is how long the first of a batch waits for more.
	Batch, MaxBatchBytes int
	Linger               time.Duration
	// FirstRetry is the pause after the first failure; it doubles until LastRetry.
	FirstRetry, LastRetry time.Duration
	Log                   *slog.Logger
	Texts                 Texts
}

// Texts are what the log says of a queue.
type Texts struct {
	// Lost is told of losses; Closed and Late say why, when an item came after Close, or was not taken before the end.
	Lost, Closed, Late string
	// Away is told when the receiver takes nothing, and Back when it does again; nothing is told when Back is empty.
	Away, Back string
}

// Queue sends items to a receiver: in batches, in their order, again and again while it is away. It counts exactly what
// is lost. It is safe for concurrent use.
type Queue[T any] struct {
	Tally
	options Options[T]
	// ctx ends when Close has lost its patience.
	ctx    context.Context
	cancel context.CancelFunc
	// wake tells the sender that items came, or that no more will; full that they are enough for a batch.
	wake, full chan struct{}
	done       chan struct{}

	mu sync.Mutex
	// waiting are the items that the receiver has not, the oldest first, and sizes their bytes.
	waiting []T
	sizes   []int
	bytes   int
	closed  bool
	// over is set when what waited was counted as lost: what still comes of it does not count.
	over bool
}

// New starts a queue. Close ends it.
func New[T any](o Options[T]) *Queue[T] {
	q := &Queue[T]{
		Tally: Tally{Log: o.Log, Text: o.Texts.Lost}, options: o,
		wake: make(chan struct{}, 1), full: make(chan struct{}, 1), done: make(chan struct{}),
	}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	go q.run()
	return q
}

// Put queues an item of about size bytes, without waiting.
func (q *Queue[T]) Put(item T, size int) {
	q.mu.Lock()
	why := ""
	switch {
	case q.closed:
		why = q.options.Texts.Closed
	case len(q.waiting) >= q.options.Length || (q.bytes+size > q.options.MaxBytes && len(q.waiting) > 0):
		why = Full
	default:
		q.waiting, q.sizes, q.bytes = append(q.waiting, item), append(q.sizes, size), q.bytes+size
	}
	n := len(q.waiting)
	q.mu.Unlock()
	if why != "" {
		q.Lose(1, why)
		return
	}
	if n == 1 {
		signal(q.wake)
	}
	if n >= q.options.Batch {
		signal(q.full)
	}
}

// signal wakes who waits, if nobody has before.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Counts says what became of the items so far.
func (q *Queue[T]) Counts() Counts {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.Tally.Counts()
	c.Waiting = int64(len(q.waiting))
	return c
}

// Close sends what is queued and returns when it is sent, or when ctx is done: then what waits is lost. What was being
// sent at that moment counts as lost, too, though the receiver may have it.
func (q *Queue[T]) Close(ctx context.Context) {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	signal(q.wake)
	signal(q.full)
	select {
	case <-q.done:
	case <-ctx.Done():
		q.giveUp()
	}
	q.cancel()
}

// giveUp counts what waits as lost.
func (q *Queue[T]) giveUp() {
	q.mu.Lock()
	n := len(q.waiting)
	q.waiting, q.sizes, q.bytes, q.over = nil, nil, 0, true
	q.mu.Unlock()
	q.Lose(n, q.options.Texts.Late)
}

func (q *Queue[T]) run() {
	defer close(q.done)
	for q.await() {
		if batch := q.batch(); len(batch) > 0 {
			q.deliver(batch)
		} else {
			q.sleep(q.options.FirstRetry)
		}
	}
}

// await returns when something waits; it is false when nothing does and no more will come.
func (q *Queue[T]) await() bool {
	for {
		q.mu.Lock()
		n, closed := len(q.waiting), q.closed
		q.mu.Unlock()
		if n > 0 || closed {
			return n > 0
		}
		<-q.wake
	}
}

// batch is what is sent next, once it is full or its first item has waited long enough; empty when none is ready.
func (q *Queue[T]) batch() []T {
	q.linger()
	q.mu.Lock()
	n, bytes := 0, 0
	for n < min(len(q.waiting), q.options.Batch) && (n == 0 || bytes+q.sizes[n] <= q.options.MaxBatchBytes) {
		bytes += q.sizes[n]
		n++
	}
	batch := q.waiting[:n:n]
	q.mu.Unlock()
	if q.options.Ready != nil {
		batch = batch[:q.options.Ready(batch)]
	}
	return batch
}

func (q *Queue[T]) linger() {
	timer := time.NewTimer(q.options.Linger)
	defer timer.Stop()
	for q.gathering() {
		select {
		case <-q.full: // it may be of a batch before
		case <-timer.C:
			return
		}
	}
}

func (q *Queue[T]) gathering() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting) > 0 && len(q.waiting) < q.options.Batch && !q.closed
}

// deliver sends the oldest items until the receiver has them, has refused them, or it is too late. A batch that is
// refused is halved, so that only those are lost that are refused alone.
func (q *Queue[T]) deliver(batch []T) {
	pause, failing := q.options.FirstRetry, false
	for size := len(batch); len(batch) > 0; {
		size = min(size, len(batch))
		sent, err := q.send(batch[:size])
		if sent > 0 {
			if !q.settle(sent, "") {
				return
			}
			batch, pause, size = batch[sent:], q.options.FirstRetry, 2*size
		}
		switch {
		case err == nil:
		case errors.Is(err, ErrRefused) && size > 1:
			size /= 2
		case errors.Is(err, ErrRefused):
			if !q.settle(1, err.Error()) {
				return
			}
			batch = batch[1:]
		default:
			q.tellAway(&failing, err)
			if !q.sleep(pause) {
				return
			}
			pause = min(2*pause, q.options.LastRetry)
		}
	}
	if back := q.options.Texts.Back; failing && back != "" {
		q.Log.Info(back)
	}
}

// tellAway says once that the receiver takes nothing.
func (q *Queue[T]) tellAway(told *bool, err error) {
	if !*told {
		*told = true
		q.Log.Warn(q.options.Texts.Away, "error", err.Error())
	}
}

// send makes a panic of the receiver an error: it must not end the process.
func (q *Queue[T]) send(batch []T) (sent int, err error) {
	defer func() {
		if r := recover(); r != nil {
			sent, err = 0, fmt.Errorf("%w: panic: %v", ErrRefused, r)
		}
	}()
	if sent, err = q.options.Send(q.ctx, batch); err == nil {
		sent = len(batch)
	}
	return sent, err
}

// sleep is false when there is no use in waiting.
func (q *Queue[T]) sleep(d time.Duration) bool {
	select {
	case <-q.ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// settle takes the oldest items off the queue, as written, or as lost when it is said why. It is false when they were
// counted before, by giveUp.
func (q *Queue[T]) settle(n int, lost string) bool {
	q.mu.Lock()
	if q.over {
		q.mu.Unlock()
		return false
	}
	for _, size := range q.sizes[:n] {
		q.bytes -= size
	}
	clear(q.waiting[:n]) // what is sent need not be held
	q.waiting, q.sizes = q.waiting[n:], q.sizes[n:]
	if lost == "" {
		q.Wrote(n)
	}
	q.mu.Unlock()
	if lost != "" {
		q.Lose(n, lost)
	}
	return true
}
