package replay

import (
	"bytes"
	"context"
	"io"
	"iter"
	"runtime"

	"github.com/evictgate/evictgate/webhook/record"
)

// Lines is record.Read in several goroutines; the records and errors have the order of the lines.
func Lines(ctx context.Context, from io.Reader) iter.Seq2[record.Record, error] {
	return func(yield func(record.Record, error) bool) {
		for read := range inOrder(ctx, linesOf(from), runtime.GOMAXPROCS(0), func() func(line) offered { return line.read }) {
			if !yield(read.record, read.err) {
				return
			}
		}
	}
}

// line is one line of text, or why there is none.
type line struct {
	record.Line
	err error
}

func linesOf(from io.Reader) iter.Seq[line] {
	return func(yield func(line) bool) {
		for l, err := range record.ReadLines(from) {
			l.Text = bytes.Clone(l.Text)
			if !yield(line{l, err}) {
				return
			}
		}
	}
}

func (l line) read() offered {
	if l.err != nil {
		return offered{err: l.err}
	}
	record, err := l.Record()
	return offered{record, err}
}
