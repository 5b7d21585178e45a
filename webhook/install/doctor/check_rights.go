package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/evictgate/evictgate/policies/v1alpha1"
)

// beyond are rights that serving does not need, and a thief of the service account's token would like; the webhook
// configuration's are needed where the own CA is written there.
func beyond(configuration string) (list []Access) {
	add := func(group, resource, name string, verbs ...string) {
		whole, sub, _ := strings.Cut(resource, "/")
		for _, verb := range verbs {
			list = append(list, Access{ResourceAttributes: authorizationv1.ResourceAttributes{Verb: verb, Group: group, Resource: whole, Subresource: sub, Name: name}})
		}
	}
	const admission, rbac = "admissionregistration.k8s.io", rbacv1.GroupName
	add("*", "*", "", "*")
	add(admission, "validatingwebhookconfigurations", configuration, "patch", "update")
	add(admission, "validatingwebhookconfigurations", "", "create", "patch")
	add(admission, "mutatingwebhookconfigurations", "", "create", "patch")
	add(admission, "validatingadmissionpolicies", "", "patch")
	add(v1alpha1.Group, v1alpha1.Resource, "", "create", "patch", "delete")
	add("", "secrets", "", "get", "list")
	add("", "pods", "", "create", "delete")
	add("", "pods/exec", "", "create")
	add("", "pods/eviction", "", "create")
	add("", "serviceaccounts/token", "", "create")
	add("", "users", "", "impersonate")
	add(rbac, "clusterroles", "", "bind", "escalate")
	return list
}

// needs reports whether serving needs what another right allows.
func (f *Facts) needs(a Access) bool {
	return slices.ContainsFunc(f.Access.Value, func(b Access) bool { return b.ResourceAttributes == a.ResourceAttributes })
}

// checkBeyond names what the service account may do and has no need to.
func checkBeyond(f *Facts, l *findings) {
	const check = "access.beyond"
	account := "system:serviceaccount:" + f.Namespace + ":" + f.serviceAccount()
	switch {
	case f.Deployment.Value == nil || f.Access.Err != nil: // another check says so
		return
	case f.Beyond.Err != nil:
		l.skip(check, "%s", f.Beyond.why())
		return
	}
	var list []string
	for _, a := range f.Beyond.Value {
		if !a.Allowed || f.needs(a) {
			continue
		}
		if a.Verb == "*" {
			list = []string{"do everything"}
			break
		}
		list = append(list, a.Verb+" "+a.what())
	}
	if len(list) > 0 {
		l.warn(check, "%s may %s, which serving does not need, and may whoever steals its token", account, some(list, 6)).
			cure("take the roles away that allow it").
			run("kubectl get clusterrolebindings,rolebindings -A -o wide | grep %s", f.serviceAccount())
		return
	}
	l.ok(check, "%s may do none of %d other things that a thief of its token would like", account, len(f.Beyond.Value))
}

// Grants are the roles of the cluster and those of the namespace, with those to whom they are given.
type Grants struct {
	ClusterRoles    []rbacv1.ClusterRole
	ClusterBindings []rbacv1.ClusterRoleBinding
	// Roles and Bindings are of the namespace of the installation.
	Roles    []rbacv1.Role
	Bindings []rbacv1.RoleBinding
}

// power is something that is as good as being the gate.
type power struct {
	text string
	// cluster is true when no Role of the namespace can give it.
	cluster bool
	any     []authorizationv1.ResourceAttributes
}

// powers are those that are looked for. Name is that of the object, which a rule may be bound to.
func (f *Facts) powers() []power {
	one := func(group, resource, name string, verbs ...string) (list []authorizationv1.ResourceAttributes) {
		for _, verb := range verbs {
			list = append(list, authorizationv1.ResourceAttributes{Verb: verb, Group: group, Resource: resource, Name: name})
		}
		return list
	}
	secret := f.Target.Name + "-ca"
	if a := f.Arguments.Value; a != nil {
		_, secret, _ = strings.Cut(cmp.Or(a.CASecret, "/"+secret), "/")
	}
	const admission = "admissionregistration.k8s.io"
	return []power{
		{"write EvictionPolicies", true, one(v1alpha1.Group, v1alpha1.Resource, "", "create", "update", "patch", "delete")},
		{"write the webhook configuration", true, one(admission, "validatingwebhookconfigurations", f.Target.Configuration, "update", "patch", "delete")},
		{"run programs in namespace " + f.Namespace, false, slices.Concat(one("", "pods/exec", "", "create", "get"), one("", "pods", "", "create"), one("apps", "deployments", f.Target.Name, "update", "patch"))},
		{"read Secret " + secret, false, one("", "secrets", secret, "get", "list")},
	}
}

