package main

import (
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/evictgate/evictgate/certs"
	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/v1alpha1"
	"github.com/evictgate/evictgate/webhook/page"
)

// serviceRules are what the service account of a serving process must be allowed.
type serviceRules struct {
	// Namespaced are for a Role in the namespace of the CA's Secret, Cluster for a ClusterRole.
	Namespaced, Cluster []rbacv1.PolicyRule
}

// rules are all that `evictgate serve` with these flags asks of the API server, and no more; needs says what
// its policies read. The manifests are made from it, and a test runs serve under them.
func (f *serveFlags) rules(needs *policies.Needs) serviceRules {
	if f.records.full() {
		needs = policies.EverythingNeeded()
	}
	secret, configuration := certs.SelfRules(f.certSecret, f.webhookConfiguration)
	// The own webhook configuration is read in both modes, and owned by the namespace, so that it goes with it.
	r := serviceRules{Cluster: slices.Concat(needs.RBAC(), configuration, eventRules())}
	if f.certs == "self" {
		r.Namespaced = secret
	}
	if slices.Contains(f.sources.names(), sourceCluster) {
		r.Cluster = append(r.Cluster, evictionPolicyRules()...)
	}
	if f.metricsAuth || (f.page.on() && !page.Loopback(f.page.listen)) {
		r.Cluster = append(r.Cluster, delegationRules()...)
	}
	return r
}

// eventRules are for the Events of refusals; a repeated one is patched.
func eventRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{{Verbs: []string{"create", "patch"}, APIGroups: []string{"events.k8s.io"}, Resources: []string{"events"}}}
}

// evictionPolicyRules are for --policies cluster: the policies, and what is said of them in their status.
func evictionPolicyRules() []rbacv1.PolicyRule {
	groups := []string{v1alpha1.Group}
	return []rbacv1.PolicyRule{
		{Verbs: []string{"get", "list", "watch"}, APIGroups: groups, Resources: []string{v1alpha1.Resource}},
		{Verbs: []string{"patch"}, APIGroups: groups, Resources: []string{v1alpha1.Resource + "/status"}},
	}
}

// delegationRules are those of system:auth-delegator, to which the manifests bind: whose token it is, and
// what they may do.
func delegationRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{Verbs: []string{"create"}, APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"tokenreviews"}},
		{Verbs: []string{"create"}, APIGroups: []string{"authorization.k8s.io"}, Resources: []string{"subjectaccessreviews"}},
	}
}
