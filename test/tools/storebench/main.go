// Command storebench is `make bench-store`: it fills a store with the records of a busy cluster, and says
// how fast that went, how much room they take, and how long the questions of the review take then.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/store"
)

type options struct {
	url     string
	records int
	batch   int
	writers int
	over    time.Duration
	rounds  int
	fill    bool
}

func main() {
	var o options
	flag.StringVar(&o.url, "store", "", "the store, which must be empty; default: SQLite in a directory that is removed afterwards")
	flag.IntVar(&o.records, "records", 1_000_000, "how many records")
	flag.IntVar(&o.batch, "batch", 500, "how many are written at once")
	flag.IntVar(&o.writers, "writers", 2, "how many write beside each other")
	flag.DurationVar(&o.over, "over", 30*24*time.Hour, "the time over which they are spread")
	flag.IntVar(&o.rounds, "rounds", 7, "how often each question is asked")
	flag.BoolVar(&o.fill, "fill", true, "write the records; false asks a store that was filled before")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintf(os.Stderr, "storebench: %v\n", err)
		os.Exit(1) //nolint:gocritic // nothing is deferred but stop
	}
}

func run(ctx context.Context, o options) (err error) {
	var file string
	if o.url == "" {
		dir, err := os.MkdirTemp("", "storebench")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		o.url = "sqlite:" + filepath.Join(dir, "store.db")
	}
	if name, ok := strings.CutPrefix(o.url, "sqlite:"); ok {
		file = name
	}
	s, err := store.Open(ctx, o.url, store.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	b := bench{store: s, end: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	if o.fill {
		if err := b.fill(ctx, o, file); err != nil {
			return err
		}
	}
	newest, err := s.List(ctx, store.Filter{DryRuns: true}, store.Page{Limit: 1})
	if err != nil || len(newest.Rows) == 0 {
		return errors.Join(err, errors.New("the store is empty"))
	}
	b.end = newest.Rows[0].At.Add(time.Microsecond)
	for oldest, err := range s.Records(ctx, store.Filter{}) {
		if err != nil {
			return err
		}
		return b.ask(ctx, o, oldest.Timestamp.Add(b.end.Sub(oldest.Timestamp)/2))
	}
	return nil
}

type bench struct {
	store *store.Store
	end   time.Time
}

// fill writes the records, as several writers that each wait for their batch to be stored: one is prepared
// while another is written. It counts the making of the records, too.
func (b *bench) fill(ctx context.Context, o options, file string) error {
	start, before := time.Now(), cpu()
	batches := make(chan []record.Record, o.writers)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(batches)
		return b.make(ctx, o, batches)
	})
	for range o.writers {
		g.Go(func() error {
			for batch := range batches {
				if _, err := b.store.Add(ctx, batch); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	took := time.Since(start)
	fmt.Printf("%d records at %.0f a second, %d at a time by %d writers, %.0f us of CPU each\n", o.records, float64(o.records)/took.Seconds(), o.batch, o.writers,
		float64((cpu()-before).Microseconds())/float64(o.records))
	if info, err := os.Stat(file); err == nil {
		fmt.Printf("%.0f bytes a record\n", float64(info.Size())/float64(o.records))
	}
	return nil
}

// make hands on batches of records, and tells how fast they are taken.
func (b *bench) make(ctx context.Context, o options, batches chan<- []record.Record) error {
	c := newCluster(o.records, o.over, b.end)
	lately := time.Now()
	for n := 0; n < o.records; {
		batch := make([]record.Record, min(o.batch, o.records-n))
		for i := range batch {
			batch[i] = c.next()
		}
		select {
		case batches <- batch:
		case <-ctx.Done():
			return ctx.Err()
		}
		if n += len(batch); n%max(1, o.records/10) < o.batch {
			fmt.Printf("%9d records, the last tenth at %.0f a second\n", n, float64(o.records/10)/time.Since(lately).Seconds())
			lately = time.Now()
		}
	}
	return nil
}

type question struct {
	name string
	ask  func(context.Context) (found int, err error)
}

func (b *bench) questions(row store.Row) []question {
	list := func(name string, f store.Filter) question {
		return question{"list: " + name, func(ctx context.Context) (int, error) {
			rows, err := b.store.List(ctx, f, store.Page{})
			return len(rows.Rows), err
		}}
	}
	episodes := func(name string, f store.Filter) question {
		return question{"episodes: " + name, func(ctx context.Context) (int, error) {
			page, err := b.store.Episodes(ctx, f, store.Page{})
			return len(page.Episodes), err
		}}
	}
	stats := func(name string, f store.Filter) question {
		return question{"stats: " + name, func(ctx context.Context) (int, error) {
			s, err := b.store.Stats(ctx, f)
			n := 0
			for _, m := range s.Decisions {
				n += m
			}
			return n, err
		}}
	}
	since := func(d time.Duration) store.Filter {
		return store.Filter{Since: b.end.Add(-d - 7*time.Second), Until: b.end}
	}
	day := 24 * time.Hour
	return []question{
		list("all", store.Filter{}), list("a day of last week", store.Filter{Since: b.end.Add(-7 * day), Until: b.end.Add(-6 * day)}),
		list("namespace", store.Filter{Namespace: row.Namespace}), list("pod", store.Filter{Pod: row.Pod}), list("pod's UID", store.Filter{Pod: row.Episode}),
		list("episode", store.Filter{Episode: row.Episode}),
		list("workload", store.Filter{Workload: row.Workload}), list("node", store.Filter{Node: row.Node}),
		list("evictor, common", store.Filter{Evictor: "karpenter"}), list("evictor, none", store.Filter{Evictor: "kured"}),
		list("user, common", store.Filter{User: "system:serviceaccount:karpenter:karpenter"}), list("user, rare", store.Filter{User: rareUser}),
		list("policy, common", store.Filter{Policy: "protect-stateful-3"}), list("policy, rare", store.Filter{Policy: rarePolicy}),
		list("budget", store.Filter{Budget: "service-0000"}), list("budget, none", store.Filter{Budget: "nothing"}),
		list("outcome, common", store.Filter{Outcome: policies.Delayed}), list("outcome, rare", store.Filter{Outcome: policies.Undecided}),
		list("common evictor, rare outcome", store.Filter{Evictor: "karpenter", Outcome: policies.Undecided}),
		list("common evictor, rare policy", store.Filter{Evictor: "karpenter", Policy: rarePolicy}),
		list("namespace and evictor", store.Filter{Namespace: row.Namespace, Evictor: "descheduler"}),
		list("namespace and common policy", store.Filter{Namespace: row.Namespace, Policy: "protect-stateful-3"}),
		list("evictor that is not the user's", store.Filter{Evictor: "karpenter", User: "engineer-42@example.com"}),
		episodes("all", store.Filter{}), episodes("blocked", store.Filter{Fate: record.Blocked}), episodes("user, rare", store.Filter{User: rareUser}),
		episodes("evictor, common", store.Filter{Evictor: "karpenter"}), episodes("policy, common", store.Filter{Policy: "protect-stateful-3"}),
		episodes("policy, rare", store.Filter{Policy: rarePolicy}), episodes("budget", store.Filter{Budget: "service-0000"}),
		episodes("outcome, rare", store.Filter{Outcome: policies.Undecided}), episodes("namespace", store.Filter{Namespace: row.Namespace}),
		{"stuck", func(ctx context.Context) (int, error) {
			list, err := b.store.Stuck(ctx, store.Filter{}, b.end.Add(-time.Hour))
			return len(list), err
		}},
		stats("24 hours", since(day)), stats("7 days", since(7*day)), stats("all", store.Filter{}),
		stats("all of a namespace", store.Filter{Namespace: row.Namespace}), stats("all of an evictor", store.Filter{Evictor: "karpenter"}),
		{"count: all of an evictor", func(ctx context.Context) (int, error) { return b.store.Count(ctx, store.Filter{Evictor: "karpenter"}) }},
		{"record", func(ctx context.Context) (int, error) {
			_, err := b.store.Record(ctx, row.ID)
			return 1, err
		}},
	}
}

// ask asks about what the middle of the time had, as a reviewer would, and prints how long it took.
func (b *bench) ask(ctx context.Context, o options, middle time.Time) error {
	rows, err := b.store.List(ctx, store.Filter{Until: middle}, store.Page{Limit: 1})
	if err != nil || len(rows.Rows) == 0 {
		return errors.Join(err, errors.New("there are no records to ask for"))
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "question\tfound\tmedian ms\tworst ms\tCPU ms")
	for _, q := range b.questions(rows.Rows[0]) {
		var took []float64
		found, before := 0, cpu()
		for range o.rounds {
			start := time.Now()
			if found, err = q.ask(ctx); err != nil {
				return fmt.Errorf("%s: %w", q.name, err)
			}
			took = append(took, float64(time.Since(start).Microseconds())/1000)
		}
		slices.Sort(took)
		fmt.Fprintf(w, "%s\t%d\t%.1f\t%.1f\t%.1f\n", q.name, found, took[len(took)/2], took[len(took)-1],
			float64((cpu()-before).Microseconds())/1000/float64(o.rounds))
	}
	return w.Flush()
}

// cpu is what this process has used: on a busy machine it says more than the clock. It has no part of a
// server's.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
