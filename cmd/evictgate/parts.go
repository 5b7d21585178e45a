package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/evictgate/evictgate/policies/confined"
	"github.com/evictgate/evictgate/webhook"
	"github.com/evictgate/evictgate/webhook/evictionpolicy"
	"github.com/evictgate/evictgate/webhook/follow"
	"github.com/evictgate/evictgate/webhook/history"
	"github.com/evictgate/evictgate/webhook/hooks"
	"github.com/evictgate/evictgate/webhook/install/registration"
	"github.com/evictgate/evictgate/webhook/listen"
	"github.com/evictgate/evictgate/webhook/memory"
	"github.com/evictgate/evictgate/webhook/review/page"
	"github.com/evictgate/evictgate/webhook/tracing"
)

// parts are what a server is made of, in the order in which they are made: each from the flags and from some before it.
type parts struct {
	flags  serveFlags
	log    *slog.Logger
	limits memory.Limits
	memory *memory.Guard
	api    api

	certificates webhook.Certificates
	owner        *registration.Owner // nil when the webhook configuration is left alone
	profiles     *listen.Profiles    // nil without
	tracer       *tracing.Tracer     // nil without

	ledger  *history.Ledger
	view    view
	records *recording
	metrics *webhook.Metrics
	door    door
	fates   follow.Fates
	events  *webhook.Events // nil over a snapshot: there is nobody to tell

	policies sources
	counting manager.Runnable // nil over a snapshot
	page     *page.Server     // nil without
}

// build makes the parts; those that are made must be closed, also after an error.
func build(ctx context.Context, f serveFlags, out io.Writer, log *slog.Logger) (*parts, error) {
	s := &parts{flags: f, log: log, limits: memory.Configure(memory.Limit(os.DirFS("/")), confined.DefaultMemory)}
	s.memory = memory.NewGuard(s.limits, log)
	var err error
	if s.api, err = f.reach(); err != nil {
		return s, err
	}
	if s.certificates, err = f.certificates(s.api, log); err != nil {
		return s, err
	}
	if s.owner, err = f.owner(s.api, log); err != nil {
		return s, err
	}
	if s.profiles, err = listen.OpenProfiles(f.pprofListen); err != nil {
		return s, err
	}
	if s.tracer, err = f.tracing.open(ctx, log); err != nil {
		return s, err
	}
	s.ledger = history.New()
	if s.view, err = f.view(s.api, s.ledger, s.tracer, log); err != nil {
		return s, err
	}
	return s, s.decide(ctx, out)
}

// decide makes the parts that decide, and that tell of decisions.
func (s *parts) decide(ctx context.Context, out io.Writer) (err error) {
	f := s.flags
	kept := f.kept(s.log)
	if s.records, err = kept.open(ctx, out, s.log); err != nil {
		return err
	}
	if s.metrics, err = webhook.NewMetrics(metrics.Registry, s.records.Writer); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	if s.door, err = f.door(s.view, s.api, s.metrics, s.log); err != nil {
		return err
	}
	if s.fates, err = s.view.fates(s.api, s.records); err != nil {
		return err
	}
	if s.api.client != nil {
		s.events = webhook.NewEvents(s.api.client, s.metrics.EventDropped)
	}
	tell := evictionpolicy.Teller{Log: s.log, Metrics: s.metrics, Events: s.events, Configuration: f.webhookConfiguration}
	compiler := confined.New(confined.Limits{Memory: s.limits.Child}, s.log)
	if s.policies, err = f.sources.open(ctx, s.api, s.view.want(f.records.full()), compiler, tell); err != nil {
		return err
	}
	if s.view.informed != nil { // over a snapshot, what is admitted is taken for what happens
		if s.counting, err = follow.Evictions(s.ledger, s.view.informed, s.view.gatherer, s.policies.Current); err != nil {
			return err
		}
	}
	s.page, err = s.reviewPage()
	return err
}

// close ends what was begun before the server runs.
func (s *parts) close() {
	if s.records != nil {
		s.records.Close()
	}
	s.tracer.Close()
}

// options are those of the server of the parts.
func (s *parts) options() webhook.ServerOptions {
	f := s.flags
	o := webhook.ServerOptions{
		RESTConfig: s.api.config, Log: s.log, ShutdownDelay: f.shutdownDelay, Memory: s.memory,
		Listen: f.listen, MetricsListen: f.metricsListen, HealthListen: f.healthListen, HTTP2: f.http2,
		Certificates: s.certificates, Callers: f.clients(s.log), MetricsGuard: f.metricsGuard(s.api, s.log),
		Gate: s.gate(), Door: s.door.Door, Known: s.door.known(), Runnables: s.runnables(), Checks: s.checks(),
	}
	if s.policies.cluster != nil {
		o.Handlers = map[string]http.Handler{hooks.PoliciesPath: s.policies.cluster.Validator}
	}
	return o
}

func (s *parts) gate() *webhook.Gate {
	hostname, _ := os.Hostname()
	g := &webhook.Gate{
		Cluster: s.view.gatherer, Policies: s.policies.Current, History: s.ledger, Records: s.records.Writer, Recording: s.records.form, Metrics: s.metrics, Events: s.events,
		Labels:  map[string]string{"app": "evictgate", "id": hostname, "version": currentVersion().Version},
		Options: s.flags.options(), Outcomes: s.fates.Pods, Tracer: s.tracer, Door: s.door.Door, Log: s.log, Now: time.Now,
	}
	if s.policies.cluster != nil {
		g.Observe = s.policies.cluster.Status.Observe
	}
	return g
}

// runnables are the parts that run as long as the server.
func (s *parts) runnables() []manager.Runnable {
	var list []manager.Runnable
	add := func(there bool, r manager.Runnable) {
		if there {
			list = append(list, r)
		}
	}
	add(s.owner != nil, s.owner)
	add(s.profiles != nil, s.profiles)
	add(s.view.informed != nil, s.view.informed)
	add(s.records.store != nil, s.records.store)
	add(s.door.paths != nil, s.door.paths)
	add(s.fates.Settler != nil, s.fates.Settler)
	add(s.events != nil, s.events)
	list = append(list, s.policies.running...)
	add(s.counting != nil, s.counting)
	add(s.page != nil, s.page)
	return list
}

// checks must pass before the server is ready.
func (s *parts) checks() map[string]healthz.Checker {
	checks := map[string]healthz.Checker{"policies": func(*http.Request) error { return s.policies.Ready() }}
	if s.view.informed != nil {
		checks["cluster"], checks["cache"] = s.view.informed.Ready, s.view.informed.Refused
	}
	if s.door.paths != nil {
		checks["callers"] = s.door.paths.Ready
	}
	if s.policies.cluster != nil {
		checks["evictionpolicies"] = s.policies.cluster.Watch.Ready
	}
	return checks
}

// register has what the parts count be shown at /metrics.
func (s *parts) register(to prometheus.Registerer) error {
	list := []prometheus.Collector{
		webhook.CertificateExpiry(s.certificates), webhook.MemoryLevel(s.memory), s.ledger, s.fates.Pods, s.fates.SightingsLost(),
	}
	if source, ok := s.certificates.(webhook.Foreigners); ok {
		list = append(list, webhook.ForeignWebhooks(source))
	}
	if s.view.informed != nil {
		list = append(list, s.view.informed, webhook.APIServerKnown(s.door.Trust))
	}
	for _, c := range list {
		if err := to.Register(c); err != nil {
			return err
		}
	}
	return nil
}
