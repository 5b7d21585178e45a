// Package rights says what the service account of a serving Evictgate must be allowed, by how it serves.
package rights

import (
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/component-helpers/auth/rbac/validation"

	"github.com/evictgate/evictgate/certs"
	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook"
	"github.com/evictgate/evictgate/webhook/access/tokens"
	"github.com/evictgate/evictgate/webhook/callers"
	"github.com/evictgate/evictgate/webhook/cluster"
	"github.com/evictgate/evictgate/webhook/evictionpolicy"
	"github.com/evictgate/evictgate/webhook/install/registration"
)

// Serving says how an Evictgate serves, as far as it matters to what it must be allowed.
type Serving struct {
	// Needs are what of the cluster is read.
	Needs *policies.Needs
	// Configuration is the name of the webhook configuration.
	Configuration string
	// CASecret is the Secret of the own CA; empty with certificates from files.
	CASecret string
	// PathSecret is the Secret of a secret path that is kept; empty without.
	PathSecret string
	// Owner is the namespace that the webhook configuration is tied to, if Ties.
	Owner string
	Ties  bool
	// EvictionPolicies says that those of the cluster are followed, Tokens that tokens are checked with the API server.
	EvictionPolicies, Tokens bool
}

// Rules are for a service account.
type Rules struct {
	// Namespaced are for a Role in the namespace of the CA's Secret, Cluster for a ClusterRole.
	Namespaced, Cluster []rbacv1.PolicyRule
}

// Rules are all that is asked of the API server, and no more. The manifests are made from them, and a test runs a server
// under them.
func (s Serving) Rules() Rules {
	// The own webhook configuration is read in both modes.
	var secret []rbacv1.PolicyRule
	configuration := certs.FilesRules(s.Configuration)
	if s.CASecret != "" {
		secret, configuration = certs.SelfRules(s.CASecret, s.Configuration)
	}
	if s.PathSecret != "" {
		secret = with(secret, callers.Rules(s.PathSecret)...)
		configuration[0].Verbs = slices.Compact(append(configuration[0].Verbs, "patch"))
	}
	r := Rules{Namespaced: secret, Cluster: with(cluster.RBAC(s.Needs), configuration...)}
	if s.Ties {
		r.Cluster = with(r.Cluster, registration.Rules(s.Owner, s.Configuration)...)
	}
	r.Cluster = append(r.Cluster, webhook.EventRules()...)
	if s.EvictionPolicies {
		r.Cluster = append(r.Cluster, evictionpolicy.Rules()...)
	}
	if s.Tokens {
		r.Cluster = append(r.Cluster, tokens.Rules()...)
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
