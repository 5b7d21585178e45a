package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"

	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/webhook/access"
	"github.com/evictgate/evictgate/webhook/access/tokens"
	"github.com/evictgate/evictgate/webhook/listen"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/apilog"
	"github.com/evictgate/evictgate/webhook/review/page"
	"github.com/evictgate/evictgate/webhook/review/store"
	"github.com/evictgate/evictgate/webhook/review/upload"
)

// reviewServeFlags are the flags of review serve.
type reviewServeFlags struct {
	store, listen   string
	keep            keepFlags
	hosts           []string
	tlsCert, tlsKey string
	tokenFile       string
	kubeconfig      string
	timeout         time.Duration
	logFormat       string
}

func newReviewServe(p output.Printer) *cobra.Command {
	var f reviewServeFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the review page over a store",
		Long: `Serve the review page: what was decided about evictions, why, and what became of the pods.

On an address of this machine alone, such as 127.0.0.1:8082, everybody on it may read. On any other the page
needs TLS (--tls-cert and --tls-key) and a token: that of --token-file, or with --kubeconfig one of the
cluster whose user may get the nonResourceURL /review.

Where tokens are checked, evictgate and OPA may send their decision log to /logs, and the API server its audit
log to /audit (--audit-webhook-config-file); with --kubeconfig their users need the verb post on the
nonResourceURLs /review/logs and /review/audit. Then it also removes what --store-keep
and --store-max-size do not keep: over the store of a serve, give it the same ones.`,
		Example: `  evictgate review serve
  evictgate review serve --store postgres://evictgate@db/evictgate --listen :8443 --tls-cert tls.crt --tls-key tls.key --kubeconfig ~/.kube/config`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.validate(); err != nil {
				return err
			}
			log, err := newLog(p, f.logFormat, false)
			if err != nil {
				return err
			}
			ctx, stop := untilHangup(cmd.Context())
			defer stop()
			return reviewServe(ctx, f, log)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.store, "store", defaultStore, "where the records are: sqlite:FILE or postgres://…")
	f.keep.add(flags, "0") // what serve keeps must not go because somebody looks at it
	flags.StringVar(&f.listen, "listen", "127.0.0.1:8082", "address of the page")
	flags.StringSliceVar(&f.hosts, "review-host", nil, "further names by which browsers may call the page on a loopback address")
	flags.StringVar(&f.tlsCert, "tls-cert", "", "file with the page's certificate; read again when it changes")
	flags.StringVar(&f.tlsKey, "tls-key", "", "file with the certificate's key")
	flags.StringVar(&f.tokenFile, "token-file", "", "file with the token that readers and uploaders must know")
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "check tokens with the cluster of this kubeconfig")
	flags.DurationVar(&f.timeout, "timeout", 10*time.Second, "how long the store may take for a page")
	flags.StringVar(&f.logFormat, "log-format", "text", "text or json")
	return cmd
}

func (f *reviewServeFlags) validate() error {
	switch {
	case (f.tlsCert == "") != (f.tlsKey == ""):
		return errors.New("--tls-cert and --tls-key go together")
	case f.tokenFile != "" && f.kubeconfig != "":
		return errors.New("--token-file and --kubeconfig exclude each other")
	case page.Loopback(f.listen):
		return nil
	case f.tlsCert == "":
		return fmt.Errorf("--listen %s is reached from other machines: it needs --tls-cert and --tls-key; or listen on 127.0.0.1", f.listen)
	case f.tokenFile == "" && f.kubeconfig == "":
		return fmt.Errorf("--listen %s is reached from other machines: say who may read, by --token-file or --kubeconfig; or listen on 127.0.0.1", f.listen)
	}
	return nil
}

// checker is how tokens are checked; nil when everybody on this machine may read.
func (f *reviewServeFlags) checker() (access.Checker, error) {
	switch {
	case f.tokenFile != "":
		checker := tokens.File{Name: f.tokenFile}
		if err := checker.Check(); err != nil {
			return nil, fmt.Errorf("--token-file: %w", err)
		}
		return checker, nil
	case f.kubeconfig != "":
		_, client, err := connect(f.kubeconfig)
		return access.Cached(tokens.Cluster{Client: client}, time.Now), err
	}
	return nil, nil
}

func reviewServe(ctx context.Context, f reviewServeFlags, log *slog.Logger) error {
	checker, err := f.checker()
	if err != nil {
		return err
	}
	retention, err := f.keep.retention(f.store)
	if err != nil {
		return err
	}
	// Uploads write, and need to know who sends them.
	late := store.NewLate(f.store, store.Options{ReadOnly: checker == nil, Retention: retention, Log: log})
	records, err := late.Open(ctx)
	if err != nil {
		return err
	}
	defer late.Close()
	o := page.Options{Store: records, Log: log, Timeout: f.timeout, Access: checker, Hosts: page.Hosts(f.listen, checker != nil, f.hosts)}
	if checker != nil {
		o.Logs = upload.Handler(upload.HandlerOptions{Add: records.Add, Log: log})
		o.Audit = apilog.NewHandler(apilog.HandlerOptions{AddAnswers: addAnswers(records), Log: log})
	}
	handler, err := page.New(o)
	if err != nil {
		return err
	}
	server := &page.Server{Handler: handler, Listen: f.listen, Log: log}
	run, ctx := errgroup.WithContext(ctx)
	if checker != nil {
		run.Go(func() error { return late.Start(ctx) })
	}
	if f.tlsCert != "" {
		watcher, err := certwatcher.New(f.tlsCert, f.tlsKey)
		if err != nil {
			return fmt.Errorf("--tls-cert: %w", err)
		}
		server.TLS = listen.Secure(watcher.GetCertificate, false)
		run.Go(func() error { return watcher.Start(ctx) })
	}
	run.Go(func() error { return server.Start(ctx) })
	return run.Wait()
}

func addAnswers(s *store.Store) func(context.Context, []record.Answer) error {
	return func(ctx context.Context, answers []record.Answer) error {
		_, err := s.AddAnswers(ctx, answers)
		return err
	}
}
