package record

import (
	"log/slog"
	"sync/atomic"
)

// Counts says what became of the records of one output since the start.
type Counts struct {
	Output string
	// Written are with the target, Lost will never be, Waiting are on their way.
	Written, Lost, Waiting int64
}

// tally counts what one output wrote and lost.
type tally struct {
	name          string
	log           *slog.Logger
	written, lost atomic.Int64
}

// tellEach is how many losses are told in one line of the log, after the first.
const tellEach = 1000

// lose counts, and tells the first loss and every thousandth.
func (t *tally) lose(n int, why string) {
	if n == 0 {
		return
	}
	after := t.lost.Add(int64(n))
	before := after - int64(n)
	if before == 0 || before/tellEach != after/tellEach {
		t.log.Error("decision records lost", "output", t.name, "lost", after, "why", why)
	}
}

func (t *tally) counts() Counts {
	return Counts{Output: t.name, Written: t.written.Load(), Lost: t.lost.Load()}
}
