package main

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"log/slog"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/webhook"
	"github.com/evictgate/evictgate/webhook/hooks"
	"github.com/evictgate/evictgate/webhook/listen"
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
	f.addCertificates(flags)
	flags.StringVar(&f.logFormat, "log-format", "text", "text or json")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "log every decision")
	return cmd
}

// addCertificates adds the flags of the serving certificate, and of who may call.
func (f *serveFlags) addCertificates(flags *pflag.FlagSet) {
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
	ctrl.SetLogger(logr.FromSlogHandler(log.Handler()))
	klog.SetSlogLogger(log)
	slog.SetDefault(log)
	s, err := build(ctx, f, p.Out, log)
	defer s.close()
	if err != nil {
		return err
	}
	if err := s.register(metrics.Registry); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	stdlog.SetOutput(listen.NewHandshakes(log, s.metrics.HandshakeFailed)) // net/http tells failed handshakes to the standard logger
	server, err := webhook.NewServer(s.options())
	if err != nil {
		return err
	}
	log.Info("serving", "listen", f.listen, "path", hooks.EvictionsPath, "sources", strings.Join(f.sources.names(), ","))
	err = server.Run(ctx)
	// Records go first, since the kubelet may lose its patience while the API server is waited for.
	s.records.Close()
	s.policies.cluster.Flush(ctx)
	return err
}
