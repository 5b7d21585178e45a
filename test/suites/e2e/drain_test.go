package e2e

import (
	"context"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
)

const denyWeb = `package eviction.no_web

deny contains {"reason": $"Deployment {input.owner.name} is frozen by the owners; ask team-web", "detail": {}} if {
	input.pod.metadata.labels.app == "web"
}
`

func TestDrainMeetsADelayRetriesAndFinishes(t *testing.T) {
	_, namespace := start(t, gate.Options{})
	host := node(t)
	pods := deploy(t, namespace, "cart", 1, host, map[string]string{"karpenter.sh/do-not-disrupt": "true"})
	d := startDrain(t, host)
	sentence := "Deployment " + namespace + "/cart is annotated karpenter.sh/do-not-disrupt=true"
	d.sees(t, sentence, 2) // it was told, came back after 5 s, and was told again
	contains(t, d.text(), "will retry after 5s", `admission webhook "evictions.evictgate.dev" denied the request`, "(policy do_not_disrupt)")
	// The policy lifts when the annotation goes; the drain then ends by itself.
	_, err := shared.Client.CoreV1().Pods(namespace).Patch(t.Context(), pods[0].Name, types.MergePatchType,
		[]byte(`{"metadata":{"annotations":{"karpenter.sh/do-not-disrupt":null}}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.wait(t); err != nil {
		t.Fatalf("drain: %v\n%s", err, d.text())
	}
	contains(t, d.text(), "node/"+host+" drained")
}

func TestDrainMeetsADenyAndStops(t *testing.T) {
	_, namespace := start(t, gate.Options{Args: []string{"--policies", policyDir(t, "no_web.rego", denyWeb)}})
	host := node(t)
	pods := deploy(t, namespace, "web", 2, host, nil)
	d := startDrain(t, host)
	if err := d.wait(t); err == nil {
		t.Fatalf("the drain succeeded:\n%s", d.text())
	}
	sentence := "Deployment web is frozen by the owners; ask team-web (policy no_web)"
	for _, pod := range pods {
		// kubectl prints an aborting error once as it happens and repeats it in its summary.
		line := `error when evicting pods/"` + pod.Name + `" -n "` + namespace + `"`
		contains(t, d.text(), line)
		if strings.Contains(d.text(), line+" (will retry") {
			t.Errorf("kubectl retried a denied pod:\n%s", d.text())
		}
	}
	contains(t, d.text(), sentence)
	left, err := shared.Pods(t.Context(), namespace, "web")
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 2 || left[0].UID != pods[0].UID || left[1].UID != pods[1].UID {
		t.Errorf("the denied pods are not the ones that were there: %v", left)
	}
}

func TestDrainMeetsABudgetThatBlocks(t *testing.T) {
	g, namespace := start(t, gate.Options{})
	host := node(t)
	// Two of four pods are down: below what the budget needs, so not even they may go.
	pods := deploy(t, namespace, "api", 4, host, nil)
	createBudget(t, kube.Budget(namespace, "api", intstr.FromInt32(3)))
	broken := []string{pods[1].Name, pods[3].Name}
	for _, name := range broken {
		if err := shared.SetPodReady(t.Context(), namespace, name, false); err != nil {
			t.Fatal(err)
		}
	}
	waitForCache(t, namespace, pods[0].Name, "needs 3 healthy of 4 expected pods and has 2")
	d := startDrain(t, host)
	d.sees(t, "Cannot evict pod as it would violate the pod's disruption budget. Budget "+namespace+"/api needs 3 healthy of 4 expected pods and has 2; waiting for "+broken[0]+" (", 4)
	contains(t, d.text(), broken[1]+" (", "it allows the next eviction once 2 more pods are ready",
		"Warning: pod "+broken[0]+": ", "Warning: pod "+broken[1]+": ", "since 20")

	// What machines read: our cause is the API server's own, and there is no Retry-After.
	s := status(t, evict(t.Context(), namespace, pods[0].Name, nil))
	if s.Code != 429 || s.Reason != metav1.StatusReasonTooManyRequests || s.Details.RetryAfterSeconds != 0 {
		t.Errorf("unexpected status %+v", s)
	}
	want := metav1.StatusCause{Type: "DisruptionBudget", Message: "The disruption budget api needs 3 healthy pods and has 2 currently", Field: "api"}
	if len(s.Details.Causes) != 1 || s.Details.Causes[0] != want {
		t.Errorf("causes are %+v, expected %+v", s.Details.Causes, want)
	}
	metrics, err := g.MetricsText(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	contains(t, metrics, `evictgate_budget_confirmations_total{result="confirmed"}`, `evictgate_decisions_total{dry_run="false",evictor="user",outcome="delayed"}`)

	// When the pods recover, the drain goes on by itself.
	for _, name := range broken {
		if err := shared.SetPodReady(t.Context(), namespace, name, true); err != nil {
			t.Fatal(err)
		}
	}
	d.sees(t, " evicted", 1)
}

func TestDrainMeetsTwoBudgets(t *testing.T) {
	_, namespace := start(t, gate.Options{})
	host := node(t)
	deploy(t, namespace, "ledger", 2, host, nil)
	first, second := kube.Budget(namespace, "ledger", intstr.FromInt32(1)), kube.Budget(namespace, "ledger", intstr.FromInt32(1))
	first.Name, second.Name = "ledger-a", "ledger-b"
	createBudget(t, first)
	createBudget(t, second)
	pods, err := shared.Pods(t.Context(), namespace, "ledger")
	if err != nil {
		t.Fatal(err)
	}
	waitForCache(t, namespace, pods[0].Name, "more than one PodDisruptionBudget")
	d := startDrain(t, host)
	if err := d.wait(t); err == nil {
		t.Fatalf("the drain succeeded:\n%s", d.text())
	}
	contains(t, d.text(), "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
		namespace+"/ledger-a (app=ledger) and "+namespace+"/ledger-b (app=ledger)")
	if s := status(t, evict(t.Context(), namespace, pods[0].Name, nil)); s.Code != 500 {
		t.Errorf("code is %d, expected 500: %+v", s.Code, s)
	}
}

// waitForCache waits until a dry run of the eviction is refused with a text of ours: the webhook's
// cache has seen what the test made.
func waitForCache(t *testing.T, namespace, pod, text string) {
	t.Helper()
	err := kube.Wait(t.Context(), "the webhook to say "+text, func(ctx context.Context) (bool, error) {
		err := evict(ctx, namespace, pod, &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}})
		return err != nil && strings.Contains(err.Error(), text) && strings.Contains(err.Error(), "evictions.evictgate.dev"), err
	})
	if err != nil {
		t.Fatal(err)
	}
}
