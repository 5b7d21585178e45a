package manifests

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/evictgate/evictgate/test/harness/kube"
)

// TestHelm installs, upgrades and uninstalls the chart with the real helm.
func TestHelm(t *testing.T) {
	program(t, "helm")
	plane := start(t, everything(3))
	before := everythingIn(t, plane)
	run := func(command string, args ...string) {
		t.Helper()
		_, err := helm(t.Context(), t, plane, append([]string{command, "evictgate", "--namespace", namespace}, args...)...)
		check(t, err)
	}
	run("install", chart, "--create-namespace")
	ready(t, plane, 3)

	t.Run("an upgrade keeps the caBundle and rolls the replicas", func(t *testing.T) {
		trust(t, plane, writePair(t, t.TempDir()))
		run("upgrade", chart, "--set=failurePolicy=Ignore", "--set=extraArgs={--verbose}")
		hook := configuration(t, plane).Webhooks[0]
		if len(hook.ClientConfig.CABundle) == 0 || *hook.FailurePolicy != "Ignore" {
			t.Errorf("failurePolicy %s, caBundle of %d bytes", *hook.FailurePolicy, len(hook.ClientConfig.CABundle))
		}
		check(t, kube.Wait(t.Context(), "pods with the new argument", func(ctx context.Context) (bool, error) {
			pods := ready(t, plane, 3)
			return !slices.ContainsFunc(pods, func(p corev1.Pod) bool { return !slices.Contains(p.Spec.Containers[0].Args, "--verbose") }), nil
		}))
	})
	const crd = "customresourcedefinitions.apiextensions.k8s.io evictionpolicies.evictgate.dev"
	t.Run("uninstalled, only the CRD is left", func(t *testing.T) {
		run("uninstall")
		if diff := cmp.Diff([]string{crd}, leftSince(t, plane, before)); diff != "" {
			t.Errorf("-want +left:\n%s", diff)
		}
	})
	t.Run("installed again, it takes over the CRD with its policies", func(t *testing.T) {
		check(t, plane.Apply(t.Context(), "{apiVersion: evictgate.dev/v1alpha1, kind: EvictionPolicy, metadata: {name: kept}, spec: {library: bare_pod}}"))
		run("install", "--set=crds.keep=false", chart)
		ready(t, plane, 3)
		kubectl(t, plane, "get", "evictionpolicy", "kept")
	})
	t.Run("uninstalled without keeping the CRD, nothing is left", func(t *testing.T) {
		run("uninstall")
		check(t, kube.Wait(t.Context(), "nothing to be left", func(context.Context) (bool, error) {
			return len(leftSince(t, plane, before)) == 0, nil
		}))
	})
}

// leftSince names what there is and was not before, but for what the cluster makes itself.
func leftSince(t *testing.T, plane *kube.ControlPlane, before []string) []string {
	t.Helper()
	var left []string
	for _, name := range everythingIn(t, plane) {
		if !slices.Contains(before, name) {
			left = append(left, name)
		}
	}
	return left
}

// everythingIn names all objects of the cluster, but those that come and go by themselves, and the namespace of the
// installation with what every namespace has.
func everythingIn(t *testing.T, plane *kube.ControlPlane) []string {
	t.Helper()
	lists, err := plane.Client.Discovery().ServerPreferredResources()
	check(t, err)
	client, err := dynamic.NewForConfig(plane.Config)
	check(t, err)
	var names []string
	for _, list := range lists {
		group, err := schema.ParseGroupVersion(list.GroupVersion)
		check(t, err)
		for _, r := range list.APIResources {
			resource := group.WithResource(r.Name)
			if !slices.Contains(r.Verbs, "list") || comesAndGoes(resource.GroupResource().String()) {
				continue
			}
			found, err := client.Resource(resource).List(t.Context(), metav1.ListOptions{})
			if apierrors.IsNotFound(err) {
				continue // its definition is being removed
			}
			check(t, err)
			for _, o := range found.Items {
				names = append(names, resource.GroupResource().String()+" "+strings.TrimPrefix(o.GetNamespace()+"/"+o.GetName(), "/"))
			}
		}
	}
	return slices.DeleteFunc(names, func(name string) bool {
		return slices.Contains([]string{"namespaces evictgate", "serviceaccounts evictgate/default", "configmaps evictgate/kube-root-ca.crt"}, name)
	})
}

// comesAndGoes is true for what the cluster makes and removes itself.
func comesAndGoes(resource string) bool {
	return slices.Contains([]string{
		"events", "events.events.k8s.io", "leases.coordination.k8s.io", "nodes", "componentstatuses", "endpoints", "pods",
		"replicasets.apps", "endpointslices.discovery.k8s.io", "apiservices.apiregistration.k8s.io",
	}, resource)
}
