package attack

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/evictgate/evictgate/test/harness/kube"
)

// clusterAttacks need an API server, and most are sent by it.
func clusterAttacks() []attack {
	return []attack{
		{name: "C1_constant_bombs", cluster: true, what: "POSTs of short policies that compute much, without credentials", remains: "ordinary reviews go on", run: constants},
		{name: "C2_nested_bombs", cluster: true, what: "stored policies that take long to compile", remains: "later policies are loaded, a restart is ready", run: nested},
		{name: "H3_input_bombs", cluster: true, what: "policies in Audit that compute much at each eviction", remains: "other policies decide", run: atEvictions},
		{name: "H6_large_annotations", cluster: true, what: "a tenant's evictions with an annotation of 3 MB, half of them dry runs", remains: "a record has at most 32 KiB", run: largeAnnotations},
		{name: "H7_forged_counts", cluster: true, what: "forged reviews of evictions that a rate limit counts", remains: "the limit is not used up", run: forgedCounts},
		{name: "H7_forged_holds", cluster: true, what: "a forged review of an eviction that a policy delays", remains: "no hold begins", run: forgedHolds},
		{name: "H7_forged_overrides", cluster: true, what: "a forged review of an override", remains: "no Event, no record of an override", run: forgedOverrides},
		{name: "M8_impossible_evictions", cluster: true, what: "a tenant's evictions with a precondition that cannot hold", remains: "a rate limit is not used up", run: impossible},
		{name: "M9_rights_taken", cluster: true, what: "rights taken away, and watches broken", remains: "a pod that is protected meanwhile stays", run: rightsTaken},
	}
}

// policyReview is what the API server sends when somebody creates an EvictionPolicy.
func policyReview(uid, name, rego string) string {
	return string(encode(map[string]any{
		"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
		"request": map[string]any{
			"uid": uid, "operation": "CREATE", "name": name,
			"kind":     map[string]any{"group": "evictgate.dev", "version": "v1alpha1", "kind": "EvictionPolicy"},
			"resource": map[string]any{"group": "evictgate.dev", "version": "v1alpha1", "resource": "evictionpolicies"},
			"userInfo": map[string]any{"username": "mallory"},
			"object": map[string]any{
				"apiVersion": "evictgate.dev/v1alpha1", "kind": "EvictionPolicy", "metadata": map[string]any{"name": name},
				"spec": map[string]any{"rego": rego},
			},
		},
	}))
}

// constants floods both paths of the check: the one that everybody can guess, and the one that is configured.
func constants(st *stage) {
	c := install(st)
	h := c.befriended()
	var texts []string
	for i, b := range append(constantBombs(), nestedBombs()...) {
		id := fmt.Sprintf("bomb_%d", i)
		texts = append(texts, policyReview("bomb-"+id, strings.ReplaceAll(id, "_", "-"), b.module(id)))
	}
	for _, path := range slices.Compact([]string{"/validate-evictionpolicy", c.pathOf(1)}) {
		f := flood{Kind: "post", Address: c.subject.listen, Path: path + "?timeout=30s", Connections: 4, Texts: texts}
		f.Requests, f.Lasts = int64(len(texts)), 20*time.Second
		st.Log(help(st.T, "flood", f, "").result(st.T)) // each at least once, however long it takes
		st.lives(c.subject)
		if !c.subject.alive() {
			return
		}
		f.Requests, f.Every = 0, 100*time.Millisecond
		st.withstands(c.subject, h, f)
	}
}

// nested sends each to the check, which must refuse it or be done with it, and stores all past the check.
func nested(st *stage) {
	c := install(st)
	h := c.befriended()
	for i, b := range nestedBombs() {
		name := fmt.Sprintf("nested-%d", i)
		rego := b.module(strings.ReplaceAll(name, "-", "_"))
		seen := c.policy(name, map[string]any{"rego": rego})
		seen.SetLabels(map[string]string{checked: "true"})
		ctx, cancel := context.WithTimeout(st.Context(), 15*time.Second)
		_, err := c.plane.policies.Create(ctx, seen, metav1.CreateOptions{})
		cancel()
		st.row.sent++
		if err == nil {
			if err := c.serving(name); err != nil {
				st.Errorf("%s: stored as if it were right, but %v", b.name, err)
			}
			must(st.T, c.plane.policies.Delete(st.Context(), name, metav1.DeleteOptions{}))
		}
		c.store(name, map[string]any{"rego": rego})
	}
	c.store("later", map[string]any{"enforcement": "Audit", "rego": bomb{rego: "x := {1}"}.module("later")})
	c.serves("later")
	st.unharmed(c.subject, h)
	c.gate.Kill()
	must(st.T, c.gate.Relaunch(st.Context()))
	c.serves("later")
	must(st.T, c.refused("stays", http.StatusTooManyRequests))
}

