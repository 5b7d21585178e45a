package manifests

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"

	"github.com/evictgate/evictgate/test/harness/kube"
)

const chart = "../../../config/helm/evictgate"

// objects are what a text of YAML holds, by what names them.
func objects(t *testing.T, text string) map[string]*unstructured.Unstructured {
	t.Helper()
	found := map[string]*unstructured.Unstructured{}
	for decoder := utilyaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096); ; {
		var o unstructured.Unstructured
		err := decoder.Decode(&o.Object)
		if errors.Is(err, io.EOF) {
			return found
		}
		check(t, err)
		if len(o.Object) == 0 {
			continue
		}
		name := o.GroupVersionKind().String() + " " + o.GetNamespace() + "/" + o.GetName()
		if found[name] != nil {
			t.Errorf("%s is there twice", name)
		}
		found[name] = &o
	}
}

// program is the path of a program that was built into bin/, or the test is skipped.
func program(t *testing.T, name string) string {
	t.Helper()
	kube.Need(t, name)
	path, _ := kube.Program(name)
	return path
}

// kustomize renders a directory with the kustomize of kubectl.
func kustomize(t *testing.T, dir string) string {
	t.Helper()
	out, err := run(t.Context(), nil, nil, program(t, "kubectl"), "kustomize", dir)
	check(t, err)
	return out
}

// helm runs helm with a home of the test's own, and plane's kubeconfig if there is one.
func helm(ctx context.Context, t *testing.T, plane *kube.ControlPlane, args ...string) (string, error) {
	t.Helper()
	home := t.TempDir()
	env := []string{"HELM_CACHE_HOME=" + home, "HELM_CONFIG_HOME=" + home, "HELM_DATA_HOME=" + home, "KUBECONFIG=" + filepath.Join(home, "none")}
	if plane != nil {
		env[3] = "KUBECONFIG=" + plane.Kubeconfig
	}
	return run(ctx, nil, env, program(t, "helm"), args...)
}

func render(t *testing.T, values ...string) string {
	t.Helper()
	out, err := helm(t.Context(), t, nil, append([]string{"template", "evictgate", chart, "--namespace", namespace}, values...)...)
	check(t, err)
	return out
}

