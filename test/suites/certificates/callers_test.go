package certificates

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
)

// admission is the API server's --admission-control-config-file; the file it names says what to show to
// which webhook.
const admission = `apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: ValidatingAdmissionWebhook
  configuration:
    apiVersion: apiserver.config.k8s.io/v1
    kind: WebhookAdmissionConfiguration
    kubeConfigFile: %s
`

// credentials are for webhooks that are called as a Service. A port other than 443 belongs to the name.
const credentials = `apiVersion: v1
kind: Config
users:
- name: %q
  user: {client-certificate: %s, client-key: %s}
`

// callers is what a test of --client-ca writes: the API server's side and ours.
type callers struct {
	dir   string
	plane *kube.ControlPlane
}

func (c callers) file(name string) string { return filepath.Join(c.dir, name) }

func (c callers) write(t *testing.T, name string, content []byte) {
	t.Helper()
	check(t, os.WriteFile(c.file(name), content, 0o600))
}

// startCallers starts a control plane that shows no certificate yet.
func startCallers(t *testing.T) callers {
	t.Helper()
	_ = space(t) // skips
	c := callers{dir: t.TempDir()}
	c.write(t, "admission.yaml", fmt.Appendf(nil, admission, c.file("callers.kubeconfig")))
	c.write(t, "callers.kubeconfig", []byte("apiVersion: v1\nkind: Config\n"))
	var err error
	c.plane, err = kube.Start(t.Context(), kube.Options{APIServerArgs: []string{"--admission-control-config-file=" + c.file("admission.yaml")}})
	check(t, err)
	t.Cleanup(func() {
		if err := c.plane.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// show gives the API server a certificate for the webhooks of the namespace default at a port, and returns
// it. It reads the file of credentials only when it starts.
func (c callers) show(t *testing.T, by issuer, address string) []tls.Certificate {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	check(t, err)
	cert, key := by.issue(t, "kube-apiserver")
	c.write(t, "client.crt", cert)
	c.write(t, "client.key", key)
	c.write(t, "callers.kubeconfig", fmt.Appendf(nil, credentials, "*.default.svc:"+port, c.file("client.crt"), c.file("client.key")))
	check(t, c.plane.Restart(t.Context(), kube.APIServer))
	pair, err := tls.X509KeyPair(cert, key)
	check(t, err)
	return []tls.Certificate{pair}
}

// TestOnlyTheAPIServerMayCall is --client-ca from its installation to the replacement of its CA.
func TestOnlyTheAPIServerMayCall(t *testing.T) {
	c := startCallers(t)
	first, second := newIssuer(t, "callers-1"), newIssuer(t, "callers-2")
	c.write(t, "client-ca.crt", first.pem)
	namespace, err := c.plane.Namespace(t.Context(), "callers")
	check(t, err)
	in := open(t, c.plane, namespace, 1, gate.Options{Args: []string{"--client-ca", c.file("client-ca.crt"), "--client-names", "kube-apiserver"}})
	replica := in.Running()[0]

	refused(t, "an API server without a certificate", "tls: certificate required", func() error {
		err := in.evict(t.Context(), c.plane.Client, "stays")
		if err != nil && !strings.Contains(err.Error(), "failed calling webhook") {
			t.Errorf("an API server without a certificate: %v", err)
		}
		return err
	})
	old := c.show(t, first, in.Balancer.Address)
	in.decides(t)

	another, key := first.issue(t, "system:node:node-1")
	node, err := tls.X509KeyPair(another, key)
	check(t, err)
	for name, caller := range map[string]struct {
		shown []tls.Certificate
		alert string
	}{
		"nothing":                  {nil, "certificate required"},
		"another name's":           {[]tls.Certificate{node}, "bad certificate"},
		"a CA's that is not known": {certificateOf(t, second), "unknown certificate authority"},
	} {
		refused(t, "a caller that shows "+name, caller.alert, func() error {
			_, err := call(t.Context(), replica.Listen, caller.shown)
			return err
		})
	}
	if text, err := call(t.Context(), replica.Listen, old); err != nil || !strings.Contains(text, "is not for GET") {
		t.Errorf("a caller that shows the API server's: %v %s", err, text)
	}
	if !strings.Contains(replica.Log(), "refused a connection: TLS handshake failed") || !strings.Contains(replica.Log(), "client didn't provide a certificate") {
		t.Error("the log does not tell of the refusal")
	}
	text, err := replica.MetricsText(t.Context())
	if err != nil || !strings.Contains(text, "\nevictgate_tls_handshake_failures_total ") || strings.Contains(text, "\nevictgate_tls_handshake_failures_total 0") {
		t.Errorf("the metrics do not count the refusals: %v", err)
	}

	in.shown = old
	l := in.load(t)
	time.Sleep(time.Second)
	c.write(t, "client-ca.crt", append(first.pem, second.pem...))
	time.Sleep(3 * time.Second)
	l.report(t, "client CA beside the old one")
	next := c.show(t, second, in.Balancer.Address)
	in.shown = next
	in.decides(t)
	l = in.load(t)
	time.Sleep(time.Second)
	c.write(t, "client-ca.crt", second.pem)
	time.Sleep(3 * time.Second)
	l.report(t, "old client CA removed")
	if _, err := call(t.Context(), replica.Listen, old); err == nil {
		t.Error("the old CA still counts")
	}
}

func certificateOf(t *testing.T, i issuer) []tls.Certificate {
	t.Helper()
	cert, key := i.issue(t, "kube-apiserver")
	pair, err := tls.X509KeyPair(cert, key)
	check(t, err)
	return []tls.Certificate{pair}
}

// decides waits until both kinds of evictions are decided: a restarted API server may not have read its
// webhook configurations yet.
func (in *installation) decides(t *testing.T) {
	t.Helper()
	check(t, kube.Wait(t.Context(), "decisions", func(ctx context.Context) (bool, error) {
		for _, pod := range []string{"stays", "goes"} {
			if err := decided(pod, in.evict(ctx, in.plane.Client, pod)); err != nil {
				return false, err
			}
		}
		return true, nil
	}))
}

// refused tries until the caller is told why. A refusal by TLS 1.3 comes after the caller's own part of the handshake: when
// it writes then, it may meet the closed connection before the alert. It must be refused each time.
func refused(t *testing.T, who, alert string, try func() error) {
	t.Helper()
	var err error
	for range 20 {
		if err = try(); err == nil {
			t.Errorf("%s was let in", who)
			return
		}
		if strings.Contains(err.Error(), alert) {
			return
		}
	}
	t.Errorf("%s: %v, expected %s", who, err, alert)
}

// call sends a GET as curl --insecure would, and returns the answer's body.
func call(ctx context.Context, address string, shown []tls.Certificate) (string, error) {
	// Shown whatever CAs the server asks for, as by curl.
	show := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if len(shown) == 0 {
			return new(tls.Certificate), nil
		}
		return &shown[0], nil
	}
	conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, GetClientCertificate: show}}).DialContext(ctx, "tcp", address) //nolint:gosec // it is the server that checks
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+"/validate-eviction", nil)
	if err != nil {
		return "", err
	}
	if err := request.Write(conn); err != nil {
		return "", err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	return body(response)
}
