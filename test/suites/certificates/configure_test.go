package certificates

import (
	"context"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/test/harness/gate"
)

// configure registers the webhook of a namespace's evictions at an address, in a configuration of the
// namespace's name, with the annotation NAME=VALUE.
func configure(t *testing.T, namespace, address, annotation string) {
	t.Helper()
	o := gate.Options{Name: namespace, Namespaces: []string{namespace}, CABundle: []byte{}}
	configuration, err := o.Configuration(address)
	check(t, err)
	if name, value, ok := strings.Cut(annotation, "="); ok {
		configuration.Annotations = map[string]string{name: value}
	}
	api := shared.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	_, err = api.Create(t.Context(), configuration, metav1.CreateOptions{})
	check(t, err)
	t.Cleanup(func() { _ = api.Delete(context.Background(), namespace, metav1.DeleteOptions{}) })
}
