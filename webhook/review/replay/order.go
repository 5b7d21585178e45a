package replay

import (
	"context"
	"iter"
	"sync"
)

// batchSize is how many values one worker takes at once: handing over costs less than a value takes.
const batchSize = 32

// batch is some values on their way through a worker.
type batch[A, B any] struct {
	in   []A
	out  []B
	done chan struct{}
}

// inOrder does one thing to every value, in several workers, and yields the results in the order of the
// values. Few values are under way at a time. Each worker has its own function. It ends early when the
// context does.
func inOrder[A, B any](ctx context.Context, values iter.Seq[A], workers int, newWork func() func(A) B) iter.Seq[B] {
	return func(yield func(B) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var all sync.WaitGroup
		defer all.Wait() // the values are not iterated any more when this returns
		defer cancel()
		todo := make(chan *batch[A, B])
		order := make(chan *batch[A, B], 2*workers)
		for range workers {
			all.Go(func() {
				work := newWork()
				for b := range todo {
					for _, v := range b.in {
						b.out = append(b.out, work(v))
					}
					close(b.done)
				}
			})
		}
		all.Go(func() {
			defer close(order)
			defer close(todo)
			cut(values, func(in []A) bool {
				b := &batch[A, B]{in: in, done: make(chan struct{})}
				return send(ctx, order, b) && send(ctx, todo, b)
			})
		})
		for b := range order {
			select {
			case <-b.done:
			case <-ctx.Done():
				return
			}
			for _, v := range b.out {
				if !yield(v) {
					return
				}
			}
		}
	}
}

func send[T any](ctx context.Context, to chan<- T, v T) bool {
	select {
	case to <- v:
		return true
	case <-ctx.Done():
		return false
	}
}

// cut makes batches of values, until take wants no more.
func cut[A any](values iter.Seq[A], take func([]A) bool) {
	var in []A
	for v := range values {
		if in = append(in, v); len(in) == batchSize {
			if !take(in) {
				return
			}
			in = nil
		}
	}
	if len(in) > 0 {
		take(in)
	}
}