func atEvictions(st *stage) {
	c := install(st)
	h := c.befriended()
	for i, b := range inputBombs() {
		name := fmt.Sprintf("input-%d", i)
		c.store(name, map[string]any{"enforcement": "Audit", "rego": b.module(strings.ReplaceAll(name, "-", "_"))})
	}
	c.store("later", map[string]any{"enforcement": "Audit", "rego": bomb{rego: "x := {1}"}.module("later")})
	c.serves("later")
	for range 10 {
		h.ask(st.Context())
		if !c.subject.alive() {
			break
		}
	}
	st.row.sent = 10
	st.unharmed(c.subject, h)
}

// largeAnnotations are sent by a tenant, about a pod that must stay.
func largeAnnotations(st *stage) {
	c := install(st)
	h := c.befriended()
	tenant := c.tenant()
	before := c.subject.records()
	const each = 15
	for i := range 2 * each {
		e := evictionOf("stays")
		if i%2 == 0 {
			dryRun(e)
		}
		e.Annotations = map[string]string{"example.com/pad": strings.Repeat("x", 3_000_000)}
		if err := c.evict(tenant, e); err == nil {
			st.Fatal("a protected pod was evicted")
		}
	}
	st.row.sent = 2 * each
	after := c.subject.records()
	if grown, most := after.bytes-before.bytes, (len(after.ids)-len(before.ids))*(32<<10); grown > most {
		st.Errorf("%d evictions left %d bytes of records; at most %d may be", len(after.ids)-len(before.ids), grown, most)
	}
	st.unharmed(c.subject, h)
}

// forge posts reviews to the path that everybody can guess. They must all be answered.
func (c *scene) forge(reviews ...review) {
	c.Helper()
	client := c.subject.client()
	for i, r := range reviews {
		r.UID, r.Namespace = fmt.Sprintf("forged-%d-%d", os.Getpid(), i), c.namespace
		if _, err := post(c.Context(), client, "https://"+c.subject.listen+"/validate-eviction?timeout=5s", r); err != nil {
			c.Logf("a forged review: %v", err) // a refusal of the caller is as good
		}
		c.row.sent++
	}
}

func forgedCounts(st *stage) {
	c := install(st)
	c.limit(2)
	for i := range 4 {
		c.pod(fmt.Sprintf("other-%d", i), nil)
	}
	c.pod("mine", nil)
	c.known("mine")
	var reviews []review
	for i := range 4 {
		reviews = append(reviews, review{Pod: fmt.Sprintf("other-%d", i), User: "mallory"})
	}
	c.forge(reviews...)
	if err := c.evict(nil, evictionOf("mine")); err != nil {
		st.Errorf("after forged reviews an eviction got: %v", err)
	}
	st.lives(c.subject)
}

// limit lets as many pods of the namespace be evicted in an hour.
func (c *scene) limit(n int64) {
	c.Helper()
	c.store("limit", map[string]any{"library": "rate_limit", "parameters": map[string]any{
		"limits": []any{map[string]any{"per": "namespace", "max": n, "period": "1h"}},
	}})
	c.serves("limit")
}

// known waits until the gate has seen a pod, by what only policies know of it.
func (c *scene) known(pod string) {
	c.Helper()
	c.pod("last", protected)
	c.until("the gate to know the newest pod", func() error { return c.refused("last", http.StatusTooManyRequests) })
}

// forgedHolds: a policy that delays for two seconds counts them from the first eviction that it delayed.
func forgedHolds(st *stage) {
	c := install(st)
	c.store("held", map[string]any{"maxHold": "2s", "rego": "package eviction.held\n\ndelay contains {\"reason\": \"it is held\", \"detail\": {}}\n"})
	c.serves("held")
	c.pod("mine", nil)
	c.known("mine")
	c.forge(review{Pod: "mine", User: "mallory"})
	time.Sleep(2500 * time.Millisecond)
	if err := c.evict(nil, evictionOf("mine")); !apierrors.IsTooManyRequests(err) {
		st.Errorf("after a forged review the first eviction of a pod that is to be held got: %v", err)
	}
	st.lives(c.subject)
}

