package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/evictgate/evictgate/webhook/listen"
	"github.com/evictgate/evictgate/webhook/memory"
)

const (
	// maxBody bounds a review in bytes. An Eviction has nothing that is long but its annotations, and its caller
	// nothing but groups: both at their bounds fit, unless JSON escapes most of them.
	maxBody = 1 << 20
	// maxValues bounds how many JSON values a review has: each takes a hundred times its bytes while it is parsed.
	maxValues = 20_000
	// smallBody is what every ordinary review is smaller than, and smallCost what it takes in memory at most.
	smallBody = 16 << 10
	smallCost = 128 << 10
	// copies is how many times a review is held while it is decided: as it came, parsed, its object, the text that
	// is kept of it, the record; valueCost is what a JSON value takes beside its text.
	copies    = 6
	valueCost = 256

	// inFlight bounds the small reviews that are decided at once, and inFlightTight those while memory is tight.
	inFlight, inFlightTight = 256, 4
	// smallWaiting and largeWaiting bound those that arrive, or wait.
	smallWaiting, largeWaiting = 1024, 64
	// largeArriving bounds what the large reviews take while they arrive, in bytes.
	largeArriving = 32 << 20
	// largeMost bounds how many of them are decided at once, on however many processors.
	largeMost = 6

	// Of callers that are not known there are fewer at once, beside those that are.
	strangersInFlight, strangersLarge = 16, 1
)

// largeInFlight is how many large reviews are decided at once: each takes a processor for many times as long as an
// ordinary one, and half of the processors are left to these.
func largeInFlight() int64 {
	return int64(min(max(runtime.GOMAXPROCS(0)/2, 1), largeMost))
}

// Bounds keep the reviews in flight within limits, of their number and of the memory they take, for all webhooks of
// a server together. Memory is counted before it is used: a review is read whole when there is room for it, and is
// passed on when there is room to decide it. What finds no room within three quarters of its time is answered 429,
// as an AdmissionReview wherever its uid can be read: after a call that fails, an API server told to ignore
// failures admits.
//
// Large reviews have room of their own, so that small ones, which all ordinary ones are, do not wait for them; so have
// callers that are not known.
type Bounds struct {
	known, strangers room
	// tight limits the small reviews while memory is tight.
	tight   *semaphore.Weighted
	level   func() memory.Level
	knows   func(*http.Request) bool
	metrics *boundMetrics
}

// room is what reviews of one kind of caller may take.
type room struct{ small, large class }

// class is what reviews of one size may take.
type class struct {
	present, most int64
	// arriving is nil where the number of those present bounds the bytes well enough.
	arriving *semaphore.Weighted
	deciding *semaphore.Weighted
}

func newRoom(small, large int64) room {
	return room{
		small: class{most: smallWaiting, deciding: semaphore.NewWeighted(small)},
		large: class{most: largeWaiting, arriving: semaphore.NewWeighted(largeArriving), deciding: semaphore.NewWeighted(large)},
	}
}

// newBounds are bounds that ask level how much memory is left, and knows whether the caller is known.
func newBounds(level func() memory.Level, knows func(*http.Request) bool, m *boundMetrics) *Bounds {
	if knows == nil {
		knows = func(*http.Request) bool { return true }
	}
	return &Bounds{
		known: newRoom(inFlight, largeInFlight()), strangers: newRoom(strangersInFlight, strangersLarge),
		tight: semaphore.NewWeighted(inFlightTight), level: level, knows: knows, metrics: m,
	}
}

// before stands between a Front and the webhook.
func (b *Bounds) before(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t := turn{bounds: b, room: &b.strangers}
		if b.knows(r) {
			t.room = &b.known
		}
		defer t.leave()
		raw, no := t.take(r)
		if no != nil {
			t.leave()
			b.refuse(w, r, raw, no)
			return
		}
		defer listen.Answering(r.Context())()
		b.metrics.inFlight.Inc()
		defer b.metrics.inFlight.Dec()
		r.Body, r.ContentLength = newWhole(raw), int64(len(raw))
		next.ServeHTTP(w, r)
	})
}

// turn is what one review holds of the bounds.
type turn struct {
	bounds *Bounds
	room   *room
	// present is the class among whose reviews this one counts.
	present                   *class
	arriving, deciding, tight hold
}

// hold is a part of a semaphore.
type hold struct {
	of *semaphore.Weighted
	n  int64
}

func (h *hold) acquire(ctx context.Context, of *semaphore.Weighted, n int64) error {
	if !of.TryAcquire(n) {
		ctx, cancel := waiting(ctx)
		defer cancel()
		if err := of.Acquire(ctx, n); err != nil {
			return err
		}
	}
	h.of, h.n = of, n
	return nil
}

func (h *hold) release() {
	if h.of != nil {
		h.of.Release(h.n)
		h.of = nil
	}
}

// waiting leaves a quarter of the time for the answer.
func waiting(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithTimeout(ctx, defaultTimeout)
	}
	return context.WithTimeout(ctx, time.Until(deadline)*3/4)
}

// enter counts a review among those of a class.
func (t *turn) enter(c *class) *rejection {
	t.exit()
	t.present = c
	if atomic.AddInt64(&c.present, 1) > c.most {
		return noRoom
	}
	return nil
}