// TestTheChartRendersWhatKustomizeDoes compares both object by object. Only the Namespace is not the chart's: helm keeps
// its own Secret there, so it must be there before; `helm install --create-namespace` makes it.
func TestTheChartRendersWhatKustomizeDoes(t *testing.T) {
	notKept := []string{"--set=crds.keep=false"} // the annotation that keeps the CRD is helm's
	for name, c := range map[string]struct {
		dir    string // below config/, or
		own    string // a kustomization of a user's own
		values []string
	}{
		"with its own CA":               {dir: "default"},
		"with cert-manager":             {dir: "overlays/certmanager", values: []string{"--set=certificates.mode=certManager"}},
		"evictions pass when it is off": {dir: "overlays/ignore", values: []string{"--set=failurePolicy=Ignore"}},
		"with all components": {
			own:    "resources: [CONFIG/default]\ncomponents: [CONFIG/client-ca, CONFIG/network-policy, CONFIG/prometheus, CONFIG/prometheus-auth, CONFIG/review, CONFIG/store-postgres]",
			values: []string{"--set=clientCA.configMap=evictgate-callers", "--set=monitoring.enabled=true", "--set=monitoring.auth=true", "--set=networkPolicy.enabled=true", "--set=review.enabled=true", "--set=store.url=postgres://evictgate@postgres.postgres.svc/evictgate"},
		},
		"with metrics for tokens, and cert-manager": {
			own:    "resources: [CONFIG/overlays/certmanager]\ncomponents: [CONFIG/prometheus, CONFIG/certmanager/prometheus-auth]",
			values: []string{"--set=certificates.mode=certManager", "--set=monitoring.enabled=true", "--set=monitoring.auth=true"},
		},
		"on the network of the nodes": {
			own:    "resources: [CONFIG/default]\ncomponents: [CONFIG/host-network]",
			values: []string{"--set=hostNetwork=true", "--set=ports.webhook=19443,ports.metrics=18080,ports.health=18081"},
		},
		"with alerts and dashboard": {own: "resources: [CONFIG/default]\ncomponents: [CONFIG/prometheus]", values: []string{"--set=monitoring.enabled=true"}},
		"with policies from a bundle, and a CA of callers": {
			own: "resources: [CONFIG/overlays/certmanager]\ncomponents: [CONFIG/bundle-cache, CONFIG/client-ca]\npatches:\n- target: {kind: Deployment}\n  patch: |\n" +
				"    - {op: add, path: /spec/template/spec/containers/0/args/3, value: \"--policies=oci://registry.example/policies:v1\"}",
			values: []string{"--set=certificates.mode=certManager", "--set=clientCA.configMap=evictgate-callers", "--set=policies={default,cluster,oci://registry.example/policies:v1}"},
		},
		"in another namespace": {
			own:    "namespace: gates\nresources: [CONFIG/default]\ntransformers: [CONFIG/namespace]",
			values: []string{"--namespace=gates"},
		},
		"in another namespace with cert-manager": {
			own:    "namespace: gates\nresources: [CONFIG/overlays/certmanager]\ntransformers: [CONFIG/namespace]",
			values: []string{"--namespace=gates", "--set=certificates.mode=certManager"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := config(c.dir)
			if c.own != "" {
				dir = overlay(t, c.own)
			}
			want := objects(t, kustomize(t, dir))
			got := objects(t, render(t, append(notKept, c.values...)...))
			for name := range want {
				if strings.HasPrefix(name, "/v1, Kind=Namespace ") {
					delete(want, name)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-kustomize +helm:\n%s", diff)
			}
			if len(got) < 14 {
				t.Errorf("only %d objects", len(got))
			}
		})
	}
}

// TestTheChartRefusesWhatCannotBeMeant holds values.schema.json to typical mistakes.
func TestTheChartRefusesWhatCannotBeMeant(t *testing.T) {
	for value, want := range map[string]string{
		"failurePolicy=Fial":        "must be one of 'Fail', 'Ignore'",
		"certificates.mode=manual":  "must be one of 'self', 'certManager'",
		"replicas=0":                "minimum",
		"replica=3":                 "additional properties 'replica' not allowed",
		"policies={}":               "minLength",
		"clientCA=ca.crt":           "got string, want object",
		"store.url=sqlite:/data/db": "does not match pattern",
		"image.digest=latest":       "does not match pattern",
		"extraArgs={verbose}":       "does not match pattern",
		"hostNetwork=true":          "10250 is the kubelet's",
		"ports.webhook=0":           "minimum",
	} {
		t.Run(value, func(t *testing.T) {
			_, err := helm(t.Context(), t, nil, "template", "evictgate", chart, "--set="+value)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("want %q in: %v", want, err)
			}
		})
	}
}

// TestTheChartsOwnValues are those that kustomize has no need of.
func TestTheChartsOwnValues(t *testing.T) {
	for values, want := range map[string]string{
		"podLabels.mesh=out":                        "        mesh: out\n",
		"serviceAccountAnnotations.role=records":    "  annotations:\n    role: records\nautomountServiceAccountToken: false\n",
		"webhookAnnotations.enforcer=out":           "    cert-manager.io/inject-ca-from-secret: evictgate/evictgate-ca\n    enforcer: out\n",
		"ports.webhook=443":                         "        - --listen=:443\n",
		"priorityClassName=ordinary":                "      priorityClassName: ordinary\n",
		"store.url=postgres://e@db:6432/evictgate":  "  - ports: [{port: 6432}]\n",
		"store.url=postgres://e@db.db.svc/ev?x=1:2": "  - ports: [{port: 5432}]\n",
	} {
		t.Run(values, func(t *testing.T) {
			out := render(t, "--set="+values, "--set=networkPolicy.enabled=true")
			if !strings.Contains(out, want) {
				t.Errorf("no %q in\n%s", want, out)
			}
		})
	}
	if out := render(t, "--set=priorityClassName=ordinary"); strings.Contains(out, "kind: ResourceQuota") {
		t.Error("a quota for critical pods, and none is")
	}
}

func TestTheChartTakesAnImageByDigest(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0a", 32)
	out := render(t, "--set=image.repository=registry.example/evictgate", "--set=image.tag=v1", "--set=image.digest="+digest)
	if want := "image: registry.example/evictgate@" + digest + "\n"; !strings.Contains(out, want) {
		t.Errorf("no line %q", want)
	}
}
