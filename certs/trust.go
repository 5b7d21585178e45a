package certs

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
)

// trust answers whether the API server would accept a certificate, from the
// webhook configuration as last seen by watch.
type trust struct {
	configuration string
	secret        types.NamespacedName // of our own CA; without one the CA is somebody else's
	names         []string             // demanded beside those the configuration calls
	webhooks      Webhooks
	clock         *clock
	log           logr.Logger
	changed       chan struct{} // holds one token when what is seen changed

	mu         sync.Mutex
	synced     func() bool
	seen       *admissionv1.ValidatingWebhookConfiguration // nil: does not exist
	seenSecret *metav1.PartialObjectMetadata               // nil: does not exist
	bundleAt   time.Time                                   // when a caBundle last changed before our eyes
	strange    []string                                    // what is foreign in what is seen
}

// newTrust has seen nothing yet.
func newTrust(configuration string) *trust {
	return &trust{configuration: configuration, clock: new(clock), log: logr.Discard(), changed: make(chan struct{}, 1)}
}

// check returns nil when the API server, calling any of the configuration's
// webhooks, would accept leaf, sent with the intermediates, now. Else it says
// what is wrong and what to do. A webhook that is foreign, or calls another
// host while the rest calls us, does not count: who may write it must not be
// able to end all replicas by it.
func (t *trust) check(leaf *x509.Certificate, intermediates ...*x509.Certificate) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.seen == nil && (t.synced == nil || !t.synced()):
		return fmt.Errorf("%s not yet read: the API server must answer and allow get, list and watch on it", t.subject())
	case t.seen == nil:
		return fmt.Errorf("%s does not exist: create it with annotation %s", t.subject(), t.wanted())
	case len(t.seen.Webhooks) == 0:
		return fmt.Errorf("%s has no webhooks: apply it again", t.subject())
	}
	if err := t.acceptedByOwn(leaf, intermediates); err != nil {
		return err
	}
	return covers(leaf, t.names...)
}

// acceptedByOwn asks the webhooks that are not foreign.
func (t *trust) acceptedByOwn(leaf *x509.Certificate, intermediates []*x509.Certificate) error {
	known := t.webhooks.in(t.seen)
	accepted := 0
	var err error
	for i := range t.seen.Webhooks {
		hook := &t.seen.Webhooks[i]
		if !known.own(hook.Name) {
			continue
		}
		refused := t.accepts(hook, leaf, intermediates)
		name := serverName(hook.ClientConfig)
		switch {
		case refused == nil:
			accepted++
		case known == nil || name == "" || covers(leaf, name) == nil:
			return refused
		default: // it calls somebody else
			err = refused
		}
	}
	if accepted > 0 {
		return nil
	}
	return err
}

// accepts does for one webhook what the API server does on a call: chain,
// name, time.
func (t *trust) accepts(hook *admissionv1.ValidatingWebhook, leaf *x509.Certificate, intermediates []*x509.Certificate) error {
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool()}
	o.Roots.AppendCertsFromPEM(hook.ClientConfig.CABundle)
	for _, cert := range intermediates {
		o.Intermediates.AddCert(cert)
	}
	chain, err := chainOf(leaf, o, t.clock.now())
	switch {
	case incompatible(err):
		return errors.New("certificate may not be used by a server: issue it with the usage server auth")
	case err != nil && t.foreign():
		return t.notInjected(hook, leaf)
	case err != nil:
		return t.untrusted(hook.Name)
	}
	if name := serverName(hook.ClientConfig); name != "" {
		if err := covers(leaf, name); err != nil {
			return fmt.Errorf("webhook %s of %s: %w", hook.Name, t.subject(), err)
		}
	}
	for _, cert := range chain {
		if err := validity(cert, t.clock.now()); err != nil {
			return t.clocked(err)
		}
	}
	return nil
}

// chainOf is a chain to a root that is good now, or else one that is good at
// either end of the leaf's life: validity then says which part of it is out of
// time. At the end leaf and CA are both valid whoever's clock they were made
// by; but an issuer may let a leaf outlive its CA.
func chainOf(leaf *x509.Certificate, o x509.VerifyOptions, now time.Time) ([]*x509.Certificate, error) {
	var chains [][]*x509.Certificate
	var err error
	for _, o.CurrentTime = range []time.Time{now, leaf.NotAfter, leaf.NotBefore} {
		if chains, err = leaf.Verify(o); err == nil {
			return chains[0], nil
		}
	}
	return nil, err
}

func incompatible(err error) bool {
	var invalid x509.CertificateInvalidError
	return errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage
}

// foreign says that the CA is not our own.
func (t *trust) foreign() bool { return t.secret.Name == "" }

// notInjected says that a caBundle lacks the CA of a leaf from elsewhere, and
// what is to bring it there.
func (t *trust) notInjected(hook *admissionv1.ValidatingWebhook, leaf *x509.Certificate) error {
	lack := "is empty"
	if len(hook.ClientConfig.CABundle) > 0 {
		lack = fmt.Sprintf("does not contain the CA that issued the certificate (%s)", leaf.Issuer)
	}
	return fmt.Errorf("caBundle of webhook %s in %s %s: %s", hook.Name, t.subject(), lack, t.injector())
}

