package monitoring

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
)

// plane is the control plane that all tests share; binary is the program.
var (
	plane  *kube.ControlPlane
	binary string
)

func TestMain(m *testing.M) { os.Exit(gate.Main(m, setUp)) }

func setUp(ctx context.Context, s *gate.Setup) (err error) {
	binary = s.Binary
	plane, err = s.ControlPlane(ctx, kube.Options{Controllers: true, Scheduler: true, Kwok: true, Nodes: 1})
	return err
}

// ofTargets are labels that Prometheus gives to what it scrapes, and `cluster`, which many set-ups add.
var ofTargets = []string{"cluster", "namespace", "pod", "job", "instance"}

// elsewhere are metrics of others that are not started here, with the labels they have there.
var elsewhere = map[string][]string{
	"ALERTS": {"alertname", "alertstate", "severity"},
	// https://github.com/kubernetes/kube-state-metrics/blob/main/docs/metrics/workload/deployment-metrics.md
	"kube_deployment_spec_replicas":         {"deployment", "namespace"},
	"kube_deployment_status_replicas_ready": {"deployment", "namespace"},
}

// Every metric and every label in the alerts and in the dashboard is one that a running Evictgate or a running
// API server has.
func TestEveryExpressionReadsWhatIsThere(t *testing.T) {
	kube.Need(t)
	own, apiServer := everythingHappens(t)
	there := labelsOf(t, own, apiServer)
	maps.Copy(there, elsewhere)
	for _, s := range expressions(t) {
		found, err := uses(s.expression)
		if err != nil {
			t.Errorf("%s: %v", s.place, err)
			continue
		}
		if len(found) == 0 {
			t.Errorf("%s reads no metric: %s", s.place, s.expression)
		}
		var all []string
		for _, u := range found {
			labels, ok := there[u.metric]
			if !ok {
				t.Errorf("%s reads %s, which nobody has", s.place, u.metric)
				continue
			}
			all = append(all, labels...)
			for _, name := range u.labels {
				if !slices.Contains(labels, name) && !slices.Contains(ofTargets, name) {
					t.Errorf("%s wants the label %s of %s, which has %v", s.place, name, u.metric, labels)
				}
			}
		}
		for _, name := range s.labelsNamed() {
			if !slices.Contains(all, name) && !slices.Contains(ofTargets, name) {
				t.Errorf("%s shows the label %s, and its metrics have %v", s.place, name, all)
			}
		}
	}
	everyPanelShowsSomething(t, own, apiServer)
	everyMetricIsShown(t, own)
}

// ownMetric finds names of Evictgate's metrics in a text, ownFamily those that /metrics has.
var (
	ownMetric = regexp.MustCompile(`\bevictgate_[a-z_]+`)
	ownFamily = regexp.MustCompile(`(?m)^# TYPE (evictgate_\w+) `)
)

// everyMetricIsShown holds docs/metrics.md, and the dashboard, to what a running Evictgate has: nothing
// is left out, and nothing named that is not there.
func everyMetricIsShown(t *testing.T, own string) {
	t.Helper()
	listed := ownMetric.FindAllString(string(read(t, "../../../docs/metrics.md")), -1)
	var drawn []string
	for _, s := range ofDashboard(t) {
		drawn = append(drawn, ownMetric.FindAllString(s.expression, -1)...)
	}
	var families []string
	for _, m := range ownFamily.FindAllStringSubmatch(own, -1) {
		name := m[1]
		families = append(families, name)
		if !slices.Contains(listed, name) {
			t.Errorf("docs/metrics.md does not list %s", name)
		}
		if !slices.Contains(drawn, name) && !slices.Contains(drawn, name+"_bucket") {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
	for _, name := range listed {
		if !slices.Contains(families, name) {
			t.Errorf("docs/metrics.md lists %s, which nobody has", name)
		}
	}
}

// fails is a policy that cannot be evaluated on pods of app broken: two values for one function.
const fails = `package eviction.fails

deny contains {"reason": "one of two", "detail": f(1)} if input.pod.metadata.labels.app == "broken"

f(x) := "a" if x > 0

f(x) := "b" if x < 2
`

// everythingHappens lets each thing happen once that is counted, and returns what /metrics of Evictgate and of
// the API server say then.
func everythingHappens(t *testing.T) (own, apiServer string) {
	t.Helper()
	ctx := t.Context()
	namespace, err := plane.Namespace(ctx, "metrics")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "fails.rego"), fails)
	g, err := gate.Start(ctx, gate.Options{
		Plane: plane, Binary: binary, Namespaces: []string{namespace},
		Args: []string{"--policies", dir, "--policies", "default", "--store", "sqlite:" + filepath.Join(dir, "store.db")},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Stop(); err != nil {
			t.Errorf("stop evictgate: %v", err)
		}
	})
	refused := pod(t, namespace, "broken") // the policy fails on it
	mustRefuse(t, evict(ctx, refused, nil))
	mustRefuse(t, plane.Client.PolicyV1().Evictions(namespace).Evict(ctx, &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Namespace: namespace, Name: refused.Name},
		DeleteOptions: &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}},
	}))
	covered := pod(t, namespace, "web")
	budget(t, namespace, "web")
	err = kube.Wait(ctx, "the budget to refuse", func(ctx context.Context) (bool, error) {
		err := evict(ctx, covered, map[string]string{"evictgate.dev/override": "a test"})
		return err != nil && strings.Contains(err.Error(), "disruption budget"), err
	})
	if err != nil {
		t.Fatal(err)
	}
	garbage(t, g)
	write(t, filepath.Join(dir, "broken.rego"), "package eviction.broken\n\ndeny contains")
	own = waitFor(t, "evictgate's metrics", func(ctx context.Context) (string, error) { return g.MetricsText(ctx) },
		"evictgate_policy_last_reload_successful 0\n", `evictgate_records_written_total{output="store"}`, "evictgate_bad_requests_total 1\n",
		`evictgate_budget_confirmations_total{result="confirmed"}`, `evictgate_violations_total{`, `evictgate_overrides_total{`)

	g.Kill()
	mustRefuse(t, evict(ctx, refused, nil))
	failOpen(t, "evictgate")
	err = kube.Wait(ctx, "the eviction to fail open", func(ctx context.Context) (bool, error) {
		err := evict(ctx, refused, nil)
		return err == nil, err
	})
	if err != nil {
		t.Fatal(err)
	}
	apiServer = waitFor(t, "the API server's metrics", func(ctx context.Context) (string, error) {
		raw, err := plane.Client.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
		return string(raw), err
	}, `apiserver_admission_webhook_fail_open_count{name="evictions.evictgate.dev"`,
		`apiserver_admission_webhook_rejection_count{error_type="calling_webhook_error",name="evictions.evictgate.dev"`,
		`apiserver_admission_webhook_rejection_count{error_type="no_error",name="evictions.evictgate.dev"`)
	return own, apiServer
}

