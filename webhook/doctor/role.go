package doctor

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/policies/v1alpha1"
)

// Role is what a user must be allowed for every check but that of the CA's Secret, which holds a private key.
// Evictions are allowed of the one pod that is tried, and that does not exist.
func Role() *rbacv1.ClusterRole {
	rule := func(group string, resources []string, verbs ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: resources, Verbs: verbs}
	}
	evict := rule("", []string{"pods/eviction"}, "create")
	evict.ResourceNames = []string{probePod}
	return &rbacv1.ClusterRole{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole"},
		ObjectMeta: metav1.ObjectMeta{Name: "evictgate-doctor"},
		Rules: []rbacv1.PolicyRule{
			rule("admissionregistration.k8s.io", []string{"validatingwebhookconfigurations"}, "get", "list"),
			rule("", []string{"namespaces", "nodes", "pods"}, "list"),
			rule("", []string{"services", "pods/log"}, "get"),
			rule("discovery.k8s.io", []string{"endpointslices"}, "list"),
			rule("apps", []string{"deployments"}, "get"),
			rule("policy", []string{"poddisruptionbudgets"}, "list"),
			rule("cert-manager.io", []string{"certificates"}, "get"),
			rule(v1alpha1.Group, []string{v1alpha1.Resource}, "list"),
			rule("authorization.k8s.io", []string{"subjectaccessreviews"}, "create"),
			evict,
		},
	}
}
