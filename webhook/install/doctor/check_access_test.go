package doctor

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

func TestRulesBecomeQuestions(t *testing.T) {
	got := Accesses("evictgate", []rbacv1.PolicyRule{
		{Verbs: []string{"get", "list"}, APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{"evictgate-ca"}},
		{Verbs: []string{"patch"}, APIGroups: []string{"evictgate.dev"}, Resources: []string{"evictionpolicies/status"}},
	})
	want := []Access{
		{ResourceAttributes: authorizationv1.ResourceAttributes{Namespace: "evictgate", Verb: "get", Resource: "secrets", Name: "evictgate-ca"}},
		{ResourceAttributes: authorizationv1.ResourceAttributes{Namespace: "evictgate", Verb: "list", Resource: "secrets", Name: "evictgate-ca"}},
		{ResourceAttributes: authorizationv1.ResourceAttributes{Namespace: "evictgate", Verb: "patch", Group: "evictgate.dev", Resource: "evictionpolicies", Subresource: "status"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestWhatIsLackingIsToldTogether(t *testing.T) {
	ask := func(verb, resource string, allowed bool, by ...string) Access {
		return Access{ResourceAttributes: authorizationv1.ResourceAttributes{Verb: verb, Resource: resource}, Allowed: allowed, For: by}
	}
	got := lacksOf([]Access{
		ask("get", "pods", false), ask("list", "pods", false), ask("get", "nodes", false), ask("list", "nodes", false),
		ask("get", "secrets", true), ask("list", "secrets", false),
		ask("get", "claims", false, "EvictionPolicy/disks"), ask("list", "claims", false, "EvictionPolicy/disks"),
	})
	want := []lack{
		{verbs: "get, list", what: []string{"pods", "nodes"}},
		{verbs: "list", what: []string{"secrets"}},
		{verbs: "get, list", by: "EvictionPolicy/disks", what: []string{"claims"}},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(lack{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
