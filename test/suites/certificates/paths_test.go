package certificates

import (
	"context"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
	secretpath "github.com/evictgate/evictgate/webhook/callers"
)

// secret is the secret part of the path by which the API server calls.
func (in *installation) secret(ctx context.Context) (string, error) {
	c, err := in.plane.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(ctx, in.service, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	secret, _ := secretpath.Carried(c.Webhooks[0].ClientConfig, "/validate-eviction")
	return secret, nil
}

// another waits until the API server is to call by another secret than one.
func (in *installation) another(t *testing.T, than string) string {
	t.Helper()
	now := ""
	check(t, kube.Wait(t.Context(), "another secret path", func(ctx context.Context) (_ bool, err error) {
		now, err = in.secret(ctx)
		return now != "" && now != than, err
	}))
	return now
}

// forge posts a review to a replica without being the API server.
func (in *installation) forge(t *testing.T, r *gate.Replica, path string) {
	t.Helper()
	answer, err := r.Post(t.Context(), path, gate.Review(in.namespace, "goes", "forger", "{}"))
	if err != nil || !strings.Contains(answer, `"allowed":true`) {
		t.Errorf("a forged review is answered %s (%v)", answer, err)
	}
}

// told says how many evictions there were; those that failed were told before.
func (l *load) told(t *testing.T) {
	t.Helper()
	l.end()
	t.Logf("%d evictions, %d failed", l.evictions, l.failedEvictions)
	if l.evictions < 20 {
		t.Error("that is not a load")
	}
}

// metric is what a replica counts.
func metric(t *testing.T, r *gate.Replica, name string) string {
	t.Helper()
	text, err := r.MetricsText(t.Context())
	check(t, err)
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

const unknownEvictions = `evictgate_unknown_callers_total{webhook="evictions"}`

// TestPathRotation replaces the secret path under constant evictions, and has a tool put the plain path back. No
// eviction fails, none that came by a path of the configuration is taken for somebody else's, and forged reviews
// leave no trace but in a metric.
func TestPathRotation(t *testing.T) {
	namespace := space(t)
	in := open(t, shared.ControlPlane, namespace, 3, gate.Options{})
	secret := in.another(t, "")
	for _, r := range in.Running() {
		check(t, r.WaitKnown(t.Context()))
	}
	before, err := in.Records()
	check(t, err)
	l := in.load(t)
	forged := 0
	forge := func() {
		for _, r := range in.Running() {
			in.forge(t, r, "/validate-eviction")
			in.forge(t, r, "/validate-eviction/"+strings.Repeat("f", 32))
			forged += 2
		}
	}
	forge()
	for range 2 { // by hand
		old := secret
		check(t, shared.Client.CoreV1().Secrets("default").Delete(t.Context(), in.service+"-path", metav1.DeleteOptions{}))
		secret = in.another(t, old)
		in.forge(t, in.Running()[0], "/validate-eviction/"+old) // is still good, so it counts
		forge()
	}
	l.end()
	l.told(t)
	unknown := 0
	for _, r := range in.Running() {
		var n int
		_, _ = fmt.Sscan(metric(t, r, unknownEvictions), &n)
		unknown += n
	}
	if unknown != forged {
		t.Errorf("%d callers were unknown, and %d reviews were forged", unknown, forged)
	}
	check(t, kube.Wait(t.Context(), "the records", func(context.Context) (bool, error) {
		records, err := in.Records()
		return len(records) >= len(before)+l.evictions+2, err
	}))
	records, err := in.Records()
	check(t, err)
	if got, want := len(records)-len(before), l.evictions+2; got != want { // the two are by the old path
		t.Errorf("%d records of %d evictions", got, want)
	}
	for _, r := range records {
		if r.Caller != "" {
			t.Fatalf("record %s is of an unknown caller", r.DecisionID)
		}
	}
	for _, r := range in.All() {
		if strings.Contains(r.Log(), secret) {
			t.Errorf("the log of %s holds the secret", r.Listen)
		}
	}
}

// TestThePlainPathIsReplaced has a tool put the plain path back, as one that applies the manifests again.
func TestThePlainPathIsReplaced(t *testing.T) {
	namespace := space(t)
	in := open(t, shared.ControlPlane, namespace, 2, gate.Options{})
	secret := in.another(t, "")
	l := in.load(t)
	for range 5 { // each is replaced later than the one before
		c, err := shared.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), in.service, metav1.GetOptions{})
		check(t, err)
		plain := "/validate-eviction"
		c.Webhooks[0].ClientConfig.Service.Path = &plain
		_, err = shared.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Update(t.Context(), c, metav1.UpdateOptions{})
		check(t, err)
		if again := in.another(t, ""); again != secret {
			t.Errorf("another secret was written than before")
		}
	}
	l.end()
	l.told(t)
}
