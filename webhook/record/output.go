package record

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/evictgate/evictgate/webhook/internal/queue"
)

// The names of the outputs, as metrics and the log have them.
const (
	OutputStdout = "stdout"
	OutputStore  = "store"
	OutputUpload = "upload"
)

// ErrRefused is what a target's error wraps when it is there and will never take these records as they are:
// to send them again is of no use.
var ErrRefused = queue.ErrRefused

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
	// beyond is lost.
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

// Output sends records to a target: in batches, again and again while the target is away, and never in
// the way of who hands them over. It counts exactly what is lost.
type Output struct {
	name     string
	queue    *queue.Queue[Record]
	patience time.Duration
}

// textLost is what the log is told of records that an output will never have.
const textLost = "decision records lost"

// NewOutput starts an output. Close ends it.
func NewOutput(o OutputOptions) *Output {
	return &Output{name: o.Name, patience: cmp.Or(o.Patience, closeTimeout), queue: queue.New(queue.Options[Record]{
		Send:   o.Target.Send,
		Length: cmp.Or(o.Queue, DefaultQueue), MaxBytes: maxWaitingBytes,
		Batch: cmp.Or(o.Batch, 500), MaxBatchBytes: maxBatchBytes, Linger: cmp.Or(o.Linger, 200*time.Millisecond),
		FirstRetry: cmp.Or(o.FirstRetry, 100*time.Millisecond), LastRetry: cmp.Or(o.LastRetry, 5*time.Second),
		Log: o.Log.With("output", o.Name),
		Texts: queue.Texts{
			Lost: textLost, Closed: "the output is closed", Late: "the target did not take them before the end",
			Away: "decision records wait, their target does not take them", Back: "decision records are taken again",
		},
	})}
}

// Counts says what became of the records of one output since the start.
type Counts struct {
	Output string
	// Written are with the target, Lost will never be, Waiting are on their way.
	Written, Lost, Waiting int64
}

func countsOf(output string, c queue.Counts) Counts {
	return Counts{Output: output, Written: c.Written, Lost: c.Lost, Waiting: c.Waiting}
}

// Counts says what became of the records so far.
func (o *Output) Counts() Counts { return countsOf(o.name, o.queue.Counts()) }

// Close sends what is queued and returns when it is sent, or when Patience is over: then what waits is
// lost. What was being sent at that moment counts as lost, too, though the target may have it.
func (o *Output) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), o.patience)
	defer cancel()
	o.queue.Close(ctx)
}
