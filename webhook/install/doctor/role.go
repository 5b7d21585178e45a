package doctor

import (
	"cmp"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/policies/v1alpha1"
)

// roleName is that of both roles.
const roleName = "evictgate-doctor"

// Roles are what a user must be allowed for every check but those of Secrets, which hold private keys: in the whole
// cluster, and in the namespace of the installation. Evictions are allowed of the one pod that is tried, and that does
// not exist.
func Roles(namespace string) (*rbacv1.ClusterRole, *rbacv1.Role) {
	rule := func(group string, resources []string, verbs ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: resources, Verbs: verbs}
	}
	evict := rule("", []string{"pods/eviction"}, "create")
	evict.ResourceNames = []string{probePod}
	version := rbacv1.SchemeGroupVersion.String()
	return &rbacv1.ClusterRole{
			TypeMeta:   metav1.TypeMeta{APIVersion: version, Kind: "ClusterRole"},
			ObjectMeta: metav1.ObjectMeta{Name: roleName},
			Rules: []rbacv1.PolicyRule{
				rule("admissionregistration.k8s.io", []string{"validatingwebhookconfigurations"}, "get", "list"),
				rule("admissionregistration.k8s.io", []string{"validatingadmissionpolicies"}, "get"),
				rule("admissionregistration.k8s.io", []string{"mutatingadmissionpolicies", "mutatingwebhookconfigurations", "validatingadmissionpolicybindings"}, "list"),
				rule(rbacv1.GroupName, []string{"clusterrolebindings", "clusterroles"}, "list"),
				rule("", []string{"namespaces", "nodes"}, "list"),
				rule("discovery.k8s.io", []string{"endpointslices"}, "list"), // the API servers' are in another namespace
				rule(v1alpha1.Group, []string{v1alpha1.Resource}, "list"),
				rule("authorization.k8s.io", []string{"subjectaccessreviews"}, "create"),
				evict,
			},
		}, &rbacv1.Role{
			TypeMeta:   metav1.TypeMeta{APIVersion: version, Kind: "Role"},
			ObjectMeta: metav1.ObjectMeta{Name: roleName, Namespace: cmp.Or(namespace, standard)},
			Rules: []rbacv1.PolicyRule{
				rule("", []string{"pods"}, "list"),
				rule("", []string{"services", "pods/log"}, "get"),
				rule("apps", []string{"deployments"}, "get"),
				rule("policy", []string{"poddisruptionbudgets"}, "list"),
				rule(rbacv1.GroupName, []string{"rolebindings", "roles"}, "list"),
				rule("cert-manager.io", []string{"certificates"}, "get"),
			},
		}
}
