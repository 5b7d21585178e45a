package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// shelf is a target that keeps ids, as far as take lets it; nil takes all.
type shelf struct {
	mu   sync.Mutex
	ids  []string
	take func(records []Record) (int, error)
}

func (s *shelf) Send(_ context.Context, records []Record) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := len(records), error(nil)
	if s.take != nil {
		n, err = s.take(records)
	}
	for _, r := range records[:n] {
		s.ids = append(s.ids, r.DecisionID)
	}
	return n, err
}

func (s *shelf) kept() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ids)
}

// put puts records with the ids from to until-1.
func put(o *Output, from, until int) {
	for i := range until - from {
		o.queue.Put(Record{DecisionID: fmt.Sprint(from + i)}, 100)
	}
}

func idsTo(until int) (list []string) {
	for i := range until {
		list = append(list, fmt.Sprint(i))
	}
	return list
}

var errAway = errors.New("connection refused")

// awayFor fails so many times.
func awayFor(times int) func([]Record) (int, error) {
	return func(records []Record) (int, error) {
		if times--; times >= 0 {
			return 0, errAway
		}
		return len(records), nil
	}
}

func TestATargetHasEveryRecordOnceInOrder(t *testing.T) {
	for name, take := range map[string]func([]Record) (int, error){
		"that is there":             nil,
		"that is away for a while":  awayFor(7),
		"that takes some at a time": func(records []Record) (int, error) { return (len(records) + 1) / 2, errAway },
		"that takes all with error": func(records []Record) (int, error) { return len(records), errAway },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				target := &shelf{take: take}
				o := NewOutput(OutputOptions{Name: OutputStore, Target: target, Log: quiet, Batch: 10, Patience: time.Hour})
				put(o, 0, 95)
				time.Sleep(time.Second)
				put(o, 95, 100)
				o.Close()
				if diff := cmp.Diff(idsTo(100), target.kept()); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
				if diff := cmp.Diff(Counts{Output: "store", Written: 100}, o.Counts()); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			})
		})
	}
}

func TestARetryWaitsLongerEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		target := &shelf{take: awayFor(5)}
		start := time.Now()
		o := NewOutput(OutputOptions{
			Name: "upload", Target: target, Log: slog.New(slog.NewTextHandler(&logged, nil)), Linger: time.Millisecond,
			FirstRetry: time.Second, LastRetry: 4 * time.Second, Patience: time.Hour,
		})
		put(o, 0, 1)
		o.Close()
		if took := time.Since(start); took != 15*time.Second {
			t.Errorf("it took %s, want 15 s: pauses of 1, 2, 4, 4 and 4 seconds", took)
		}
		if n := strings.Count(logged.String(), "decision records wait"); n != 1 {
			t.Errorf("told %d times that records wait:\n%s", n, logged.String())
		}
		if !strings.Contains(logged.String(), `msg="decision records are taken again" output=upload`) {
			t.Errorf("not told that the target is back:\n%s", logged.String())
		}
	})
}

func TestBeyondTheQueueTheNewestAreLostAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		open := make(chan struct{})
		target := &shelf{take: func(records []Record) (int, error) { <-open; return len(records), nil }}
		o := NewOutput(OutputOptions{Name: "store", Target: target, Log: slog.New(slog.NewTextHandler(&logged, nil)), Queue: 50, Batch: 10})
		put(o, 0, 2550)
		if diff := cmp.Diff(Counts{Output: "store", Waiting: 50, Lost: 2500}, o.Counts()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		close(open)
		synctest.Wait()
		put(o, 50, 60)
		o.Close()
		if diff := cmp.Diff(idsTo(60), target.kept()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if diff := cmp.Diff(Counts{Output: "store", Written: 60, Lost: 2500}, o.Counts()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		for _, n := range []int{1, 1000, 2000} {
			if !strings.Contains(logged.String(), fmt.Sprintf(`msg="decision records lost" output=store lost=%d why="the queue is full"`, n)) {
				t.Errorf("loss %d is not told", n)
			}
		}
		if n := strings.Count(logged.String(), "\n"); n != 3 {
			t.Errorf("%d lines of log:\n%s", n, logged.String())
		}
	})
}

