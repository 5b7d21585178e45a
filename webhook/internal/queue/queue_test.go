package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// In a synctest bubble a test fails when a goroutine of it is left, so every test there also holds that Close ends the
// sender.

// shelf is a receiver that keeps numbers, as far as take lets it; nil takes all.
type shelf struct {
	mu    sync.Mutex
	items []int
	sends int
	take  func(items []int) (int, error)
}

func (s *shelf) send(_ context.Context, items []int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sends++
	n, err := len(items), error(nil)
	if s.take != nil {
		n, err = s.take(items)
	}
	s.items = append(s.items, items[:n]...)
	return n, err
}

func (s *shelf) kept() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.items)
}

// start begins a queue with the options that are not zero, and otherwise with room for all.
func start(o Options[int]) *Queue[int] {
	if o.Length == 0 {
		o.Length = 10_000
	}
	if o.Batch == 0 {
		o.Batch = 500
	}
	if o.FirstRetry == 0 {
		o.FirstRetry, o.LastRetry = 100*time.Millisecond, 5*time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Texts = Texts{Lost: "lost", Closed: "closed", Late: "late", Away: "away", Back: "back"}
	return New(o)
}

// put puts the numbers from to until-1.
func put(q *Queue[int], from, until int) {
	for i := range until - from {
		q.Put(from+i, 0)
	}
}

func numbersTo(until int) (list []int) {
	for i := range until {
		list = append(list, i)
	}
	return list
}

// closeWithin closes the queue, and returns how long that took.
func closeWithin(q *Queue[int], patience time.Duration) time.Duration {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	q.Close(ctx)
	return time.Since(begin)
}

func expect[T any](t *testing.T, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

var errAway = errors.New("connection refused")

// awayFor fails so many times.
func awayFor(times int) func([]int) (int, error) {
	return func(items []int) (int, error) {
		if times--; times >= 0 {
			return 0, errAway
		}
		return len(items), nil
	}
}

func TestAReceiverHasEveryItemOnceInOrder(t *testing.T) {
	for name, take := range map[string]func([]int) (int, error){
		"that is there":             nil,
		"that is away for a while":  awayFor(7),
		"that takes some at a time": func(items []int) (int, error) { return (len(items) + 1) / 2, errAway },
		"that takes all with error": func(items []int) (int, error) { return len(items), errAway },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				to := &shelf{take: take}
				q := start(Options[int]{Send: to.send, Batch: 10, Linger: 200 * time.Millisecond})
				put(q, 0, 95)
				time.Sleep(time.Second)
				put(q, 95, 100)
				closeWithin(q, time.Hour)
				expect(t, numbersTo(100), to.kept())
				expect(t, Counts{Written: 100}, q.Counts())
			})
		})
	}
}

func TestABatchGathersUntilItIsFullOrHasWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &shelf{}
		q := start(Options[int]{Send: to.send, Batch: 10, Linger: time.Second})
		defer closeWithin(q, time.Hour)
		sent := func(want int) {
			t.Helper()
			synctest.Wait()
			if to.mu.Lock(); to.sends != want {
				t.Errorf("sent %d batches, want %d", to.sends, want)
			}
			to.mu.Unlock()
		}
		put(q, 0, 9)
		sent(0)
		put(q, 9, 10)
		sent(1)
		put(q, 10, 11)
		time.Sleep(time.Second - 1)
		sent(1)
		time.Sleep(time.Nanosecond)
		sent(2)
		put(q, 11, 36)
		sent(4)
		time.Sleep(time.Second)
		sent(5)
	})
}

func TestABatchIsBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		to := &shelf{take: func(items []int) (int, error) {
			sizes = append(sizes, len(items))
			return len(items), nil
		}}
		q := start(Options[int]{Send: to.send, MaxBytes: 1000, MaxBatchBytes: 100, Linger: time.Second})
		for i, size := range []int{300, 40, 60, 1, 100} {
			q.Put(i, size)
		}
		closeWithin(q, time.Hour)
		expect(t, []int{1, 2, 1, 1}, sizes)
		expect(t, numbersTo(5), to.kept())
	})
}

func TestARetryWaitsLongerEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		var at []time.Duration
		begin := time.Now()
		to := &shelf{take: func(items []int) (int, error) {
			at = append(at, time.Since(begin))
			if len(at) < 6 {
				return 0, errAway
			}
			return len(items), nil
		}}
		q := start(Options[int]{Send: to.send, Log: slog.New(slog.NewTextHandler(&logged, nil)), FirstRetry: time.Second, LastRetry: 4 * time.Second})
		put(q, 0, 1)
		closeWithin(q, time.Hour)
		expect(t, []time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second, 11 * time.Second, 15 * time.Second}, at)
		if away, back := strings.Count(logged.String(), "msg=away"), strings.Count(logged.String(), "msg=back"); away != 1 || back != 1 {
			t.Errorf("told %d times that it is away, %d times that it is back:\n%s", away, back, logged.String())
		}
	})
}

func TestBeyondTheLengthTheNewestAreLostAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		open := make(chan struct{})
		to := &shelf{take: func(items []int) (int, error) { <-open; return len(items), nil }}
		q := start(Options[int]{Send: to.send, Log: slog.New(slog.NewTextHandler(&logged, nil)), Length: 50, Batch: 10})
		put(q, 0, 2550)
		expect(t, Counts{Waiting: 50, Lost: 2500}, q.Counts())
		close(open)
		synctest.Wait()
		put(q, 50, 60)
		closeWithin(q, time.Hour)
		expect(t, numbersTo(60), to.kept())
		expect(t, Counts{Written: 60, Lost: 2500}, q.Counts())
		for _, n := range []int{1, 1000, 2000} {
			if !strings.Contains(logged.String(), fmt.Sprintf(`msg=lost lost=%d why="the queue is full"`, n)) {
				t.Errorf("loss %d is not told", n)
			}
		}
		if n := strings.Count(logged.String(), "\n"); n != 3 {
			t.Errorf("%d lines of log:\n%s", n, logged.String())
		}
	})
}

func TestWhatWaitsIsBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		to := &shelf{take: func(items []int) (int, error) { <-open; return len(items), nil }}
		q := start(Options[int]{Send: to.send, MaxBytes: 100, MaxBatchBytes: 100})
		q.Put(0, 101) // a single item may have more
		q.Put(1, 1)
		expect(t, Counts{Waiting: 1, Lost: 1}, q.Counts())
		close(open)
		synctest.Wait()
		for i := range 5 {
			q.Put(1+i, 25)
		}
		closeWithin(q, time.Hour)
		expect(t, Counts{Written: 5, Lost: 2}, q.Counts())
		expect(t, numbersTo(5), to.kept())
		if q.bytes != 0 {
			t.Errorf("%d bytes are still counted", q.bytes)
		}
	})
}

func TestAnItemThatIsRefusedIsLostAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := []int{0, 17, 18, 63}
		to := &shelf{take: func(items []int) (int, error) {
			if slices.ContainsFunc(items, func(i int) bool { return slices.Contains(bad, i) }) {
				return 0, fmt.Errorf("%w: 400", ErrRefused)
			}
			return len(items), nil
		}}
		q := start(Options[int]{Send: to.send, Batch: 64, Linger: time.Second})
		put(q, 0, 64)
		closeWithin(q, time.Hour)
		expect(t, slices.DeleteFunc(numbersTo(64), func(i int) bool { return slices.Contains(bad, i) }), to.kept())
		expect(t, Counts{Written: 60, Lost: 4}, q.Counts())
	})
}

func TestAReceiverThatPanicsLosesItsItemAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &shelf{take: func(items []int) (int, error) {
			if items[0] == 3 {
				panic("a bug")
			}
			return 1, errAway
		}}
		q := start(Options[int]{Send: to.send, Linger: time.Second})
		put(q, 0, 6)
		closeWithin(q, time.Hour)
		expect(t, Counts{Written: 5, Lost: 1}, q.Counts())
	})
}

