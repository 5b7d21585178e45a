package certificates

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/test/harness/gate"
)

// TestMetricsAuth has the API server say who may read the metrics.
func TestMetricsAuth(t *testing.T) {
	namespace := space(t)
	in := open(t, shared.ControlPlane, namespace, 1, gate.Options{Args: []string{"--metrics-auth"}})
	allowed, other := account(t, namespace, "prometheus"), account(t, namespace, "other")
	rbac := shared.Client.RbacV1()
	_, err := rbac.ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: namespace},
		Rules:      []rbacv1.PolicyRule{{NonResourceURLs: []string{"/metrics"}, Verbs: []string{"get"}}},
	}, metav1.CreateOptions{})
	check(t, err)
	_, err = rbac.ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: namespace},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: namespace},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: "prometheus"}},
	}, metav1.CreateOptions{})
	check(t, err)

	for name, c := range map[string]struct {
		token string
		code  int
		text  string
	}{
		"an account that may":     {allowed, http.StatusOK, "# TYPE evictgate_panics_total counter"},
		"an account that may not": {other, http.StatusForbidden, "evictgate: system:serviceaccount:" + namespace + ":other may not get the nonResourceURL /metrics: bind a ClusterRole that allows it"},
		"nobody":                  {"", http.StatusUnauthorized, "evictgate: /metrics needs a valid bearer token"},
		"a wrong token":           {"wrong", http.StatusUnauthorized, "evictgate: /metrics needs a valid bearer token"},
		"a token that is spoilt":  {allowed[:len(allowed)-4] + "AAAA", http.StatusUnauthorized, "evictgate: /metrics needs a valid bearer token"},
	} {
		code, text := in.metrics(t, c.token)
		if code != c.code || !strings.Contains(text, c.text) {
			t.Errorf("%s: %d %.200s, expected %d %s", name, code, text, c.code, c.text)
		}
		if c.code != http.StatusOK && strings.Contains(text, "# TYPE") {
			t.Errorf("%s sees metrics", name)
		}
	}
	replica := in.Running()[0]
	if text, err := replica.MetricsText(t.Context()); err == nil {
		t.Errorf("without TLS: %.200s", text)
	}
}

// account makes a service account, and a token of it.
func account(t *testing.T, namespace, name string) string {
	t.Helper()
	accounts := shared.Client.CoreV1().ServiceAccounts(namespace)
	_, err := accounts.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	check(t, err)
	token, err := accounts.CreateToken(t.Context(), name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	check(t, err)
	return token.Status.Token
}

// metrics reads them as Prometheus does, trusting the CA that the caBundle has.
func (in *installation) metrics(t *testing.T, token string) (int, string) {
	t.Helper()
	c, err := in.plane.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), in.service, metav1.GetOptions{})
	check(t, err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.Webhooks[0].ClientConfig.CABundle)
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: in.host()}}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, "https://"+in.Running()[0].Metrics+"/metrics", nil)
	check(t, err)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	check(t, err)
	defer func() { _ = response.Body.Close() }()
	text, err := body(response)
	check(t, err)
	return response.StatusCode, text
}

func body(r *http.Response) (string, error) {
	raw, err := io.ReadAll(r.Body)
	return string(raw), err
}
