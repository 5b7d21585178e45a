package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/client-go/kubernetes"

	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/webhook"
	"github.com/evictgate/evictgate/webhook/access"
	"github.com/evictgate/evictgate/webhook/access/tokens"
	"github.com/evictgate/evictgate/webhook/listen"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/page"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// reviewPageFlags are those of the page that serve shows.
type reviewPageFlags struct {
	listen string
	hosts  []string
}

func (f *reviewPageFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.listen, "review-listen", "0", "address of the review page; 0 turns it off. On 127.0.0.1 whoever reaches it may read (kubectl port-forward reaches it); on any other it is served over TLS to tokens whose user may get the nonResourceURL /review")
	flags.StringSliceVar(&f.hosts, "review-host", nil, "further names by which browsers may call the review page on a loopback address")
}

func (f *reviewPageFlags) on() bool { return f.listen != "0" && f.listen != "" }

func (f *reviewPageFlags) validate(snapshot bool) error {
	switch {
	case !f.on() && len(f.hosts) > 0:
		return errors.New("--review-host is for --review-listen, and there is none")
	case f.on() && snapshot && !page.Loopback(f.listen):
		return fmt.Errorf("--review-listen %s is reached from other machines, and over a snapshot there is no cluster to check tokens; listen on 127.0.0.1", f.listen)
	}
	return nil
}

const (
	// memoryStore keeps the page's records when there is no other store.
	memoryStore = "sqlite::memory:"
	memoryAge   = 24 * time.Hour
)

// keepForPage sees to it that the page has records to show: in memory when they are kept nowhere else.
func (f *recordFlags) keepForPage(p reviewPageFlags, log *slog.Logger) {
	if !p.on() || f.store != "" {
		return
	}
	f.store, f.keep = memoryStore, keepFlags{age: memoryAge.String()}
	log.Warn("the review page shows what this process decides, kept in memory: it is gone when it stops; give --store to keep it", "keep", memoryAge, "max_bytes", memorySize)
}

// addReviewPage adds the page to the server.
func addReviewPage(o *webhook.ServerOptions, f serveFlags, client kubernetes.Interface, records *keeper, sources *source.Sources, log *slog.Logger) error {
	if !f.page.on() {
		return nil
	}
	// Decisions need the CPU more than the page does.
	options := page.Options{Store: lateStore{records}, Log: log, AtOnce: 1, Serving: func() page.Serving { return servingNow(sources) }}
	server := &page.Server{Listen: f.page.listen, Refused: o.Gate.Metrics.ConnectionRefused("page"), Log: log}
	if page.Loopback(f.page.listen) {
		options.Hosts = pageHosts(f.page.listen, nil, f.page.hosts)
	} else {
		options.Access = access.Cached(tokens.Cluster{Client: client}, time.Now)
		server.TLS, server.HTTP2 = listen.Secure(o.Certificates.GetCertificate, f.http2), f.http2
	}
	if records.url == memoryStore {
		options.Notice = "These are the decisions of one process, kept in memory. They are gone when it stops; with --store they are kept."
	}
	handler, err := page.New(options)
	if err != nil {
		return err
	}
	server.Handler = handler
	o.Runnables = append(o.Runnables, server)
	return nil
}

// servingNow is what the page says of the policies that decide.
func servingNow(sources *source.Sources) page.Serving {
	set := sources.Current()
	if set == nil {
		return page.Serving{}
	}
	s := page.Serving{Revision: set.Revision()}
	for _, p := range set.Policies() {
		s.Policies = append(s.Policies, page.ServingPolicy{Name: p.Name, Title: p.Title, Enforcement: string(p.Enforcement)})
	}
	return s
}

// lateStore is the page's view of a store that may not have been reached yet.
type lateStore struct{ keeper *keeper }

func late[T any](l lateStore, ask func(*store.Store) (T, error)) (T, error) {
	s, err := l.keeper.Now()
	if err != nil {
		var none T
		return none, err
	}
	return ask(s)
}

func (l lateStore) List(ctx context.Context, f store.Filter, p store.Page) (store.Rows, error) {
	return late(l, func(s *store.Store) (store.Rows, error) { return s.List(ctx, f, p) })
}

func (l lateStore) Record(ctx context.Context, id string) (record.Record, error) {
	return late(l, func(s *store.Store) (record.Record, error) { return s.Record(ctx, id) })
}

func (l lateStore) Episodes(ctx context.Context, f store.Filter, p store.Page) (store.Episodes, error) {
	return late(l, func(s *store.Store) (store.Episodes, error) { return s.Episodes(ctx, f, p) })
}

func (l lateStore) Episode(ctx context.Context, id string) (record.Episode, error) {
	return late(l, func(s *store.Store) (record.Episode, error) { return s.Episode(ctx, id) })
}

func (l lateStore) StuckPage(ctx context.Context, f store.Filter, since time.Time, p store.Page) (store.StuckPage, error) {
	return late(l, func(s *store.Store) (store.StuckPage, error) { return s.StuckPage(ctx, f, since, p) })
}

func (l lateStore) Stats(ctx context.Context, f store.Filter) (store.Stats, error) {
	return late(l, func(s *store.Store) (store.Stats, error) { return s.Stats(ctx, f) })
}
