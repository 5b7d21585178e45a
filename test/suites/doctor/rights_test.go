package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/evictgate/evictgate/test/harness/gate"
)

// as writes the administrator's kubeconfig for another user.
func as(t *testing.T, user string) string {
	t.Helper()
	config, err := clientcmd.LoadFromFile(plane.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range config.AuthInfos {
		u.Impersonate, u.ImpersonateGroups = user, []string{"system:authenticated"}
	}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		t.Fatal(err)
	}
	return file
}

func applied(t *testing.T, yaml string) {
	t.Helper()
	var out strings.Builder
	if err := plane.KubectlTo(t.Context(), strings.NewReader(yaml), &out, &out, "apply", "-f", "-"); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
}

// Under the roles that --rbac prints everything is checked but the Secret; without it nothing is, and exit is 0, since
// nothing was found.
func TestTheRoleSuffices(t *testing.T) {
	installed(t)
	healthy(t)
	kubeconfig := as(t, "operator")
	r := ask(t, "--kubeconfig", kubeconfig)
	for _, check := range []string{"configuration", "replicas", "gate", "policies"} {
		r.wants(t, check, notChecked, "")
	}
	if r.code != 0 || r.Problems+r.Warnings > 0 {
		t.Errorf("exit %d without any right:\n%s", r.code, r)
	}
	roles, _, _ := program(t, "doctor", "--rbac")
	applied(t, roles)
	kubectl(t, "create", "clusterrolebinding", "evictgate-doctor", "--clusterrole=evictgate-doctor", "--user=operator")
	kubectl(t, "-n", namespace, "create", "rolebinding", "evictgate-doctor", "--role=evictgate-doctor", "--user=operator")
	r = settled(t, "gate", ok, "", "--kubeconfig", kubeconfig) // until the rights of a user are known everywhere
	r.wants(t, "certificate.secret", notChecked, "no permission: ")
	if r.code != 0 || r.NotChecked != 1 {
		t.Errorf("exit %d under the roles:\n%s", r.code, r)
	}
	// They evict nothing that exists, and read no logs but the gate's.
	for _, denied := range [][]string{{"create", "pods/web", "--subresource=eviction"}, {"get", "pods", "--subresource=log"}} {
		out, stderr, err := plane.Kubectl(t.Context(), append([]string{"auth", "can-i", "--as=operator"}, denied...)...)
		if err == nil || strings.TrimSpace(out) != "no" {
			t.Errorf("the roles allow %s: %s%s", denied, out, stderr)
		}
	}
}

func TestWhatPoliciesNeedIsChecked(t *testing.T) {
	installed(t)
	healthy(t)
	t.Cleanup(func() {
		run(t, "kubectl apply -k config/default")
		kubectl(t, "delete", "evictionpolicies", "--all")
		healthy(t)
	})
	applied(t, "apiVersion: evictgate.dev/v1alpha1\nkind: EvictionPolicy\nmetadata: {name: disks}\nspec: {library: local_storage}\n")
	settled(t, "policies", ok, "1 EvictionPolicies, all in force").wants(t, "access", ok, "may do all")
	kubectl(t, "patch", "clusterrole", "evictgate", "--type=json", "-p", `[{"op":"replace","path":"/rules/0/resources","value":["pods","namespaces","nodes","replicationcontrollers"]}]`)
	f := settled(t, "access", problem, "persistentvolumes").wants(t, "access", problem, "may not get, list, watch persistentvolumeclaims, persistentvolumes; needed by EvictionPolicy/disks")
	run(t, f.Command)
	healthy(t)
	// One that nobody checked before it was stored.
	kubectl(t, "patch", "validatingwebhookconfiguration", "evictgate", "--type=json", "-p", `[{"op":"remove","path":"/webhooks/1"}]`)
	applied(t, "apiVersion: evictgate.dev/v1alpha1\nkind: EvictionPolicy\nmetadata: {name: broken}\nspec: {rego: \"package eviction.broken\\n\\ndeny contains\"}\n")
	r := settled(t, "policies", problem, "EvictionPolicy broken is not in force: ")
	r.wants(t, "configuration.policies", warning, "there is no webhook policies.evictgate.dev")
	r.wants(t, "policies", problem, "spec.rego:3:13: ")
}

// A gate outside the cluster, which the API server calls by a URL.
func TestAnInstallationOutsideTheCluster(t *testing.T) {
	installed(t)
	kubectl(t, "delete", "validatingwebhookconfiguration", "evictgate") // else both are asked
	t.Cleanup(func() {
		run(t, "kubectl apply -k config/default")
		healthy(t)
	})
	g, err := gate.Start(t.Context(), gate.Options{Plane: plane, Binary: binary, Name: "outside"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Stop(); err != nil {
			t.Error(err)
		}
	})
	r := ask(t, "--webhook-configuration=outside", "--namespace=nowhere")
	r.wants(t, "replicas", notChecked, "the gate runs outside the cluster: there is no Deployment nowhere/evictgate")
	r.wants(t, "service", note, "the API server calls https://localhost:")
	r.wants(t, "certificate.secret", ok, "the CA of Secret default/outside is in the caBundle")
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	r.wants(t, "gate.replicas", ok, hostname+" answered")
	r.wants(t, "access", notChecked, "there is no Deployment")
	g.Kill()
	r = ask(t, "--webhook-configuration=outside", "--namespace=nowhere")
	r.wants(t, "gate", problem, "the API server cannot ask the gate: nothing listens at the address")
	// Another installation that decides the same evictions hides nothing.
	run(t, "kubectl apply -k config/default")
	r = settled(t, "gate", problem, "nothing listens", "--webhook-configuration=outside", "--namespace=nowhere")
	r.wants(t, "gate", problem, "the API server cannot ask the gate: nothing listens at the address")
	r.wants(t, "configuration.others", warning, "ValidatingWebhookConfiguration evictgate has webhook evictions.evictgate.dev, too")
	if err := g.Relaunch(t.Context()); err != nil {
		t.Fatal(err)
	}
}
