package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/evictgate/evictgate/webhook"
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

// addDoor adds how the API server is told from others who call. Over a snapshot everybody is let in.
func addDoor(o *webhook.ServerOptions, f serveFlags, informed *cluster.Informed, client kubernetes.Interface, m *webhook.Metrics, log *slog.Logger) error {
	if informed == nil {
		return nil
	}
	var ways webhook.AnyOf
	if o.Callers != nil {
		ways = append(ways, webhook.ByCertificate{})
	}
	paths, err := f.paths(informed, client, log)
	if err != nil {
		return err
	}
	if paths != nil {
		ways = append(ways, paths)
		o.Runnables = append(o.Runnables, paths)
		o.Checks["callers"] = paths.Ready
	}
	if len(ways) == 0 {
		log.Warn("the API server cannot be told from others who call: evictions are decided, but not counted, and holds, overrides, Events and live reads are off; --secret-path and --client-ca change that")
	}
	o.Door = &webhook.Door{Trust: ways, Metrics: m, Log: log}
	o.Known = func(r *http.Request) bool { return !ways.Established() || ways.Known(r) }
	return metrics.Registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "evictgate_api_server_known", Help: "Whether the API server is told from others who call, by its path or certificate; while it is not, nothing is counted, held, overridden or told.",
	}, func() float64 {
		if ways.Established() {
			return 1
		}
		return 0
	}))
}

// paths knows the API server by its path; nil when that is off.
func (f *serveFlags) paths(informed *cluster.Informed, client kubernetes.Interface, log *slog.Logger) (*callers.Paths, error) {
	namespace := f.certNamespace
	if namespace == "" {
		namespace = ownNamespace()
	}
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