// injector is who should write the caBundle.
func (t *trust) injector() string {
	switch by, from := InjectionOf(t.seen.Annotations); by {
	case FromSecret:
		return fmt.Sprintf("cert-manager's cainjector must run and take it from Secret %s, as annotation %s says; the Secret must hold it as ca.crt and carry annotation %s=true",
			from, by, cmapi.AllowsInjectionFromSecretAnnotation)
	case FromCertificate:
		return fmt.Sprintf("cert-manager's cainjector must run and take it from Certificate %s, as annotation %s says; its Secret must be the one that is mounted", from, by)
	case FromAPIServer:
		return fmt.Sprintf("annotation %s brings the API server's CA there: replace it by %s", by, t.wanted())
	}
	return fmt.Sprintf("add annotation %s for cert-manager's cainjector, or write the CA there", t.wanted())
}

// untrusted says why the caBundle lacks our CA.
func (t *trust) untrusted(webhook string) error {
	switch by, from := InjectionOf(t.seen.Annotations); {
	case by != FromSecret:
		return fmt.Errorf("%s lacks annotation %s: add it, so that our CA is written to its caBundle", t.subject(), t.wanted())
	case from != t.secret.String():
		return fmt.Errorf("%s takes its caBundle from Secret %s, but our CA is in Secret %s: set annotation %s",
			t.subject(), from, t.secret, t.wanted())
	case t.seenSecret != nil && t.seenSecret.Annotations[cmapi.AllowsInjectionFromSecretAnnotation] != "true":
		return fmt.Errorf("Secret %s lacks annotation %s=true: add it, or delete the Secret and it is made anew",
			t.secret, cmapi.AllowsInjectionFromSecretAnnotation)
	}
	return fmt.Errorf("caBundle of webhook %s in %s does not contain our CA yet: patch on it must be allowed", webhook, t.subject())
}

func (t *trust) clocked(err error) error {
	if lead := t.clock.lead().Round(time.Second); lead > 0 {
		return fmt.Errorf("%w (by the API server's clock; this machine's is %s ahead of it)", err, lead)
	}
	return err
}

func (t *trust) noSecret() error {
	return fmt.Errorf("Secret %s not yet written: the API server must answer and allow get, list, watch and update on it, and create",
		t.secret)
}

func (t *trust) subject() string { return "ValidatingWebhookConfiguration " + t.configuration }

// wanted is the annotation that the configuration should carry.
func (t *trust) wanted() string {
	if t.foreign() {
		return string(FromCertificate) + "=NAMESPACE/CERTIFICATE"
	}
	return fmt.Sprintf("%s=%s", FromSecret, t.secret)
}

// since is when the caBundle last changed; zero if it did not since we look.
func (t *trust) since() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.bundleAt
}

// serverName is what the API server demands of the certificate.
// https://github.com/kubernetes/kubernetes/blob/v1.37.2/staging/src/k8s.io/apiserver/pkg/util/webhook/client.go
func serverName(to admissionv1.WebhookClientConfig) string {
	if to.Service != nil {
		return to.Service.Name + "." + to.Service.Namespace + ".svc"
	}
	if to.URL == nil {
		return ""
	}
	u, err := url.Parse(*to.URL)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// configurations handles the watch on the webhook configuration.
func (t *trust) configurations() toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerDetailedFuncs{
		AddFunc:    func(obj any, first bool) { t.setConfiguration(obj, first) },
		UpdateFunc: func(_, obj any) { t.setConfiguration(obj, false) },
		DeleteFunc: func(any) { t.setConfiguration(nil, false) },
	}
}

// secrets handles the watch on the metadata of the Secret.
func (t *trust) secrets() toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    t.setSecret,
		UpdateFunc: func(_, obj any) { t.setSecret(obj) },
		DeleteFunc: func(any) { t.setSecret(nil) },
	}
}

// setConfiguration notes what is there now; first means it was there before we
// looked, so that its caBundle is not news to any API server.
func (t *trust) setConfiguration(obj any, first bool) {
	next, _ := obj.(*admissionv1.ValidatingWebhookConfiguration)
	t.mu.Lock()
	defer t.mu.Unlock()
	if !first && !sameBundles(t.seen, next) {
		t.bundleAt = time.Now()
	}
	t.seen = next
	t.tellForeign()
	t.tell()
}

func (t *trust) setSecret(obj any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seenSecret, _ = obj.(*metav1.PartialObjectMetadata)
	t.tell()
}

func (t *trust) tell() {
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

func sameBundles(a, b *admissionv1.ValidatingWebhookConfiguration) bool {
	if a == nil || b == nil || len(a.Webhooks) != len(b.Webhooks) {
		return false
	}
	for i := range a.Webhooks {
		if !bytes.Equal(a.Webhooks[i].ClientConfig.CABundle, b.Webhooks[i].ClientConfig.CABundle) {
			return false
		}
	}
	return true
}

func (t *trust) setSynced(synced func() bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.synced = synced
}
