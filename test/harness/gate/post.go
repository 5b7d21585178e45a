package gate

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/test/harness/kube"
)

// Review is a review of the eviction of a pod by a user, as anybody can make it up; object is the Eviction.
func Review(namespace, pod, user, object string) string {
	return fmt.Sprintf(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"forged-%s",
"kind":{"group":"policy","version":"v1","kind":"Eviction"},"resource":{"group":"","version":"v1","resource":"pods"},"subResource":"eviction",
"name":%q,"namespace":%q,"operation":"CREATE","userInfo":{"username":%q},"object":%s}}`, rand.Text(), pod, namespace, user, object)
}

// Post sends a review to a path of evictgate without being the API server, and returns the answer.
func (g *Gate) Post(ctx context.Context, path, review string) (string, error) {
	c, err := g.options.Plane.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, g.options.Name, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.Webhooks[0].ClientConfig.CABundle)
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: g.options.dnsName(), MinVersion: tls.VersionTLS12},
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+g.Listen+path+"?timeout=5s", strings.NewReader(review))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s: %s", response.Status, raw)
	}
	return string(raw), err
}

// WaitKnown waits until evictgate can tell the API server from others who call.
func (g *Gate) WaitKnown(ctx context.Context) error {
	return kube.Wait(ctx, "the API server to be known", func(ctx context.Context) (bool, error) {
		text, err := g.MetricsText(ctx)
		return strings.Contains(text, "\nevictgate_api_server_known 1\n"), err
	})
}
