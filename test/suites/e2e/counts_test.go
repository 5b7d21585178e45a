package e2e

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
)

// onePerHour is a limit that a single eviction uses up.
const onePerHour = `apiVersion: evictgate.dev/v1alpha1
kind: EvictionPolicy
metadata: {name: one-per-hour}
spec:
  library: rate_limit
  parameters: {limits: [{per: namespace, max: 1, period: 1h}]}
`

// given returns how many evictions have a result in evictgate_counted_evictions_total.
func given(ctx context.Context, g *gate.Gate, result, count string) (bool, error) {
	text, err := g.MetricsText(ctx)
	return strings.Contains(text, `evictgate_counted_evictions_total{result="`+result+`"} `+count+"\n"), err
}

// A tenant whose evictions cannot happen uses up nobody's limit; what happens does.
func TestEvictionsThatCannotHappenDoNotCount(t *testing.T) {
	g, namespace := start(t, gate.Options{Args: []string{"--policies", policyDir(t, "limit.yaml", onePerHour)}})
	for _, pod := range []string{"a", "b", "c"} {
		running(t, namespace, pod)
	}
	for _, version := range []string{"1", "999999999999", "no version"} {
		for range 3 {
			o := &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &version}}
			if s := status(t, evict(t.Context(), namespace, "a", o)); s.Code != http.StatusConflict {
				t.Fatalf("with version %q: %d %q", version, s.Code, s.Message)
			}
		}
	}
	orphan, policy := true, metav1.DeletePropagationOrphan
	refused := &metav1.DeleteOptions{OrphanDependents: &orphan, PropagationPolicy: &policy} //nolint:staticcheck // what a client may send
	if s := status(t, evict(t.Context(), namespace, "a", refused)); s.Code != http.StatusUnprocessableEntity {
		t.Fatalf("with options that are refused: %d %q", s.Code, s.Message)
	}
	if err := evict(t.Context(), namespace, "b", nil); err != nil {
		t.Fatalf("nothing happened before, but: %v", err)
	}
	if s := status(t, evict(t.Context(), namespace, "c", nil)); s.Code != http.StatusTooManyRequests || !strings.Contains(s.Message, "1 ") {
		t.Errorf("one happened, but: %d %q", s.Code, s.Message)
	}
	if err := kube.Wait(t.Context(), "what happened to be confirmed", func(ctx context.Context) (bool, error) { return given(ctx, g, "confirmed", "1") }); err != nil {
		t.Error(err)
	}
}

// untouchable refuses evictions that use up a budget, behind us.
const untouchable = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: NS}
spec:
  failurePolicy: Fail
  matchConstraints:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: NS}}
    resourceRules:
    - {apiGroups: [policy], apiVersions: [v1], operations: [UPDATE], resources: [poddisruptionbudgets/status]}
  validations:
  - {expression: "!has(object.status.disruptedPods) || size(object.status.disruptedPods) == 0", message: closed behind us}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: NS}
spec: {policyName: NS, validationActions: [Deny]}
`

// One that fails behind us for a reason that we cannot know is given back.
func TestAnEvictionThatFailsBehindUsIsGivenBack(t *testing.T) {
	g, namespace := start(t, gate.Options{Args: []string{"--policies", policyDir(t, "limit.yaml", onePerHour)}})
	pods := deploy(t, namespace, "web", 2, "", nil)
	createBudget(t, kube.Budget(namespace, "web", intstr.FromInt32(0)))
	if err := shared.WaitBudget(t.Context(), namespace, "web", 2); err != nil {
		t.Fatal(err)
	}
	running(t, namespace, "alone")
	mustApply(t, shared.ControlPlane, strings.ReplaceAll(untouchable, "NS", namespace))
	wait(t, "the budget not to be used up", func() bool {
		b, err := shared.Client.PolicyV1().PodDisruptionBudgets(namespace).Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			return false
		}
		b.Status.DisruptedPods = map[string]metav1.Time{"x": metav1.Now()}
		_, err = shared.Client.PolicyV1().PodDisruptionBudgets(namespace).UpdateStatus(t.Context(), b, metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}})
		return err != nil && strings.Contains(err.Error(), "closed behind us")
	})
	began := time.Now()
	if s := status(t, evict(t.Context(), namespace, pods[0].Name, nil)); !strings.Contains(s.Message, "closed behind us") {
		t.Fatalf("the eviction was not refused behind us: %+v", s)
	}
	if s := status(t, evict(t.Context(), namespace, "alone", nil)); s.Code != http.StatusTooManyRequests {
		t.Errorf("it may still be carried out, but: %+v", s)
	}
	wait(t, "the eviction to be given back", func() bool {
		ok, _ := given(t.Context(), g, "given_back", "1")
		return ok
	})
	if took := time.Since(began); took < 34*time.Second {
		t.Errorf("given back after %s, while the API server might still carry it out", took)
	}
	if err := evict(t.Context(), namespace, "alone", nil); err != nil {
		t.Errorf("given back, but: %v", err)
	}
}
