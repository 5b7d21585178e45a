package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/evictgate/evictgate/policies"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// numbered makes a record by its id, of about size bytes.
func numbered(id, size int) func() (Record, error) {
	return func() (Record, error) {
		return Record{DecisionID: fmt.Sprint(id), Path: strings.Repeat("x", size)}, nil
	}
}

// ids reads the ids of written records; every line must be a record, but for some that are torn.
func ids(t *testing.T, raw []byte, torn int) map[string]bool {
	t.Helper()
	seen := map[string]bool{}
	for line := range bytes.Lines(raw) {
		var r Record
		if err := json.Unmarshal(line, &r); err != nil {
			if torn--; torn < 0 {
				t.Fatalf("line %.80q: %v", line, err)
			}
			continue
		}
		if seen[r.DecisionID] {
			t.Errorf("record %s stands twice", r.DecisionID)
		}
		seen[r.DecisionID] = true
	}
	return seen
}

func TestCloseWritesAllThatIsQueued(t *testing.T) {
	var out bytes.Buffer
	w := NewWriter(&out, quiet)
	for i := range 1000 {
		w.Write(numbered(i, 100))
	}
	w.Close()
	if n := len(ids(t, out.Bytes(), 0)); n != 1000 || w.Lost() != 0 {
		t.Errorf("%d of 1000 records written, %d lost", n, w.Lost())
	}
	w.Write(numbered(1000, 0))
	w.Close()
	if n := len(ids(t, out.Bytes(), 0)); n != 1000 || w.Lost() != 1 {
		t.Errorf("a record after Close: %d written, %d lost, want 1000 and 1", n, w.Lost())
	}
}

// gate is a writer that waits until it is opened.
type gate struct {
	open chan struct{}
	out  bytes.Buffer
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	return g.out.Write(p)
}

func TestWriteNeverBlocks(t *testing.T) {
	g := &gate{open: make(chan struct{})}
	w := NewWriter(g, quiet)
	const more = 500
	total := 2*queueLength + more
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range total {
			w.Write(numbered(i, 0))
		}
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("Write waits for the output")
	}
	lost := w.Lost()
	if lost == 0 {
		t.Error("more than the queue holds, but nothing is lost")
	}
	close(g.open)
	w.Close()
	if n := len(ids(t, g.out.Bytes(), 0)); int64(n)+w.Lost() != int64(total) || w.Lost() != lost {
		t.Errorf("%d written and %d lost (%d before the output went on) of %d", n, w.Lost(), lost, total)
	}
}

// The process must be able to end when its output does not.
func TestCloseGivesUpOnABlockedOutput(t *testing.T) {
	g := &gate{open: make(chan struct{})}
	w := NewWriter(g, quiet)
	w.patience = 50 * time.Millisecond
	for i := range 10 {
		w.Write(numbered(i, 0))
	}
	w.Close()
	if w.Lost() != 10 {
		t.Errorf("%d lost of the 10 that waited", w.Lost())
	}
	close(g.open)
	<-w.done
}

// An idle writer writes at once: a record does not wait for the next one.
func TestARecordIsWrittenAtOnce(t *testing.T) {
	r, out := io.Pipe()
	w := NewWriter(out, quiet)
	w.Write(numbered(7, 0))
	read := make(chan string, 1)
	go func() {
		var record Record
		_ = json.NewDecoder(r).Decode(&record)
		read <- record.DecisionID
		_, _ = io.Copy(io.Discard, r)
	}()
	select {
	case id := <-read:
		if id != "7" {
			t.Errorf("read record %q", id)
		}
	case <-time.After(10 * time.Second):
		t.Error("the record waits for the next one")
	}
	w.Close()
	_ = out.Close()
}

func TestManyWriters(t *testing.T) {
	var out bytes.Buffer
	w := NewWriter(&out, quiet)
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 200 {
				w.Write(numbered(g*200+i, 10))
				if g == 7 && i == 150 {
					wg.Go(w.Close) // while the others write
				}
			}
		})
	}
	wg.Wait()
	w.Close()
	if n := len(ids(t, out.Bytes(), 0)); int64(n)+w.Lost() != 3200 {
		t.Errorf("%d written and %d lost of 3200", n, w.Lost())
	}
}

// flaky fails on every third call, after a part of what it was given.
type flaky struct {
	calls, torn int
	part        func(p []byte) int
	out         bytes.Buffer
}

func (f *flaky) Write(p []byte) (int, error) {
	if f.calls++; f.calls%3 != 0 {
		return f.out.Write(p)
	}
	n := f.part(p)
	if n > 0 && p[n-1] != '\n' {
		f.torn++
	}
	f.out.Write(p[:n])
	return n, errors.New("disk full")
}

func TestLossesAreCountedExactly(t *testing.T) {
	for part, take := range map[string]func([]byte) int{
		"nothing":     func([]byte) int { return 0 },
		"half":        func(p []byte) int { return len(p) / 2 },
		"all but one": func(p []byte) int { return len(p) - 1 },
		"a line":      func(p []byte) int { return bytes.IndexByte(p, '\n') + 1 },
	} {
		for _, size := range []int{10, 3000, 40 << 10, 100 << 10} {
			t.Run(fmt.Sprint("records of ", size, " bytes, ", part, " written on failure"), func(t *testing.T) {
				var logged bytes.Buffer
				out := &flaky{part: take}
				w := NewWriter(out, slog.New(slog.NewTextHandler(&logged, nil)))
				const total = 60
				for i := range total {
					w.Write(numbered(i, size))
					if i%7 == 0 {
						time.Sleep(time.Millisecond) // let it flush
					}
				}
				w.Close()
				n := len(ids(t, out.out.Bytes(), out.torn))
				if int64(n)+w.Lost() != total || n == 0 {
					t.Errorf("%d written and %d lost of %d", n, w.Lost(), total)
				}
				if w.Lost() > 0 && !strings.Contains(logged.String(), `msg="decision records lost" output=stdout lost=`) {
					t.Errorf("the first loss is not told: %s", logged.String())
				}
			})
		}
	}
}

func TestARecordThatCannotBeMadeIsLostAlone(t *testing.T) {
	var out bytes.Buffer
	w := NewWriter(&out, quiet)
	w.Write(numbered(1, 0))
	w.Write(func() (Record, error) { return Record{}, errors.New("no") })
	w.Write(func() (Record, error) {
		return Record{Result: &policies.Decision{Violations: []policies.Violation{{Detail: map[string]any{"n": math.NaN()}}}}}, nil
	})
	w.Write(func() (Record, error) { panic("no") })
	w.Write(numbered(2, 0))
	w.Close()
	if n := len(ids(t, out.Bytes(), 0)); n != 2 || w.Lost() != 3 {
		t.Errorf("%d written and %d lost, want 2 and 3", n, w.Lost())
	}
}

func BenchmarkWrite(b *testing.B) {
	w := NewWriter(io.Discard, quiet)
	defer w.Close()
	record := numbered(1, 2000)
	b.ReportAllocs()
	for b.Loop() {
		w.Write(record)
	}
}
