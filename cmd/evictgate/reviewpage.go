package main

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/pflag"

	"github.com/evictgate/evictgate/webhook/access"
	"github.com/evictgate/evictgate/webhook/access/tokens"
	"github.com/evictgate/evictgate/webhook/listen"
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

// kept are the flags of records such that the page has some to show: in memory when they are kept nowhere else.
func (f *serveFlags) kept(log *slog.Logger) recordFlags {
	records := f.records
	if f.page.on() && records.store == "" {
		records.store, records.keep = memoryStore, keepFlags{age: memoryAge.String()}
		log.Warn("the review page shows what this process decides, kept in memory: it is gone when it stops; give --store to keep it", "keep", memoryAge, "max_bytes", store.MemorySize)
	}
	return records
}

// reviewPage is the server of the page; nil when it is off.
func (s *parts) reviewPage() (*page.Server, error) {
	f := s.flags
	if !f.page.on() {
		return nil, nil
	}
	// Decisions need the CPU more than the page does.
	options := page.Options{Store: page.Late(s.records.store.Now), Log: s.log, AtOnce: 1, Serving: func() page.Serving { return page.ServingOf(s.policies.Current()) }}
	server := &page.Server{Listen: f.page.listen, Refused: s.metrics.ConnectionRefused("page"), Log: s.log}
	if page.Loopback(f.page.listen) {
		options.Hosts = page.Hosts(f.page.listen, false, f.page.hosts)
	} else {
		options.Access = access.Cached(tokens.Cluster{Client: s.api.client}, time.Now)
		server.TLS, server.HTTP2 = listen.Secure(s.certificates.GetCertificate, f.http2), f.http2
	}
	if s.records.store.InMemory() {
		options.Notice = "These are the decisions of one process, kept in memory. They are gone when it stops; with --store they are kept."
	}
	var err error
	server.Handler, err = page.New(options)
	return server, err
}
