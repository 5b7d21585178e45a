package policies

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
)

// Volumes are asked for only by a set that reads them.
func TestRBACFollowsWhatIsRead(t *testing.T) {
	rule := func(group string, resources ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{Verbs: []string{"get", "list", "watch"}, APIGroups: []string{group}, Resources: resources}
	}
	always := []rbacv1.PolicyRule{
		rule("", "pods", "namespaces", "nodes", "replicationcontrollers"),
		rule("apps", "replicasets", "deployments", "statefulsets", "daemonsets"),
		rule("batch", "jobs", "cronjobs"),
		rule("policy", "poddisruptionbudgets"),
	}
	for name, tt := range map[string]struct {
		rules string
		more  []string
	}{
		"a policy that reads the pod":         {`deny contains "x" if input.pod.metadata.name == "a"`, nil},
		"a policy that reads a claim":         {"deny contains \"x\" if {\n\tsome claim in input.claims\n\tclaim.node_local\n}", []string{"persistentvolumeclaims", "persistentvolumes"}},
		"a policy that reads the whole input": {`deny contains "x" if count(input) > 1`, []string{"persistentvolumeclaims", "persistentvolumes"}},
	} {
		t.Run(name, func(t *testing.T) {
			want := append([]rbacv1.PolicyRule{rule("", append([]string{"pods", "namespaces", "nodes", "replicationcontrollers"}, tt.more...)...)}, always[1:]...)
			if diff := cmp.Diff(want, compiled(t, policy("x", tt.rules)).Needs().RBAC()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