// allows does what the API server's authorizer does with a rule.
// https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/apis/rbac/v1/evaluation_helpers.go
func allows(r rbacv1.PolicyRule, a authorizationv1.ResourceAttributes) bool {
	whole, sub, isSub := strings.Cut(a.Resource, "/")
	resources := []string{a.Resource, "*"}
	if isSub {
		resources = append(resources, "*/"+sub, whole+"/*")
	}
	return hasOne(r.Verbs, a.Verb, "*") && hasOne(r.APIGroups, a.Group, "*") && hasOne(r.Resources, resources...) &&
		(len(r.ResourceNames) == 0 || a.Name != "" && slices.Contains(r.ResourceNames, a.Name))
}

// gives reports whether one of the rules gives the power.
func (p power) gives(rules []rbacv1.PolicyRule) bool {
	return slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool {
		return slices.ContainsFunc(p.any, func(a authorizationv1.ResourceAttributes) bool { return allows(r, a) })
	})
}

// checkWriters names who else decides about evictions, or may become the gate. What Kubernetes itself comes with is left
// out, such as the administrators of system:masters and the controllers.
func checkWriters(f *Facts, l *findings) {
	const check = "access.writers"
	if f.Grants.Err != nil {
		l.skip(check, "%s", f.Grants.why())
		return
	}
	before := len(*l)
	for _, p := range f.powers() {
		who := f.who(p)
		if everybody := slices.DeleteFunc(slices.Clone(who), func(s string) bool { return !isEverybody(s) }); len(everybody) > 0 {
			l.warn(check, "%s may %s", some(everybody, 3), p.text).
				cure("take the binding away").run("kubectl get clusterrolebindings,rolebindings -A -o wide")
			continue
		}
		if len(who) > 0 {
			l.note(check, "beside system:masters, these may %s: %s", p.text, some(who, 8))
		}
	}
	if len(*l) == before {
		l.ok(check, "only system:masters and Kubernetes itself may write EvictionPolicies or the configuration, or be the gate")
	}
}

// isEverybody knows a group that one need not be put into.
func isEverybody(subject string) bool {
	for _, group := range []string{"system:authenticated", "system:unauthenticated", "system:serviceaccounts"} {
		if strings.HasPrefix(subject, "Group "+group+" ") {
			return true
		}
	}
	return strings.HasPrefix(subject, "User system:anonymous ")
}

// who has a power, by which binding.
func (f *Facts) who(p power) (list []string) {
	g := f.Grants.Value
	clusterRules, rules := map[string][]rbacv1.PolicyRule{}, map[string][]rbacv1.PolicyRule{}
	for _, r := range g.ClusterRoles {
		clusterRules[r.Name] = r.Rules
	}
	for _, r := range g.Roles {
		rules[r.Name] = r.Rules
	}
	add := func(binding string, labels map[string]string, subjects []rbacv1.Subject, rules []rbacv1.PolicyRule) {
		if labels["kubernetes.io/bootstrapping"] == "rbac-defaults" || !p.gives(rules) {
			return
		}
		for _, s := range subjects {
			if !f.isGate(s) {
				list = append(list, subjectText(s)+" ("+binding+")")
			}
		}
	}
	for _, b := range g.ClusterBindings {
		add("ClusterRoleBinding "+b.Name, b.Labels, b.Subjects, clusterRules[b.RoleRef.Name])
	}
	for _, b := range g.Bindings {
		from := rules
		if b.RoleRef.Kind == "ClusterRole" {
			from = clusterRules
		}
		if !p.cluster {
			add("RoleBinding "+b.Name, b.Labels, b.Subjects, from[b.RoleRef.Name])
		}
	}
	slices.Sort(list)
	return list
}

