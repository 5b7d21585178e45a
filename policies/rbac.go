package policies

import (
	rbacv1 "k8s.io/api/rbac/v1"
)

// gathered are the resources from which the Input is made, by API group. It is the one list of them: a
// test holds it to what is watched.
var gathered = []struct {
	group, resource string
	// field is the part of the Input that alone needs the resource; empty when every set does, since pods,
	// their owners and their budgets are looked at whatever the policies read.
	field string
}{
	{"", "pods", ""},
	{"", "namespaces", ""},
	{"", "nodes", ""},
	{"", "replicationcontrollers", ""},
	{"", "persistentvolumeclaims", "claims"},
	{"", "persistentvolumes", "claims"},
	{"apps", "replicasets", ""},
	{"apps", "deployments", ""},
	{"apps", "statefulsets", ""},
	{"apps", "daemonsets", ""},
	{"batch", "jobs", ""},
	{"batch", "cronjobs", ""},
	{"policy", "poddisruptionbudgets", ""},
}

// RBAC is what the service account must be allowed in every namespace so that what n reads can be
// gathered, one rule for each API group.
func (n *Needs) RBAC() []rbacv1.PolicyRule {
	var rules []rbacv1.PolicyRule
	for _, r := range gathered {
		if r.field != "" && !n.Reads(r.field) {
			continue
		}
		if last := len(rules) - 1; last >= 0 && rules[last].APIGroups[0] == r.group {
			rules[last].Resources = append(rules[last].Resources, r.resource)
			continue
		}
		rules = append(rules, rbacv1.PolicyRule{Verbs: []string{"get", "list", "watch"}, APIGroups: []string{r.group}, Resources: []string{r.resource}})
	}
	return rules
}
