package manifests

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/evictgate/evictgate/test/harness/kube"
)

// TestTheAPIServerAcceptsEverything sends each directory as a server-side dry run, strictly validated. The namespace and
// the definitions are there before, since a dry run makes neither.
func TestTheAPIServerAcceptsEverything(t *testing.T) {
	plane := start(t, kube.Options{Controllers: true})
	installCertManagerTypes(t, plane)
	kubectl(t, plane, "apply", "-k", config("crd"))
	kubectl(t, plane, "wait", "--for=condition=Established", "--timeout=30s", "crd/evictionpolicies.evictgate.dev")
	kubectl(t, plane, "apply", "-f", config("manager/namespace.yaml"))
	every := "components: [CONFIG/bundle-cache, CONFIG/client-ca, CONFIG/network-policy, CONFIG/review, CONFIG/store-postgres]"
	for name, dir := range map[string]string{
		"config/default":                   config("default"),
		"config/overlays/certmanager":      config("overlays/certmanager"),
		"config/overlays/ignore":           config("overlays/ignore"),
		"config/samples/policies":          config("samples/policies"),
		"config/webhook":                   config("webhook"),
		"all components":                   overlay(t, "resources: [CONFIG/default]\n"+every),
		"all components with cert-manager": overlay(t, "resources: [CONFIG/overlays/certmanager]\n"+every),
	} {
		t.Run(name, func(t *testing.T) {
			named := strings.Fields(kubectl(t, plane, "apply", "--dry-run=server", "--validate=strict", "-k", dir, "--output=name"))
			if got, want := len(named), len(objects(t, kustomize(t, dir))); got != want {
				t.Errorf("%d of %d objects were accepted", got, want)
			}
		})
	}
	t.Run("a field that there is not is refused", func(t *testing.T) {
		dir := changed(t, "{op: add, path: /spec/template/spec/nodeTaints, value: Honor}")
		_, stderr, err := plane.Kubectl(t.Context(), "apply", "--dry-run=server", "--validate=strict", "-k", dir)
		if err == nil || !strings.Contains(stderr, `unknown field "spec.template.spec.nodeTaints"`) {
			t.Errorf("%v: %s", err, stderr)
		}
	})
	t.Run("what restricted forbids is refused", func(t *testing.T) {
		dir := changed(t, "{op: replace, path: /spec/template/spec/securityContext/runAsNonRoot, value: false}")
		_, stderr, err := plane.Kubectl(t.Context(), "apply", "--dry-run=server", "-k", dir)
		if err != nil || !strings.Contains(stderr, "would violate PodSecurity") {
			t.Errorf("%v: %s", err, stderr)
		}
	})
}

// changed is config/default with a change of the Deployment.
func changed(t *testing.T, operation string) string {
	t.Helper()
	return overlay(t, "resources: [CONFIG/default]\npatches:\n- target: {kind: Deployment}\n  patch: |\n    - "+operation)
}

// TestReplicasSpread installs on clusters of different sizes: everywhere there are three replicas, and no node has more
// than its share of them, also after an update, and while nodes are drained.
func TestReplicasSpread(t *testing.T) {
	for name, c := range map[string]struct {
		nodes int
		want  []int // replicas by node, the fewest first
	}{
		"one node":    {1, []int{3}},
		"two nodes":   {2, []int{1, 2}},
		"three nodes": {3, []int{1, 1, 1}},
		"five nodes":  {5, []int{1, 1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			plane := start(t, everything(c.nodes))
			kubectl(t, plane, "apply", "-k", config("default"))
			spread := func(when string, want []int) {
				t.Helper()
				if got := slices.Sorted(maps.Values(nodesOf(ready(t, plane, 3)))); !slices.Equal(got, want) {
					t.Errorf("%s the replicas are spread %v, want %v", when, got, want)
				}
			}
			spread("at first", c.want)
			kubectl(t, plane, "--namespace", namespace, "rollout", "restart", "deployment", "evictgate")
			kubectl(t, plane, "--namespace", namespace, "rollout", "status", "deployment", "evictgate", "--timeout=60s")
			spread("after an update", c.want)
			if c.nodes < 3 {
				return
			}
			drain(t, plane, "node-1")
			if c.nodes == 3 {
				c.want = []int{1, 2}
			}
			spread("while a node is drained", c.want)
			if c.nodes > 3 {
				return
			}
			drain(t, plane, "node-2")
			spread("while two of three are drained", []int{3})
		})
	}
}

// TestTheNetworkOfTheNodes installs where pods take ports of their nodes: there is one on each, also after an update,
// which ends though no node has room for two.
func TestTheNetworkOfTheNodes(t *testing.T) {
	plane := start(t, everything(3))
	kubectl(t, plane, "apply", "-k", overlay(t, "resources: [CONFIG/default]\ncomponents: [CONFIG/host-network]"))
	look := func(when string) {
		t.Helper()
		pods := ready(t, plane, 3)
		if got := slices.Sorted(maps.Values(nodesOf(pods))); !slices.Equal(got, []int{1, 1, 1}) {
			t.Errorf("%s the replicas are spread %v", when, got)
		}
		for _, p := range pods {
			if port := p.Spec.Containers[0].Ports[0]; !p.Spec.HostNetwork || port.HostPort != 19443 {
				t.Errorf("%s pod %s takes port %d of its node, on the node's network: %t", when, p.Name, port.HostPort, p.Spec.HostNetwork)
			}
		}
	}
	look("at first")
	kubectl(t, plane, "--namespace", namespace, "rollout", "restart", "deployment", "evictgate")
	kubectl(t, plane, "--namespace", namespace, "rollout", "status", "deployment", "evictgate", "--timeout=60s")
	look("after an update")
}

// drain drains a node as an administrator does; the gate's own pods need no gate.
func drain(t *testing.T, plane *kube.ControlPlane, node string) {
	t.Helper()
	stdout, stderr, err := plane.Kubectl(t.Context(), "drain", node, "--ignore-daemonsets", "--timeout=60s")
	if err != nil {
		t.Fatalf("%v\n%s%s", err, stdout, stderr)
	}
}
