package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/store"
)

func TestHowLongRecordsAreKept(t *testing.T) {
	for name, tt := range map[string]struct {
		url, keep, size string
		want            store.Retention
		err             string
	}{
		"days":                    {"sqlite:r.db", "30d", "", store.Retention{Age: 720 * time.Hour, Size: 2 << 30}, ""},
		"hours":                   {"sqlite:r.db", "12h", "3Gi", store.Retention{Age: 12 * time.Hour, Size: 3 << 30}, ""},
		"for ever":                {"sqlite:r.db", "0", "0", store.Retention{}, ""},
		"in memory":               {"sqlite::memory:", "0", "", store.Retention{Size: 128 << 20}, ""},
		"PostgreSQL":              {"postgres://db/evictgate", "0", "", store.Retention{}, ""},
		"a PostgreSQL of so much": {"postgresql://db/evictgate", "0", "5Gi", store.Retention{Size: 5 << 30}, ""},
		"no age":                  {"sqlite:r.db", "long", "", store.Retention{}, `--store-keep is "long"; expected an age such as 720h or 30d`},
		"a negative age":          {"sqlite:r.db", "-1h", "", store.Retention{}, `--store-keep is "-1h"; expected an age such as 720h or 30d`},
		"no size":                 {"sqlite:r.db", "1h", "-1", store.Retention{}, `--store-max-size is "-1"; expected a size such as 500Mi or 2Gi`},
	} {
		t.Run(name, func(t *testing.T) {
			f := keepFlags{age: tt.keep, maxSize: tt.size}
			got, err := f.retention(tt.url)
			if tt.err != "" {
				if err == nil || err.Error() != tt.err {
					t.Errorf("got %v", err)
				}
				return
			}
			if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
				t.Errorf("%v: -want +got:\n%s", err, diff)
			}
		})
	}
}

// aged is a record of so long ago.
func aged(id string, age time.Duration) record.Record {
	return record.Record{
		Version: record.Version, DecisionID: id, Timestamp: time.Now().Add(-age).UTC(), Path: "eviction",
		Request: record.Request{Namespace: "shop", Name: "web-0"}, Result: &policies.Decision{Outcome: policies.Admitted, Code: 200},
	}
}

func TestServeRemovesWhatIsTooMuchAtOnce(t *testing.T) {
	f := recordFlags{store: "sqlite:" + filepath.Join(t.TempDir(), "r.db"), keep: keepFlags{age: "0", maxSize: "1Mi"}, input: "read", queue: 10_000}
	r, err := f.open(t.Context(), &bytes.Buffer{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var keeping sync.WaitGroup
	keeping.Go(func() { _ = r.store.Start(ctx) })
	const n = 3000
	for i := range n {
		r.Write(func() (record.Record, error) {
			return aged(fmt.Sprint("r", i), time.Duration(n-i)*time.Minute), nil
		})
	}
	left := n
	for deadline := time.Now().Add(time.Minute); (left == n || r.Counts()[1].Written < n) && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		s, err := r.store.Now()
		if err != nil {
			t.Fatal(err)
		}
		if left, err = s.Count(t.Context(), store.Filter{}); err != nil {
			t.Fatal(err)
		}
	}
	if left == n {
		t.Errorf("all %d records are still there", left)
	}
	cancel()
	keeping.Wait()
	r.Close()
}

func TestServeRemovesOldRecords(t *testing.T) {
	var logged bytes.Buffer
	log := slog.New(slog.NewTextHandler(&logged, nil))
	f := recordFlags{store: "sqlite:" + filepath.Join(t.TempDir(), "r.db"), keep: keepFlags{age: "1h"}, input: "read", queue: 10}
	r, err := f.open(t.Context(), &bytes.Buffer{}, log)
	if err != nil {
		t.Fatal(err)
	}
	for id, age := range map[string]time.Duration{"new": 0, "old": 100 * time.Hour} {
		r.Write(func() (record.Record, error) { return aged(id, age), nil })
	}
	for r.Counts()[1].Written < 2 {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var keeping sync.WaitGroup
	keeping.Go(func() { _ = r.store.Start(ctx) })
	s, err := r.store.Now()
	if err != nil {
		t.Fatal(err)
	}
	n := 2
	for deadline := time.Now().Add(time.Minute); n == 2 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if n, err = s.Count(t.Context(), store.Filter{}); err != nil {
			t.Fatal(err)
		}
	}
	if cancel(); n != 1 {
		t.Errorf("%d records left", n)
	}
	keeping.Wait()
	r.Close()
	r.Close() // serve closes twice
	if !strings.Contains(logged.String(), `msg="old records removed from the store" records=1`) || strings.Contains(logged.String(), "lost") {
		t.Errorf("the log:\n%s", logged.String())
	}
}
