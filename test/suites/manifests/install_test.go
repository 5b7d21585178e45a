package manifests

import (
	"context"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/evictgate/evictgate/test/harness/kube"
)

// TestApply installs as docs/install.md says, on a fresh control plane of three nodes, which admits no critical pod into a
// namespace without a quota for them.
func TestApply(t *testing.T) {
	options := everything(3)
	options.APIServerArgs = []string{"--admission-control-config-file=" + criticalPodsLimited(t)}
	plane := start(t, options)
	kubectl(t, plane, "apply", "-k", config("default"))
	pods := ready(t, plane, 3)

	t.Run("each replica has a node of its own", func(t *testing.T) {
		got := slices.Sorted(maps.Keys(nodesOf(pods)))
		if diff := cmp.Diff([]string{"node-1", "node-2", "node-3"}, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
	t.Run("a second time changes nothing", func(t *testing.T) {
		if diff := kubectl(t, plane, "diff", "-k", config("default")); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("the API server does not queue its requests with other service accounts'", func(t *testing.T) {
		schema, err := plane.Client.FlowcontrolV1().FlowSchemas().Get(t.Context(), "evictgate", metav1.GetOptions{})
		check(t, err)
		var by string
		check(t, kube.Wait(t.Context(), "a request under FlowSchema evictgate", func(ctx context.Context) (bool, error) {
			by, err = flowSchemaOf(ctx, plane, token(t, plane, "evictgate"))
			return by == string(schema.UID), err
		}))
	})
	t.Run("an eviction is held while no replica answers, but not one of a replica", func(t *testing.T) {
		other := "elsewhere"
		_, err := plane.Client.CoreV1().Namespaces().Create(t.Context(), namespaceNamed(other), metav1.CreateOptions{})
		check(t, err)
		_, err = plane.Client.AppsV1().Deployments(other).Create(t.Context(), kube.Deployment(other, "web", 1), metav1.CreateOptions{})
		check(t, err)
		theirs, err := plane.WaitReady(t.Context(), other, "web")
		check(t, err)
		if err := evict(t.Context(), plane, other, theirs[0].Name, true); err == nil {
			t.Error("an eviction passed though no replica runs")
		}
		check(t, evict(t.Context(), plane, namespace, pods[0].Name, false))
		ready(t, plane, 3)
	})
}

// flowSchemaOf is the UID of the FlowSchema under which a request with a token is served.
func flowSchemaOf(ctx context.Context, plane *kube.ControlPlane, token string) (uid string, err error) {
	config := rest.AnonymousClientConfig(plane.Config)
	config.BearerToken = token
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, plane.Config.Host+"/api/v1/namespaces/default/pods", nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	return response.Header.Get(flowcontrolv1.ResponseHeaderMatchedFlowSchemaUID), response.Body.Close()
}

// criticalPodsLimited writes an AdmissionConfiguration as GKE has it, among others:
// https://kubernetes.io/docs/concepts/policy/resource-quotas/#limit-priority-class-consumption-by-default
func criticalPodsLimited(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "admission.yaml")
	check(t, os.WriteFile(file, []byte(`apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: ResourceQuota
  configuration:
    apiVersion: apiserver.config.k8s.io/v1
    kind: ResourceQuotaConfiguration
    limitedResources:
    - resource: pods
      matchScopes:
      - {scopeName: PriorityClass, operator: In, values: [system-node-critical, system-cluster-critical]}
`), 0o600))
	return file
}

func evict(ctx context.Context, plane *kube.ControlPlane, namespace, pod string, dry bool) error {
	e := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: pod}}
	if dry {
		e.DeleteOptions = &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}
	}
	return plane.Client.PolicyV1().Evictions(namespace).Evict(ctx, e)
}
