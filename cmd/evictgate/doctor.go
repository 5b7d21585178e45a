package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/confined"
	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/webhook"
	"github.com/evictgate/evictgate/webhook/evictionpolicy"
	"github.com/evictgate/evictgate/webhook/install/doctor"
)

// doctorFlags are the flags of doctor.
type doctorFlags struct {
	kubeconfig string
	context    string
	target     doctor.Target
	timeout    time.Duration
	format     string
	rbac       bool
}

func newDoctor(p output.Printer) *cobra.Command {
	var f doctorFlags
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check a running installation, and say how to fix what is wrong; exit 1 when something is",
		Long: `Doctor looks at an installation from outside, by your kubeconfig: the webhook configuration, whom the API
server trusts, the replicas, what their service account may read, the EvictionPolicies and the clocks. Then it
sends dry-run evictions of a pod that does not exist, annotated ` + webhook.ExplainAnnotation + `: they reach the gate
like any other, change nothing, and are answered with who decided them.

What you may not read is not checked, and said to be. --rbac prints a ClusterRole and a Role of the installation's
namespace that together suffice for all but Secrets, which hold private keys; they allow no eviction of a pod of
another name than doctor's.`,
		Example: `  evictgate doctor
  evictgate doctor --context production -o json
  evictgate doctor --rbac | kubectl apply -f -
  kubectl create clusterrolebinding evictgate-doctor --clusterrole evictgate-doctor --user USER
  kubectl -n evictgate create rolebinding evictgate-doctor --role evictgate-doctor --user USER`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.rbac {
				cluster, namespaced := doctor.Roles(f.target.Namespace)
				return doctor.PrintRoles(p, cluster, namespaced)
			}
			report, err := f.examine(cmd.Context())
			if err != nil {
				return err
			}
			if err := report.Print(p, f.format); err != nil {
				return err
			}
			if doctor.Bad(report.Findings) {
				return errRefused
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "reach the cluster by this kubeconfig; default: as kubectl does")
	flags.StringVar(&f.context, "context", "", "context of the kubeconfig; default: its current one")
	flags.StringVarP(&f.target.Namespace, "namespace", "n", "", "namespace of the installation; default: that of the Service in the webhook configuration, or evictgate")
	flags.StringVar(&f.target.Name, "name", "evictgate", "name of its Deployment")
	flags.StringVar(&f.target.Configuration, "webhook-configuration", "evictgate", "name of its ValidatingWebhookConfiguration")
	flags.StringVar(&f.target.ProbeNamespace, "probe-namespace", "", "namespace in which the dry-run evictions are tried; default: default, or another when that is exempt")
	flags.DurationVar(&f.timeout, "timeout", time.Minute, "how long the whole may take")
	flags.StringVarP(&f.format, "output", "o", "table", "table, json or yaml")
	flags.BoolVar(&f.rbac, "rbac", false, "print what doctor's user must be allowed, and check nothing")
	return cmd
}

func (f *doctorFlags) examine(ctx context.Context) (doctor.Report, error) {
	var report doctor.Report
	if err := oneOf("output", f.format, "table", "json", "yaml"); err != nil {
		return report, err
	}
	if f.timeout <= 0 {
		return report, fmt.Errorf("--timeout is %s; expected more than 0s", f.timeout)
	}
	config, err := f.config()
	if err != nil {
		return report, err
	}
	reader, err := doctor.NewReader(config, f.target)
	if err != nil {
		return report, err
	}
	reader.Arguments = argumentsOf
	reader.Needed = func(ctx context.Context, d *appsv1.Deployment) ([]doctor.Access, error) {
		return neededBy(ctx, config, d)
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	facts, err := reader.Read(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return report, fmt.Errorf("nothing was answered within --timeout %s: %w", f.timeout, err)
	}
	if err != nil {
		return report, err
	}
	found := doctor.Examine(facts)
	doctor.Reach{Kubeconfig: f.kubeconfig, Context: f.context}.Aim(found)
	return doctor.NewReport(facts, f.target, found), nil
}

// config finds the cluster as kubectl does.
func (f *doctorFlags) config() (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: f.context}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("find the cluster: %w; give --kubeconfig", err)
	}
	config.UserAgent = "evictgate-doctor/" + currentVersion().Version
	return config, nil
}

// neededBy lists what the replicas of a Deployment must be allowed: what serve with its arguments asks for, and
// what the cluster's EvictionPolicies read on top.
func neededBy(ctx context.Context, config *rest.Config, d *appsv1.Deployment) ([]doctor.Access, error) {
	served, err := servedBy(d)
	if err != nil {
		return nil, err
	}
	set, err := policies.Default()
	if err != nil {
		return nil, err
	}
	rules := served.rules(set.Needs())
	list := append(doctor.Accesses("", rules.Cluster), doctor.Accesses(served.certNamespace, rules.Namespaced)...)
	if !slices.Contains(served.sources.names(), evictionpolicy.Source) {
		return list, nil
	}
	units, err := evictionpolicy.List(ctx, config)
	if err != nil { // the check of the policies says so
		return list, nil //nolint:nilerr // what serving needs is known all the same
	}
	return doctor.WithPolicies(ctx, list, units, confined.New(confined.Limits{}, slog.New(slog.DiscardHandler)).Screen), nil
}

// argumentsOf says what of the Deployment's arguments matters to doctor.
func argumentsOf(d *appsv1.Deployment) (*doctor.Arguments, error) {
	served, err := servedBy(d)
	if err != nil {
		return nil, err
	}
	a := doctor.Arguments{SecretPath: served.pathMode(), ClientCA: served.clientCA != ""}
	for _, name := range served.sources.names() {
		switch name {
		case evictionpolicy.Source:
			a.Cluster = true
		case source.Default:
		default:
			a.Elsewhere = append(a.Elsewhere, name)
		}
	}
	if served.certs == "self" {
		a.CASecret = served.certNamespace + "/" + served.certSecret
	} else {
		a.CertDir = served.certDir
	}
	return &a, nil
}

// servedBy reads the arguments of the Deployment; flags of another version are passed over.
func servedBy(d *appsv1.Deployment) (*serveFlags, error) {
	args, err := doctor.ServeArguments(d)
	if err != nil {
		return nil, err
	}
	served := new(serveFlags)
	cmd := newServeWith(served, output.Printer{Out: io.Discard, Err: io.Discard})
	cmd.FParseErrWhitelist.UnknownFlags = true
	if err := cmd.ParseFlags(args); err != nil {
		return nil, fmt.Errorf("arguments of Deployment %s: %w", d.Name, err)
	}
	served.certNamespace = cmp.Or(served.certNamespace, d.Namespace)
	return served, nil
}
