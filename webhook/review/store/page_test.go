package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evictgate/evictgate/webhook/record"
)

// TestStuckPodsComeInPages: each once, the longest refused first, and every page says how many there are in all.
func TestStuckPodsComeInPages(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(testing.TB, Options) *Store) {
		s, ctx := open(t, Options{}), t.Context()
		var list []record.Record
		for i := range 23 { // two at a time have the same moment
			pod := fmt.Sprintf("web-%02d", i)
			list = append(list, made{id: "d" + pod, pod: pod, uid: "u" + pod, budget: "web", at: time.Duration(i/2) * time.Minute}.record())
		}
		add(t, s, list...)
		tried := after(2 * time.Minute) // 4 are given up
		var got []string
		for p := (Page{Limit: 5}); ; {
			page, err := s.StuckPage(ctx, Filter{}, tried, p)
			if err != nil || page.Total != 19 || page.GivenUp != 4 || len(page.Episodes) > 5 {
				t.Fatalf("%d of %d, %d given up, %v", len(page.Episodes), page.Total, page.GivenUp, err)
			}
			for _, e := range page.Episodes {
				got = append(got, e.Pod)
			}
			if page.Next == "" {
				break
			}
			p.After = page.Next
		}
		var want []string
		for i := 4; i < 23; i++ {
			want = append(want, fmt.Sprintf("web-%02d", i))
		}
		equal(t, "stuck pods", want, got)
		all, err := s.Stuck(ctx, Filter{}, time.Time{})
		if err != nil || len(all) != 23 {
			t.Errorf("all pages: %d, %v", len(all), err)
		}
		if _, err := s.StuckPage(ctx, Filter{}, tried, Page{After: "x"}); !errors.Is(err, ErrPage) {
			t.Errorf("no page: %v", err)
		}

		got = nil
		for p := (Page{Limit: 10}); ; {
			page, err := s.Unsettled(ctx, p)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page.Episodes {
				got = append(got, e.Pod)
			}
			if p.After = page.Next; page.Next == "" {
				break
			}
		}
		if len(got) != 23 || !slices.IsSortedFunc(got, func(a, b string) int { return strings.Compare(b, a) }) {
			t.Errorf("unsettled: %q", got)
		}
	})
}

// TestAPageIsBoundedInBytes: one may ask for many rows, and rows may be large.
func TestAPageIsBoundedInBytes(t *testing.T) {
	s := opened(t, "sqlite::memory:", Options{})
	var list []record.Record
	for i := range 40 {
		list = append(list, made{id: fmt.Sprintf("d%02d", i), uid: fmt.Sprintf("u%02d", i), budget: "web", message: strings.Repeat("m", 1<<20), at: time.Duration(i) * time.Second}.record())
	}
	add(t, s, list...)
	rows, err := s.List(t.Context(), Filter{}, Page{Limit: 1000})
	if n := len(rows.Rows); err != nil || n < 10 || n > 20 || rows.Next == "" {
		t.Errorf("%d rows, next %q, %v", n, rows.Next, err)
	}
	episodes, err := s.Episodes(t.Context(), Filter{}, Page{Limit: 1000})
	if n := len(episodes.Episodes); err != nil || n < 4 || n > 20 || episodes.Next == "" {
		t.Errorf("%d episodes, next %q, %v", n, episodes.Next, err)
	}
	n := 0
	for p := (Page{Limit: 1000}); ; {
		page, err := s.List(t.Context(), Filter{}, p)
		if err != nil {
			t.Fatal(err)
		}
		n += len(page.Rows)
		if p.After = page.Next; page.Next == "" {
			break
		}
	}
	if n != 40 {
		t.Errorf("%d rows on all pages", n)
	}
}

// BenchmarkOverview compares what the page's overview asks for with what it would be to read all that is stuck.
func BenchmarkOverview(b *testing.B) {
	s := opened(b, "sqlite::memory:", Options{})
	var list []record.Record
	for i := range 5000 {
		pod := fmt.Sprintf("web-%04d", i)
		list = append(list, made{id: "d" + pod, pod: pod, uid: "u" + pod, budget: "web", message: strings.Repeat("m", 300), at: time.Duration(i) * time.Second}.record())
	}
	add(b, s, list...)
	for name, ask := range map[string]func() error{
		"sums":             func() error { _, err := s.Stats(b.Context(), Filter{}); return err },
		"stuck, the first": func() error { _, err := s.StuckPage(b.Context(), Filter{}, noon, Page{Limit: 5}); return err },
		"stuck, all":       func() error { _, err := s.Stuck(b.Context(), Filter{}, time.Time{}); return err },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := ask(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
