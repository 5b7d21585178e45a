package e2e

import (
	"context"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
)

// A review that somebody posts who is not the API server is answered, and changes nothing: it uses up no limit, begins
// no hold, overrides nothing, and leaves no record and no Event.
func TestAForgedReviewChangesNothing(t *testing.T) {
	policies := policyDir(t, "limit.yaml", `apiVersion: evictgate.dev/v1alpha1
kind: EvictionPolicy
metadata: {name: one-an-hour}
spec:
  library: rate_limit
  enforcement: Enforce
  parameters: {limits: [{max: 1, per: namespace, period: 1h}]}
`)
	g, namespace := start(t, gate.Options{Args: []string{"--policies", policies, "--override-users", "ana"}})
	pods := deploy(t, namespace, "web", 2, "", nil)
	if err := g.WaitKnown(t.Context()); err != nil {
		t.Fatal(err)
	}
	const override = `{"metadata":{"annotations":{"evictgate.dev/override":"because"}}}`
	for _, path := range []string{"/validate-eviction", "/validate-eviction/" + strings.Repeat("0", 32), "/validate-eviction/x/y"} {
		for _, pod := range pods {
			answer, err := g.Post(t.Context(), path, gate.Review(namespace, pod.Name, "ana", override))
			if err != nil || !strings.Contains(answer, `"allowed":true`) {
				t.Errorf("a review by %s is answered %s (%v)", path, answer, err)
			}
		}
	}
	if err := evict(t.Context(), namespace, pods[0].Name, nil); err != nil {
		t.Errorf("forged reviews used up the limit: %v", err)
	}
	if answer, err := g.Post(t.Context(), "/validate-eviction", gate.Review(namespace, pods[1].Name, "ana", override)); err != nil ||
		!strings.Contains(answer, "is ignored: the caller is not known to be the API server") || !strings.Contains(answer, `"code":429`) {
		t.Errorf("a forged override is answered %s (%v)", answer, err)
	}
	err := evict(t.Context(), namespace, pods[1].Name, nil)
	if err == nil || !strings.Contains(err.Error(), "limit of 1 per namespace") {
		t.Errorf("the API server's own eviction is not counted: %v", err)
	}
	// The refusal's Event comes, and no other: what is queued before it would have come before it.
	var reasons []string
	err = kube.Wait(t.Context(), "the Event of the refusal", func(ctx context.Context) (bool, error) {
		list, err := shared.Client.EventsV1().Events(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		reasons = nil
		for _, e := range list.Items {
			if strings.HasPrefix(e.Reason, "Eviction") {
				reasons = append(reasons, e.Reason)
			}
		}
		return len(reasons) > 0, nil
	})
	if err != nil || len(reasons) != 1 || reasons[0] != "EvictionDelayed" {
		t.Errorf("Events %v (%v)", reasons, err)
	}
	records, err := g.Records()
	if err != nil || len(records) != 2 {
		t.Errorf("%d records of 2 evictions (%v)", len(records), err)
	}
	text, err := g.MetricsText(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	contains(t, text, `evictgate_unknown_callers_total{webhook="evictions"} 7`)
}
