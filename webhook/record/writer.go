package record

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evictgate/evictgate/webhook/internal/queue"
)

// queueLength and maxQueued bound the records that wait to be written: their number, and what they hold in memory,
// in bytes. A decision with the default policies is less than decisionSize.
const (
	queueLength  = 8192
	maxQueued    = 32 << 20
	decisionSize = 4 << 10
)

// Writer writes records as JSON lines, off the path of the decisions: Write never blocks. A record
// that finds the queue full, or that cannot be written, is lost, counted and told in the log. Each record
// is made once, and handed on to further outputs, which cannot hold it up: they have queues of their own.
type Writer struct {
	tally queue.Tally
	queue chan queued
	done  chan struct{}
	// offered counts the calls of Write.
	offered atomic.Int64
	// waiting counts the records that are queued, or made and not yet written; bytes is about what the queued ones
	// hold.
	waiting, bytes atomic.Int64
	close          sync.Once
	outputs        []*Output
	// patience is closeTimeout; tests shorten it.
	patience time.Duration

	mu     sync.RWMutex
	closed bool
}

// queued is a record that is not made yet, and about how many bytes are kept for it until it is.
type queued struct {
	make func() (Record, error)
	size int64
}

// NewWriter starts writing to out, and to the outputs. Close ends it, and them.
func NewWriter(out io.Writer, log *slog.Logger, outputs ...*Output) *Writer {
	w := &Writer{
		tally: queue.Tally{Log: log.With("output", OutputStdout), Text: textLost}, queue: make(chan queued, queueLength), done: make(chan struct{}),
		outputs: outputs, patience: closeTimeout,
	}
	go w.run(out)
	return w
}

// Write queues a record that holds little: see WriteSized.
func (w *Writer) Write(make func() (Record, error)) { w.WriteSized(0, make) }

// WriteSized queues a record. It is made by the writer, not by the caller, so that a decision does not wait for it
// either; what make reads must not change any more, and takes about size bytes of memory: see Recording.Size.
func (w *Writer) WriteSized(size int, make func() (Record, error)) {
	w.offered.Add(1)
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		w.loseAll("the writer is closed")
		return
	}
	q := queued{make, int64(size)}
	if after := w.bytes.Add(q.size); after > maxQueued && after > q.size {
		w.bytes.Add(-q.size)
		w.loseAll(queue.Full)
		return
	}
	w.waiting.Add(1) // before the writer takes it off
	select {
	case w.queue <- q:
	default:
		w.waiting.Add(-1)
		w.bytes.Add(-q.size)
		w.loseAll(queue.Full)
	}
}

// Offered is the number of records that were handed over so far; each is written or lost by each output.
func (w *Writer) Offered() int64 { return w.offered.Load() }

// Lost is the number of records lost so far to the JSON lines.
func (w *Writer) Lost() int64 { return w.tally.Counts().Lost }

// Counts says what became of the records so far, for each output: of the JSON lines first.
func (w *Writer) Counts() []Counts {
	own := countsOf(OutputStdout, w.tally.Counts())
	own.Waiting = w.waiting.Load()
	list := []Counts{own}
	for _, o := range w.outputs {
		list = append(list, o.Counts())
	}
	return list
}

// loseAll counts a record that was never made: every output lacks it.
func (w *Writer) loseAll(why string) {
	w.tally.Lose(1, why)
	for _, o := range w.outputs {
		o.queue.Lose(1, why)
	}
}

// closeTimeout bounds how long Close waits for an output that does not take the records.
const closeTimeout = 10 * time.Second

// Close writes what is queued, closes the outputs, and returns when all have what they can take. When the
// JSON lines block, what waits is lost after ten seconds: the process must be able to end.
func (w *Writer) Close() {
	w.close.Do(func() {
		w.mu.Lock()
		w.closed = true
		w.mu.Unlock()
		close(w.queue)
		select {
		case <-w.done:
		case <-time.After(w.patience):
			w.abandon()
		}
		var closing sync.WaitGroup
		for _, o := range w.outputs {
			closing.Go(o.Close)
		}
		closing.Wait()
	})
}

// abandon gives up what waits for the JSON lines. The outputs still have what was not made yet.
func (w *Writer) abandon() {
	b := batch{hand: w.hand}
	for q := range w.queue { // it is closed
		if err := b.add(q.make); err != nil {
			for _, o := range w.outputs {
				o.queue.Lose(1, err.Error())
			}
		}
		b.lines = b.lines[:0]
	}
	w.tally.Lose(int(w.waiting.Load()), "the output takes no more")
}

func (w *Writer) run(out io.Writer) {
	defer close(w.done)
	b := batch{out: out, hand: w.hand}
	flush := func() {
		records := b.records
		lost, err := b.flush()
		w.waiting.Add(-int64(records))
		w.tally.Wrote(records - lost)
		if lost > 0 {
			w.tally.Lose(lost, err.Error())
		}
	}
	for q := range w.queue {
		err := b.add(q.make)
		w.bytes.Add(-q.size)
		if err != nil {
			w.waiting.Add(-1)
			w.loseAll(err.Error())
		}
		if len(w.queue) == 0 || len(b.lines) > batchSize {
			flush()
		}
	}
	flush()
}

// batchSize is from how many bytes on records are written though more of them wait.
const batchSize = 32 << 10

// hand gives a record to the outputs.
func (w *Writer) hand(r Record, size int) {
	for _, o := range w.outputs {
		o.queue.Put(r, size)
	}
}

// batch collects records that are written in one go.
type batch struct {
	out io.Writer
	// hand is given every record with the size of its line.
	hand    func(Record, int)
	lines   []byte
	records int
	// torn says that the output ends in the middle of a line.
	torn bool
}

// add makes a record and appends its line. A panic in making it is an error, too: it must not end the
// process after the decision is made.
func (b *batch) add(make func() (Record, error)) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("make record: panic: %v", r)
		}
	}()
	record, err := make()
	if err != nil {
		return fmt.Errorf("make record: %w", err)
	}
	lines, err := record.AppendJSON(b.lines)
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	lines = append(lines, '\n')
	size := len(lines) - len(b.lines)
	b.lines = lines
	b.records++
	if b.hand != nil {
		b.hand(record, size)
	}
	return nil
}

// flush writes the lines, and says how many records of them are lost: all that were not written to
// their end.
func (b *batch) flush() (lost int, err error) {
	if b.records == 0 {
		return 0, nil
	}
	n := 0
	if b.torn { // what is left of a lost record must not swallow the next one
		if _, err = b.out.Write([]byte("\n")); err == nil {
			b.torn = false
		}
	}
	if err == nil {
		n, err = b.out.Write(b.lines)
	}
	if err != nil {
		// A record that lacks only its newline is whole.
		lost = b.records - bytes.Count(b.lines[:min(n+1, len(b.lines))], []byte("\n"))
		b.torn = b.torn || (n > 0 && b.lines[n-1] != '\n')
	}
	if cap(b.lines) > maxLines { // a large record was among them
		b.lines = nil
	}
	b.lines, b.records = b.lines[:0], 0
	return lost, err
}

// maxLines is the room for lines that is kept for the next ones.
const maxLines = 1 << 20
