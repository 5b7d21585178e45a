package queue

import (
	"log/slog"
	"sync/atomic"
)

// Full is why an item is lost that finds no room.
const Full = "the queue is full"

// Counts says what became of items since the start.
type Counts struct {
	// Written are with the receiver, Lost will never be, Waiting are on their way.
	Written, Lost, Waiting int64
}

// Tally counts what one receiver has and lost.
type Tally struct {
	Log *slog.Logger
	// Text is what the log is told of a loss.
	Text          string
	written, lost atomic.Int64
}

// tellEach is how many losses are told in one line of the log, after the first.
const tellEach = 1000

// Lose counts, and tells the first loss and every thousandth.
func (t *Tally) Lose(n int, why string) {
	if n == 0 {
		return
	}
	after := t.lost.Add(int64(n))
	before := after - int64(n)
	if before == 0 || before/tellEach != after/tellEach {
		t.Log.Error(t.Text, "lost", after, "why", why)
	}
}

// Wrote counts what the receiver has.
func (t *Tally) Wrote(n int) { t.written.Add(int64(n)) }

// Counts says what was counted; nothing waits.
func (t *Tally) Counts() Counts { return Counts{Written: t.written.Load(), Lost: t.lost.Load()} }