// What is not ready holds up what comes behind it, and is looked at again.
func TestOnlyWhatIsReadyIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &shelf{}
		var mu sync.Mutex
		ready := 0 // the first numbers
		q := start(Options[int]{Send: to.send, Batch: 4, FirstRetry: time.Second, LastRetry: time.Second, Ready: func(items []int) int {
			mu.Lock()
			defer mu.Unlock()
			if n := slices.IndexFunc(items, func(i int) bool { return i >= ready }); n >= 0 {
				return n
			}
			return len(items)
		}})
		become := func(n int) {
			mu.Lock()
			defer mu.Unlock()
			ready = n
		}
		put(q, 0, 10)
		time.Sleep(time.Minute + time.Millisecond) // between two looks
		expect(t, nil, to.kept())
		become(6)
		time.Sleep(time.Second)
		synctest.Wait()
		expect(t, numbersTo(6), to.kept())
		go func() {
			time.Sleep(10 * time.Second)
			become(10)
		}()
		if took := closeWithin(q, time.Minute); took < 9*time.Second || took > 12*time.Second {
			t.Errorf("Close took %s, expected the ten seconds until all is ready", took)
		}
		expect(t, numbersTo(10), to.kept())
	})
}

func TestCloseGivesUpOnWhatIsNeverReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &shelf{}
		q := start(Options[int]{Send: to.send, Ready: func([]int) int { return 0 }})
		put(q, 0, 3)
		if took := closeWithin(q, time.Second); took != time.Second {
			t.Errorf("Close took %s", took)
		}
		expect(t, Counts{Lost: 3}, q.Counts())
	})
}

func TestCloseGivesUpOnAReceiverThatStaysAway(t *testing.T) {
	for name, send := range map[string]func(context.Context, []int) (int, error){
		"at once":               func(context.Context, []int) (int, error) { return 0, errAway },
		"until it is cancelled": func(ctx context.Context, _ []int) (int, error) { <-ctx.Done(); return 0, ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := start(Options[int]{Send: send, Length: 15, Batch: 10})
				put(q, 0, 20)
				if took := closeWithin(q, 3*time.Second); took != 3*time.Second {
					t.Errorf("Close took %s", took)
				}
				expect(t, Counts{Lost: 20}, q.Counts())
				put(q, 20, 21)
				<-q.done
				expect(t, Counts{Lost: 21}, q.Counts())
			})
		})
	}
}

// A receiver that ignores its cancellation must not keep the process, nor change the count when it comes back.
func TestCloseDoesNotWaitForAReceiverThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		to := &shelf{take: func(items []int) (int, error) { <-release; return len(items), nil }}
		q := start(Options[int]{Send: to.send})
		put(q, 0, 3)
		closeWithin(q, time.Second)
		close(release)
		<-q.done
		expect(t, Counts{Lost: 3}, q.Counts())
	})
}

func TestEveryItemOfManyIsWrittenOrLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &shelf{take: awayFor(3)}
		q := start(Options[int]{Send: to.send, Length: 300, Batch: 7})
		var putting sync.WaitGroup
		for worker := range 8 {
			putting.Go(func() { put(q, worker*100, worker*100+100) })
		}
		putting.Wait()
		closeWithin(q, time.Hour)
		c := q.Counts()
		if c.Waiting != 0 || c.Written+c.Lost != 800 || c.Written != int64(len(to.kept())) {
			t.Errorf("%+v, and the receiver has %d of 800", c, len(to.kept()))
		}
		last := map[int]int{} // those of one worker come in their order
		for _, i := range to.kept() {
			if before, ok := last[i/100]; ok && before >= i {
				t.Errorf("%d comes after %d", i, before)
			}
			last[i/100] = i
		}
	})
}
