package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/dynamic"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
)

// told asks for an eviction until the cache has the scene, and then holds everything that speaks of it
// to the cause: what kubectl prints, the Event on the pod, the record and the preview.
func told(t *testing.T, g *gate.Gate, namespace, pod string, code int32, sentence string) {
	t.Helper()
	waitForCache(t, namespace, pod, sentence)
	if s := status(t, evict(t.Context(), namespace, pod, nil)); s.Code != code || !strings.Contains(s.Message, sentence) {
		t.Errorf("the answer is %d %q, expected %d with %q", s.Code, s.Message, code, sentence)
	}
	records, err := g.RecordsOf(t.Context(), namespace, pod)
	if err != nil {
		t.Fatal(err)
	}
	if last := records[len(records)-1]; !strings.Contains(last.Result.Message, sentence) || len(last.Result.Disruption.Cures) != 3 {
		t.Errorf("the record says %+v", last.Result)
	}
	event := eventOf(t, namespace, "Pod", pod)
	if !strings.Contains(event.Note, cutNote(sentence)) || event.Type != corev1.EventTypeWarning {
		t.Errorf("the Event says %q", event.Note)
	}
	var out strings.Builder
	previewOf(t, &out, "pod/"+namespace+"/"+pod)
	contains(t, out.String(), sentence, "1 of 1 pod refused now")
	t.Logf("kubectl, Event, record and preview say: %s", sentence)
}

// cutNote allows for the API server's bound on a note.
func cutNote(s string) string { return s[:min(len(s), 700)] }

