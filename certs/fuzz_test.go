package certs

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
)

// FuzzPEM reads what others write: a file of client CAs, and a caBundle. Nothing panics, and bytes that hold no CA of the
// leaf let nobody be trusted.
func FuzzPEM(f *testing.F) {
	f.Add(newIssuer(f, "ca").pem(), "https://localhost:9443/validate-eviction")
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "https://[::1]:1/%zz")
	f.Fuzz(func(t *testing.T, raw []byte, url string) {
		if len(raw)+len(url) > 16<<10 {
			return
		}
		pool, err := parsePool(raw)
		if (pool == nil) == (err == nil) {
			t.Errorf("pool %v, error %v", pool, err)
		}
		trust := foreignTrust()
		hooks := configuration("", raw)
		hooks.Webhooks[0].ClientConfig = admissionv1.WebhookClientConfig{URL: &url, CABundle: raw}
		trust.setConfiguration(hooks, true)
		if err := trust.check(&x509.Certificate{Raw: []byte("none")}); err == nil || err.Error() == "" {
			t.Errorf("a certificate of nobody is trusted: %v", err)
		}
	})
}

// FuzzClientNames holds a caller's certificate to the names that may call.
func FuzzClientNames(f *testing.F) {
	f.Add("kube-apiserver", "front.example.com", "kube-apiserver")
	f.Fuzz(func(t *testing.T, common, dns, allowed string) {
		c := Clients("none", []string{allowed}, foreignTrust().log)
		cert := &x509.Certificate{Subject: pkix.Name{CommonName: common}, DNSNames: []string{dns}}
		err := c.named(tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}})
		if want := common == allowed || dns == allowed; (err == nil) != want {
			t.Errorf("%q and %q against %q: %v", common, dns, allowed, err)
		}
	})
}
