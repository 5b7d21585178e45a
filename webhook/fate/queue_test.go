package fate

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

	"github.com/evictgate/evictgate/webhook/record"
)

// shelf is a store as the queue knows it: it keeps sightings of pods whose record it has.
type shelf struct {
	mu        sync.Mutex
	records   map[string]bool
	sightings map[string]bool
	// early counts the sightings that came before the record.
	early int
	// down is how often it still takes no records, and slow how long it takes.
	down int
	slow time.Duration
}

func newShelf() *shelf { return &shelf{records: map[string]bool{}, sightings: map[string]bool{}} }

func (s *shelf) away() error {
	time.Sleep(s.slow)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down > 0 {
		s.down--
		return errors.New("the store is away")
	}
	return nil
}

func (s *shelf) Send(_ context.Context, records []record.Record) (int, error) {
	if err := s.away(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range records {
		s.records[r.DecisionID] = true
	}
	return len(records), nil
}

func (s *shelf) add(_ context.Context, sightings []record.Sighting) error {
	time.Sleep(s.slow)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range sightings {
		if !s.records[one.PodUID] {
			s.early++
		}
		s.sightings[one.PodUID] = true
	}
	return nil
}

// writing is a writer whose records go to the shelf, and a queue of sightings behind it.
func writing(t *testing.T, s *shelf, o record.OutputOptions) (*record.Writer, *Queue) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	o.Name, o.Target, o.Log, o.Linger, o.FirstRetry, o.LastRetry = record.OutputStore, s, log, 5*time.Millisecond, 5*time.Millisecond, 5*time.Millisecond
	output := record.NewOutput(o)
	w := record.NewWriter(io.Discard, log, output)
	q := NewQueue(QueueOptions{Add: s.add, Log: log, Progress: func() Progress { return ProgressOf(w, record.OutputStore) }})
	t.Cleanup(func() { q.Close(context.Background()) })
	return w, q
}

func TestASightingNeverComesBeforeItsRecord(t *testing.T) {
	for name, tt := range map[string]struct {
		shelf  *shelf
		output record.OutputOptions
	}{
		"a quick store":         {newShelf(), record.OutputOptions{}},
		"a slow store":          {&shelf{records: map[string]bool{}, sightings: map[string]bool{}, slow: 3 * time.Millisecond}, record.OutputOptions{Batch: 7}},
		"a store that was away": {&shelf{records: map[string]bool{}, sightings: map[string]bool{}, down: 5}, record.OutputOptions{Batch: 50}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, q := writing(t, tt.shelf, tt.output)
			const workers, each = 4, 200
			var wg sync.WaitGroup
			for worker := range workers {
				wg.Go(func() {
					for i := range each {
						id := fmt.Sprintf("%d-%d", worker, i)
						w.Write(func() (record.Record, error) { return record.Record{DecisionID: id}, nil })
						q.Put(record.Sighting{PodUID: id})
					}
				})
			}
			wg.Wait()
			w.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for {
				tt.shelf.mu.Lock()
				n := len(tt.shelf.sightings)
				tt.shelf.mu.Unlock()
				if n == workers*each {
					break
				}
				if ctx.Err() != nil {
					t.Fatalf("%d sightings of %d came", n, workers*each)
				}
				time.Sleep(5 * time.Millisecond)
			}
			if tt.shelf.early > 0 || q.Lost() > 0 {
				t.Errorf("%d sightings came before their record, %d are lost", tt.shelf.early, q.Lost())
			}
		})
	}
}

// While the store is away the records' queue runs full. What comes after a loss must not be sent early.
func TestLostRecordsDoNotLetSightingsPassOthers(t *testing.T) {
	s := newShelf()
	s.down = 120 // long enough for the queue to look again
	w, q := writing(t, s, record.OutputOptions{Queue: 10, Batch: 5})
	put := func(id string) {
		w.Write(func() (record.Record, error) { return record.Record{DecisionID: id}, nil })
		q.Put(record.Sighting{PodUID: id})
	}
	for i := range 10 {
		put(fmt.Sprint("kept-", i))
	}
	for w.Counts()[1].Waiting < 10 {
		time.Sleep(time.Millisecond)
	}
	for i := range 10 { // no room for these
		w.Write(func() (record.Record, error) { return record.Record{DecisionID: fmt.Sprint("lost-", i)}, nil })
	}
	w.Close()
	q.Close(t.Context())
	if n := w.Counts()[1].Lost; n != 10 || s.early != 0 || len(s.sightings) != 10 {
		t.Errorf("%d records are lost, %d sightings of %d came too early", n, s.early, len(s.sightings))
	}
}

func TestOnlyTheSightingThatTheStoreRefusesIsLost(t *testing.T) {
	var kept []string
	q := NewQueue(QueueOptions{
		Add: func(_ context.Context, list []record.Sighting) error {
			if slices.ContainsFunc(list, func(s record.Sighting) bool { return s.PodUID == "bad" }) {
				return fmt.Errorf("%w: no such value", record.ErrRefused)
			}
			for _, s := range list {
				kept = append(kept, s.PodUID)
			}
			return nil
		},
		Progress: func() Progress { return Progress{} }, Log: slog.New(slog.DiscardHandler),
	})
	for _, uid := range []string{"a", "b", "bad", "c", "d", "e", "f"} {
		q.Put(record.Sighting{PodUID: uid})
	}
	q.Close(t.Context())
	if got := strings.Join(kept, ""); got != "abcdef" || q.Lost() != 1 {
		t.Errorf("kept %s, %d lost", got, q.Lost())
	}
}

func TestSightingsBeyondTheQueueAreLostAndCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		q := NewQueue(QueueOptions{
			Add:      func(context.Context, []record.Sighting) error { return errors.New("the store is away") },
			Progress: func() Progress { return Progress{} }, Log: slog.New(slog.NewTextHandler(&logged, nil)),
		})
		for range maxWaiting + 5 {
			q.Put(record.Sighting{})
		}
		if q.Lost() != 5 {
			t.Errorf("%d are lost, expected 5", q.Lost())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		q.Close(ctx)
		synctest.Wait()
		if q.Lost() != maxWaiting+5 {
			t.Errorf("%d are lost at the end, expected %d", q.Lost(), maxWaiting+5)
		}
		for _, want := range []string{
			`msg="sightings of pods lost" lost=1 why="the queue is full"`,
			`msg="sightings of pods lost" lost=20005 why="the store did not take them before the end"`,
			`msg="sightings of pods wait, the store does not take them" error="the store is away"`,
		} {
			if strings.Count(logged.String(), want) != 1 {
				t.Errorf("%s is not told once:\n%s", want, logged.String())
			}
		}
	})
}
