package e2e

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestTheREADMEsConfiguration applies the webhook configuration that the README shows.
func TestTheREADMEsConfiguration(t *testing.T) {
	namespace := space(t)
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```yaml\n(apiVersion: admissionregistration.*?)```").FindStringSubmatch(string(readme))
	if found == nil {
		t.Fatal("the README shows no ValidatingWebhookConfiguration")
	}
	// A dry run on the server: the configuration would hold the evictions of the other tests.
	manifest := strings.ReplaceAll(found[1], "HOST", "localhost")
	var out, errs strings.Builder
	err = shared.KubectlTo(t.Context(), strings.NewReader(manifest), &out, &errs, "apply", "--dry-run=server", "-n", namespace, "-f", "-")
	if err != nil || !strings.Contains(out.String(), "validatingwebhookconfiguration.admissionregistration.k8s.io/evictgate created (server dry run)") {
		t.Errorf("kubectl apply: %v\n%s%s", err, &out, &errs)
	}
}
