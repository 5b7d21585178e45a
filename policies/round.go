package policies

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/evictgate/evictgate/policies/internal/limits"
)

// answer is what one policy said.
type answer struct {
	violations []Violation
	err        error
	remembered bool
}

// round asks the policies that match about one eviction. Evaluation counts its own work, but not every step
// of OPA's does: comparing two lists that hold each other many times is one step. So whatever is not
// remembered is evaluated in a goroutine of its own, once for a review, and the review does not wait for it
// beyond its time.
type round struct {
	asking
	policies []*boundPolicy

	mu         sync.Mutex
	answers    []answer // of the first policies
	remembered int
	// gone says that nobody waits any longer.
	gone bool
}

func newRound(r *Reading, steps int) *round {
	n := &round{asking: asking{Reading: r, steps: steps}, policies: make([]*boundPolicy, 0, len(r.set.bound))}
	for _, p := range r.set.bound {
		if p.match.matches(r.input) {
			n.policies = append(n.policies, p)
		}
	}
	n.answers = make([]answer, 0, len(n.policies))
	return n
}

// run fills in the answers.
func (n *round) run(ctx context.Context) {
	n.recallFirst()
	switch {
	case len(n.answers) == len(n.policies):
	case ctx.Done() == nil: // there is no time to keep
		n.askAll(ctx, n.policies[len(n.answers):])
	default:
		n.askApart(ctx)
	}
}

// recallFirst takes the answers that are remembered, up to the first that is not.
func (n *round) recallFirst() {
	for _, p := range n.policies {
		if n.err != nil {
			return
		}
		violations, _, ok := n.recall(p)
		if !ok {
			return
		}
		n.answers = append(n.answers, answer{violations: violations, remembered: true})
		n.remembered++
	}
}

// askAll asks the rest. It stops when nobody waits: what it was at came back, then.
func (n *round) askAll(ctx context.Context, rest []*boundPolicy) {
	for _, p := range rest {
		a := n.ask(ctx, p)
		n.mu.Lock()
		gone := n.gone
		if !gone {
			n.answers = append(n.answers, a)
			if a.remembered {
				n.remembered++
			}
		}
		n.mu.Unlock()
		if gone {
			p.lost.Add(-1)
			return
		}
	}
}

// lateness is how long an evaluation has to notice that its review has no time left; it looks every few
// steps.
const lateness = 100 * time.Millisecond

// askApart asks the others in a goroutine, and gives up on what does not come back.
func (n *round) askApart(ctx context.Context) {
	select {
	case evaluations() <- struct{}{}:
		defer func() { <-evaluations() }()
	case <-ctx.Done():
		n.giveUp(limits.NotInTime, false)
		return
	}
	done, rest := make(chan struct{}), n.policies[len(n.answers):]
	go func() {
		defer close(done)
		growStack()
		n.askAll(ctx, rest)
	}()
	select {
	case <-done:
		return
	case <-ctx.Done():
	}
	late := time.NewTimer(lateness)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
		n.giveUp(notBack, true)
	}
}

// growStack makes room for an evaluation's depth at once. A goroutine begins with a small stack, and each doubling
// copies what is on it: that was a fifth of the CPU.
//
//go:noinline
func growStack() {
	var room [stackBytes]byte
	touch(&room)
}

const stackBytes = 56 << 10

//go:noinline
func touch(room *[stackBytes]byte) { room[0] = 1 }

// giveUp answers for the policies that did not. When one of them is being evaluated, it is not asked until
// that comes back.
func (n *round) giveUp(why string, lost bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gone = true
	answers := append(make([]answer, 0, len(n.policies)), n.answers...)
	for i, p := range n.policies[len(answers):] {
		if i > 0 {
			why = limits.NotInTime
		} else if lost {
			p.lost.Add(1)
		}
		answers = append(answers, answer{err: fmt.Errorf("%s: %s", p.File, why)})
	}
	n.answers = answers
}

// evaluations are those that may run at once in this process, so that what each of them may take bounds what
// all of them take.
var evaluations = sync.OnceValue(func() chan struct{} { return make(chan struct{}, 2*runtime.GOMAXPROCS(0)) })