func forgedOverrides(st *stage) {
	c := install(st, "--override-users", "ana")
	c.pod("mine", protected)
	c.until("the gate to know the pod", func() error { return c.refused("mine", http.StatusTooManyRequests) })
	c.forge(review{Pod: "mine", User: "ana", Annotations: map[string]string{"evictgate.dev/override": "because I can"}})
	c.forge(review{Pod: "mine", User: "ana"})
	c.subject.records()
	time.Sleep(time.Second) // for Events, which are written in their own time
	for _, m := range c.events() {
		if strings.Contains(m, "ana") {
			st.Errorf("an Event says %q", m)
		}
	}
	records := got(c.gate.Records())(st.T)
	for _, r := range records {
		if r.Result != nil && r.Result.Override != nil && r.Result.Override.Used {
			st.Errorf("a record says that %s used an override: %s", r.RequestedBy, r.DecisionID)
		}
	}
	if n := c.subject.sum("evictgate_overrides_total", `result="used"`); n > 0 {
		st.Errorf("%d overrides are counted", n)
	}
	st.lives(c.subject)
}

// impossible uses up a rate limit by evictions that the API server itself refuses after the gate admitted them: first
// by a precondition that is known to fail, then by a budget, which the gate only advises on.
func impossible(st *stage) {
	c := install(st, "--budgets", "advise")
	c.limit(2)
	tenant := c.tenant()
	var others []*corev1.Pod
	for i := range 4 {
		others = append(others, c.pod(fmt.Sprintf("other-%d", i), nil))
	}
	c.pod("mine", nil)
	c.known("mine")
	for _, pod := range others {
		e := evictionOf(pod.Name)
		e.DeleteOptions = &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: new(pod.UID), ResourceVersion: new("1")}}
		if err := c.evict(tenant, e); err == nil {
			st.Fatal("a precondition that cannot hold held")
		}
		st.row.sent++
	}
	if err := c.evict(nil, evictionOf("mine")); err != nil {
		st.Errorf("after evictions that were known to be impossible another got: %v", err)
	}
	if !*quick {
		c.blocked(tenant)
	}
	st.lives(c.subject)
}

// blocked uses up what is left of the limit by an eviction that a budget refuses: the gate cannot know its end, but
// sees that the pod stays.
func (c *scene) blocked(tenant kubernetes.Interface) {
	c.Helper()
	for i := range 2 {
		name := fmt.Sprintf("other-%d", i)
		_, err := c.plane.Client.PolicyV1().PodDisruptionBudgets(c.namespace).Create(c.Context(), kube.Budget(c.namespace, name, intstr.FromInt32(1)), metav1.CreateOptions{})
		must(c.T, err)
		if err := c.evict(tenant, evictionOf(name)); err == nil {
			c.Fatal("a pod was evicted against its budget")
		}
		c.row.sent++
	}
	c.pod("second", nil)
	ctx, cancel := context.WithTimeout(c.Context(), 60*time.Second)
	defer cancel()
	must(c.T, kube.Wait(ctx, "an eviction of another pod to be admitted", func(context.Context) (bool, error) {
		err := c.evict(nil, evictionOf("second"))
		time.Sleep(time.Second)
		return err == nil, err
	}))
}

// rightsTaken protects a pod while the gate cannot see it.
func rightsTaken(st *stage) {
	p := st.plane(st.T)
	const user = "evictgate-without-rights"
	bindings := p.Client.RbacV1().ClusterRoleBindings()
	_, err := bindings.Create(st.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: user},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	}, metav1.CreateOptions{})
	must(st.T, err)
	c := install(st, "--kubeconfig", st.kubeconfig(user))
	c.pod("mine", nil)
	c.known("mine")
	must(st.T, bindings.Delete(st.Context(), user, metav1.DeleteOptions{}))
	must(st.T, p.Restart(st.Context(), kube.APIServer)) // which ends the watches that the rights had allowed
	patch := []byte(`{"metadata":{"annotations":{"karpenter.sh/do-not-disrupt":"true"}}}`)
	_, err = p.Client.CoreV1().Pods(c.namespace).Patch(st.Context(), "mine", types.MergePatchType, patch, metav1.PatchOptions{})
	must(st.T, err)
	time.Sleep(3 * time.Second)
	if err := c.evict(nil, evictionOf("mine")); err == nil {
		st.Error("a pod that was protected 3 s before was evicted")
	}
	if _, err := p.Client.CoreV1().Pods(c.namespace).Get(st.Context(), "mine", metav1.GetOptions{}); err != nil {
		st.Errorf("the protected pod: %v", err)
	}
	st.lives(c.subject)
}

// kubeconfig is one of a user with no other rights than RBAC gives it.
func (st *stage) kubeconfig(user string) string {
	st.Helper()
	config := got(st.plane(st.T).UserConfig(user))(st.T)
	k := clientcmdapi.NewConfig()
	k.Clusters[user] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	k.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}
	k.Contexts[user] = &clientcmdapi.Context{Cluster: user, AuthInfo: user}
	k.CurrentContext = user
	file := filepath.Join(st.TempDir(), "kubeconfig")
	must(st.T, clientcmd.WriteToFile(*k, file))
	return file
}
