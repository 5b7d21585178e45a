package manifests

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/test/harness/kube"
)

// installCertManagerTypes installs cert-manager's own definitions, from its module.
func installCertManagerTypes(t *testing.T, plane *kube.ControlPlane) {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/cert-manager/cert-manager").Output()
	check(t, err)
	crds := filepath.Join(strings.TrimSpace(string(dir)), "deploy", "crds")
	kubectl(t, plane, "apply", "--server-side", "-f", crds)
	kubectl(t, plane, "wait", "--for=condition=Established", "--timeout=30s", "-f", crds)
}

// writePair writes what cert-manager would: a certificate for localhost and its key. It signs itself.
func writePair(t *testing.T, dir string) (ca []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	check(t, err)
	ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	check(t, os.WriteFile(filepath.Join(dir, "tls.crt"), ca, 0o600))
	check(t, os.WriteFile(filepath.Join(dir, "tls.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), 0o600))
	return ca
}

// writeSecretPath does what component config/secret-path does: by it the API server is known, and evictions have side
// effects.
func writeSecretPath(t *testing.T, plane *kube.ControlPlane) {
	t.Helper()
	change(t, plane, func(w *admissionv1.ValidatingWebhook) {
		*w.ClientConfig.Service.Path += "/" + strings.Repeat("5e", 16)
	})
}

// trust writes the caBundle, as cert-manager's cainjector would.
func trust(t *testing.T, plane *kube.ControlPlane, ca []byte) {
	t.Helper()
	change(t, plane, func(w *admissionv1.ValidatingWebhook) { w.ClientConfig.CABundle = ca })
}

// change changes each webhook of the configuration.
func change(t *testing.T, plane *kube.ControlPlane, webhook func(*admissionv1.ValidatingWebhook)) {
	t.Helper()
	api := plane.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	configuration, err := api.Get(t.Context(), "evictgate", metav1.GetOptions{})
	check(t, err)
	for i := range configuration.Webhooks {
		webhook(&configuration.Webhooks[i])
	}
	_, err = api.Update(t.Context(), configuration, metav1.UpdateOptions{})
	check(t, err)
}
