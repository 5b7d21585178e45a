package manifests

import (
	"context"
	"crypto/tls"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/test/harness/kube"
)

const account = "system:serviceaccount:" + namespace + ":evictgate"

// auditAll records every request of the ServiceAccount, and nothing else.
const auditAll = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, users: ["` + account + `"]}
- {level: None}
`

func audited(t *testing.T) *kube.ControlPlane {
	t.Helper()
	policy := filepath.Join(t.TempDir(), "audit-policy.yaml")
	check(t, os.WriteFile(policy, []byte(auditAll), 0o600))
	return start(t, kube.Options{Controllers: true, Scheduler: true, Kwok: true, Nodes: 2, APIServerArgs: []string{"--audit-policy-file=" + policy}})
}

// right is one verb on one resource.
type right struct{ group, resource, verb string }

// whyIdle says why a right is granted that no run uses; empty when there is no reason.
func whyIdle(r right, granted map[right]bool) string {
	if r.verb == "get" && granted[right{r.group, r.resource, "list"}] {
		return "list shows the same; one rule for each API group is easier to read than two"
	}
	return ""
}

// asked are the rights that the ServiceAccount used, with the requests that were refused.
func asked(t *testing.T, plane *kube.ControlPlane) (used map[right]int, forbidden []string) {
	t.Helper()
	events, err := plane.AuditEvents()
	check(t, err)
	used = map[right]int{}
	for _, e := range events {
		if e.ResponseStatus.Code == http.StatusForbidden {
			forbidden = append(forbidden, e.Verb+" "+e.RequestURI)
			continue
		}
		resource := e.ObjectRef.Resource
		if e.ObjectRef.Subresource != "" {
			resource += "/" + e.ObjectRef.Subresource
		}
		used[right{e.ObjectRef.APIGroup, resource, e.Verb}]++
	}
	return used, forbidden
}

// granted are the rights that the manifests give to the ServiceAccount.
func granted(t *testing.T, plane *kube.ControlPlane) map[right]bool {
	t.Helper()
	rights := map[right]bool{}
	add := func(rules []rbacv1.PolicyRule) {
		for _, rule := range rules {
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					for _, verb := range rule.Verbs {
						rights[right{group, resource, verb}] = true
					}
				}
			}
		}
	}
	for _, name := range []string{"evictgate", "evictgate-selfsigned"} {
		clusterRole, err := plane.Client.RbacV1().ClusterRoles().Get(t.Context(), name, metav1.GetOptions{})
		if name == "evictgate" || !apierrors.IsNotFound(err) {
			check(t, err)
			add(clusterRole.Rules)
		}
	}
	role, err := plane.Client.RbacV1().Roles(namespace).Get(t.Context(), "evictgate", metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		check(t, err)
		add(role.Rules)
	}
	return rights
}

// bindLibrary binds each policy of the library, enforcing. Those that must be told what to hold are told something.
func bindLibrary(t *testing.T, plane *kube.ControlPlane) {
	t.Helper()
	parameters := map[string]string{
		"freeze_window":   `{windows: [{name: release, from: "2020-01-01T00:00:00Z", until: "2100-01-01T00:00:00Z"}]}`,
		"incident_freeze": "{reason: INC-4711}",
		"rate_limit":      "{limits: [{per: namespace, max: 1, period: 1h}]}",
		"who_may_evict":   "{rules: [{name: owners, allow: {users: [jane]}}]}",
	}
	var objects strings.Builder
	for _, id := range policies.LibraryIDs() {
		objects.WriteString("apiVersion: evictgate.dev/v1alpha1\nkind: EvictionPolicy\nmetadata: {name: " + strings.ReplaceAll(id, "_", "-") + "}\n" +
			"spec:\n  library: " + id + "\n  enforcement: Enforce\n")
		if given := parameters[id]; given != "" {
			objects.WriteString("  parameters: " + given + "\n")
		}
		objects.WriteString("---\n")
	}
	check(t, plane.Apply(t.Context(), objects.String()))
	kubectl(t, plane, "wait", "--for=condition=Ready", "--timeout=60s", "evictionpolicies", "--all")
}

// tryEvictions sends evictions of all kinds: of pods that a budget holds and that policies hold, again and again, of one
// that has a volume, and of one that does not exist.
func tryEvictions(t *testing.T, plane *kube.ControlPlane) {
	t.Helper()
	const shop = "shop"
	_, err := plane.Client.CoreV1().Namespaces().Create(t.Context(), namespaceNamed(shop), metav1.CreateOptions{})
	check(t, err)
	_, err = plane.Client.AppsV1().Deployments(shop).Create(t.Context(), kube.Deployment(shop, "web", 2), metav1.CreateOptions{})
	check(t, err)
	_, err = plane.Client.PolicyV1().PodDisruptionBudgets(shop).Create(t.Context(), kube.Budget(shop, "web", intstr.FromInt32(2)), metav1.CreateOptions{})
	check(t, err)
	pods, err := plane.WaitReady(t.Context(), shop, "web")
	check(t, err)
	check(t, plane.WaitBudget(t.Context(), shop, "web", 0))
	for range 3 {
		for _, pod := range pods {
			if err := evict(t.Context(), plane, shop, pod.Name, false); err == nil || !strings.Contains(err.Error(), "evictgate") {
				t.Errorf("the eviction of %s was not held by the gate: %v", pod.Name, err)
			}
		}
	}
	if err := evict(t.Context(), plane, shop, "nobody", false); !apierrors.IsNotFound(err) {
		t.Errorf("the eviction of a pod that does not exist: %v", err)
	}
}

// await waits until the ServiceAccount has used a right.
func await(t *testing.T, plane *kube.ControlPlane, r right) {
	t.Helper()
	check(t, kube.Wait(t.Context(), "a request: "+r.verb+" "+r.resource, func(context.Context) (bool, error) {
		used, _ := asked(t, plane)
		return used[r] > 0, nil
	}))
}

// TestRights runs the program under the rights of the manifests, with the whole library bound and enforcing. It is
// refused nothing, and every right is used or has a reason.
func TestRights(t *testing.T) {
	plane := audited(t)
	kubectl(t, plane, "apply", "-k", config("default"))
	t.Run("a CA is renewed", func(t *testing.T) {
		// After two thirds of its life, which is looked for every 10 s. Nothing is asked of a server whose certificate
		// ends so soon.
		serve(t, plane, "--ca-duration=13500ms", "--leaf-duration=9s")
		await(t, plane, right{"", "secrets", "update"})
	})
	kubectl(t, plane, "delete", "secret", "--namespace", namespace, "evictgate-ca")
	serve(t, plane)
	bindLibrary(t, plane)
	tryEvictions(t, plane)
	await(t, plane, right{"events.k8s.io", "events", "patch"})
	await(t, plane, right{"evictgate.dev", "evictionpolicies/status", "patch"})
	if owners := configuration(t, plane).OwnerReferences; len(owners) != 1 || owners[0].Name != namespace {
		t.Errorf("the webhook configuration is owned by %v, not by the namespace", owners)
	}
	// Where the API server is too old to stream lists, informers list first.
	t.Setenv("KUBE_FEATURE_WatchListClient", "false")
	serve(t, plane)

	used := notForbidden(t, plane)
	has := granted(t, plane)
	for r := range has {
		if used[r] == 0 && whyIdle(r, has) == "" {
			t.Errorf("%s on %s is granted and not used, and has no reason", r.verb, r.resource)
		}
	}
	t.Logf("%d rights granted, %d used by %d requests", len(has), len(used), total(used))

	t.Run("a right that is taken away is missed", func(t *testing.T) {
		kubectl(t, plane, "patch", "clusterrole", "evictgate", "--type=json", "--patch", `[{"op": "remove", "path": "/rules/3"}]`)
		check(t, kube.Wait(t.Context(), "a refusal", func(ctx context.Context) (bool, error) {
			pods, err := plane.Pods(ctx, "shop", "web")
			if err == nil && len(pods) > 0 {
				_ = evict(ctx, plane, "shop", pods[0].Name, true)
			}
			_, forbidden := asked(t, plane)
			return slices.ContainsFunc(forbidden, func(s string) bool { return strings.Contains(s, "poddisruptionbudgets") }), err
		}))
	})
}

// notForbidden fails when the ServiceAccount was refused something, and returns what it used.
func notForbidden(t *testing.T, plane *kube.ControlPlane) map[right]int {
	t.Helper()
	used, forbidden := asked(t, plane)
	if len(forbidden) > 0 {
		t.Errorf("%d requests were forbidden: %s", len(forbidden), strings.Join(forbidden, "; "))
	}
	if len(used) == 0 {
		t.Error("the ServiceAccount asked for nothing")
	}
	return used
}

func configuration(t *testing.T, plane *kube.ControlPlane) *admissionregistrationv1.ValidatingWebhookConfiguration {
	t.Helper()
	c, err := plane.Client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), "evictgate", metav1.GetOptions{})
	check(t, err)
	return c
}

func total(used map[right]int) int {
	n := 0
	for count := range maps.Values(used) {
		n += count
	}
	return n
}

// TestRightsOfTheReviewPage reads the page as one who may, and as one who may not.
func TestRightsOfTheReviewPage(t *testing.T) {
	plane := audited(t)
	kubectl(t, plane, "apply", "-k", overlay(t, "resources: [CONFIG/default]\ncomponents: [CONFIG/review]"))
	kubectl(t, plane, "create", "serviceaccount", "reader", "--namespace", namespace)
	kubectl(t, plane, "create", "serviceaccount", "stranger", "--namespace", namespace)
	kubectl(t, plane, "create", "clusterrolebinding", "reader", "--clusterrole=evictgate-review", "--serviceaccount="+namespace+":reader")
	s := serve(t, plane, "--review-listen="+strings.Replace(address(t), "127.0.0.1", "", 1))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // the test is of the tokens
	for account, want := range map[string]int{"reader": http.StatusOK, "stranger": http.StatusForbidden} {
		code, text, err := get(t.Context(), client, s.page(t), token(t, plane, account))
		check(t, err)
		if code != want {
			t.Errorf("%s got %d, want %d: %s", account, code, want, text)
		}
	}
	used := notForbidden(t, plane)
	for _, r := range []right{{"authentication.k8s.io", "tokenreviews", "create"}, {"authorization.k8s.io", "subjectaccessreviews", "create"}} {
		if used[r] == 0 {
			t.Errorf("nobody made %s", r.resource)
		}
	}
}

// TestRightsWithCertificatesFromFiles runs the program as cert-manager's overlay does: without any right on Secrets, or
// to write the webhook configuration.
func TestRightsWithCertificatesFromFiles(t *testing.T) {
	plane := audited(t)
	installCertManagerTypes(t, plane)
	kubectl(t, plane, "apply", "-k", config("overlays/certmanager"))
	dir := t.TempDir()
	trust(t, plane, writePair(t, dir))
	writeSecretPath(t, plane)
	serve(t, plane, "--cert-dir="+dir)
	tryEvictions(t, plane)
	await(t, plane, right{"events.k8s.io", "events", "create"})
	used := notForbidden(t, plane)
	for r := range used {
		if r.resource == "secrets" {
			t.Errorf("%s on secrets was asked for", r.verb)
		}
	}
	for r := range granted(t, plane) {
		if r.resource == "validatingwebhookconfigurations" && !slices.Contains([]string{"get", "list", "watch"}, r.verb) {
			t.Errorf("%s on %s is granted", r.verb, r.resource)
		}
	}
}
