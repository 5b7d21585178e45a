package certs

import (
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
