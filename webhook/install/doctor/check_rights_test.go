package doctor

import (
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// allow gives the service account a right.
func allow(f *Facts, verb, what string) {
	for i, a := range f.Beyond.Value {
		if a.Verb == verb && a.what() == what {
			f.Beyond.Value[i].Allowed = true
		}
	}
}

// give binds a ClusterRole with one rule.
func give(f *Facts, subject rbacv1.Subject, rule rbacv1.PolicyRule) {
	f.Grants.Value.ClusterRoles = append(f.Grants.Value.ClusterRoles, rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "given"}, Rules: []rbacv1.PolicyRule{rule}})
	f.Grants.Value.ClusterBindings = append(f.Grants.Value.ClusterBindings, rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "gives"}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "given"}, Subjects: []rbacv1.Subject{subject},
	})
}

// Each case takes one thing away that holds the service account, or gives somebody a right.
func TestWhoMayWhatIsNamed(t *testing.T) {
	jane := rbacv1.Subject{Kind: "User", Name: "jane"}
	policies := rbacv1.PolicyRule{Verbs: []string{"patch"}, APIGroups: []string{"evictgate.dev"}, Resources: []string{"evictionpolicies"}}
	for name, c := range map[string]struct {
		change func(*Facts)
		check  string
		status Status
		text   string
	}{
		"nothing": {func(*Facts) {}, "access.held", OK, "holds system:serviceaccount:evictgate:evictgate to what the replicas write"},
		"no policy": {func(f *Facts) { f.Guard = Fact[*admissionregistrationv1.ValidatingAdmissionPolicy]{Err: notFound("p")} }, "access.held", Warning,
			"may change the webhook configuration as it likes, and so may whoever steals its token: there is no ValidatingAdmissionPolicy evictgate"},
		"a policy that cannot be read": {func(f *Facts) {
			f.Guard = Fact[*admissionregistrationv1.ValidatingAdmissionPolicy]{Err: forbidden("p")}
		}, "access.held", NotChecked, "no permission"},
		"bindings that cannot be read": {func(f *Facts) { f.Bindings.Err = forbidden("b") }, "access.held", NotChecked, "no permission"},
		"no binding":                   {func(f *Facts) { f.Bindings.Value = nil }, "access.held", Warning, "no ValidatingAdmissionPolicyBinding has"},
		"a binding that only warns": {func(f *Facts) {
			f.Bindings.Value[0].Spec.ValidationActions = []admissionregistrationv1.ValidationAction{"Warn"}
		}, "access.held", Warning, "no ValidatingAdmissionPolicyBinding has"},
		"a binding with another namespace": {func(f *Facts) { f.Bindings.Value[0].Spec.ParamRef.Name = "gates" }, "access.held", Warning, "no ValidatingAdmissionPolicyBinding has"},
		"a binding for some": {func(f *Facts) {
			f.Bindings.Value[0].Spec.MatchResources = &admissionregistrationv1.MatchResources{ObjectSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}}
		}, "access.held", Warning, "no ValidatingAdmissionPolicyBinding has"},
		"a policy about another account": {func(f *Facts) {
			f.Guard.Value.Spec.MatchConditions[0].Expression = "request.userInfo.username == 'system:serviceaccount:gates:evictgate'"
		}, "access.held", Warning, "is about another service account"},
		"a policy that fails open": {func(f *Facts) { f.Guard.Value.Spec.FailurePolicy = new(admissionregistrationv1.Ignore) }, "access.held", Warning, "is Ignore"},
		"a policy about another configuration": {func(f *Facts) {
			f.Guard.Value.Spec.MatchConstraints.ResourceRules[0].ResourceNames = []string{"other"}
		}, "access.held", Warning, "does not match an update of it"},
		"an account that may not write it": {func(f *Facts) {
			f.Guard.Err, f.Beyond.Value = notFound("p"), beyond("evictgate")
		}, "access.held", OK, "may not write the webhook configuration"},
		"a right to all Secrets": {func(f *Facts) { allow(f, "list", "secrets") }, "access.beyond", Warning, "may list secrets, which serving does not need"},
		"all rights":             {func(f *Facts) { allow(f, "*", "*.*"); allow(f, "list", "secrets") }, "access.beyond", Warning, "may do everything, which"},
		"a right that only the own CA needs": {func(f *Facts) { f.Access.Value = nil }, "access.beyond", Warning,
			"may patch validatingwebhookconfigurations.admissionregistration.k8s.io evictgate, which serving does not need"},
		"rights that cannot be asked": {func(f *Facts) { f.Beyond.Err = forbidden("r") }, "access.beyond", NotChecked, "no permission"},
		"nobody else":                 {func(*Facts) {}, "access.writers", OK, "only system:masters"},
		"somebody who writes policies": {func(f *Facts) { give(f, jane, policies) }, "access.writers", Note,
			"beside system:masters, these may write EvictionPolicies: User jane (ClusterRoleBinding gives)"},
		"everybody writes policies": {func(f *Facts) { give(f, rbacv1.Subject{Kind: "Group", Name: "system:authenticated"}, policies) }, "access.writers", Warning,
			"Group system:authenticated (ClusterRoleBinding gives) may write EvictionPolicies"},
		"somebody who reads the CA's key": {func(f *Facts) {
			f.Grants.Value.Roles = []rbacv1.Role{{ObjectMeta: metav1.ObjectMeta{Name: "given"}, Rules: []rbacv1.PolicyRule{{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"secrets"}}}}}
			f.Grants.Value.Bindings = []rbacv1.RoleBinding{{ObjectMeta: metav1.ObjectMeta{Name: "gives"}, RoleRef: rbacv1.RoleRef{Kind: "Role", Name: "given"}, Subjects: []rbacv1.Subject{jane}}}
		}, "access.writers", Note, "these may read Secret evictgate-ca: User jane (RoleBinding gives)"},
		"somebody who runs programs": {func(f *Facts) {
			give(f, rbacv1.Subject{Kind: "ServiceAccount", Namespace: "ci", Name: "runner"}, rbacv1.PolicyRule{Verbs: []string{"create"}, APIGroups: []string{""}, Resources: []string{"*/exec"}})
		}, "access.writers", Note, "these may run programs in namespace evictgate: ServiceAccount ci/runner (ClusterRoleBinding gives)"},
		"a rule for one object": {func(f *Facts) {
			give(f, jane, rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{"other"}})
		}, "access.writers", OK, "only system:masters"},
		"what Kubernetes comes with": {func(f *Facts) {
			give(f, jane, policies)
			f.Grants.Value.ClusterBindings[0].Labels = map[string]string{"kubernetes.io/bootstrapping": "rbac-defaults"}
		}, "access.writers", OK, "only system:masters"},
		"roles that cannot be read": {func(f *Facts) { f.Grants.Err = forbidden("r") }, "access.writers", NotChecked, "no permission"},
	} {
		t.Run(name, func(t *testing.T) {
			f := whole(t)
			c.change(f)
			got := findingOf(t, f, c.check, c.status, c.text)
			if c.status == Warning && !strings.Contains(got.Cure, " ") {
				t.Errorf("it is not said what to do: %+v", got)
			}
		})
	}
}
