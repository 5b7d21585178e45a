package manifests

import (
	"context"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/test/kube"
)

// TestApply installs as the README says, on a fresh control plane of three nodes.
func TestApply(t *testing.T) {
	plane := start(t, everything(3))
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

func evict(ctx context.Context, plane *kube.ControlPlane, namespace, pod string, dry bool) error {
	e := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: pod}}
	if dry {
		e.DeleteOptions = &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}
	}
	return plane.Client.PolicyV1().Evictions(namespace).Evict(ctx, e)
}