// labelsOf are the metrics of both with their labels.
func labelsOf(t *testing.T, own, apiServer string) map[string][]string {
	t.Helper()
	there := parse(t, apiServer)
	for name := range there { // only what is its own: both have go_* and process_*
		if !strings.HasPrefix(name, "apiserver_") {
			delete(there, name)
		}
	}
	maps.Copy(there, parse(t, own))
	return there
}

// waitFor reads metrics until all parts are in them.
func waitFor(t *testing.T, what string, read func(context.Context) (string, error), parts ...string) string {
	t.Helper()
	var text string
	err := kube.Wait(t.Context(), what, func(ctx context.Context) (bool, error) {
		var err error
		if text, err = read(ctx); err != nil {
			return false, err
		}
		for _, part := range parts {
			if !strings.Contains(text, part) {
				return false, fmt.Errorf("%s is missing", part)
			}
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// parse finds the metrics as Prometheus stores them, each with all labels that any of its series has.
func parse(t *testing.T, text string) map[string][]string {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for name, family := range families {
		names := map[string]bool{}
		for _, m := range family.Metric {
			for _, l := range m.Label {
				names[l.GetName()] = true
			}
		}
		own := slices.Sorted(maps.Keys(names))
		found[name] = own
		if family.GetType() == dto.MetricType_HISTOGRAM {
			found[name+"_bucket"] = append(slices.Clone(own), "le")
			found[name+"_count"], found[name+"_sum"] = own, own
		}
	}
	return found
}

func pod(t *testing.T, namespace, name string) *corev1.Pod {
	t.Helper()
	if _, err := plane.Client.AppsV1().Deployments(namespace).Create(t.Context(), kube.Deployment(namespace, name, 1), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pods, err := plane.WaitReady(t.Context(), namespace, name)
	if err != nil {
		t.Fatal(err)
	}
	return &pods[0]
}

func budget(t *testing.T, namespace, app string) {
	t.Helper()
	one := intstr.FromInt32(1)
	_, err := plane.Client.PolicyV1().PodDisruptionBudgets(namespace).Create(t.Context(), &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: app},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &one, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func evict(ctx context.Context, pod *corev1.Pod, annotations map[string]string) error {
	return plane.Client.PolicyV1().Evictions(pod.Namespace).Evict(ctx, &policyv1.Eviction{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, Annotations: annotations},
	})
}

func mustRefuse(t *testing.T, err error) {
	t.Helper()
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		t.Fatalf("the eviction was not refused: %v", err)
	}
}

// garbage calls the webhook with what is not a review.
func garbage(t *testing.T, g *gate.Gate) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	response, err := client.Post("https://"+g.Listen+"/validate-eviction", "application/json", bytes.NewReader([]byte("{}")))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
}

// failOpen sets failurePolicy to Ignore.
func failOpen(t *testing.T, configuration string) {
	t.Helper()
	hooks := plane.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	c, err := hooks.Get(t.Context(), configuration, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.Webhooks[0].FailurePolicy = new(admissionregistrationv1.Ignore)
	if _, err := hooks.Update(t.Context(), c, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
