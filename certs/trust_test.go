package certs

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
	"time"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const testSecret = "gate-ns/gate-ca"

// ownTrust is that of the self mode, once the API server has answered.
func ownTrust() *trust {
	t := newTrust("gate")
	t.secret = types.NamespacedName{Namespace: "gate-ns", Name: "gate-ca"}
	t.synced = func() bool { return true }
	return t
}

// foreignTrust is that of certificates from files.
func foreignTrust(names ...string) *trust {
	t := newTrust("gate")
	t.names = names
	t.synced = func() bool { return true }
	return t
}

// configuration has one webhook by URL on localhost for each bundle.
func configuration(inject string, bundles ...[]byte) *admissionv1.ValidatingWebhookConfiguration {
	url := "https://localhost:9443/validate-eviction"
	c := &admissionv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "gate"}}
	if inject != "" {
		c.Annotations = map[string]string{cmapi.WantInjectFromSecretAnnotation: inject}
	}
	for i, bundle := range bundles {
		c.Webhooks = append(c.Webhooks, admissionv1.ValidatingWebhook{
			Name:         []string{"first.example", "second.example"}[i],
			ClientConfig: admissionv1.WebhookClientConfig{URL: &url, CABundle: bundle},
		})
	}
	return c
}

func byService(bundle []byte) *admissionv1.ValidatingWebhookConfiguration {
	c := configuration(testSecret, bundle)
	c.Webhooks[0].ClientConfig.URL = nil
	c.Webhooks[0].ClientConfig.Service = &admissionv1.ServiceReference{Namespace: "gate-ns", Name: "gate"}
	return c
}

func TestTrust(t *testing.T) {
	now := time.Now()
	ca, before := newIssuerFrom(t, "evictgate-ca", now.Add(-12*time.Hour)), newIssuer(t, "evictgate-ca")
	ours, both := ca.pem(), append(before.pem(), ca.pem()...)
	closed := &metav1.PartialObjectMetadata{}
	for name, c := range map[string]struct {
		seen   *admissionv1.ValidatingWebhookConfiguration
		secret *metav1.PartialObjectMetadata
		names  []string
		from   time.Time
		ahead  time.Duration
		want   []string
	}{
		"our CA alone":                     {seen: configuration(testSecret, ours)},
		"our CA beside another":            {seen: configuration(testSecret, both)},
		"our CA by hand, no annotation":    {seen: configuration("", ours)},
		"called by the name of a service":  {seen: byService(ours), names: []string{"gate.gate-ns.svc"}},
		"a leaf for more names than asked": {seen: configuration(testSecret, ours), names: []string{"x.example", "localhost"}},

		"no configuration": {want: []string{
			"ValidatingWebhookConfiguration gate does not exist: create it with annotation cert-manager.io/inject-ca-from-secret=gate-ns/gate-ca"}},
		"no webhooks": {seen: configuration(testSecret), want: []string{
			"ValidatingWebhookConfiguration gate has no webhooks"}},
		"an empty bundle": {seen: configuration(testSecret, nil), want: []string{
			"caBundle of webhook first.example in ValidatingWebhookConfiguration gate does not contain our CA yet: patch on it must be allowed"}},
		"only another CA of the same subject": {seen: configuration(testSecret, before.pem()), want: []string{
			"does not contain our CA yet"}},
		"one of two webhooks": {seen: configuration(testSecret, both, before.pem()), want: []string{
			"caBundle of webhook second.example in", "does not contain our CA yet"}},
		"no annotation": {seen: configuration("", nil), want: []string{
			"ValidatingWebhookConfiguration gate lacks annotation cert-manager.io/inject-ca-from-secret=gate-ns/gate-ca: add it"}},
		"another Secret's annotation": {seen: configuration("other/ca", nil), want: []string{
			"takes its caBundle from Secret other/ca, but our CA is in Secret gate-ns/gate-ca"}},
		"a Secret that forbids injection": {seen: configuration(testSecret, nil), secret: closed, want: []string{
			"Secret gate-ns/gate-ca lacks annotation cert-manager.io/allow-direct-injection=true: add it"}},
		"called by a name it is not for": {seen: byService(ours), names: []string{"localhost"}, want: []string{
			"webhook first.example of ValidatingWebhookConfiguration gate: certificate is for names localhost, not for gate.gate-ns.svc"}},
		"expired": {seen: configuration(testSecret, ours), from: now.Add(-2 * time.Hour), want: []string{
			"certificate expired at " + stamp(now.Add(-time.Hour))}},
		"too new for the API server's clock": {seen: configuration(testSecret, ours), ahead: 40 * time.Second, want: []string{
			"certificate is not valid before ", "by the API server's clock; this machine's is 40s ahead of it"}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.from.IsZero() {
				c.from = now
			}
			leaf, _ := ca.leaf(t, c.from, c.names...)
			tr := ownTrust()
			tr.clock.ahead.Store(int64(c.ahead))
			tr.seen, tr.seenSecret = c.seen, c.secret
			says(t, tr.check(leaf), c.want...)
		})
	}
}

