package record

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// The names of the outputs, as metrics and the log have them.
const (
	OutputStdout = "stdout"
	OutputStore  = "store"
	OutputUpload = "upload"
)

// ErrRefused is what a target's error wraps when it is there and will never take these records as they are:
// to send them again is of no use.
var ErrRefused = errors.New("refused")

// Target takes records, in the order of their decisions.
type Target interface {
	// Send says how many of the records the target has now, counted from the first; all of them when it
	// returns no error. What it has not is sent again, but for an ErrRefused.
	Send(ctx context.Context, records []Record) (sent int, err error)
}

// DefaultQueue is how many records wait for a target unless OutputOptions say otherwise.
const DefaultQueue = 10_000

// maxWaitingBytes bounds what waits beside the number: records of whole inputs can be large.
const maxWaitingBytes = 64 << 20

// maxBatchBytes bounds what is sent at once beside the number: a target makes its own form of all of it.
const maxBatchBytes = 8 << 20

// OutputOptions describe an output. What is zero has a default.
type OutputOptions struct {
	Name   string
	Target Target
	Log    *slog.Logger
	// Queue is how many records wait at most, those that are being sent included. A record that comes
	// beyond is lost: what waits stays whole, from the first that the target missed on, and the gap lies
	// at the end of the target's absence.
	Queue int
	// Batch is how many records are sent at once, at most, and Linger how long the first of a batch waits
	// for more.
	Batch  int
	Linger time.Duration
	// FirstRetry is the pause after the first failure; it doubles until LastRetry.
	FirstRetry, LastRetry time.Duration
	// Patience is how long Close waits for what is queued.
	Patience time.Duration
}

func (o OutputOptions) withDefaults() OutputOptions {
	or := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	or(&o.Linger, 200*time.Millisecond)
	or(&o.FirstRetry, 100*time.Millisecond)
	or(&o.LastRetry, 5*time.Second)
	or(&o.Patience, closeTimeout)
	if o.Queue == 0 {
		o.Queue = DefaultQueue
	}
	if o.Batch == 0 {
		o.Batch = 500
	}
	return o
}

// Output sends records to a target: in batches, again and again while the target is away, and never in
// the way of who hands them over. It counts exactly what is lost.
type Output struct {
	OutputOptions
	tally
	// ctx ends when Close has lost its patience.
	ctx    context.Context
	cancel context.CancelFunc
	// wake tells the sender that records came, or that no more will.
	wake chan struct{}
	full chan struct{}
	done chan struct{}

	mu sync.Mutex
	// waiting are the records that the target has not, the oldest first.
	waiting []Record
	sizes   []int
	bytes   int
	closed  bool
	// over is set when what waited was counted as lost: what still comes of it does not count.
	over bool
}

// NewOutput starts an output. Close ends it.
func NewOutput(o OutputOptions) *Output {
	o = o.withDefaults()
	ctx, cancel := context.WithCancel(context.Background())
	out := &Output{
		OutputOptions: o, tally: tally{name: o.Name, log: o.Log}, ctx: ctx, cancel: cancel,
		wake: make(chan struct{}, 1), full: make(chan struct{}, 1), done: make(chan struct{}),
	}
	go out.run()
	return out
}

// put queues a record of about size bytes, without waiting.
func (o *Output) put(r Record, size int) {
	o.mu.Lock()
	why := ""
	switch {
	case o.closed:
		why = "the output is closed"
	case len(o.waiting) >= o.Queue || (o.bytes+size > maxWaitingBytes && len(o.waiting) > 0):
		why = "the queue is full"
	default:
		o.waiting, o.sizes, o.bytes = append(o.waiting, r), append(o.sizes, size), o.bytes+size
	}
	n := len(o.waiting)
	o.mu.Unlock()
	if why != "" {
		o.lose(1, why)
		return
	}
	if n == 1 {
		signal(o.wake)
	}
	if n >= o.Batch {
		signal(o.full)
	}
}

// signal wakes who waits, if nobody has before.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Counts says what became of the records so far.
func (o *Output) Counts() Counts {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.counts()
	c.Waiting = int64(len(o.waiting))
	return c
}