// isGate is the service account itself, whose rights other checks look at.
func (f *Facts) isGate(s rbacv1.Subject) bool {
	return s.Kind == rbacv1.ServiceAccountKind && s.Namespace == f.Namespace && s.Name == f.serviceAccount()
}

func subjectText(s rbacv1.Subject) string {
	if s.Namespace != "" {
		return fmt.Sprintf("%s %s/%s", s.Kind, s.Namespace, s.Name)
	}
	return s.Kind + " " + s.Name
}

// checkHeld sees to the policy that holds the service account to what it writes of the configuration.
func checkHeld(f *Facts, l *findings) {
	const check = "access.held"
	account := "system:serviceaccount:" + f.Namespace + ":" + f.serviceAccount()
	if f.Deployment.Value == nil || f.Configuration.Value == nil {
		return
	}
	switch may := f.mayWrite(); {
	case f.Beyond.Err != nil: // the check of what it may do says so
		return
	case !may:
		l.ok(check, "%s may not write the webhook configuration", account)
		return
	case f.Guard.hidden():
		l.skip(check, "%s", f.Guard.why())
		return
	case f.Bindings.Err != nil:
		l.skip(check, "%s", f.Bindings.why())
		return
	}
	if lack := f.notHeld(account); lack != "" {
		f.reapply(l.warn(check, "%s may change the webhook configuration as it likes, and so may whoever steals its token: %s", account, lack), "%s: config/least-rights and the chart hold the policy and its binding")
		return
	}
	l.ok(check, "ValidatingAdmissionPolicy %s holds %s to what the replicas write of the configuration", standard, account)
}

// mayWrite reports whether the service account may change the configuration.
func (f *Facts) mayWrite() bool {
	return slices.ContainsFunc(f.Beyond.Value, func(a Access) bool {
		return a.Allowed && a.Resource == "validatingwebhookconfigurations" && a.Name == f.Target.Configuration
	})
}

// notHeld says why the policy does not hold the account; empty when it does.
func (f *Facts) notHeld(account string) string {
	p := f.Guard.Value
	switch {
	case f.Guard.missing() || p == nil:
		return "there is no ValidatingAdmissionPolicy " + standard
	case p.Spec.FailurePolicy != nil && *p.Spec.FailurePolicy != admissionregistrationv1.Fail:
		return "the failurePolicy of ValidatingAdmissionPolicy " + standard + " is Ignore"
	case len(p.Spec.Validations) == 0 || p.Spec.MatchConstraints == nil || !slices.ContainsFunc(p.Spec.MatchConstraints.ResourceRules, f.covers):
		return "ValidatingAdmissionPolicy " + standard + " does not match an update of it"
	case !slices.ContainsFunc(p.Spec.MatchConditions, func(c admissionregistrationv1.MatchCondition) bool {
		return strings.Contains(c.Expression, "'"+account+"'")
	}):
		return "ValidatingAdmissionPolicy " + standard + " is about another service account"
	case !slices.ContainsFunc(f.Bindings.Value, f.binds):
		return "no ValidatingAdmissionPolicyBinding has ValidatingAdmissionPolicy " + standard + " deny anything"
	}
	return ""
}

// covers reports whether a rule of the policy matches an update of the configuration.
func (f *Facts) covers(r admissionregistrationv1.NamedRuleWithOperations) bool {
	return matches(r.RuleWithOperations, admissionregistrationv1.Update, "admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", "*", "*/*") &&
		(len(r.ResourceNames) == 0 || slices.Contains(r.ResourceNames, f.Target.Configuration))
}

// binds reports whether a binding puts the policy in force, for every update and with the namespace that it asks about.
func (f *Facts) binds(b admissionregistrationv1.ValidatingAdmissionPolicyBinding) bool {
	return b.Spec.PolicyName == standard && slices.Contains(b.Spec.ValidationActions, admissionregistrationv1.Deny) &&
		(b.Spec.MatchResources == nil || isEverything(b.Spec.MatchResources)) &&
		b.Spec.ParamRef != nil && b.Spec.ParamRef.Name == f.Namespace
}

func isEverything(m *admissionregistrationv1.MatchResources) bool {
	return isEmpty(m.NamespaceSelector) && isEmpty(m.ObjectSelector) && len(m.ResourceRules)+len(m.ExcludeResourceRules) == 0
}
