package certs

import (
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

// SelfRules are the rules that [Self] needs and no more: namespaced ones for a
// Role in the Secret's namespace, cluster ones for a ClusterRole. Only create
// is not bound to a name, since RBAC cannot know the name of what is created.
// List and watch work under a name because every request carries a
// metadata.name field selector.
func SelfRules(secretName, webhookConfiguration string) (namespaced, cluster []rbacv1.PolicyRule) {
	namespaced = []rbacv1.PolicyRule{{
		APIGroups:     []string{corev1.GroupName},
		Resources:     []string{"secrets"},
		ResourceNames: []string{secretName},
		Verbs:         []string{"get", "list", "watch", "update"},
	}, {
		APIGroups: []string{corev1.GroupName},
		Resources: []string{"secrets"},
		Verbs:     []string{"create"},
	}}
	cluster = FilesRules(webhookConfiguration)
	cluster[0].Verbs = append(cluster[0].Verbs, "patch")
	return namespaced, cluster
}

// FilesRules are the rules that [Files] needs in a cluster, for a ClusterRole.
func FilesRules(webhookConfiguration string) []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{{
		APIGroups:     []string{admissionv1.GroupName},
		Resources:     []string{"validatingwebhookconfigurations"},
		ResourceNames: []string{webhookConfiguration},
		Verbs:         []string{"get", "list", "watch"},
	}}
}
