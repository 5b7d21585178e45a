package doctor

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/evictgate/evictgate/certs"
	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/webhook/hooks"
)

// checkCertificate compares what the API server trusts with what the replicas have.
func checkCertificate(f *Facts, l *findings) {
	if f.Configuration.Value == nil {
		return
	}
	for i := range f.Configuration.Value.Webhooks {
		checkBundle(f, &f.Configuration.Value.Webhooks[i], l)
	}
	switch by, from := f.injection(); by {
	case certs.ByHand:
		l.note("certificate.secret", "the caBundle is kept by hand: the configuration has no annotation %s or %s", certs.FromSecret, certs.FromCertificate)
		checkServed(f, l)
	case certs.FromAPIServer:
		f.reapply(l.problem("certificate.secret", "annotation %s brings the API server's own CA into the caBundle, which signs no replica's certificate", by), "%s")
	default:
		checkCertificateObject(f, l)
		checkSecret(f, from, l)
	}
}

// injection is what the caBundle is made from.
func (f *Facts) injection() (by certs.Injection, from string) {
	return certs.InjectionOf(f.Configuration.Value.Annotations)
}

// selfSigned reports whether evictgate keeps the CA itself.
func (f *Facts) selfSigned() bool {
	by, _ := f.injection()
	return by == certs.FromSecret
}

// certificatesIn parses PEM; what is not a certificate is an error.
func certificatesIn(raw []byte) (list []*x509.Certificate, err error) {
	for {
		var block *pem.Block
		if block, raw = pem.Decode(raw); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		list = append(list, cert)
	}
	if len(bytes.TrimSpace(raw)) > 0 {
		return nil, errors.New("it holds something else than certificates")
	}
	return list, nil
}

func checkBundle(f *Facts, hook *admissionregistrationv1.ValidatingWebhook, l *findings) {
	const check = "certificate.caBundle"
	cas, err := certificatesIn(hook.ClientConfig.CABundle)
	good, until := 0, time.Time{}
	var born time.Time
	for _, ca := range cas {
		if !f.Now.Before(ca.NotBefore) && f.Now.Before(ca.NotAfter) {
			good++
			if ca.NotAfter.After(until) {
				born, until = ca.NotBefore, ca.NotAfter
			}
		}
	}
	switch {
	case len(hook.ClientConfig.CABundle) == 0:
		f.cureBundle(l.problem(check, "the caBundle of %s is empty: the API server trusts no replica", hook.Name))
	case err != nil:
		f.cureBundle(l.problem(check, "the caBundle of %s cannot be read: %v", hook.Name, err))
	case good == 0:
		f.cureBundle(l.problem(check, "no CA in the caBundle of %s is valid now: the last ended at %s", hook.Name, stamp(lastEnd(cas))))
	case overdue(born, until, f.Now, f.selfSigned()):
		f.cureBundle(l.warn(check, "the CA in the caBundle of %s ends at %s, and nothing has renewed it", hook.Name, stamp(until)))
	default:
		l.ok(check, "the caBundle of %s has %d valid %s, until %s", hook.Name, good, output.Plural("CA", good), stamp(until))
	}
}

// foreign is how long before its end a certificate of somebody else is to be renewed at the latest.
const foreign = 30 * 24 * time.Hour

// overdue: we renew at two thirds of a certificate's life, and so does cert-manager unless it is told otherwise. When
// others do is not known; a CA of ten years is not a worry in its ninth.
func overdue(born, until, now time.Time, own bool) bool {
	late := until.Sub(born) / 6
	if !own {
		late = min(late, foreign)
	}
	return until.Sub(now) < late
}

