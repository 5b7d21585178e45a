package audit

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
)

// queueLength bounds the records that wait to be written. A record is about 2 KiB.
const queueLength = 8192

// Writer writes records as JSON lines, off the path of the decisions: Write never blocks. A record
// that finds the queue full, or that cannot be written, is lost, counted and told in the log.
type Writer struct {
	queue chan func() (Record, error)
	done  chan struct{}
	lost  atomic.Int64
	log   *slog.Logger
	close sync.Once

	mu     sync.RWMutex
	closed bool
}

// NewWriter starts writing to out. Close ends it.
func NewWriter(out io.Writer, log *slog.Logger) *Writer {
	w := &Writer{queue: make(chan func() (Record, error), queueLength), done: make(chan struct{}), log: log}
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
	default:
		w.lose("the queue is full")
	}
}

// Lost is the number of records lost so far.
func (w *Writer) Lost() int64 { return w.lost.Load() }

// Close writes what is queued and returns when it is written.
func (w *Writer) Close() {
	w.close.Do(func() {
		w.mu.Lock()
		w.closed = true
		w.mu.Unlock()
		close(w.queue)
	})
	<-w.done
}

// lose counts, and tells the first loss and every thousandth.
func (w *Writer) lose(why string) {
	if n := w.lost.Add(1); n == 1 || n%1000 == 0 {
		w.log.Error("decision records lost", "lost", n, "why", why)
	}
}

func (w *Writer) run(out io.Writer) {
	defer close(w.done)
	buffered := bufio.NewWriterSize(out, 64<<10)
	unflushed := 0
	flush := func() {
		if err := buffered.Flush(); err != nil {
			// bufio keeps its error for ever; records written from now on may succeed again.
			buffered.Reset(out)
			for range unflushed {
				w.lose(err.Error())
			}
		}
		unflushed = 0
	}
	for make := range w.queue {
		if err := writeRecord(buffered, make); err != nil {
			w.lose(err.Error())
		} else {
			unflushed++
		}
		if len(w.queue) == 0 || buffered.Buffered() > 32<<10 {
			flush()
		}
	}
	flush()
}

func writeRecord(out io.Writer, make func() (Record, error)) error {
	record, err := make()
	if err != nil {
		return fmt.Errorf("make record: %w", err)
	}
	line, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	_, err = out.Write(append(line, '\n'))
	return err
}