func TestTrustOfFiles(t *testing.T) {
	now := time.Now()
	ca, other := newIssuerFrom(t, "issuer-ca", now.Add(-12*time.Hour)), newIssuer(t, "other-ca")
	annotated := func(name, value string, bundle []byte) *admissionv1.ValidatingWebhookConfiguration {
		c := configuration("", bundle)
		c.Annotations = map[string]string{name: value}
		return c
	}
	const empty = "caBundle of webhook first.example in ValidatingWebhookConfiguration gate is empty: "
	for name, c := range map[string]struct {
		seen  *admissionv1.ValidatingWebhookConfiguration
		asked []string
		from  time.Time
		usage x509.ExtKeyUsage
		want  string
	}{
		"a bundle by hand, no annotation": {seen: configuration("", ca.pem())},
		"an annotation that is not ours":  {seen: annotated("cert-manager.io/inject-ca-from", "x/y", append(other.pem(), ca.pem()...))},
		"no configuration":                {want: "ValidatingWebhookConfiguration gate does not exist: create it with annotation cert-manager.io/inject-ca-from=NAMESPACE/CERTIFICATE"},
		"an empty bundle, no annotation": {seen: configuration("", nil), want: empty +
			"add annotation cert-manager.io/inject-ca-from=NAMESPACE/CERTIFICATE for cert-manager's cainjector, or write the CA there"},
		"another CA by hand": {seen: configuration("", other.pem()), want: "caBundle of webhook first.example in ValidatingWebhookConfiguration gate " +
			"does not contain the CA that issued the certificate (CN=issuer-ca): add annotation cert-manager.io/inject-ca-from="},
		"cainjector has not come yet": {seen: annotated("cert-manager.io/inject-ca-from", "gate-ns/gate", nil), want: empty +
			"cert-manager's cainjector must run and take it from Certificate gate-ns/gate, as annotation cert-manager.io/inject-ca-from says; its Secret must be the one that is mounted"},
		"cainjector takes another Certificate's CA": {seen: annotated("cert-manager.io/inject-ca-from", "gate-ns/old", other.pem()),
			want: "does not contain the CA that issued the certificate (CN=issuer-ca): cert-manager's cainjector must run and take it from Certificate gate-ns/old"},
		"cainjector takes it from a Secret": {seen: configuration("gate-ns/tls", nil), want: empty +
			"cert-manager's cainjector must run and take it from Secret gate-ns/tls, as annotation cert-manager.io/inject-ca-from-secret says; the Secret must hold it as ca.crt and carry annotation cert-manager.io/allow-direct-injection=true"},
		"the API server's CA is injected": {seen: annotated("cert-manager.io/inject-apiserver-ca", "true", other.pem()),
			want: "annotation cert-manager.io/inject-apiserver-ca brings the API server's CA there: replace it by cert-manager.io/inject-ca-from=NAMESPACE/CERTIFICATE"},
		"not for the service that is called": {seen: byService(ca.pem()),
			want: "webhook first.example of ValidatingWebhookConfiguration gate: certificate is for names localhost, not for gate.gate-ns.svc: issue it for every name the API server calls"},
		"not for a name that was asked for": {seen: configuration("", ca.pem()), asked: []string{"localhost", "x.example"},
			want: "certificate is for names localhost, not for x.example"},
		"for clients only": {seen: configuration("", ca.pem()), usage: x509.ExtKeyUsageClientAuth,
			want: "certificate may not be used by a server: issue it with the usage server auth"},
		"expired":       {seen: configuration("", ca.pem()), from: now.Add(-2 * time.Hour), want: "certificate expired at " + stamp(now.Add(-time.Hour))},
		"not valid yet": {seen: configuration("", ca.pem()), from: now.Add(time.Hour), want: "certificate is not valid before " + stamp(now.Add(time.Hour))},
	} {
		t.Run(name, func(t *testing.T) {
			template := &x509.Certificate{
				DNSNames: []string{"localhost"}, NotBefore: now, ExtKeyUsage: []x509.ExtKeyUsage{c.usage}, // any by default
			}
			if !c.from.IsZero() {
				template.NotBefore = c.from
			}
			template.NotAfter = template.NotBefore.Add(time.Hour)
			leaf, _, err := sign(template, ca.cert, ca.key)
			if err != nil {
				t.Fatal(err)
			}
			tr := foreignTrust(c.asked...)
			tr.seen = c.seen
			err = tr.check(leaf)
			if c.want == "" {
				says(t, err)
				return
			}
			says(t, err, c.want)
		})
	}
}