func lastEnd(cas []*x509.Certificate) (last time.Time) {
	for _, ca := range cas {
		if ca.NotAfter.After(last) {
			last = ca.NotAfter
		}
	}
	return last
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// cureBundle says who writes a caBundle, and so what hinders it.
func (f *Facts) cureBundle(finding *Finding) {
	switch by, from := f.injection(); {
	case by == certs.FromSecret:
		finding.cure("see that a replica runs and may patch the configuration; it writes the CA of Secret %s there", from).
			run("kubectl -n %s logs deployment/%s --tail=20", f.Namespace, f.Name)
	case by == certs.FromCertificate:
		finding.cure("see that cert-manager's cainjector runs; it writes the CA of Certificate %s there", from).
			run("kubectl -n cert-manager logs deployment/cert-manager-cainjector --tail=20")
	case f.Arguments.Value != nil && f.keepsCA():
		secret := f.Arguments.Value.CASecret
		finding.cure("write the CA that issued the serving certificate into it, or have it written: annotate the configuration %s=%s", certs.FromSecret, secret).
			run("kubectl annotate validatingwebhookconfiguration %s %s=%s", f.Target.Configuration, certs.FromSecret, secret)
	default:
		finding.cure("have whoever issues the serving certificate write its CA there: replicas do so for their own CA only, and cert-manager for a configuration annotated %s", certs.FromCertificate)
	}
}

// checkSecret compares the caBundle with the Secret it is made from.
func checkSecret(f *Facts, from string, l *findings) {
	const check = "certificate.secret"
	switch {
	case f.Secret.missing() && f.selfSigned():
		l.problem(check, "Secret %s does not exist; the first replica makes it", from).
			cure("see that a replica runs and may create Secrets").run("kubectl -n %s logs deployment/%s --tail=20", f.Namespace, f.Name)
		return
	case f.Secret.missing():
		l.problem(check, "the Secret of Certificate %s does not exist: nothing is issued", from).
			cure("see why cert-manager does not issue it").run("kubectl -n %s describe certificate,certificaterequest", f.Namespace)
		return
	case f.Secret.Err != nil:
		l.skip(check, "%s", f.Secret.why())
		return
	case f.Secret.Value == nil:
		return // nothing says which it is
	}
	name := f.Secret.Value.Namespace + "/" + f.Secret.Value.Name
	ca, err := caOf(f.Secret.Value)
	if err != nil {
		l.problem(check, "Secret %s is of no use: %v", name, err).cure("delete it; it is made anew").
			run("kubectl -n %s delete secret %s", f.Secret.Value.Namespace, f.Secret.Value.Name)
		return
	}
	for i := range f.Configuration.Value.Webhooks {
		hook := &f.Configuration.Value.Webhooks[i]
		if trusted, err := certificatesIn(hook.ClientConfig.CABundle); err == nil && len(trusted) > 0 && !holds(trusted, ca) {
			f.cureBundle(l.problem(check, "the caBundle of %s does not hold the CA of Secret %s: the API server does not trust what it signs", hook.Name, name))
			return
		}
	}
	l.ok(check, "the CA of Secret %s is in the caBundle", name)
	if !f.selfSigned() {
		checkLeaf(f, name, l)
	}
}

// checkServed looks at the certificate of which only the Deployment says where it lies.
func checkServed(f *Facts, l *findings) {
	switch {
	case f.Secret.Err != nil:
		l.skip("certificate.names", "%s", f.Secret.why())
	case f.Secret.Value != nil:
		checkLeaf(f, f.Secret.Value.Namespace+"/"+f.Secret.Value.Name, l)
	}
}

// servedSecret is the one that the replicas see as the directory of their certificate, as NAMESPACE/NAME; empty when
// none is.
func (f *Facts) servedSecret() string {
	if f.Arguments.Value == nil || f.Arguments.Value.CertDir == "" {
		return ""
	}
	pod, dir := f.Deployment.Value.Spec.Template.Spec, path.Clean(f.Arguments.Value.CertDir)
	for _, c := range pod.Containers {
		for _, m := range c.VolumeMounts {
			i := slices.IndexFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name && v.Secret != nil })
			if i >= 0 && path.Clean(m.MountPath) == dir {
				return f.Namespace + "/" + pod.Volumes[i].Secret.SecretName
			}
		}
	}
	return ""
}

// caOf is the CA that a Secret of either kind is about.
func caOf(s *corev1.Secret) (*x509.Certificate, error) {
	for _, key := range []string{"ca.crt", "tls.crt"} {
		list, err := certificatesIn(s.Data[key])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		if len(list) > 0 {
			return list[0], nil
		}
	}
	return nil, errors.New("it holds no certificate")
}

