package main

import (
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/component-helpers/auth/rbac/validation"

	"github.com/evictgate/evictgate/certs"
	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/v1alpha1"
	"github.com/evictgate/evictgate/webhook/callers"
	"github.com/evictgate/evictgate/webhook/cluster"
	"github.com/evictgate/evictgate/webhook/install/registration"
	"github.com/evictgate/evictgate/webhook/review/page"
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
	// The own webhook configuration is read in both modes.
	var secret []rbacv1.PolicyRule
	configuration := certs.FilesRules(f.webhookConfiguration)
	if f.certs == "self" {
		secret, configuration = certs.SelfRules(f.certSecret, f.webhookConfiguration)
	}
	if f.pathMode() == pathKeep {
		secret = with(secret, callers.Rules(f.path.secret)...)
		configuration[0].Verbs = slices.Compact(append(configuration[0].Verbs, "patch"))
	}
	r := serviceRules{Namespaced: secret, Cluster: with(cluster.RBAC(needs), configuration...)}
	if f.registration.ties(f.certs) {
		r.Cluster = with(r.Cluster, registration.Rules(f.certNamespace, f.webhookConfiguration)...)
	}
	r.Cluster = append(r.Cluster, eventRules()...)
	if slices.Contains(f.sources.names(), sourceCluster) {
		r.Cluster = append(r.Cluster, evictionPolicyRules()...)
	}
	if f.metricsAuth || (f.page.on() && !page.Loopback(f.page.listen)) {
		r.Cluster = append(r.Cluster, delegationRules()...)
	}
	return r
}

// with adds rules, and says nothing twice: verbs on the same objects make one rule, and what is allowed on all
// objects is not allowed on some.
func with(rules []rbacv1.PolicyRule, more ...rbacv1.PolicyRule) []rbacv1.PolicyRule {
	for _, r := range more {
		if covered, _ := validation.Covers(rules, []rbacv1.PolicyRule{r}); covered {
			continue
		}
		same := slices.IndexFunc(rules, func(o rbacv1.PolicyRule) bool {
			return slices.Equal(o.APIGroups, r.APIGroups) && slices.Equal(o.Resources, r.Resources) && slices.Equal(o.ResourceNames, r.ResourceNames)
		})
		if same < 0 {
			rules = append(rules, r)
			continue
		}
		for _, verb := range r.Verbs {
			if !slices.Contains(rules[same].Verbs, verb) {
				rules[same].Verbs = append(rules[same].Verbs, verb)
			}
		}
	}
	return rules
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
