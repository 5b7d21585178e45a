package e2e

import (
	"context"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	policyv1beta1 "k8s.io/api/policy/v1beta1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
)

// denyAll refuses every eviction that reaches the policies.
const denyAll = `package eviction.closed

deny contains {"reason": "the gate is closed; open it in the policy", "detail": {}}
`

func closed(t *testing.T) []string {
	t.Helper()
	return []string{"--policies", policyDir(t, "closed.rego", denyAll)}
}

// bare creates a pod of no controller in a phase of the test's choice.
func bare(t *testing.T, namespace, name string, change func(*corev1.Pod)) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "registry.example/main"}}},
	}
	if change != nil {
		change(pod)
	}
	created, err := shared.Client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return created
}

// running creates a bare pod and waits until it is ready.
func running(t *testing.T, namespace, name string) *corev1.Pod {
	t.Helper()
	bare(t, namespace, name, nil)
	return phase(t, namespace, name, corev1.PodRunning)
}

func phase(t *testing.T, namespace, name string, want corev1.PodPhase) *corev1.Pod {
	t.Helper()
	var pod *corev1.Pod
	err := kube.Wait(t.Context(), "pod "+name+" to be "+string(want), func(ctx context.Context) (bool, error) {
		var err error
		pod, err = shared.Client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		return err == nil && pod.Status.Phase == want, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

func gone(t *testing.T, namespace, name string) bool {
	t.Helper()
	pod, err := shared.Client.CoreV1().Pods(namespace).Get(t.Context(), name, metav1.GetOptions{})
	return err != nil || pod.DeletionTimestamp != nil
}

func TestADenialIsReadByEveryKindOfClient(t *testing.T) {
	g, namespace := start(t, gate.Options{Args: closed(t)})
	pod := running(t, namespace, "web")
	ev := policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: pod.Name, Annotations: map[string]string{"requested-by": "a test"}}}
	err := shared.Client.PolicyV1().Evictions(namespace).Evict(t.Context(), &ev)
	s := status(t, err)
	wantMessage := `admission webhook "evictions.evictgate.dev" denied the request: the gate is closed; open it in the policy (policy closed)`
	if s.Code != http.StatusForbidden || s.Reason != metav1.StatusReasonForbidden || s.Message != wantMessage {
		t.Errorf("unexpected status: %d %s %q", s.Code, s.Reason, s.Message)
	}
	want := metav1.StatusCause{Type: "EvictionPolicy", Message: "the gate is closed; open it in the policy", Field: "closed"}
	if s.Details == nil || len(s.Details.Causes) != 1 || s.Details.Causes[0] != want || s.Details.Kind != "pods" || s.Details.Name != "web" {
		t.Errorf("details are %+v", s.Details)
	}
	// policy/v1beta1 is converted by the API server, and answered alike.
	beta := policyv1beta1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: pod.Name}}
	if s := status(t, shared.Client.PolicyV1beta1().Evictions(namespace).Evict(t.Context(), &beta)); s.Code != http.StatusForbidden || s.Message != wantMessage {
		t.Errorf("v1beta1: unexpected status: %d %q", s.Code, s.Message)
	}
	if gone(t, namespace, "web") {
		t.Error("a denied pod was deleted")
	}
	// The record holds what was asked and answered.
	records, err := g.RecordsOf(t.Context(), namespace, "web")
	if err != nil {
		t.Fatal(err)
	}
	r := records[0]
	if r.Result.Outcome != "denied" || r.Request.Annotations["requested-by"] != "a test" || r.Pod == nil || r.Pod.UID != string(pod.UID) || r.Request.DryRun {
		t.Errorf("unexpected record %+v", r)
	}
	// The API server's audit log leads to it.
	err = kube.Wait(t.Context(), "the audit event with our annotations", func(context.Context) (bool, error) {
		events, err := shared.AuditEvents()
		for _, e := range events {
			if e.Annotations["evictions.evictgate.dev/review-uid"] == r.DecisionID {
				return e.Annotations["evictions.evictgate.dev/outcome"] == "denied" && e.Annotations["evictions.evictgate.dev/policies"] == "closed" &&
					e.Annotations["evictions.evictgate.dev/revision"] == r.Revision && e.ResponseStatus.Code == http.StatusForbidden, nil
			}
		}
		return false, err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestDryRunIsDecidedWithoutEffectHoweverItIsAsked(t *testing.T) {
	g, namespace := start(t, gate.Options{Args: []string{"--policies", policyDir(t, "see.rego", `package eviction.see

deny contains {"reason": "real evictions are closed", "detail": {}} if not input.request.dry_run
`)}})
	running(t, namespace, "web")
	if err := evict(t.Context(), namespace, "web", &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
		t.Errorf("dry run in the body, as kubectl drain --dry-run=server sends it: %v", err)
	}
	query := shared.Client.CoreV1().RESTClient().Post().Namespace(namespace).Resource("pods").Name("web").SubResource("eviction").
		Param("dryRun", "All").Body(&policyv1.Eviction{
		TypeMeta:   metav1.TypeMeta{APIVersion: "policy/v1", Kind: "Eviction"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "web"},
	}).Do(t.Context())
	if err := query.Error(); err != nil {
		t.Errorf("dry run in the query: %v", err)
	}
	if s := status(t, evict(t.Context(), namespace, "web", nil)); s.Code != http.StatusForbidden {
		t.Errorf("a real eviction is answered %d", s.Code)
	}
	if gone(t, namespace, "web") {
		t.Error("a dry run deleted the pod")
	}
	err := kube.Wait(t.Context(), "three records", func(context.Context) (bool, error) {
		records, err := g.Records()
		if len(records) < 3 {
			return false, err
		}
		return records[0].Request.DryRun && records[1].Request.DryRun && !records[2].Request.DryRun, err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAnUnknownPodIsTheAPIServersToAnswer(t *testing.T) {
	_, namespace := start(t, gate.Options{Args: closed(t)})
	if s := status(t, evict(t.Context(), namespace, "ghost", nil)); s.Code != http.StatusNotFound || strings.Contains(s.Message, "evictgate") {
		t.Errorf("unexpected status %d %q", s.Code, s.Message)
	}
}

func TestPodsThatTheAPIServerLetsGoAreAdmittedUnasked(t *testing.T) {
	_, namespace := start(t, gate.Options{Args: closed(t)})
	unschedulable := func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"no": "such-node"} }

	bare(t, namespace, "pending", unschedulable)
	phase(t, namespace, "pending", corev1.PodPending)

	finished := running(t, namespace, "finished")
	finished.Status.Phase = corev1.PodSucceeded
	if _, err := shared.Client.CoreV1().Pods(namespace).UpdateStatus(t.Context(), finished, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}

	bare(t, namespace, "terminating", func(p *corev1.Pod) { p.Finalizers = []string{"evictgate.dev/test"} })
	phase(t, namespace, "terminating", corev1.PodRunning)
	if err := shared.Client.CoreV1().Pods(namespace).Delete(t.Context(), "terminating", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = shared.Client.CoreV1().Pods(namespace).Patch(context.Background(), "terminating", types.MergePatchType,
			[]byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	})
	for _, name := range []string{"pending", "finished", "terminating"} {
		// The cache may be a moment behind the phase.
		err := kube.Wait(t.Context(), "the "+name+" pod to be admitted", func(ctx context.Context) (bool, error) {
			err := evict(ctx, namespace, name, nil)
			return err == nil, err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestAPreconditionForAnotherPodIsTheAPIServersToAnswer(t *testing.T) {
	_, namespace := start(t, gate.Options{Args: closed(t)})
	pod := running(t, namespace, "web")
	other := types.UID("11111111-2222-4333-8444-555555555555")
	if s := status(t, evict(t.Context(), namespace, "web", metav1.NewPreconditionDeleteOptions(string(other)))); s.Code != http.StatusConflict {
		t.Errorf("another UID: unexpected status %d %q", s.Code, s.Message)
	}
	if s := status(t, evict(t.Context(), namespace, "web", metav1.NewPreconditionDeleteOptions(string(pod.UID)))); s.Code != http.StatusForbidden {
		t.Errorf("the pod's own UID: unexpected status %d %q", s.Code, s.Message)
	}
}

func TestATerminatingNamespaceIsAnsweredWithoutTheWebhook(t *testing.T) {
	g, namespace := start(t, gate.Options{Args: closed(t)})
	bare(t, namespace, "held", func(p *corev1.Pod) { p.Finalizers = []string{"evictgate.dev/test"} })
	phase(t, namespace, "held", corev1.PodRunning)
	if err := shared.Client.CoreV1().Namespaces().Delete(t.Context(), namespace, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = shared.Client.CoreV1().Pods(namespace).Patch(context.Background(), "held", types.MergePatchType,
			[]byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	})
	var s metav1.Status
	err := kube.Wait(t.Context(), "the API server to know that the namespace terminates", func(ctx context.Context) (bool, error) {
		err := evict(ctx, namespace, "held", nil)
		if err == nil {
			return false, nil
		}
		s = status(t, err)
		return !strings.Contains(s.Message, "evictgate"), err
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.Code != http.StatusForbidden || len(s.Details.Causes) != 1 || s.Details.Causes[0].Type != corev1.NamespaceTerminatingCause {
		t.Errorf("unexpected status %d %q %+v", s.Code, s.Message, s.Details)
	}
	records, err := g.Records()
	if err != nil {
		t.Fatal(err)
	}
	asked := len(records)
	_ = evict(t.Context(), namespace, "held", nil)
	if records, _ = g.Records(); len(records) != asked {
		t.Error("the webhook was asked about a terminating namespace")
	}
}

func TestWarnAndAuditAdmit(t *testing.T) {
	binding := func(name, enforcement string) string {
		return `apiVersion: evictgate.dev/v1alpha1
kind: EvictionPolicy
metadata: {name: ` + name + `}
spec:
  library: protected_namespaces
  enforcement: ` + enforcement + `
  parameters: {namespace_prefixes: [e2e-]}
`
	}
	g, namespace := start(t, gate.Options{Args: []string{"--policies", policyDir(t, "warn.yaml", binding("shown", "Warn"), "audit.yaml", binding("silent", "Audit"))}})
	running(t, namespace, "web")
	var warnings collector
	config := *shared.Config
	config.WarningHandler = &warnings
	if err := evictAs(t, &config, namespace, "web"); err != nil {
		t.Fatal(err)
	}
	if len(warnings.all()) != 1 || !strings.HasPrefix(warnings.all()[0], "would deny: ") || !strings.Contains(warnings.all()[0], "(policy shown)") {
		t.Errorf("warnings are %q", warnings.all())
	}
	records, err := g.RecordsOf(t.Context(), namespace, "web")
	if err != nil {
		t.Fatal(err)
	}
	if r := records[0].Result; r.Outcome != "admitted" || len(r.Violations) != 2 {
		t.Errorf("unexpected result %+v", r)
	}
}