func holds(list []*x509.Certificate, ca *x509.Certificate) bool {
	for _, c := range list {
		if c.Equal(ca) {
			return true
		}
	}
	return false
}

// checkLeaf looks at an issued certificate as the API server would.
func checkLeaf(f *Facts, name string, l *findings) {
	const check = "certificate.names"
	chain, err := certificatesIn(f.Secret.Value.Data["tls.crt"])
	if err != nil || len(chain) == 0 {
		f.cureLeaf(l.problem(check, "Secret %s holds no tls.crt that can be read", name))
		return
	}
	leaf, host := chain[0], f.calledBy()
	switch {
	case host != "" && leaf.VerifyHostname(host) != nil:
		l.problem(check, "the certificate in Secret %s is for %s, and the API server calls %s", name, strings.Join(leaf.DNSNames, ", "), host).
			cure("have it issued for %s, too; with cert-manager by the dnsNames of its Certificate", host)
	case f.Now.After(leaf.NotAfter):
		f.cureLeaf(l.problem(check, "the certificate in Secret %s ended at %s", name, stamp(leaf.NotAfter)))
	case overdue(leaf.NotBefore, leaf.NotAfter, f.Now, false):
		f.cureLeaf(l.warn(check, "the certificate in Secret %s ends at %s, and nothing has renewed it", name, stamp(leaf.NotAfter)))
	default:
		l.ok(check, "the certificate in Secret %s is for %s, until %s", name, strings.Join(leaf.DNSNames, ", "), stamp(leaf.NotAfter))
	}
}

// cureLeaf says who issues a certificate.
func (f *Facts) cureLeaf(finding *Finding) {
	if f.issued() {
		finding.cure("see why cert-manager does not renew it").run("kubectl -n %s describe certificate,certificaterequest", f.Namespace)
		return
	}
	finding.cure("have it renewed by whoever issues it; the replicas read it anew")
}

// calledBy is the name that the API server demands of the certificate.
func (f *Facts) calledBy() string {
	if hook := f.hook(hooks.Evictions); hook != nil {
		return (&url.URL{Host: hostOf(hook.ClientConfig)}).Hostname()
	}
	return ""
}

// hostOf is whom the API server calls, as its errors say it: a host, and the port if there is one.
func hostOf(c admissionregistrationv1.WebhookClientConfig) string {
	switch {
	case c.Service != nil:
		return fmt.Sprintf("%s.%s.svc:%d", c.Service.Name, c.Service.Namespace, portOf(c.Service))
	case c.URL != nil:
		if u, err := url.Parse(*c.URL); err == nil {
			return u.Host
		}
	}
	return ""
}

func portOf(s *admissionregistrationv1.ServiceReference) int32 {
	if s.Port == nil {
		return 443
	}
	return *s.Port
}

// checkCertificateObject repeats what cert-manager says.
func checkCertificateObject(f *Facts, l *findings) {
	const check = "certificate.cert-manager"
	if f.selfSigned() {
		return
	}
	_, name := f.injection()
	switch {
	case f.Certificate.missing():
		f.reapply(l.problem(check, "Certificate %s does not exist, or cert-manager is not installed", name),
			"install cert-manager 1.19 or newer, then %s")
		return
	case f.Certificate.Err != nil:
		l.skip(check, "%s", f.Certificate.why())
		return
	}
	status, message := condition(f.Certificate.Value, "Ready")
	if status == "True" {
		l.ok(check, "Certificate %s is ready", name)
		return
	}
	l.problem(check, "Certificate %s is not ready: %s", name, message).
		cure("see what cert-manager says").run("kubectl -n %s describe certificate,certificaterequest,issuer", f.Namespace)
}

// condition reads one of an object's conditions.
func condition(o *unstructured.Unstructured, kind string) (status, message string) {
	if o == nil {
		return "", ""
	}
	list, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, item := range list {
		if c, ok := item.(map[string]any); ok && c["type"] == kind {
			status, _ = c["status"].(string)
			message, _ = c["message"].(string)
			return status, message
		}
	}
	return "", "it has no condition " + kind + " yet"
}