func eventOf(t *testing.T, namespace, kind, name string) eventsv1.Event {
	t.Helper()
	var found eventsv1.Event
	err := kube.Wait(t.Context(), "an Event on "+kind+" "+name, func(ctx context.Context) (bool, error) {
		list, err := shared.Client.EventsV1().Events(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		for _, e := range list.Items {
			if e.ReportingController == "evictgate" && e.Regarding.Kind == kind && e.Regarding.Name == name {
				found = e
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestReplacementsThatNeverBecomeReady(t *testing.T) {
	g, namespace := start(t, gate.Options{})
	pods := deploy(t, namespace, "web", 3, "", nil)
	createBudget(t, kube.Budget(namespace, "web", intstr.FromInt32(3)))
	// A rollout whose new pods fit on no node, as in the page's stuck case: the old ones are still there.
	scale(t, namespace, "web", 3, map[string]string{"no": "such-node"})
	stuck := pendingPod(t, namespace, "web")
	told(t, g, namespace, pods[0].Name, http.StatusTooManyRequests, "waiting for "+stuck)
	if s := status(t, evict(t.Context(), namespace, pods[0].Name, nil)); !strings.Contains(s.Message, stuck+" (Unschedulable)") {
		t.Errorf("the message is %q", s.Message)
	}
}

// scale changes the replicas and the node selector of a Deployment.
func scale(t *testing.T, namespace, name string, replicas int32, selector map[string]string) {
	t.Helper()
	var parts []string
	for k, v := range selector {
		parts = append(parts, fmt.Sprintf("%q:%q", k, v))
	}
	patch := fmt.Sprintf(`{"spec":{"replicas":%d,"strategy":{"rollingUpdate":{"maxUnavailable":0}},"template":{"spec":{"nodeSelector":{%s}}}}}`, replicas, strings.Join(parts, ","))
	_, err := shared.Client.AppsV1().Deployments(namespace).Patch(t.Context(), name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// pendingPod waits for the first pod, by name, that no node takes.
func pendingPod(t *testing.T, namespace, app string) string {
	t.Helper()
	var name string
	err := kube.Wait(t.Context(), "a pod that is not scheduled", func(ctx context.Context) (bool, error) {
		pods, err := shared.Pods(ctx, namespace, app)
		for _, p := range pods {
			for _, c := range p.Status.Conditions {
				if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
					name = p.Name
					return true, err
				}
			}
		}
		return false, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func TestAPodThatTakesLongToTerminate(t *testing.T) {
	g, namespace := start(t, gate.Options{})
	d := kube.Deployment(namespace, "web", 3)
	d.Spec.Template.Spec.Affinity = onNodes("node-1", "node-2")
	d.Spec.Template.Finalizers = []string{"evictgate.dev/slow"}
	if _, err := shared.Client.AppsV1().Deployments(namespace).Create(t.Context(), d, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pods, err := shared.WaitReady(t.Context(), namespace, "web")
	if err != nil {
		t.Fatal(err)
	}
	createBudget(t, kube.Budget(namespace, "web", intstr.FromInt32(3)))
	t.Cleanup(func() {
		left, _ := shared.Pods(context.Background(), namespace, "web")
		for _, p := range left {
			_, _ = shared.Client.CoreV1().Pods(namespace).Patch(context.Background(), p.Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
		}
	})
	// Nothing replaces the terminating pod: its Deployment cannot create pods any more.
	scale(t, namespace, "web", 3, map[string]string{"no": "such-node"})
	if err := shared.Client.CoreV1().Pods(namespace).Delete(t.Context(), pods[2].Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	var warnings collector
	told(t, g, namespace, pods[0].Name, http.StatusTooManyRequests, pods[2].Name+" (Terminating)")
	config := *shared.Config
	config.WarningHandler = &warnings
	_ = evictAs(t, &config, namespace, pods[0].Name)
	contains(t, strings.Join(warnings.all(), "\n"), "pod "+pods[2].Name+": Terminating since ", "with a grace period until ", "(held by evictgate.dev/slow")
}

func TestABudgetOfAllReplicas(t *testing.T) {
	g, namespace := start(t, gate.Options{})
	pods := deploy(t, namespace, "web", 2, "", nil)
	createBudget(t, kube.Budget(namespace, "web", intstr.FromInt32(2)))
	told(t, g, namespace, pods[0].Name, http.StatusTooManyRequests,
		"needs 2 healthy of 2 expected pods and has 2; it can never allow a disruption: with minAvailable 2 all 2 pods must stay healthy; lower minAvailable or add replicas")
}

func TestAPercentageThatRoundsUpToAll(t *testing.T) {
	g, namespace := start(t, gate.Options{})
	pods := deploy(t, namespace, "web", 3, "", nil)
	createBudget(t, kube.Budget(namespace, "web", intstr.FromString("90%")))
	told(t, g, namespace, pods[0].Name, http.StatusTooManyRequests,
		"it can never allow a disruption: minAvailable 90% of 3 pods is 2.7, rounded up to 3, which is all of them; lower minAvailable or add replicas")
}

func TestABarePodUnderAPercentage(t *testing.T) {
	g, namespace := start(t, gate.Options{})
	running(t, namespace, "web")
	createBudget(t, kube.Budget(namespace, "web", intstr.FromString("50%")))
	told(t, g, namespace, "web", http.StatusTooManyRequests,
		"it can never allow a disruption: minAvailable 50% counts pods by their controller's scale, and these have none, so it expects 0 and allows none; use a minAvailable number below the number of pods")
}

func TestTwoBudgetsAreToldEverywhere(t *testing.T) {
	g, namespace := start(t, gate.Options{})
	pods := deploy(t, namespace, "web", 2, "", nil)
	first, second := kube.Budget(namespace, "web", intstr.FromInt32(1)), kube.Budget(namespace, "web", intstr.FromInt32(1))
	first.Name, second.Name, second.Spec.Selector = "by-app", "everything", &metav1.LabelSelector{}
	createBudget(t, first)
	createBudget(t, second)
	told(t, g, namespace, pods[0].Name, http.StatusInternalServerError,
		"It is selected by "+namespace+"/by-app (app=web) and "+namespace+"/everything (every pod)")
}

const fleetCRD = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: fleets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: fleets, singular: fleet, kind: Fleet}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}
`

func TestACustomWorkloadWithAScale(t *testing.T) {
	g, namespace := start(t, gate.Options{})
	if err := shared.Apply(t.Context(), fleetCRD); err != nil {
		t.Fatal(err)
	}
	client, err := dynamic.NewForConfig(shared.Config)
	if err != nil {
		t.Fatal(err)
	}
	fleets := client.Resource(schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "fleets"}).Namespace(namespace)
	var fleet *unstructured.Unstructured
	err = kube.Wait(t.Context(), "the kind Fleet", func(ctx context.Context) (bool, error) {
		fleet, err = fleets.Create(ctx, &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "example.com/v1", "kind": "Fleet", "metadata": map[string]any{"name": "boats"}, "spec": map[string]any{"replicas": int64(2)},
		}}, metav1.CreateOptions{})
		return err == nil, err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"boat-1", "boat-2"} {
		bare(t, namespace, name, func(p *corev1.Pod) {
			p.Labels = map[string]string{"app": "boats"}
			p.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(fleet, fleet.GroupVersionKind())}
		})
		phase(t, namespace, name, corev1.PodRunning)
	}
	createBudget(t, kube.Budget(namespace, "boats", intstr.FromString("100%")))
	waitForCache(t, namespace, "boat-1", "Budget "+namespace+"/boats ")
	// The disruption controller learns of a new kind within half a minute, and looks at a budget again
	// when it changes.
	err = kube.Wait(t.Context(), "the disruption controller to know Fleets", func(ctx context.Context) (bool, error) {
		patch := fmt.Sprintf(`{"metadata":{"annotations":{"try":"%d"}}}`, time.Now().UnixNano())
		pdb, err := shared.Client.PolicyV1().PodDisruptionBudgets(namespace).Patch(ctx, "boats", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		time.Sleep(time.Second)
		return err == nil && pdb.Status.ExpectedPods == 2, err
	})
	if err != nil {
		t.Fatal(err)
	}
	told(t, g, namespace, "boat-1", http.StatusTooManyRequests,
		"Budget "+namespace+"/boats needs 2 healthy of 2 expected pods and has 2; it can never allow a disruption: with minAvailable 100% all 2 pods must stay healthy")
}

func TestABudgetThatFailsToSync(t *testing.T) {
	g, namespace := start(t, gate.Options{})
	// The owner's kind has no scale subresource, so the controller cannot count.
	cm, err := shared.Client.CoreV1().ConfigMaps(namespace).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "owner"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	bare(t, namespace, "web", func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(cm, schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"})}
	})
	phase(t, namespace, "web", corev1.PodRunning)
	createBudget(t, kube.Budget(namespace, "web", intstr.FromString("50%")))
	told(t, g, namespace, "web", http.StatusTooManyRequests, "Budget "+namespace+"/web could never be synced (")
}

func TestParallelEvictionsUnderTwoDisruptions(t *testing.T) {
	g, namespace := start(t, gate.Options{})
	pods := deploy(t, namespace, "web", 6, "", nil)
	createBudget(t, kube.Budget(namespace, "web", intstr.FromInt32(4)))
	if err := shared.WaitBudget(t.Context(), namespace, "web", 2); err != nil {
		t.Fatal(err)
	}
	errs := make([]error, len(pods))
	var all sync.WaitGroup
	for i, pod := range pods {
		all.Go(func() { errs[i] = evict(t.Context(), namespace, pod.Name, nil) })
	}
	all.Wait()
	evicted := 0
	for i, err := range errs {
		switch {
		case err == nil:
			evicted++
		case !apierrors.IsTooManyRequests(err):
			t.Errorf("%s: %v", pods[i].Name, err)
		}
	}
	// Replacements are quick here, so a late eviction may pass as well; fewer than two may not.
	if evicted < 2 {
		t.Errorf("%d evictions passed, expected at least the 2 allowed disruptions", evicted)
	}
	for i, pod := range pods {
		records, err := g.RecordsOf(t.Context(), namespace, pod.Name)
		if err != nil {
			t.Fatal(err)
		}
		if d := records[0].Result; errs[i] == nil && !d.Allowed() {
			t.Errorf("%s was evicted, but we said %q", pod.Name, d.Message)
		}
	}
}

func TestNoEventOfADryRun(t *testing.T) {
	g, namespace := start(t, gate.Options{Args: closed(t)})
	running(t, namespace, "dry")
	running(t, namespace, "wet")
	dry := &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}
	if err := evict(t.Context(), namespace, "dry", dry); err == nil {
		t.Fatal("the dry run was admitted")
	}
	for range 3 {
		_ = evict(t.Context(), namespace, "wet", nil)
	}
	// The later Event is there, so the earlier one would be, too.
	if e := eventOf(t, namespace, "Pod", "wet"); e.Reason != "EvictionDenied" || !strings.Contains(e.Note, "the gate is closed") {
		t.Errorf("the Event is %s %q", e.Reason, e.Note)
	}
	list, err := shared.Client.EventsV1().Events(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ours := 0
	for _, e := range list.Items {
		if e.ReportingController == "evictgate" {
			ours++
			if e.Regarding.Name == "dry" {
				t.Errorf("a dry run has the Event %q", e.Note)
			}
		}
	}
	if ours != 1 {
		t.Errorf("%d Events for three refusals of one pod, expected one with a count", ours)
	}
	if metrics, err := g.MetricsText(t.Context()); err != nil || !strings.Contains(metrics, "evictgate_events_dropped_total 0") {
		t.Errorf("Events were dropped: %v", err)
	}
}
