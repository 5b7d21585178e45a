package monitoring

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	// Its module has the definitions that are applied.
	_ "github.com/prometheus-operator/prometheus-operator/pkg/versionutil"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/evictgate/evictgate/test/harness/kube"
)

// render is config/default with these components of config/.
func render(t *testing.T, components ...string) []byte {
	t.Helper()
	kube.Need(t)
	dir := t.TempDir()
	config, err := filepath.Abs("../../../config")
	if err != nil {
		t.Fatal(err)
	}
	if config, err = filepath.Rel(dir, config); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("resources: [%s/default]\ncomponents:\n", config)
	for _, c := range components {
		text += fmt.Sprintf("- %s/%s\n", config, c)
	}
	write(t, filepath.Join(dir, "kustomization.yaml"), text)
	var out, errs strings.Builder
	if err := plane.KubectlTo(t.Context(), nil, &out, &errs, "kustomize", dir); err != nil {
		t.Fatalf("kubectl kustomize: %v\n%s", err, &errs)
	}
	return []byte(out.String())
}

// objects are those of a kind, decoded strictly: what the operator's types do not have is an error.
func objects[T any](t *testing.T, rendered []byte, kind string) []T {
	t.Helper()
	var found []T
	for text := range bytes.SplitSeq(rendered, []byte("\n---\n")) {
		var meta metav1.TypeMeta
		if err := yaml.Unmarshal(text, &meta); err != nil {
			t.Fatal(err)
		}
		if meta.Kind != kind {
			continue
		}
		var object T
		if err := yaml.UnmarshalStrict(text, &object); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		found = append(found, object)
	}
	return found
}

// The real API server takes the manifests by the operator's own definitions.
func TestTheAPIServerTakesTheManifests(t *testing.T) {
	rendered := render(t, "prometheus", "prometheus-auth")
	define(t, "podmonitors", "prometheusrules")
	var out, errs strings.Builder
	err := plane.KubectlTo(t.Context(), bytes.NewReader(rendered), &out, &errs, "apply", "--validate=strict", "-f", "-")
	if err != nil {
		t.Fatalf("kubectl apply: %v\n%s%s", err, &out, &errs)
	}
	t.Cleanup(func() { // the webhook has no pods here, and would hold the evictions of other tests
		var errs strings.Builder
		if err := plane.KubectlTo(context.Background(), bytes.NewReader(rendered), &errs, &errs, "delete", "--wait=false", "--ignore-not-found", "-f", "-"); err != nil {
			t.Errorf("kubectl delete: %v\n%s", err, &errs)
		}
	})
	for _, line := range []string{
		"podmonitor.monitoring.coreos.com/evictgate created", "prometheusrule.monitoring.coreos.com/evictgate created",
		"configmap/evictgate-dashboard created", "secret/evictgate-scraper created",
	} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("%q is not in:\n%s", line, &out)
		}
	}
	err = kube.Wait(t.Context(), "the scraper's token", func(ctx context.Context) (bool, error) {
		secret, err := plane.Client.CoreV1().Secrets("evictgate").Get(ctx, "evictgate-scraper", metav1.GetOptions{})
		return err == nil && len(secret.Data["token"]) > 0, err
	})
	if err != nil {
		t.Error(err)
	}
}

// define installs the operator's definitions of these resources.
func define(t *testing.T, resources ...string) {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/prometheus-operator/prometheus-operator").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range resources {
		file := filepath.Join(strings.TrimSpace(string(dir)), "example/prometheus-operator-crd/monitoring.coreos.com_"+r+".yaml")
		name := r + ".monitoring.coreos.com"
		var out strings.Builder
		err := plane.KubectlTo(t.Context(), nil, &out, &out, "apply", "--server-side", "-f", file)
		if err == nil {
			err = plane.KubectlTo(t.Context(), nil, &out, &out, "wait", "--for=condition=Established", "--timeout=60s", "crd/"+name)
		}
		if err != nil {
			t.Fatalf("define %s: %v\n%s", r, err, &out)
		}
	}
}

func TestThePodMonitorFindsTheReplicas(t *testing.T) {
	for name, c := range map[string]struct {
		components []string
		scheme     string
		argument   bool
	}{
		"open":                {[]string{"prometheus"}, "", false},
		"with --metrics-auth": {[]string{"prometheus", "prometheus-auth"}, "https", true},
	} {
		t.Run(name, func(t *testing.T) {
			rendered := render(t, c.components...)
			monitors := objects[monitoringv1.PodMonitor](t, rendered, "PodMonitor")
			deployments := objects[appsv1.Deployment](t, rendered, "Deployment")
			if len(monitors) != 1 || len(deployments) != 1 {
				t.Fatalf("%d monitors and %d Deployments", len(monitors), len(deployments))
			}
			monitor, template := monitors[0], deployments[0].Spec.Template
			selector, err := metav1.LabelSelectorAsSelector(&monitor.Spec.Selector)
			if err != nil || !selector.Matches(labels.Set(template.Labels)) || monitor.Namespace != deployments[0].Namespace {
				t.Errorf("%v in %s does not find pods with the labels %v (%v)", selector, monitor.Namespace, template.Labels, err)
			}
			endpoint, container := monitor.Spec.PodMetricsEndpoints[0], template.Spec.Containers[0]
			if !hasPort(container.Ports, *endpoint.Port) {
				t.Errorf("the pods have no port named %s", *endpoint.Port)
			}
			if endpoint.Scheme != c.scheme || strings.Contains(strings.Join(container.Args, " "), "--metrics-auth") != c.argument {
				t.Errorf("the scheme is %q and the arguments are %v", endpoint.Scheme, container.Args)
			}
		})
	}
}

func hasPort(ports []corev1.ContainerPort, name string) bool {
	for _, p := range ports {
		if p.Name == name {
			return true
		}
	}
	return false
}

func TestTheConfigMapHasTheDashboard(t *testing.T) {
	maps := objects[corev1.ConfigMap](t, render(t, "prometheus"), "ConfigMap")
	if len(maps) != 1 || maps[0].Labels["grafana_dashboard"] != "1" {
		t.Fatalf("the ConfigMaps are %v", maps)
	}
	want, err := os.ReadFile("../../../config/dashboards/evictgate.json")
	if err != nil {
		t.Fatal(err)
	}
	if maps[0].Data["evictgate.json"] != string(want) {
		t.Error("the ConfigMap has another dashboard")
	}
}

func TestThePrometheusRuleIsOne(t *testing.T) {
	rules := objects[monitoringv1.PrometheusRule](t, render(t, "prometheus"), "PrometheusRule")
	if len(rules) != 1 || len(rules[0].Spec.Groups) == 0 {
		t.Fatalf("the rules are %v", rules)
	}
	for _, g := range rules[0].Spec.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" || r.Expr.String() == "" || r.Annotations["runbook"] == "" {
				t.Errorf("group %s has the rule %+v", g.Name, r)
			}
		}
	}
}
