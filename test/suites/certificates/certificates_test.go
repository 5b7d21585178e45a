// Package certificates rotates certificates under constant evictions, on a real API server, with the real
// program in three replicas behind one address.
package certificates

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
)

// env is what all tests share: one control plane with two API servers, and the program.
type env struct {
	*kube.ControlPlane
	// other is a client of the second API server.
	other  *kubernetes.Clientset
	binary string
}

var shared *env

func TestMain(m *testing.M) { os.Exit(gate.Main(m, setUp)) }

func setUp(ctx context.Context, s *gate.Setup) error {
	plane, err := s.ControlPlane(ctx, kube.Options{})
	if err != nil {
		return err
	}
	another, err := plane.AnotherAPIServer(ctx)
	if err != nil {
		return err
	}
	shared = &env{ControlPlane: plane, binary: s.Binary}
	shared.other, err = kubernetes.NewForConfig(another)
	return err
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// space gives a test a namespace of its own.
func space(t *testing.T) string {
	t.Helper()
	kube.Need(t)
	t.Parallel()
	namespace, err := shared.Namespace(t.Context(), "certs")
	check(t, err)
	return namespace
}

// startCertManager runs cert-manager's controllers and cainjector for one namespace.
func startCertManager(t *testing.T, namespace string) *os.Process {
	t.Helper()
	kube.Need(t, "certmanager")
	program, _ := kube.Program("certmanager")
	for _, args := range [][]string{
		{"apply", "--server-side", "-f", program + "-crds"},
		{"wait", "--for=condition=Established", "--timeout=30s", "-f", program + "-crds"},
	} {
		_, stderr, err := shared.Kubectl(t.Context(), args...)
		check(t, errors.Join(err, ifAny(stderr, err)))
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "certmanager.log"))
	check(t, err)
	command := exec.Command(program, "--kubeconfig", shared.Kubeconfig, "--namespace", namespace)
	command.Stderr = log
	check(t, kube.Spawn(command))
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGCONT) // a test may have stopped it
		_ = command.Process.Signal(os.Interrupt)
		timer := time.AfterFunc(10*time.Second, func() { _ = command.Process.Kill() })
		_ = command.Wait()
		timer.Stop()
		_ = log.Close()
		if raw, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("log of cert-manager:\n%s", raw)
		}
	})
	return command.Process
}

func ifAny(text string, err error) error {
	if err == nil || text == "" {
		return nil
	}
	return errors.New(strings.TrimSpace(text))
}

// issuance is what config/ has cert-manager issue, in a namespace: a CA, and a certificate of it.
const issuance = `
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {name: evictgate-selfsigned, namespace: %[1]s}
spec: {selfSigned: {}}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: evictgate-ca, namespace: %[1]s}
spec:
  isCA: true
  commonName: evictgate-ca
  secretName: evictgate-ca
  privateKey: {algorithm: ECDSA, size: 256, rotationPolicy: Always}
  issuerRef: {name: evictgate-selfsigned}
---
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {name: evictgate, namespace: %[1]s}
spec: {ca: {secretName: evictgate-ca}}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: evictgate, namespace: %[1]s}
spec:
  dnsNames: [localhost]
  secretName: evictgate-tls
  privateKey: {algorithm: ECDSA, size: 256, rotationPolicy: Always}
  issuerRef: {name: evictgate}
`

// TestCertManager holds the stand-in to what an installed cert-manager does.
func TestCertManager(t *testing.T) {
	namespace := space(t)
	startCertManager(t, namespace)
	configure(t, namespace, "127.0.0.1:1", "cert-manager.io/inject-ca-from="+namespace+"/evictgate")
	began := time.Now()
	check(t, shared.Apply(t.Context(), fmt.Sprintf(issuance, namespace)))
	var ca []byte
	check(t, kube.Wait(t.Context(), "the issued Secret", func(ctx context.Context) (bool, error) {
		secret, err := shared.Client.CoreV1().Secrets(namespace).Get(ctx, "evictgate-tls", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		ca = secret.Data["ca.crt"]
		return len(ca) > 0 && len(secret.Data["tls.crt"]) > 0 && len(secret.Data["tls.key"]) > 0, nil
	}))
	t.Logf("issued after %s", time.Since(began))
	check(t, kube.Wait(t.Context(), "the CA in the caBundle", func(ctx context.Context) (bool, error) {
		c, err := shared.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, namespace, metav1.GetOptions{})
		return err == nil && string(c.Webhooks[0].ClientConfig.CABundle) == string(ca), err
	}))
	t.Logf("injected after %s", time.Since(began))
}
