package store

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// writesTo makes the test program write records to a store for ever, and print what is acknowledged.
const writesTo = "EVICTGATE_TEST_WRITES_TO"

func TestMain(m *testing.M) {
	if url := os.Getenv(writesTo); url != "" {
		fmt.Fprintln(os.Stderr, writeForEver(url))
		os.Exit(1)
	}
	// Each example of a property is some transactions on each store.
	if err := flag.Set("rapid.checks", "25"); err != nil {
		panic(err)
	}
	code := m.Run()
	stopServer()
	os.Exit(code)
}

func writeForEver(url string) error {
	ctx := context.Background()
	s, err := Open(ctx, url, Options{})
	if err != nil {
		return err
	}
	for batch := 0; ; batch++ {
		list := make([]made, 20)
		for i := range list {
			id := fmt.Sprintf("%d-%d-%d", os.Getpid(), batch, i)
			list[i] = made{id: id, uid: fmt.Sprint("u", i), budget: "web", at: time.Duration(batch) * time.Second}
		}
		if _, err := s.Add(ctx, records(list...)); err != nil {
			return err
		}
		for _, m := range list {
			fmt.Println(m.id)
		}
	}
}

// killed starts a writer, and kills it when it has acknowledged enough.
func killed(t *testing.T, url string, enough int) (acknowledged []string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0]) //nolint:gosec // ourselves
	c.Env = append(os.Environ(), writesTo+"="+url)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if acknowledged = append(acknowledged, lines.Text()); len(acknowledged) == enough {
			if err := c.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := c.Wait(); err == nil || len(acknowledged) < enough {
		t.Fatalf("the writer ended by itself after %d records: %v", len(acknowledged), err)
	}
	return acknowledged
}

func TestWhatWasAcknowledgedOutlivesAKill(t *testing.T) {
	urls := map[string]func(*testing.T) string{
		"SQLite":     func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "store.db") },
		"PostgreSQL": func(t *testing.T) string { return newDatabase(t) },
	}
	for name, url := range urls {
		t.Run(name, func(t *testing.T) {
			url, acknowledged := url(t), []string{}
			for i := range 4 {
				acknowledged = append(acknowledged, killed(t, url, 60+137*i)...)
			}
			s := opened(t, url, Options{})
			stored := map[string]int{}
			for _, id := range listed(t, s, Filter{}) {
				stored[id]++
			}
			for _, id := range acknowledged {
				if stored[id] != 1 {
					t.Errorf("record %s was acknowledged, and is there %d times", id, stored[id])
				}
			}
			agrees(t, s, len(stored))
		})
	}
}

// agrees checks that episodes and sums have each of n records once.
func agrees(t *testing.T, s *Store, n int) {
	t.Helper()
	page, err := s.Episodes(t.Context(), Filter{}, Page{Limit: 10000})
	attempts := 0
	for _, e := range page.Episodes {
		attempts += e.Attempts
	}
	count, countErr := s.Count(t.Context(), Filter{})
	if err := errors.Join(err, countErr); err != nil || attempts != n || count != n {
		t.Errorf("%d records, %d attempts in episodes, %d counted: %v", n, attempts, count, err)
	}
}

func TestManyWriters(t *testing.T) {
	file := "sqlite:" + filepath.Join(t.TempDir(), "store.db")
	for name, url := range map[string]string{"SQLite": file, "PostgreSQL": ""} {
		t.Run(name, func(t *testing.T) {
			if url == "" {
				url = newDatabase(t)
			}
			const writers, batches, size = 4, 12, 10
			var all sync.WaitGroup
			for w := range writers {
				all.Go(func() { // each with a store of its own, as replicas have
					s, err := Open(t.Context(), url, Options{})
					if err != nil {
						t.Error(err)
						return
					}
					defer func() { _ = s.Close() }()
					for b := range batches {
						list := make([]made, size)
						for i := range list { // the same pods in another order, and days that are new to all; every third was written by another, too
							list[i] = made{id: fmt.Sprintf("%d-%d-%d", w-w*((b+1)%3/2), b, i), uid: fmt.Sprint("u", (i*7+w)%size), at: time.Duration(b) * 24 * time.Hour, budget: "web"}
						}
						if _, err := s.Add(t.Context(), records(list...)); err != nil {
							t.Errorf("writer %d: %v", w, err)
						}
						if _, err := s.List(t.Context(), Filter{}, Page{}); err != nil {
							t.Errorf("reader %d: %v", w, err)
						}
					}
				})
			}
			all.Wait()
			s := opened(t, url, Options{})
			want := writers*batches*size - (writers-1)*batches/3*size
			if n := len(listed(t, s, Filter{})); n != want {
				t.Errorf("%d records, want %d", n, want)
			}
			agrees(t, s, want)
		})
	}
}
