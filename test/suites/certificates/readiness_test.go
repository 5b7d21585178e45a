package certificates

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
)

// TestTheLogSaysWhyItIsNotReady makes an installation with files good one step after the other.
func TestTheLogSaysWhyItIsNotReady(t *testing.T) {
	namespace := space(t)
	dir := filepath.Join(t.TempDir(), "certs")
	in := open(t, shared.ControlPlane, namespace, 0, gate.Options{CABundle: []byte{}, Args: []string{"--certs=files", "--cert-dir", dir}})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	started := make(chan error, 1)
	go func() {
		_, err := in.Add(ctx)
		started <- err
	}()
	ca, other := newIssuer(t, "our-ca"), newIssuer(t, "other-ca")
	configuration := "ValidatingWebhookConfiguration " + in.service
	lacking := "caBundle of webhook evictions.evictgate.dev in " + configuration + " "
	steps := []struct {
		does func()
		says string
	}{
		{func() {}, "certificate file " + dir + "/tls.crt missing: mount the Secret there"},
		{func() { put(t, dir, other, "wrong.example", 0) }, dir + "/tls.crt: " + lacking + "is empty: add annotation cert-manager.io/inject-ca-from=NAMESPACE/CERTIFICATE"},
		{func() { annotate(t, in.service, "cert-manager.io/inject-ca-from", namespace+"/evictgate") }, "is empty: cert-manager's cainjector must run and take it from Certificate " + namespace + "/evictgate"},
		{func() { in.trust(t, ca) }, lacking + "does not contain the CA that issued the certificate (CN=other-ca): cert-manager's cainjector must run"},
		{func() { put(t, dir, ca, "wrong.example", 0) }, "certificate is for names wrong.example, not for " + in.host() + ": issue it for every name the API server calls"},
		{func() { put(t, dir, ca, in.host(), -2*time.Hour) }, "certificate expired at "},
		{func() { put(t, dir, ca, in.host(), 30*time.Minute) }, "certificate is not valid before "},
		{func() { in.unregister(t) }, configuration + " does not exist: create it with annotation cert-manager.io/inject-ca-from"},
	}
	for _, step := range steps {
		step.does()
		check(t, kube.Wait(ctx, "the log to say "+step.says, func(context.Context) (bool, error) {
			all := in.All()
			return len(all) == 1 && said(all[0].Log(), step.says), nil
		}))
	}
	put(t, dir, ca, in.host(), 0)
	in.register(t)
	in.trust(t, ca)
	check(t, <-started)
	in.decides(t)
}

// said looks for what the check of the certificate told.
func said(log, text string) bool {
	for line := range strings.Lines(log) {
		if strings.Contains(line, `msg="not ready" check=certificate why=`) && strings.Contains(line, text) {
			return true
		}
	}
	return false
}

// put writes the files, with a certificate for a name that is valid for an hour from some time on.
func put(t *testing.T, dir string, i issuer, name string, from time.Duration) {
	t.Helper()
	check(t, os.MkdirAll(dir, 0o700))
	cert, key := i.issueFrom(t, name, time.Now().Add(from-time.Minute))
	check(t, project(dir, map[string][]byte{"tls.crt": cert, "tls.key": key}))
}

// trust writes a CA into the caBundle by hand.
func (in *installation) trust(t *testing.T, i issuer) {
	t.Helper()
	api := shared.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	c, err := api.Get(t.Context(), in.service, metav1.GetOptions{})
	check(t, err)
	c.Webhooks[0].ClientConfig.CABundle = i.pem
	_, err = api.Update(t.Context(), c, metav1.UpdateOptions{})
	check(t, err)
}

// register makes the configuration anew, as it was.
func (in *installation) register(t *testing.T) {
	t.Helper()
	o := gate.Options{Name: in.service, Service: in.service, Namespaces: []string{in.namespace}, CABundle: []byte{}}
	c, err := o.Configuration(in.Balancer.Address)
	check(t, err)
	_, err = shared.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(t.Context(), c, metav1.CreateOptions{})
	check(t, err)
}

func (in *installation) unregister(t *testing.T) {
	t.Helper()
	check(t, shared.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Delete(t.Context(), in.service, metav1.DeleteOptions{}))
}