// An issuer may put an intermediate between, and may let a leaf outlive its CA.
func TestTrustOfAChain(t *testing.T) {
	now := time.Now()
	root := newIssuerFrom(t, "root", now.Add(-23*time.Hour)) // ends in an hour
	between, key, err := sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "between"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(48 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}, root.cert, root.key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _, err := sign(&x509.Certificate{
		DNSNames: []string{"localhost"}, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, between, key)
	if err != nil {
		t.Fatal(err)
	}
	tr := foreignTrust()
	tr.seen = configuration("", root.pem())
	says(t, tr.check(leaf, between))
	says(t, tr.check(leaf), "does not contain the CA that issued the certificate (CN=between)")

	old := newIssuerFrom(t, "root", now.Add(-25*time.Hour))
	late, _, err := sign(&x509.Certificate{
		DNSNames: []string{"localhost"}, NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, old.cert, old.key)
	if err != nil {
		t.Fatal(err)
	}
	tr.seen = configuration("", old.pem())
	says(t, tr.check(late), "certificate of root expired at "+stamp(now.Add(-time.Hour)))
}

func TestTrustBeforeTheFirstAnswer(t *testing.T) {
	leaf, _ := newIssuer(t, "ca").leaf(t, time.Now())
	tr := ownTrust()
	tr.synced = func() bool { return false }
	says(t, tr.check(leaf), "ValidatingWebhookConfiguration gate not yet read: the API server must answer")
}

func TestTrustDatesTheCABundle(t *testing.T) {
	a, b := newIssuer(t, "a").pem(), newIssuer(t, "b").pem()
	for name, c := range map[string]struct {
		events func(*trust)
		news   bool
	}{
		"there when we came": {func(tr *trust) { tr.configurations().OnAdd(configuration("", a), true) }, false},
		"added later":        {func(tr *trust) { tr.configurations().OnAdd(configuration("", a), false) }, true},
		"changed": {func(tr *trust) {
			tr.configurations().OnAdd(configuration("", a), true)
			tr.configurations().OnUpdate(configuration("", a), configuration("", b))
		}, true},
		"something else changed": {func(tr *trust) {
			tr.configurations().OnAdd(configuration("", a), true)
			tr.configurations().OnUpdate(configuration("", a), configuration("x", a))
		}, false},
		"deleted": {func(tr *trust) {
			tr.configurations().OnAdd(configuration("", a), true)
			tr.configurations().OnDelete(configuration("", a))
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			tr := ownTrust()
			c.events(tr)
			if news := !tr.since().IsZero(); news != c.news {
				t.Errorf("dated as news: %t, want %t", news, c.news)
			}
			if len(tr.changed) != 1 {
				t.Error("nobody was told")
			}
		})
	}
}