// Close sends what is queued and returns when it is sent, or when Patience is over: then what waits is
// lost. What was being sent at that moment counts as lost, too, though the target may have it.
func (o *Output) Close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	signal(o.wake)
	signal(o.full)
	select {
	case <-o.done:
	case <-time.After(o.Patience):
		o.giveUp()
	}
	o.cancel()
}

// giveUp counts what waits as lost.
func (o *Output) giveUp() {
	o.mu.Lock()
	n := len(o.waiting)
	o.waiting, o.sizes, o.bytes, o.over = nil, nil, 0, true
	o.mu.Unlock()
	o.lose(n, "the target did not take them before the end")
}

func (o *Output) run() {
	defer close(o.done)
	for {
		batch, more := o.batch()
		switch {
		case len(batch) > 0:
			o.deliver(batch)
		case !more:
			return
		default:
			<-o.wake
		}
	}
}

// batch is what is sent next, once it is full or its first record has waited long enough; more is false
// when no more will come.
func (o *Output) batch() (batch []Record, more bool) {
	o.linger()
	o.mu.Lock()
	defer o.mu.Unlock()
	n, bytes := 0, 0
	for n < min(len(o.waiting), o.Batch) && (n == 0 || bytes+o.sizes[n] <= maxBatchBytes) {
		bytes += o.sizes[n]
		n++
	}
	return o.waiting[:n:n], !o.closed
}

func (o *Output) linger() {
	timer := time.NewTimer(o.Linger)
	defer timer.Stop()
	for o.gathering() {
		select {
		case <-o.full: // it may be of a batch before
		case <-timer.C:
			return
		}
	}
}

func (o *Output) gathering() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.waiting) > 0 && len(o.waiting) < o.Batch && !o.closed
}

// deliver sends the oldest records until the target has them, has refused them, or it is too late. A batch
// that is refused is halved, so that only those are lost that are refused alone.
func (o *Output) deliver(batch []Record) {
	pause, failing := o.FirstRetry, false
	for size := len(batch); len(batch) > 0; {
		size = min(size, len(batch))
		sent, err := o.send(batch[:size])
		if sent > 0 {
			if !o.settle(sent, "") {
				return
			}
			batch, pause, size = batch[sent:], o.FirstRetry, 2*size
		}
		switch {
		case err == nil:
		case errors.Is(err, ErrRefused) && size > 1:
			size /= 2
		case errors.Is(err, ErrRefused):
			if !o.settle(1, err.Error()) {
				return
			}
			batch = batch[1:]
		default:
			o.tellAway(&failing, err)
			if !o.sleep(pause) {
				return
			}
			pause = min(2*pause, o.LastRetry)
		}
	}
	if failing {
		o.log.Info("decision records are taken again", "output", o.name)
	}
}

// tellAway says once that the target does not take records.
func (o *Output) tellAway(told *bool, err error) {
	if !*told {
		*told = true
		o.log.Warn("decision records wait, their target does not take them", "output", o.name, "error", err.Error())
	}
}

// send makes a panic of the target an error: it must not end the process.
func (o *Output) send(batch []Record) (sent int, err error) {
	defer func() {
		if r := recover(); r != nil {
			sent, err = 0, fmt.Errorf("%w: panic: %v", ErrRefused, r)
		}
	}()
	if sent, err = o.Target.Send(o.ctx, batch); err == nil {
		sent = len(batch)
	}
	return sent, err
}

// sleep is false when there is no use in waiting.
func (o *Output) sleep(d time.Duration) bool {
	select {
	case <-o.ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// settle takes the oldest records off the queue, as written, or as lost when it is said why. It is false
// when they were counted before, by giveUp.
func (o *Output) settle(n int, lost string) bool {
	o.mu.Lock()
	if o.over {
		o.mu.Unlock()
		return false
	}
	for _, size := range o.sizes[:n] {
		o.bytes -= size
	}
	clear(o.waiting[:n]) // what is sent need not be held
	o.waiting, o.sizes = o.waiting[n:], o.sizes[n:]
	if lost == "" {
		o.written.Add(int64(n))
	}
	o.mu.Unlock()
	if lost != "" {
		o.lose(n, lost)
	}
	return true
}
