package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/cert-manager/cert-manager/pkg/controller/cainjector"
	cmtls "github.com/cert-manager/cert-manager/pkg/server/tls"
	"github.com/cert-manager/cert-manager/pkg/server/tls/authority"
	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

const (
	defaultCADuration   = 365 * 24 * time.Hour
	defaultLeafDuration = 7 * 24 * time.Hour
	defaultSettle       = 2 * time.Second

	// patience is for an API server that is away, or refuses, at the start:
	// Ready then says so, which helps more than a restart every two minutes.
	patience = 365 * 24 * time.Hour

	// owner is the field manager that owns the caBundle (cainjector takes it
	// from the user agent), and marks the Secret.
	owner = "evictgate-certs"
	// commonName is the CA's subject.
	commonName = "evictgate-ca"
)

// SelfOptions are the inputs of [Self]. Durations that are zero take their
// default.
type SelfOptions struct {
	// RESTConfig reaches the API server. It is copied. [SelfRules] says what
	// it must be allowed to do.
	RESTConfig *rest.Config
	// SecretNamespace and SecretName say where the replicas share the CA. The
	// Secret is made if absent.
	SecretNamespace, SecretName string
	// WebhookConfiguration names the ValidatingWebhookConfiguration whose
	// caBundle is kept. It must carry the annotation
	// cert-manager.io/inject-ca-from-secret: SecretNamespace/SecretName.
	WebhookConfiguration string
	// Webhooks are those of them that get the CA.
	Webhooks Webhooks
	// DNSNames and IPs are what the API server calls the webhook by, for
	// instance evictgate.NAMESPACE.svc. At least one is needed.
	DNSNames []string
	IPs      []net.IP
	// CADuration is the life of a CA (default 365 days), LeafDuration that of
	// a serving certificate (default 7 days). Each is replaced after two
	// thirds of it, so the CA's must be the longer one.
	CADuration, LeafDuration time.Duration
	// Settle is how long a CA must have been in the caBundle, and a renewed
	// leaf must have been valid, before the leaf is served (default 2 s). It
	// covers API servers that learn of the caBundle later than we do, and
	// clocks that differ by less. Negative is none.
	Settle time.Duration
	// Logger receives what this source and cert-manager's authority say. Its
	// cainjector logs to controller-runtime's logger, which main must set.
	Logger logr.Logger
}

// SelfSource serves leaves of its own CA, built from cert-manager's webhook
// library: DynamicAuthority keeps the CA in a Secret, DynamicSource the leaf
// in memory, and cainjector the caBundle. Every replica runs all three; they
// agree through the Secret and by server-side apply.
type SelfSource struct {
	leaf    *cmtls.DynamicSource
	gate    *gate
	trust   *trust
	manager ctrl.Manager
	log     logr.Logger
}

// Self prepares the source without calling the API server. It fails on
// incomplete or contradictory options.
func Self(o SelfOptions) (*SelfSource, error) {
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("prepare own certificate: %w", err)
	}
	seen := newTrust(o.WebhookConfiguration)
	seen.webhooks, seen.log = o.Webhooks, o.Logger
	seen.secret = types.NamespacedName{Namespace: o.SecretNamespace, Name: o.SecretName}
	cfg := clocked(o.RESTConfig, seen.clock)
	manager, err := newManager(cfg, seen.secret, o)
	if err != nil {
		return nil, fmt.Errorf("prepare own certificate: %w", err)
	}
	held := &gate{
		Authority: newAuthority(cfg, o),
		threshold: &threshold{trust: seen, settle: max(0, o.Settle), log: o.Logger},
		ips:       o.IPs,
		stopped:   make(chan struct{}),
	}
	return &SelfSource{
		leaf:    &cmtls.DynamicSource{DNSNames: o.DNSNames, Authority: held},
		gate:    held,
		trust:   seen,
		manager: manager,
		log:     o.Logger,
	}, nil
}

