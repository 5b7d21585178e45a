package main

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/evictgate/evictgate/certs"
	"github.com/evictgate/evictgate/output"
	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/confined"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/webhook"
	"github.com/evictgate/evictgate/webhook/access"
	"github.com/evictgate/evictgate/webhook/access/tokens"
	"github.com/evictgate/evictgate/webhook/cluster"
	"github.com/evictgate/evictgate/webhook/evictionpolicy"
	"github.com/evictgate/evictgate/webhook/history"
	"github.com/evictgate/evictgate/webhook/hooks"
	"github.com/evictgate/evictgate/webhook/listen"
	"github.com/evictgate/evictgate/webhook/memory"
)

// serveFlags are the flags of serve.
type serveFlags struct {
	kubeconfig string
	snapshots  []string
	sources    sourceFlags
	evictors   string
	decisionFlags
	records      recordFlags
	page         reviewPageFlags
	registration registrationFlags
	tracing      tracingFlags
	path         pathFlags

	shutdownDelay time.Duration

	listen, metricsListen, healthListen, pprofListen string
	http2                                            bool

	certs                string
	certDir              string
	certNamespace        string
	certSecret           string
	webhookConfiguration string
	dnsNames             []string
	caOut                string
	clientCA             string
	clientNames          []string
	metricsAuth          bool
	caDuration           time.Duration
	leafDuration         time.Duration

	logFormat string
	verbose   bool
}

func newServe(p output.Printer) *cobra.Command { return newServeWith(new(serveFlags), p) }

// newServeWith reads the flags into f.
func newServeWith(f *serveFlags, p output.Printer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the admission webhook",
		Long: `Serve decides the reviews that the API server sends to ` + hooks.EvictionsPath + `.

It knows the cluster by informers (in a cluster, or with --kubeconfig), or from files with --snapshot,
as this prints them: kubectl get pods,pdb,nodes,deploy,rs,sts,ds,ns -A -o yaml

One JSON record per decision goes to stdout, the log to stderr. With --store records are kept for review,
with --upload-url sent on; decisions wait for neither.

SIGTERM, SIGINT and SIGHUP end it in good order: not ready first, then what is in flight is answered. A stdout that
nobody reads any more does not end it; the records are then counted as lost.`,
		Example: `  evictgate serve --policies ./policies
  evictgate serve --snapshot cluster.yaml --listen 127.0.0.1:9443`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.validate(); err != nil {
				return err
			}
			ctx, stop := untilHangup(cmd.Context())
			defer stop()
			return serve(ctx, *f, p)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "reach the cluster by this kubeconfig; default: the pod's service account")
	flags.StringSliceVar(&f.snapshots, "snapshot", nil, "serve over these files instead of a cluster; - is stdin")
	f.sources.add(flags)
	f.decisionFlags.add(flags)
	f.records.add(flags)
	f.page.add(flags)
	f.registration.add(flags)
	f.tracing.add(flags)
	f.path.add(flags)
	flags.StringVar(&f.evictors, "evictors", "", "file with rules that name who evicts, before the default ones")
	flags.DurationVar(&f.shutdownDelay, "shutdown-delay", 7*time.Second, "how long to go on answering after SIGTERM, while not ready; longer than the readiness probe and the Service need to notice")
	flags.StringVar(&f.listen, "listen", ":9443", "address of the webhook")
	flags.BoolVar(&f.http2, "http2", false, "speak HTTP/2, too, to clients that ask for it; the API server calls webhooks in the cluster by HTTP/1.1")
	flags.StringVar(&f.metricsListen, "metrics-listen", ":8080", "address of /metrics; 0 turns it off")
	flags.StringVar(&f.healthListen, "health-listen", ":8081", "address of /healthz and /readyz; 0 turns it off")
	flags.StringVar(&f.pprofListen, "pprof-listen", "0", "loopback address of /debug/pprof, such as 127.0.0.1:6060; 0 turns it off")
	flags.StringVar(&f.certs, "certs", "self", "serving certificate: self (own CA, kept in a Secret; in memory with --snapshot) or files")
	flags.StringVar(&f.certDir, "cert-dir", "", "directory with tls.crt and tls.key, for --certs=files")
	flags.StringVar(&f.certNamespace, "cert-namespace", "", "namespace of the CA's Secret; default: the pod's own")
	flags.StringVar(&f.certSecret, "cert-secret", "evictgate-ca", "name of the CA's Secret")
	flags.StringVar(&f.webhookConfiguration, "webhook-configuration", "evictgate", "name of the ValidatingWebhookConfiguration whose caBundle is kept, or with --certs=files must trust the certificate")
	flags.StringSliceVar(&f.dnsNames, "dns-names", nil, "names and addresses the API server calls us by; default: evictgate.<cert-namespace>.svc, with --certs=files what the webhook configuration says")
	flags.StringVar(&f.caOut, "ca-out", "", "with --snapshot: write the throwaway CA to this file, for local clients")
	flags.DurationVar(&f.caDuration, "ca-duration", 365*24*time.Hour, "life of the own CA; it is renewed after two thirds of it")
	flags.DurationVar(&f.leafDuration, "leaf-duration", 7*24*time.Hour, "life of the own serving certificate; it is renewed after two thirds of it")
	flags.StringVar(&f.clientCA, "client-ca", "", "file with the CAs (PEM) of which the API server must show a client certificate; read again when it changes. Everybody may call without it, and the API server is known by --secret-path")
	flags.StringSliceVar(&f.clientNames, "client-names", nil, "common or DNS names of which a client certificate must have one, for a --client-ca that signs others, too")
	flags.BoolVar(&f.metricsAuth, "metrics-auth", false, "serve /metrics over TLS with the serving certificate, to bearer tokens whose user may get the nonResourceURL /metrics")
	flags.StringVar(&f.logFormat, "log-format", "text", "text or json")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "log every decision")
	return cmd
}

