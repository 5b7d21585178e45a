package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	"k8s.io/client-go/kubernetes"

	"github.com/evictgate/evictgate/certs"
	"github.com/evictgate/evictgate/webhook"
	"github.com/evictgate/evictgate/webhook/access"
	"github.com/evictgate/evictgate/webhook/access/tokens"
	"github.com/evictgate/evictgate/webhook/callers"
	"github.com/evictgate/evictgate/webhook/cluster"
	"github.com/evictgate/evictgate/webhook/hooks"
)

// pathFlags say how the API server is known by the path it calls.
type pathFlags struct {
	mode     string
	secret   string
	rotation time.Duration
}

// What --secret-path may be.
const (
	pathAuto, pathKeep, pathFollow, pathOff = "auto", "keep", "follow", "off"
)

func (f *pathFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.mode, "secret-path", pathAuto, "know the API server by a secret part of the path that the webhook configuration names; other callers are answered, but nothing is counted, held, overridden or recorded for them: keep (make it, write it into the configuration, replace it from time to time), follow (somebody else writes it there), off, or auto: keep with --certs=self, follow with --certs=files, off with --client-ca")
	flags.StringVar(&f.secret, "secret-path-secret", "evictgate-path", "name of the Secret, in --cert-namespace, by which the replicas agree on the path; deleting it replaces the path")
	flags.DurationVar(&f.rotation, "secret-path-rotation", 7*24*time.Hour, "how long a secret path is used; the one before it is accepted for an hour more")
}

func (f *pathFlags) validate(snapshot bool) error {
	switch {
	case snapshot && (f.mode == pathKeep || f.mode == pathFollow):
		return fmt.Errorf("--secret-path=%s needs a cluster, and --snapshot has none", f.mode)
	case f.rotation < callers.MinRotation:
		return fmt.Errorf("--secret-path-rotation is %s; expected at least %s", f.rotation, callers.MinRotation)
	}
	return oneOf("secret-path", f.mode, pathAuto, pathKeep, pathFollow, pathOff)
}

// pathMode is keep, follow or off.
func (f *serveFlags) pathMode() string {
	switch {
	case f.path.mode != pathAuto:
		return f.path.mode
	case f.clientCA != "":
		return pathOff
	case f.certs == "self":
		return pathKeep
	}
	return pathFollow
}

// door tells the API server from others who call.
type door struct {
	*webhook.Door // nil over a snapshot, where everybody is let in
	// paths knows the API server by the path it calls; nil when that is off.
	paths *callers.Paths
}

func (f *serveFlags) door(v view, api api, m *webhook.Metrics, log *slog.Logger) (d door, err error) {
	if v.informed == nil {
		return d, nil
	}
	var ways webhook.AnyOf
	if f.clientCA != "" {
		ways = append(ways, webhook.ByCertificate{})
	}
	if d.paths, err = f.paths(v.informed, api.client, log); err != nil {
		return d, err
	}
	if d.paths != nil {
		ways = append(ways, d.paths)
	}
	if len(ways) == 0 {
		log.Warn("the API server cannot be told from others who call: evictions are decided, but not counted, and holds, overrides, Events and live reads are off; --secret-path and --client-ca change that")
	}
	d.Door = &webhook.Door{Trust: ways, Metrics: m, Log: log}
	return d, nil
}

// known is nil over a snapshot: all are.
func (d door) known() func(*http.Request) bool {
	if d.Door == nil {
		return nil
	}
	return func(r *http.Request) bool { return !d.Trust.Established() || d.Trust.Known(r) }
}

// paths knows the API server by its path; nil when that is off.
func (f *serveFlags) paths(informed *cluster.Informed, client kubernetes.Interface, log *slog.Logger) (*callers.Paths, error) {
	namespace := cmp.Or(f.certNamespace, ownNamespace())
	o := callers.Options{
		Client: client, Configuration: f.webhookConfiguration, Namespace: namespace, Secret: f.path.secret, Rotation: f.path.rotation, Log: log,
		Hooks: hooks.Paths,
	}
	switch f.pathMode() {
	case pathOff:
		return nil, nil
	case pathFollow:
		return callers.Follow(o), nil
	}
	if namespace == "" {
		return nil, errors.New("--secret-path=keep shares the path by a Secret: outside a cluster, give --cert-namespace")
	}
	replicas := &callers.Replicas{Namespace: namespace}
	o.Older, o.Synced = replicas.Older, func() bool { return informed.Ready(nil) == nil }
	paths := callers.Keep(o)
	replicas.Look = paths.Look
	if err := informed.FollowPods(replicas.Changed, replicas.Removed); err != nil {
		return nil, fmt.Errorf("follow the own pods: %w", err)
	}
	return paths, nil
}

// readMetrics is what --metrics-auth asks for.
var readMetrics = access.Action{Verb: "get", Path: "/metrics"}

// accessPatience bounds how long the API server may take to say whose a token is.
const accessPatience = 5 * time.Second

// clients demands certificates of those who call the webhooks; nil without --client-ca.
func (f *serveFlags) clients(log *slog.Logger) webhook.Callers {
	if f.clientCA == "" {
		return nil
	}
	return certs.Clients(f.clientCA, f.clientNames, logr.FromSlogHandler(log.Handler()))
}

// metricsGuard lets those read the metrics who may; nil without --metrics-auth.
func (f *serveFlags) metricsGuard(api api, log *slog.Logger) func(http.Handler) http.Handler {
	if !f.metricsAuth {
		return nil
	}
	checker := access.Cached(tokens.Cluster{Client: api.client}, time.Now)
	return func(next http.Handler) http.Handler {
		return access.Guard{Checker: checker, Action: readMetrics, Next: next, Timeout: accessPatience, Log: log}
	}
}
