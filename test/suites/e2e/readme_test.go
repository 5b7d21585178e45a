package e2e

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestTheDocsConfiguration applies the webhook configuration that docs/install.md shows.
func TestTheDocsConfiguration(t *testing.T) {
	namespace := space(t)
	page, err := os.ReadFile("../../../docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```yaml\n(apiVersion: admissionregistration.*?)```").FindStringSubmatch(string(page))
	if found == nil {
		t.Fatal("docs/install.md shows no ValidatingWebhookConfiguration")
	}
	// A dry run on the server: the configuration would hold the evictions of the other tests.
	manifest := strings.ReplaceAll(found[1], "HOST", "localhost")
	var out, errs strings.Builder
	err = shared.KubectlTo(t.Context(), strings.NewReader(manifest), &out, &errs, "apply", "--dry-run=server", "-n", namespace, "-f", "-")
	if err != nil || !strings.Contains(out.String(), "validatingwebhookconfiguration.admissionregistration.k8s.io/evictgate created (server dry run)") {
		t.Errorf("kubectl apply: %v\n%s%s", err, &out, &errs)
	}
}
