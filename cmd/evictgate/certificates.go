package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"

	"github.com/go-logr/logr"

	"github.com/evictgate/evictgate/certs"
	"github.com/evictgate/evictgate/webhook"
)

// certificates chooses the source of the serving certificate.
func (f *serveFlags) certificates(api api, log *slog.Logger) (webhook.Certificates, error) {
	logger := logr.FromSlogHandler(log.Handler())
	namespace := cmp.Or(f.certNamespace, ownNamespace())
	if f.certs == "files" {
		return certs.Files(certs.FilesOptions{
			Dir: f.certDir, Names: f.dnsNames, RESTConfig: api.config, WebhookConfiguration: f.webhookConfiguration, Webhooks: ownWebhooks(), Logger: logger,
		})
	}
	names := f.dnsNames
	if len(names) == 0 && namespace != "" {
		names = []string{"evictgate." + namespace + ".svc"}
	}
	hosts, ips := certs.SplitNames(names)
	if api.config == nil {
		return f.throwaway(hosts, ips)
	}
	if namespace == "" {
		return nil, errors.New("--certs=self keeps its CA in a Secret: outside a cluster, give --cert-namespace")
	}
	return certs.Self(certs.SelfOptions{
		RESTConfig: api.config, SecretNamespace: namespace, SecretName: f.certSecret,
		WebhookConfiguration: f.webhookConfiguration, Webhooks: ownWebhooks(), DNSNames: hosts, IPs: ips,
		CADuration: f.caDuration, LeafDuration: f.leafDuration, Logger: logger,
	})
}

// throwaway is the certificate of a server over a snapshot, for clients on this machine.
func (f *serveFlags) throwaway(hosts []string, ips []net.IP) (webhook.Certificates, error) {
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

// ownNamespace is the namespace of the pod we run in; empty outside a cluster.
func ownNamespace() string {
	raw, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}