func (f *serveFlags) validate() error {
	switch {
	case f.kubeconfig != "" && len(f.snapshots) > 0:
		return errors.New("--kubeconfig and --snapshot exclude each other")
	case f.certs == "files" && f.certDir == "":
		return errors.New("--certs=files needs --cert-dir")
	case len(f.clientNames) > 0 && f.clientCA == "":
		return errors.New("--client-names is for --client-ca, and there is none")
	case f.metricsAuth && len(f.snapshots) > 0:
		return errors.New("--metrics-auth asks the cluster, and over a snapshot there is none")
	case f.caOut != "" && (len(f.snapshots) == 0 || f.certs != "self"):
		return errors.New("--ca-out is for the throwaway CA of --snapshot with --certs=self")
	}
	return errors.Join(
		f.sources.validate(len(f.snapshots) > 0),
		f.decisionFlags.validate(),
		f.records.validate(),
		f.page.validate(len(f.snapshots) > 0),
		f.registration.validate(len(f.snapshots) > 0),
		f.tracing.validate(),
		f.path.validate(len(f.snapshots) > 0),
		oneOf("certs", f.certs, "self", "files"),
	)
}

// serve puts the server together from the flags and runs it.
func serve(ctx context.Context, f serveFlags, p output.Printer) error {
	log, err := newLog(p, f.logFormat, f.verbose)
	if err != nil {
		return err
	}
	limits := memory.Configure(memory.Limit(os.DirFS("/")), confined.DefaultMemory)
	ctrl.SetLogger(logr.FromSlogHandler(log.Handler()))
	klog.SetSlogLogger(log)
	slog.SetDefault(log)

	// Over a snapshot there is neither configuration nor client.
	var config *rest.Config
	var client *kubernetes.Clientset
	if len(f.snapshots) == 0 {
		if config, client, err = connect(f.kubeconfig); err != nil {
			return err
		}
	}
	o := webhook.ServerOptions{
		RESTConfig: config, Log: log, ShutdownDelay: f.shutdownDelay, Checks: map[string]healthz.Checker{},
		Listen: f.listen, MetricsListen: f.metricsListen, HealthListen: f.healthListen, HTTP2: f.http2,
		Memory: memory.NewGuard(limits, log),
	}
	if o.Certificates, err = certificates(f, config, log); err != nil {
		return err
	}
	if err := addRegistration(&o, f, client, log); err != nil {
		return err
	}
	addCallers(&o, f, client, log)
	if err := addOperations(&o, f); err != nil {
		return err
	}
	tracer, err := f.tracing.open(ctx, log)
	if err != nil {
		return err
	}
	defer tracer.Close()
	gatherer, informed, want, err := addCluster(&o, f, client, log)
	if err != nil {
		return err
	}
	gatherer.Live = webhook.TraceLive(gatherer.Live, tracer)
	if gatherer.Evictors, err = policies.ReadEvictors(f.evictors); err != nil {
		return err
	}
	ledger := history.New()
	gatherer.Leaving = ledger.Leaving
	f.records.keepForPage(f.page, log)
	records, err := f.records.open(ctx, p.Out, log)
	if err != nil {
		return err
	}
	defer records.Close()
	if records.store != nil {
		o.Runnables = append(o.Runnables, records.store)
	}
	m, err := webhook.NewMetrics(metrics.Registry, records.Writer)
	if err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	stdlog.SetOutput(listen.NewHandshakes(log, m.HandshakeFailed)) // net/http tells failed handshakes to the standard logger
	if err := addDoor(&o, f, informed, client, m, log); err != nil {
		return err
	}
	outcomes, err := addOutcomes(&o, informed, client, records)
	if err != nil {
		return err
	}
	var events *webhook.Events
	if client != nil { // over a snapshot there is nobody to tell
		events = webhook.NewEvents(client, m.EventDropped)
		o.Runnables = append(o.Runnables, events)
	}
	tell := evictionpolicy.Teller{Log: log, Metrics: m, Events: events, Configuration: f.webhookConfiguration}
	compiler := confined.New(confined.Limits{Memory: limits.Child}, log)
	sources, err := addPolicies(ctx, &o, f, want, tell, compiler)
	if err != nil {
		return err
	}
	var status *evictionpolicy.Status
	if slices.Contains(f.sources.names(), evictionpolicy.Source) {
		if status, err = addEvictionPolicies(&o, config, sources, compiler, log); err != nil {
			return err
		}
		sources.OnChange = func(c source.Change) {
			tell.Change(c)
			if c.Set != nil {
				status.Verdicts(c.Verdicts[evictionpolicy.Source], c.Set.Revision())
			}
		}
	}
	if err := followEvictions(&o, ledger, gatherer, informed, sources); err != nil {
		return err
	}
	hostname, _ := os.Hostname()
	o.Gate = &webhook.Gate{
		Cluster: gatherer, Policies: sources.Current, History: ledger, Records: records.Writer, Recording: records.form, Metrics: m, Events: events, Log: log, Now: time.Now,
		Labels:  map[string]string{"app": "evictgate", "id": hostname, "version": currentVersion().Version},
		Options: f.options(), Outcomes: outcomes, Tracer: tracer, Door: o.Door,
	}
	if status != nil {
		o.Gate.Observe = status.Observe
	}
	if err := addReviewPage(&o, f, client, records.store, sources, log); err != nil {
		return err
	}
	server, err := webhook.NewServer(o)
	if err != nil {
		return err
	}
	log.Info("serving", "listen", f.listen, "path", hooks.EvictionsPath, "sources", strings.Join(f.sources.names(), ","))
	err = server.Run(ctx)
	// Records go first, since the kubelet may lose its patience while the API server is waited for.
	records.Close()
	if status != nil { // what was decided while the server shut down counts, too
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		status.Flush(last)
		cancel()
	}
	return err
}