func TestWhatWaitsIsBoundedInBytes(t *testing.T) {
	open := make(chan struct{})
	target := &shelf{take: func(records []Record) (int, error) { <-open; return len(records), nil }}
	o := NewOutput(OutputOptions{Name: "store", Target: target, Log: quiet})
	for range 5 {
		o.queue.Put(Record{}, maxWaitingBytes/4)
	}
	if diff := cmp.Diff(Counts{Output: "store", Waiting: 4, Lost: 1}, o.Counts()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	close(open)
	o.Close()
	if diff := cmp.Diff(Counts{Output: "store", Written: 4, Lost: 1}, o.Counts()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestARecordThatIsRefusedIsLostAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := []string{"0", "17", "18", "63"}
		target := &shelf{take: func(records []Record) (int, error) {
			for _, r := range records {
				if slices.Contains(bad, r.DecisionID) {
					return 0, fmt.Errorf("%w: 400", ErrRefused)
				}
			}
			return len(records), nil
		}}
		o := NewOutput(OutputOptions{Name: "upload", Target: target, Log: quiet, Batch: 64})
		put(o, 0, 64)
		o.Close()
		want := slices.DeleteFunc(idsTo(64), func(id string) bool { return slices.Contains(bad, id) })
		if diff := cmp.Diff(want, target.kept()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if diff := cmp.Diff(Counts{Output: "upload", Written: 60, Lost: 4}, o.Counts()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

func TestCloseGivesUpOnATargetThatStaysAway(t *testing.T) {
	for name, send := range map[string]func(context.Context) error{
		"at once":               func(context.Context) error { return errAway },
		"until it is cancelled": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := NewOutput(OutputOptions{Name: "store", Target: targetFunc(send), Log: quiet, Queue: 15, Batch: 10, Patience: 3 * time.Second})
				put(o, 0, 20)
				start := time.Now()
				o.Close()
				if took := time.Since(start); took != 3*time.Second {
					t.Errorf("Close took %s", took)
				}
				if diff := cmp.Diff(Counts{Output: "store", Lost: 20}, o.Counts()); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
				o.queue.Put(Record{}, 1)
				synctest.Wait()
				if diff := cmp.Diff(Counts{Output: "store", Lost: 21}, o.Counts()); diff != "" {
					t.Errorf("after the end: -want +got:\n%s", diff)
				}
			})
		})
	}
}

// targetFunc never takes anything.
type targetFunc func(context.Context) error

func (f targetFunc) Send(ctx context.Context, _ []Record) (int, error) { return 0, f(ctx) }

func TestADeadTargetHoldsUpNeitherTheLinesNorTheOtherTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		options := func(name string, target Target) OutputOptions {
			return OutputOptions{Name: name, Target: target, Log: quiet, Queue: 100, Batch: 10, Patience: time.Second}
		}
		alive := &shelf{}
		dead := targetFunc(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		var lines bytes.Buffer
		w := NewWriter(&lines, quiet, NewOutput(options("store", dead)), NewOutput(options("upload", alive)))
		for i := range 1000 {
			w.Write(numbered(i, 10))
			if i%50 == 0 {
				synctest.Wait()
			}
		}
		w.Close()
		if n := len(ids(t, lines.Bytes(), 0)); n != 1000 || len(alive.kept()) != 1000 {
			t.Errorf("%d lines, %d records uploaded of 1000", n, len(alive.kept()))
		}
		want := []Counts{{Output: "stdout", Written: 1000}, {Output: "store", Lost: 1000}, {Output: "upload", Written: 1000}}
		if diff := cmp.Diff(want, w.Counts()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

func TestARecordThatCannotBeMadeIsLostToEveryOutput(t *testing.T) {
	target := &shelf{}
	w := NewWriter(io.Discard, quiet, NewOutput(OutputOptions{Name: "store", Target: target, Log: quiet}))
	w.Write(numbered(1, 0))
	w.Write(func() (Record, error) { panic("no") })
	w.Close()
	w.Write(numbered(2, 0))
	want := []Counts{{Output: "stdout", Written: 1, Lost: 2}, {Output: "store", Written: 1, Lost: 2}}
	if diff := cmp.Diff(want, w.Counts()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A stuck standard output must not take the store's records with it.
func TestWhatTheLinesDoNotTakeIsStillHandedOn(t *testing.T) {
	g := &gate{open: make(chan struct{})}
	target := &shelf{}
	w := NewWriter(g, quiet, NewOutput(OutputOptions{Name: "store", Target: target, Log: quiet, Linger: 1}))
	w.patience = 50 * time.Millisecond
	for i := range 10 {
		w.Write(numbered(i, 0))
	}
	w.Close()
	ignored := cmpopts.IgnoreFields(Counts{}, "Waiting")
	if diff := cmp.Diff([]Counts{{Output: "stdout", Lost: 10}, {Output: "store", Written: 10}}, w.Counts(), ignored); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	close(g.open)
	<-w.done
}

func BenchmarkWriteToAnOutput(b *testing.B) {
	w := NewWriter(io.Discard, quiet, NewOutput(OutputOptions{Name: "store", Target: &shelf{}, Log: quiet}))
	defer w.Close()
	record := numbered(1, 2000)
	b.ReportAllocs()
	for b.Loop() {
		w.Write(record)
	}
}
