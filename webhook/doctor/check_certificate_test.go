package doctor

import (
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// A certificate that cert-manager issues lies in its Secret with the CA, so its leaf can be judged.
func TestACertificateOfCertManager(t *testing.T) {
	ca, key, caPEM := issue(t, noon.Add(-99*time.Hour), noon.Add(999*time.Hour), nil, nil)
	const name = "evictgate.evictgate.svc"
	for what, c := range map[string]struct {
		from, until time.Duration
		names       []string
		status      Status
		text        string
	}{
		"as it should be":        {-time.Hour, 9 * time.Hour, []string{name}, OK, "is for evictgate.evictgate.svc, until 2026-11-02T21:00:00Z"},
		"it is for another name": {-time.Hour, 9 * time.Hour, []string{"evictgate.other.svc"}, Problem, "is for evictgate.other.svc, and the API server calls evictgate.evictgate.svc"},
		"it has ended":           {-9 * time.Hour, -time.Hour, []string{name}, Problem, "ended at 2026-11-02T11:00:00Z"},
		"nothing renews it":      {-99 * time.Hour, time.Hour, []string{name}, Warning, "nothing has renewed it"},
	} {
		t.Run(what, func(t *testing.T) {
			f := whole(t)
			f.Configuration.Value.Annotations = map[string]string{"cert-manager.io/inject-ca-from": "evictgate/evictgate"}
			f.Certificate.Value = &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"conditions": []any{
				map[string]any{"type": "Ready", "status": "True"},
			}}}}
			for i := range f.Configuration.Value.Webhooks {
				f.Configuration.Value.Webhooks[i].ClientConfig.CABundle = caPEM
			}
			_, _, leaf := issue(t, noon.Add(c.from), noon.Add(c.until), ca, key, c.names...)
			f.Secret.Value.Data = map[string][]byte{"ca.crt": caPEM, "tls.crt": leaf}
			list := Examine(f)
			for _, want := range []Finding{{Check: "certificate.names", Status: c.status, Text: c.text}, {Check: "certificate.cert-manager", Status: OK}, {Check: "certificate.secret", Status: OK}} {
				if !slices.ContainsFunc(list, func(f Finding) bool {
					return f.Check == want.Check && f.Status == want.Status && strings.Contains(f.Text, want.Text)
				}) {
					t.Errorf("no %+v in %+v", want, list)
				}
			}
		})
	}
}
