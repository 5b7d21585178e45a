package main

import (
	"errors"
	"log/slog"

	"github.com/spf13/pflag"

	"github.com/evictgate/evictgate/certs"
	"github.com/evictgate/evictgate/policies/v1alpha1"
	"github.com/evictgate/evictgate/webhook/hooks"
	"github.com/evictgate/evictgate/webhook/install/registration"
)

// registrationFlags say whether the webhook configuration goes with the namespace of the installation.
type registrationFlags struct {
	own string
}

func (f *registrationFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.own, "own-configuration", "auto", "tie the webhook configuration to the pod's namespace (or --cert-namespace), so that it goes with it and blocks nothing after that, unless Argo CD applied it: auto (as a pod of the cluster with --certs=self, which may patch it anyway), true or false")
}

func (f *registrationFlags) validate(snapshot bool) error {
	if f.own == "true" && snapshot {
		return errors.New("--own-configuration=true needs a cluster, and --snapshot has none")
	}
	return oneOf("own-configuration", f.own, "auto", "true", "false")
}

// ties reports whether a pod of the cluster keeps the owner. Without an own CA it has no other need to write the webhook
// configuration, and is to have no right to.
func (f *registrationFlags) ties(certs string) bool {
	return f.own == "true" || f.own == "auto" && certs == "self"
}

// owner ties the webhook configuration to the namespace when flags and surroundings say so; else it is nil. Somebody
// else's cluster, reached by a kubeconfig, holds no installation that could go with a namespace.
func (f *serveFlags) owner(api api, log *slog.Logger) (*registration.Owner, error) {
	own := ownNamespace()
	namespace := own
	if namespace == "" || f.kubeconfig != "" {
		namespace = f.certNamespace
	}
	switch {
	case api.client == nil || !f.registration.ties(f.certs):
		return nil, nil
	case f.registration.own == "auto" && (own == "" || f.kubeconfig != ""):
		return nil, nil
	case namespace == "":
		return nil, errors.New("--own-configuration=true: outside of a pod, give the namespace by --cert-namespace")
	}
	return &registration.Owner{Client: api.client, Namespace: namespace, Configuration: f.webhookConfiguration, Log: log}, nil
}

// ownWebhooks are the webhooks of the manifests, with what each is asked about.
func ownWebhooks() certs.Webhooks {
	return certs.Webhooks{hooks.Evictions: "pods/eviction", hooks.Policies: v1alpha1.Resource}
}
