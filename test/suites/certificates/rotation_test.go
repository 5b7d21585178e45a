package certificates

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
)

// open installs a group of replicas for a namespace of its own.
func open(t *testing.T, plane *kube.ControlPlane, namespace string, replicas int, o gate.Options) *installation {
	t.Helper()
	createPods(t, plane, namespace)
	policies := t.TempDir()
	check(t, os.WriteFile(filepath.Join(policies, "certificates.rego"), []byte(policy), 0o600))
	o.Plane, o.Binary, o.Namespaces = plane, shared.binary, []string{namespace}
	o.Name, o.Service = namespace, namespace
	o.Args = append(o.Args, "--policies", policies)
	group, err := gate.StartGroup(t.Context(), replicas, gate.AsInstalled(), o)
	check(t, err)
	t.Cleanup(func() {
		for _, r := range group.All() {
			if t.Failed() {
				t.Logf("log of %s:\n%s", r.Listen, r.Log())
			}
		}
		if err := group.Stop(); err != nil {
			t.Error(err)
		}
	})
	in := &installation{Group: group, plane: plane, namespace: namespace, service: o.Service, through: []*kubernetes.Clientset{plane.Client}}
	if plane == shared.ControlPlane {
		in.through = append(in.through, shared.other)
	}
	return in
}

// TestSelfRotation lets leaves and the CA renew by age, and has the CA's Secret deleted.
func TestSelfRotation(t *testing.T) {
	namespace := space(t)
	// A CA is looked at every 10 s only: of 50 s it is replaced between the 33rd and the 43rd, which leaves 7 s to a
	// busy machine.
	in := open(t, shared.ControlPlane, namespace, 3, gate.Options{Args: []string{"--leaf-duration=15s", "--ca-duration=50s"}})
	l := in.load(t)
	in.replaced(t, "a leaf by age", serials, func() {})
	for range 2 {
		in.replaced(t, "a new CA by hand", authorities, func() {
			check(t, shared.Client.CoreV1().Secrets("default").Delete(t.Context(), in.service, metav1.DeleteOptions{}))
		})
	}
	in.replaced(t, "a new CA by age", authorities, func() {})
	l.until(t, "handshakes with 12 certificates of 4 CAs", func() bool { return len(l.served) >= 12 && len(l.cas) >= 4 })
	l.report(t, "self-signed mode")
}

// TestCertManagerRotation has cert-manager renew, and the files come later than the caBundle, and sooner.
func TestCertManagerRotation(t *testing.T) {
	namespace := space(t)
	manager := startCertManager(t, namespace)
	delays := []time.Duration{0, 2 * time.Second, 5 * time.Second}
	in := open(t, shared.ControlPlane, namespace, 0, gate.Options{
		CABundle: []byte{}, Args: []string{"--certs=files"},
		Each: func(n int) []string {
			return []string{"--cert-dir", mount(t, shared.ControlPlane, namespace, "evictgate-tls", delays[n])}
		},
	})
	annotate(t, in.service, "cert-manager.io/inject-ca-from", namespace+"/evictgate")
	check(t, shared.Apply(t.Context(), strings.Replace(fmt.Sprintf(issuance, namespace), "localhost", in.host(), 1)))
	for range delays {
		_, err := in.Add(t.Context())
		check(t, err)
	}
	l := in.load(t)
	in.replaced(t, "a renewed leaf", serials, func() { renew(t, namespace, "evictgate") })
	in.replaced(t, "a leaf whose Secret was deleted", serials, func() {
		check(t, shared.Client.CoreV1().Secrets(namespace).Delete(t.Context(), "evictgate-tls", metav1.DeleteOptions{}))
	})
	for _, change := range []func(){
		func() { renew(t, namespace, "evictgate-ca") },
		func() {
			check(t, shared.Client.CoreV1().Secrets(namespace).Delete(t.Context(), "evictgate-ca", metav1.DeleteOptions{}))
		},
	} {
		in.replaced(t, "a leaf of a new CA", authorities, func() {
			newCA(t, namespace, change)
			renew(t, namespace, "evictgate")
		})
	}
	check(t, manager.Signal(syscall.SIGSTOP))
	in.replaced(t, "a leaf of a CA that was trusted later", authorities, func() { sooner(t, in, namespace) })
	in.replaced(t, "a leaf that cert-manager put in its place", authorities, func() { check(t, manager.Signal(syscall.SIGCONT)) })
	l.until(t, "handshakes with 7 certificates of 4 CAs", func() bool { return len(l.served) >= 7 && len(l.cas) >= 4 })
	l.report(t, "cert-manager mode")
}

func annotate(t *testing.T, configuration, name, value string) {
	t.Helper()
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, name, value)
	_, err := shared.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().
		Patch(t.Context(), configuration, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	check(t, err)
}

var certificates = schema.GroupVersionResource{Group: "cert-manager.io", Version: "v1", Resource: "certificates"}

// renew asks for a Certificate to be issued again, as `cmctl renew` does.
func renew(t *testing.T, namespace, name string) {
	t.Helper()
	client, err := dynamic.NewForConfig(shared.Config)
	check(t, err)
	patch := fmt.Sprintf(`{"status":{"conditions":[{"type":"Issuing","status":"True","reason":"ManuallyTriggered","message":"renewed by the test","lastTransitionTime":%q}]}}`,
		time.Now().UTC().Format(time.RFC3339))
	_, err = client.Resource(certificates).Namespace(namespace).
		Patch(t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, "status")
	check(t, err)
}

// newCA waits until the change has brought another CA.
func newCA(t *testing.T, namespace string, change func()) {
	t.Helper()
	read := func(ctx context.Context) (string, error) {
		s, err := shared.Client.CoreV1().Secrets(namespace).Get(ctx, "evictgate-ca", metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		return string(s.Data["tls.crt"]), nil
	}
	before, err := read(t.Context())
	check(t, err)
	change()
	check(t, kube.Wait(t.Context(), "a new CA", func(ctx context.Context) (bool, error) {
		now, err := read(ctx)
		return err == nil && now != "" && now != before, err
	}))
}

// sooner puts a pair of another CA into the Secret while nobody writes the caBundle, and then the CA there.
func sooner(t *testing.T, in *installation, namespace string) {
	t.Helper()
	before := serials(in.leaves(t))
	secrets := shared.Client.CoreV1().Secrets(namespace)
	secret, err := secrets.Get(t.Context(), "evictgate-tls", metav1.GetOptions{})
	check(t, err)
	other := newIssuer(t, "another-ca")
	secret.Data["ca.crt"] = other.pem
	secret.Data["tls.crt"], secret.Data["tls.key"] = other.issue(t, in.host())
	_, err = secrets.Update(t.Context(), secret, metav1.UpdateOptions{})
	check(t, err)
	time.Sleep(7 * time.Second) // every volume has it
	if now := serials(in.leaves(t)); fmt.Sprint(now) != fmt.Sprint(before) {
		t.Errorf("served before its CA is in the caBundle: %v, before %v", now, before)
	}
	configurations := shared.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	c, err := configurations.Get(t.Context(), in.service, metav1.GetOptions{})
	check(t, err)
	called := &c.Webhooks[0].ClientConfig
	called.CABundle = append(called.CABundle, other.pem...)
	_, err = configurations.Update(t.Context(), c, metav1.UpdateOptions{})
	check(t, err)
}
