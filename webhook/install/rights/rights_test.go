package rights

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/cluster"
)

const registrations = "admissionregistration.k8s.io"

// about are the rules about a resource.
func about(rules []rbacv1.PolicyRule, resource string) []rbacv1.PolicyRule {
	var list []rbacv1.PolicyRule
	for _, r := range rules {
		if slices.Contains(r.Resources, resource) {
			list = append(list, r)
		}
	}
	return list
}

func rule(group, resource, name string, verbs ...string) rbacv1.PolicyRule {
	r := rbacv1.PolicyRule{Verbs: verbs, APIGroups: []string{group}, Resources: []string{resource}}
	if name != "" {
		r.ResourceNames = []string{name}
	}
	return r
}

// Each way of serving is allowed what it needs of a resource, and nothing beyond.
func TestRulesOfAResource(t *testing.T) {
	configuration := func(verbs ...string) []rbacv1.PolicyRule {
		return []rbacv1.PolicyRule{rule(registrations, "validatingwebhookconfigurations", "mine", verbs...)}
	}
	secret := func(name string) rbacv1.PolicyRule {
		return rule("", "secrets", name, "get", "list", "watch", "update")
	}
	create := rule("", "secrets", "", "create")
	for name, tt := range map[string]struct {
		serving    Serving
		namespaced bool
		resource   string
		want       []rbacv1.PolicyRule
	}{
		"files only read the configuration":           {Serving{}, false, "validatingwebhookconfigurations", configuration("get", "list", "watch")},
		"an own CA writes the configuration":          {Serving{CASecret: "ca"}, false, "validatingwebhookconfigurations", configuration("get", "list", "watch", "patch")},
		"a secret path is written, too":               {Serving{PathSecret: "path"}, false, "validatingwebhookconfigurations", configuration("get", "list", "watch", "patch")},
		"who does both may do it once":                {Serving{CASecret: "ca", PathSecret: "path"}, false, "validatingwebhookconfigurations", configuration("get", "list", "watch", "patch")},
		"who ties the configuration writes it":        {Serving{Ties: true, Owner: "evictgate"}, false, "validatingwebhookconfigurations", configuration("get", "list", "watch", "patch")},
		"the owner alone gives no right":              {Serving{Owner: "evictgate"}, false, "validatingwebhookconfigurations", configuration("get", "list", "watch")},
		"files need no Secret":                        {Serving{}, true, "secrets", nil},
		"an own CA keeps a Secret":                    {Serving{CASecret: "ca"}, true, "secrets", []rbacv1.PolicyRule{secret("ca"), create}},
		"policies of the cluster are not followed":    {Serving{}, false, "evictionpolicies", nil},
		"policies of the cluster are followed":        {Serving{EvictionPolicies: true}, false, "evictionpolicies", []rbacv1.PolicyRule{rule("evictgate.dev", "evictionpolicies", "", "get", "list", "watch")}},
		"and their status is written":                 {Serving{EvictionPolicies: true}, false, "evictionpolicies/status", []rbacv1.PolicyRule{rule("evictgate.dev", "evictionpolicies/status", "", "patch")}},
		"tokens are not reviewed":                     {Serving{}, false, "tokenreviews", nil},
		"tokens are reviewed":                         {Serving{Tokens: true}, false, "tokenreviews", []rbacv1.PolicyRule{rule("authentication.k8s.io", "tokenreviews", "", "create")}},
		"and what their users may do":                 {Serving{Tokens: true}, false, "subjectaccessreviews", []rbacv1.PolicyRule{rule("authorization.k8s.io", "subjectaccessreviews", "", "create")}},
		"Events are written by all":                   {Serving{}, false, "events", []rbacv1.PolicyRule{rule("events.k8s.io", "events", "", "create", "patch")}},
		"the claims of pods are only read when asked": {Serving{}, false, "persistentvolumeclaims", nil},
	} {
		t.Run(name, func(t *testing.T) {
			tt.serving.Needs, tt.serving.Configuration = &policies.Needs{}, "mine"
			r := tt.serving.Rules()
			got := r.Cluster
			if tt.namespaced {
				got = r.Namespaced
			}
			if diff := cmp.Diff(tt.want, about(got, tt.resource)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// A Secret of each name is named, and creating one is allowed once.
func TestBothSecretsAreNamed(t *testing.T) {
	r := Serving{Needs: &policies.Needs{}, Configuration: "mine", CASecret: "ca", PathSecret: "path"}.Rules()
	var names []string
	creates := 0
	for _, rule := range r.Namespaced {
		names = append(names, rule.ResourceNames...)
		if len(rule.ResourceNames) == 0 {
			creates++
			if diff := cmp.Diff([]string{"create"}, rule.Verbs); diff != "" {
				t.Errorf("on every Secret -want +got:\n%s", diff)
			}
		}
	}
	if diff := cmp.Diff([]string{"ca", "path"}, names); diff != "" || creates != 1 {
		t.Errorf("%d rules to create, names -want +got:\n%s", creates, diff)
	}
}

// What the policies read is part of the rules, whatever else is asked.
func TestWhatPoliciesReadIsAllowed(t *testing.T) {
	for _, needs := range []*policies.Needs{{}, policies.EverythingNeeded()} {
		got := Serving{Needs: needs, Configuration: "mine"}.Rules().Cluster
		for _, want := range cluster.RBAC(needs) {
			if !slices.ContainsFunc(got, func(r rbacv1.PolicyRule) bool { return cmp.Equal(r, want) }) {
				t.Errorf("%v is not allowed", want)
			}
		}
	}
}

// Rules that are asked for twice do not change what was asked for first.
func TestRulesAreMadeAnew(t *testing.T) {
	s := Serving{Needs: policies.EverythingNeeded(), Configuration: "mine", CASecret: "ca", PathSecret: "path", Ties: true, Owner: "evictgate", EvictionPolicies: true, Tokens: true}
	first, second := s.Rules(), s.Rules()
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("-first +second:\n%s", diff)
	}
}

func TestWithSaysNothingTwice(t *testing.T) {
	get := rule("", "pods", "", "get")
	for name, tt := range map[string]struct {
		rules, more, want []rbacv1.PolicyRule
	}{
		"nothing":                       {nil, nil, nil},
		"another resource":              {[]rbacv1.PolicyRule{get}, []rbacv1.PolicyRule{rule("", "nodes", "", "get")}, []rbacv1.PolicyRule{get, rule("", "nodes", "", "get")}},
		"the same again":                {[]rbacv1.PolicyRule{get}, []rbacv1.PolicyRule{get}, []rbacv1.PolicyRule{get}},
		"another verb":                  {[]rbacv1.PolicyRule{get}, []rbacv1.PolicyRule{rule("", "pods", "", "list", "get")}, []rbacv1.PolicyRule{rule("", "pods", "", "get", "list")}},
		"a name that is allowed anyway": {[]rbacv1.PolicyRule{get}, []rbacv1.PolicyRule{rule("", "pods", "web", "get")}, []rbacv1.PolicyRule{get}},
		"a name with another verb":      {[]rbacv1.PolicyRule{get}, []rbacv1.PolicyRule{rule("", "pods", "web", "patch")}, []rbacv1.PolicyRule{get, rule("", "pods", "web", "patch")}},
		"another group":                 {[]rbacv1.PolicyRule{get}, []rbacv1.PolicyRule{rule("metrics.k8s.io", "pods", "", "get")}, []rbacv1.PolicyRule{get, rule("metrics.k8s.io", "pods", "", "get")}},
		"two of the added that are one": {nil, []rbacv1.PolicyRule{get, rule("", "pods", "", "list")}, []rbacv1.PolicyRule{rule("", "pods", "", "get", "list")}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, with(slices.Clone(tt.rules), tt.more...)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