func (t *turn) exit() {
	if t.present != nil {
		atomic.AddInt64(&t.present.present, -1)
		t.present = nil
	}
}

// leave gives back what is held; it may be called again.
func (t *turn) leave() {
	t.tight.release()
	t.deciding.release()
	t.arriving.release()
	t.exit()
}

// take reads a review and finds room to decide it. Beside a rejection it returns what was read.
func (t *turn) take(r *http.Request) (raw []byte, no *rejection) {
	if t.bounds.level() == memory.Short {
		return nil, shortOfMemory
	}
	if r.ContentLength > maxBody {
		return nil, tooLarge
	}
	if raw, no = t.read(r); no != nil {
		return raw, no
	}
	if no = t.admit(r.Context(), raw); no != nil {
		return raw, no
	}
	t.arriving.release()
	if errors.Is(r.Context().Err(), context.Canceled) {
		return nil, gone
	}
	return raw, nil
}

// read reads the body. One of unknown length is taken for small until it is longer, and then for the largest.
func (t *turn) read(r *http.Request) (raw []byte, no *rejection) {
	if r.ContentLength <= smallBody {
		if no = t.enter(&t.room.small); no != nil {
			return nil, no
		}
		size := r.ContentLength
		if size < 0 {
			size = smallBody + 1
		}
		raw, err := grow(r.Body, nil, size)
		if no = arrival(r, raw, err); no != nil || len(raw) <= smallBody {
			return raw, no
		}
		return t.readLarge(r, raw, maxBody+1)
	}
	return t.readLarge(r, nil, r.ContentLength)
}

// readLarge counts a large body twice: it is copied while it grows.
func (t *turn) readLarge(r *http.Request, head []byte, size int64) (raw []byte, no *rejection) {
	large := &t.room.large
	if t.bounds.level() != memory.Enough {
		return head, shortOfMemory
	}
	if no = t.enter(large); no != nil {
		return head, no
	}
	if err := t.arriving.acquire(r.Context(), large.arriving, 2*size); err != nil {
		return head, unavailable(r.Context())
	}
	raw, err := grow(r.Body, head, size)
	if no = arrival(r, raw, err); no == nil && len(raw) > maxBody {
		no = tooLarge
	}
	return raw, no
}

// admit waits for the room that the decision needs.
func (t *turn) admit(ctx context.Context, raw []byte) *rejection {
	if copies*len(raw)+valueCost*mostValues(raw) <= smallCost {
		return t.admitSmall(ctx)
	}
	if countValues(raw) > maxValues {
		return tooManyValues
	}
	large := &t.room.large
	if t.present != large {
		if no := t.enter(large); no != nil {
			return no
		}
	}
	if err := t.deciding.acquire(ctx, large.deciding, 1); err != nil {
		return unavailable(ctx)
	}
	return nil
}

func (t *turn) admitSmall(ctx context.Context) *rejection {
	if t.bounds.level() == memory.Tight && t.tight.acquire(ctx, t.bounds.tight, 1) != nil {
		return unavailable(ctx)
	}
	if t.deciding.acquire(ctx, t.room.small.deciding, 1) != nil {
		return unavailable(ctx)
	}
	return nil
}

// grow reads up to size bytes. What the sender only announces costs no memory beyond a small body's: the buffer of a
// large one grows as it arrives.
func grow(from io.Reader, raw []byte, size int64) ([]byte, error) {
	for int64(len(raw)) < size {
		if len(raw) == cap(raw) {
			next := make([]byte, len(raw), min(size, max(2*int64(len(raw)), smallBody)))
			copy(next, raw)
			raw = next
		}
		n, err := from.Read(raw[len(raw):cap(raw)])
		raw = raw[:len(raw)+n]
		if err == io.EOF {
			return raw, nil
		}
		if err != nil {
			return raw, err
		}
	}
	return raw, nil
}

// arrival says what is wrong with how a body arrived.
func arrival(r *http.Request, raw []byte, err error) *rejection {
	if err == nil && int64(len(raw)) < r.ContentLength {
		err = io.ErrUnexpectedEOF
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &rejection{reason: reasonLate, code: http.StatusRequestTimeout, text: "evictgate: read the request: its body did not arrive within " + patience(r).String(), broken: true}
	}
	return &rejection{reason: reasonCut, code: http.StatusBadRequest, text: fmt.Sprintf("evictgate: read the request: %v", err), broken: true}
}

// mostValues is at least how many values there are; it counts those within strings, too, and costs next to nothing.
func mostValues(raw []byte) int {
	return 1 + bytes.Count(raw, []byte(",")) + bytes.Count(raw, []byte("[")) + bytes.Count(raw, []byte("{"))
}

// countValues is the same without what stands within strings.
func countValues(raw []byte) int {
	n, quoted := 1, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ',' || c == '[' || c == '{'):
			n++
		}
	}
	return n
}

// whole is a body that has been read.
type whole struct {
	bytes.Reader
	raw []byte
}

func newWhole(raw []byte) *whole {
	w := &whole{raw: raw}
	w.Reset(raw)
	return w
}

func (*whole) Close() error { return nil }