// addOperations adds what only those who run the server look at.
func addOperations(o *webhook.ServerOptions, f serveFlags) error {
	for _, c := range []prometheus.Collector{webhook.CertificateExpiry(o.Certificates), webhook.MemoryLevel(o.Memory)} {
		if err := metrics.Registry.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	if source, ok := o.Certificates.(webhook.Foreigners); ok {
		if err := metrics.Registry.Register(webhook.ForeignWebhooks(source)); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	p, err := listen.OpenProfiles(f.pprofListen)
	if err != nil || p == nil {
		return err
	}
	o.Runnables = append(o.Runnables, p)
	return nil
}

// connect reaches the cluster by a kubeconfig, or as the pod's service account without one.
func connect(kubeconfig string) (*rest.Config, *kubernetes.Clientset, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, nil, fmt.Errorf("find the cluster: %w; give --kubeconfig, or --snapshot to serve without one", err)
	}
	// The API server's priority and fairness limits us; a limit of our own would delay decisions.
	config.QPS = -1
	config.UserAgent = "evictgate/" + currentVersion().Version
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("make a client: %w", err)
	}
	return config, client, nil
}

// addCluster adds what is known of the cluster; want sees to it that what policies read is watched, too.
// Over a snapshot informed and want are nil.
func addCluster(o *webhook.ServerOptions, f serveFlags, client *kubernetes.Clientset, log *slog.Logger) (g *cluster.Gatherer, informed *cluster.Informed, want func(context.Context, *policies.Needs) error, err error) {
	if client == nil {
		snapshot, err := cluster.ReadSnapshot(f.snapshots...)
		if err != nil {
			return nil, nil, nil, err
		}
		log.Info("read the snapshot", "objects", snapshot.Objects, "skipped", snapshot.Skipped)
		return &cluster.Gatherer{Store: snapshot.Store}, nil, nil, nil
	}
	if informed, err = cluster.Watch(client); err != nil {
		return nil, nil, nil, err
	}
	o.Runnables = append(o.Runnables, informed)
	o.Checks["cluster"], o.Checks["cache"] = informed.Ready, informed.Refused
	if err := metrics.Registry.Register(informed); err != nil {
		return nil, nil, nil, fmt.Errorf("register metrics: %w", err)
	}
	want = func(ctx context.Context, needs *policies.Needs) error {
		ctx, cancel := context.WithTimeout(ctx, wantPatience)
		defer cancel()
		if f.records.full() {
			needs = policies.EverythingNeeded()
		}
		return informed.Want(ctx, needs)
	}
	live := cluster.Client{Interface: client}
	return &cluster.Gatherer{Store: informed.Store, Live: live, Objects: live}, informed, want, nil
}

