package audit

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// queueLength bounds the records that wait to be written. A record is about 2 KiB.
const queueLength = 8192

// Writer writes records as JSON lines, off the path of the decisions: Write never blocks. A record
// that finds the queue full, or that cannot be written, is lost, counted and told in the log.
type Writer struct {
	queue chan func() (Record, error)
	done  chan struct{}
	lost  atomic.Int64
	// waiting counts the records that are queued, or made and not yet written.
	waiting atomic.Int64
	log     *slog.Logger
	close   sync.Once
	// patience is closeTimeout; tests shorten it.
	patience time.Duration

	mu     sync.RWMutex
	closed bool
}

// NewWriter starts writing to out. Close ends it.
func NewWriter(out io.Writer, log *slog.Logger) *Writer {
	w := &Writer{queue: make(chan func() (Record, error), queueLength), done: make(chan struct{}), log: log, patience: closeTimeout}
	go w.run(out)
	return w
}

// Write queues a record. It is made by the writer, not by the caller, so that a decision does not wait
// for it either; what make reads must not change any more.
func (w *Writer) Write(make func() (Record, error)) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		w.lose("the writer is closed")
		return
	}
	select {
	case w.queue <- make:
		w.waiting.Add(1)
	default:
		w.lose("the queue is full")
	}
}

// Lost is the number of records lost so far.
func (w *Writer) Lost() int64 { return w.lost.Load() }

// closeTimeout bounds how long Close waits for an output that does not take the records.
const closeTimeout = 10 * time.Second

// Close writes what is queued and returns when it is written. When the output blocks, what waits is
// lost after ten seconds: the process must be able to end.
func (w *Writer) Close() {
	w.close.Do(func() {
		w.mu.Lock()
		w.closed = true
		w.mu.Unlock()
		close(w.queue)
		select {
		case <-w.done:
		case <-time.After(w.patience):
			for range w.waiting.Load() {
				w.lose("the output takes no more")
			}
		}
	})
}

// lose counts, and tells the first loss and every thousandth.
func (w *Writer) lose(why string) {
	if n := w.lost.Add(1); n == 1 || n%1000 == 0 {
		w.log.Error("decision records lost", "lost", n, "why", why)
	}
}

func (w *Writer) run(out io.Writer) {
	defer close(w.done)
	b := batch{out: out}
	flush := func() {
		records := b.records
		lost, err := b.flush()
		w.waiting.Add(-int64(records))
		for range lost {
			w.lose(err.Error())
		}
	}
	for make := range w.queue {
		if err := b.add(make); err != nil {
			w.waiting.Add(-1)
			w.lose(err.Error())
		}
		if len(w.queue) == 0 || len(b.lines) > batchSize {
			flush()
		}
	}
	flush()
}

// batchSize is from how many bytes on records are written though more of them wait.
const batchSize = 32 << 10

// batch collects records that are written in one go.
type batch struct {
	out     io.Writer
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
	lines, err := appendLine(b.lines, record)
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	b.lines = lines
	b.records++
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
	b.lines, b.records = b.lines[:0], 0
	return lost, err
}