// complete fills defaults in and finds what cannot work.
func (o *SelfOptions) complete() error {
	o.CADuration = orDefault(o.CADuration, defaultCADuration)
	o.LeafDuration = orDefault(o.LeafDuration, defaultLeafDuration)
	o.Settle = orDefault(o.Settle, defaultSettle)
	switch {
	case o.RESTConfig == nil:
		return errors.New("no RESTConfig: there must be an API server")
	case o.SecretNamespace == "" || o.SecretName == "":
		return fmt.Errorf("the CA's Secret needs a namespace and a name, not %q/%q", o.SecretNamespace, o.SecretName)
	case o.WebhookConfiguration == "":
		return errors.New("no name of a ValidatingWebhookConfiguration")
	case len(o.DNSNames)+len(o.IPs) == 0:
		return errors.New("no DNS name and no IP address to be called by")
	case o.LeafDuration <= 0 || o.LeafDuration >= o.CADuration:
		return fmt.Errorf("a leaf's life of %s must be positive and shorter than the CA's of %s", o.LeafDuration, o.CADuration)
	}
	return nil
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

func newAuthority(cfg *rest.Config, o SelfOptions) *authority.DynamicAuthority {
	return &authority.DynamicAuthority{
		RESTConfig:      cfg,
		SecretNamespace: o.SecretNamespace,
		SecretName:      o.SecretName,
		SecretLabels:    map[string]string{"app.kubernetes.io/managed-by": owner},
		CommonName:      commonName,
		CADuration:      o.CADuration,
		LeafDuration:    o.LeafDuration,
	}
}

// newManager makes a manager of our own, so that its cache can be limited to
// two objects whatever the caller's manager caches.
func newManager(cfg *rest.Config, secret types.NamespacedName, o SelfOptions) (ctrl.Manager, error) {
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	// Replicas in one process, as in tests, would clash on the controller's name.
	skipNames := true
	return ctrl.NewManager(cfg, ctrl.Options{
		Scheme:         scheme,
		Logger:         o.Logger,
		MapperProvider: staticMapper,
		Metrics:        server.Options{BindAddress: "0"},
		Controller:     config.Controller{SkipNameValidation: &skipNames, CacheSyncTimeout: patience},
		Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}: {
				Namespaces: map[string]cache.Config{secret.Namespace: {FieldSelector: named(secret.Name)}},
			},
			&admissionv1.ValidatingWebhookConfiguration{}: {Field: named(o.WebhookConfiguration)},
		}},
		// cainjector watches the metadata of Secrets and wants to read the
		// data live: a second cache could still hold the old CA.
		NewClient: o.Webhooks.newOwnOnly,
		Client:    client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}},
	})
}

// Start runs the source until ctx ends, when it returns nil; GetCertificate
// answers on after that. It fails if a part of it does, and may be called once.
func (s *SelfSource) Start(ctx context.Context) error {
	// cert-manager falls back to klog where the context has no logger.
	group, ctx := errgroup.WithContext(logr.NewContext(ctx, s.log))
	if err := s.register(ctx); err != nil {
		return fmt.Errorf("start own certificate: %w", err)
	}
	group.Go(func() error { return wrap("keep caBundle", s.manager.Start(ctx)) })
	group.Go(func() error { return wrap("keep own certificate", s.leaf.Start(ctx)) })
	return group.Wait()
}

func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// register has the caBundle kept and watched.
func (s *SelfSource) register(ctx context.Context) error {
	err := cainjector.RegisterAllInjectors(ctx, s.manager, cainjector.SetupOptions{
		Namespace:             s.trust.secret.Namespace,
		EnabledReconcilersFor: map[string]bool{cainjector.ValidatingWebhookConfigurationName: true},
	})
	if err != nil {
		return fmt.Errorf("register cainjector: %w", err)
	}
	seen := s.manager.GetCache()
	if err := s.trust.follow(ctx, seen); err != nil {
		return err
	}
	secret := &metav1.PartialObjectMetadata{}
	secret.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	_, err = watch(ctx, seen, secret, s.trust.secrets())
	return err
}

// GetCertificate is for tls.Config. It fails until there is a leaf that the
// API server trusts.
func (s *SelfSource) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.leaf.GetCertificate(hello)
}

// Ready is a healthz.Checker. It succeeds while the leaf being served is one
// that the API server trusts under the name it calls, judged by the webhook
// configuration as last seen; its error names the object and the cure.
func (s *SelfSource) Ready(*http.Request) error {
	if !s.leaf.Healthy() {
		if err := s.gate.held(); err != nil {
			return err
		}
		return s.trust.noSecret()
	}
	cert, err := s.leaf.GetCertificate(nil)
	if err != nil {
		return err
	}
	return s.trust.check(cert.Leaf)
}

// Foreign is how many things the webhook configuration holds that are not
// Evictgate's, as last seen.
func (s *SelfSource) Foreign() int { return s.trust.Foreign() }

// NeedLeaderElection says that every replica runs its own source.
func (s *SelfSource) NeedLeaderElection() bool { return false }