// wantPatience is how long a new set of policies waits for what it is the first to read.
const wantPatience = 30 * time.Second

// addPolicies adds the sources of policies; want sees to it that what a set reads is watched.
func addPolicies(ctx context.Context, o *webhook.ServerOptions, f serveFlags, want func(context.Context, *policies.Needs) error, tell evictionpolicy.Teller, compiler *confined.Compiler) (*source.Sources, error) {
	sources := source.New()
	sources.Prepare, sources.Screen = want, compiler.Screen
	sources.OnChange = tell.Change
	running, err := f.sources.addTo(ctx, sources, tell.Log)
	if err != nil {
		return nil, err
	}
	o.Runnables = append(o.Runnables, append(running, sources)...)
	o.Checks["policies"] = func(*http.Request) error { return sources.Ready() }
	return sources, nil
}

// certificates chooses the source of the serving certificate.
func certificates(f serveFlags, config *rest.Config, log *slog.Logger) (webhook.Certificates, error) {
	logger := logr.FromSlogHandler(log.Handler())
	namespace := f.certNamespace
	if namespace == "" {
		namespace = ownNamespace()
	}
	if f.certs == "files" {
		return certs.Files(certs.FilesOptions{
			Dir: f.certDir, Names: f.dnsNames, RESTConfig: config, WebhookConfiguration: f.webhookConfiguration, Webhooks: ownWebhooks(), Logger: logger,
		})
	}
	names := f.dnsNames
	if len(names) == 0 && namespace != "" {
		names = []string{"evictgate." + namespace + ".svc"}
	}
	hosts, ips := splitNames(names)
	if config == nil {
		return throwaway(f, hosts, ips)
	}
	if namespace == "" {
		return nil, errors.New("--certs=self keeps its CA in a Secret: outside a cluster, give --cert-namespace")
	}
	return certs.Self(certs.SelfOptions{
		RESTConfig: config, SecretNamespace: namespace, SecretName: f.certSecret,
		WebhookConfiguration: f.webhookConfiguration, Webhooks: ownWebhooks(), DNSNames: hosts, IPs: ips,
		CADuration: f.caDuration, LeafDuration: f.leafDuration, Logger: logger,
	})
}

// readMetrics is what --metrics-auth asks for.
var readMetrics = access.Action{Verb: "get", Path: "/metrics"}

// accessPatience bounds how long the API server may take to say whose a token is.
const accessPatience = 5 * time.Second

// addCallers adds who may call the webhook, and who may read the metrics.
func addCallers(o *webhook.ServerOptions, f serveFlags, client kubernetes.Interface, log *slog.Logger) {
	if f.clientCA != "" {
		o.Callers = certs.Clients(f.clientCA, f.clientNames, logr.FromSlogHandler(log.Handler()))
	}
	if f.metricsAuth {
		checker := access.Cached(tokens.Cluster{Client: client}, time.Now)
		o.MetricsGuard = func(next http.Handler) http.Handler {
			return access.Guard{Checker: checker, Action: readMetrics, Next: next, Timeout: accessPatience, Log: log}
		}
	}
}

// throwaway is the certificate of a server over a snapshot, for clients on this machine.
func throwaway(f serveFlags, hosts []string, ips []net.IP) (webhook.Certificates, error) {
	source, err := certs.Ephemeral(append(hosts, "localhost"), append(ips, net.IPv4(127, 0, 0, 1), net.IPv6loopback))
	if err != nil {
		return nil, err
	}
	if f.caOut != "" {
		if err := os.WriteFile(f.caOut, source.CAPEM(), 0o644); err != nil {
			return nil, fmt.Errorf("--ca-out: %w", err)
		}
	}
	return source, nil
}

func splitNames(names []string) (hosts []string, ips []net.IP) {
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			ips = append(ips, ip)
		} else {
			hosts = append(hosts, name)
		}
	}
	return hosts, ips
}

// ownNamespace is the namespace of the pod we run in; empty outside a cluster.
func ownNamespace() string {
	raw, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}
