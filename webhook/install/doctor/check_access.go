package doctor

import (
	"fmt"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Accesses lists what rules allow, one by one; a rule for a Role counts in its namespace.
func Accesses(namespace string, rules []rbacv1.PolicyRule) []Access {
	var list []Access
	for _, r := range rules {
		names := r.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, group := range r.APIGroups {
			for _, whole := range r.Resources {
				resource, sub, _ := strings.Cut(whole, "/")
				for _, name := range names {
					for _, verb := range r.Verbs {
						list = append(list, Access{ResourceAttributes: authorizationv1.ResourceAttributes{
							Namespace: namespace, Verb: verb, Group: group, Resource: resource, Subresource: sub, Name: name,
						}})
					}
				}
			}
		}
	}
	return list
}

// what an access is to, in kubectl's words.
func (a Access) what() string {
	text := a.Resource
	if a.Group != "" {
		text += "." + a.Group
	}
	if a.Subresource != "" {
		text += "/" + a.Subresource
	}
	if a.Name != "" {
		text += " " + a.Name
	}
	if a.Namespace != "" {
		text += " in namespace " + a.Namespace
	}
	return text
}

// checkAccess says what the service account lacks, and which policies need it.
func checkAccess(f *Facts, l *findings) {
	const check = "access"
	account := "system:serviceaccount:" + f.Namespace + ":" + f.serviceAccount()
	switch {
	case f.Deployment.missing():
		l.skip(check, "by which account the gate reads the cluster is not known: there is no Deployment")
		return
	case f.Deployment.Err != nil:
		l.skip(check, "by which account the gate reads the cluster is not known: %s", f.Deployment.why())
		return
	case apierrors.IsForbidden(f.Access.Err):
		l.skip(check, "%s; ask for create on subjectaccessreviews.authorization.k8s.io", f.Access.why())
		return
	case f.Access.Err != nil:
		l.skip(check, "%s", f.Access.why())
		return
	}
	lacks := lacksOf(f.Access.Value)
	for _, m := range lacks {
		text := fmt.Sprintf("%s may not %s %s", account, m.verbs, strings.Join(m.what, ", "))
		if m.by != "" {
			text += "; needed by " + m.by
		}
		f.reapply(l.problem(check, "%s", text), "allow it in ClusterRole or Role %s; %s", f.Name)
	}
	if len(lacks) > 0 {
		return
	}
	text := fmt.Sprintf("%s may do all %d things that serving needs", account, len(f.Access.Value))
	if a := f.Arguments.Value; a != nil && len(a.Elsewhere) > 0 {
		text += ", beside what policies from " + some(a.Elsewhere, 3) + " may read, which is not known here"
	}
	l.ok(check, "%s", text)
}

// lack is what is not allowed, by the same verbs and for the same policies.
type lack struct {
	verbs, by string
	what      []string
}

// lacksOf joins what is told alike.
func lacksOf(list []Access) []lack {
	verbs, by := map[string][]string{}, map[string]string{}
	var order []string
	for _, a := range list {
		if a.Allowed {
			continue
		}
		what := a.what()
		if verbs[what] == nil {
			order = append(order, what)
		}
		verbs[what], by[what] = append(verbs[what], a.Verb), some(a.For, 3)
	}
	var lacks []lack
	for _, what := range order {
		joined := strings.Join(verbs[what], ", ")
		i := slices.IndexFunc(lacks, func(l lack) bool { return l.verbs == joined && l.by == by[what] })
		if i < 0 {
			i = len(lacks)
			lacks = append(lacks, lack{verbs: joined, by: by[what]})
		}
		lacks[i].what = append(lacks[i].what, what)
	}
	return lacks
}

func (f *Facts) serviceAccount() string {
	if d := f.Deployment.Value; d != nil && d.Spec.Template.Spec.ServiceAccountName != "" {
		return d.Spec.Template.Spec.ServiceAccountName
	}
	return "default"
}
