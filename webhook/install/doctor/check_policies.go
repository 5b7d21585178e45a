package doctor

import (
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// young is how long after a change a policy may have no status.
const young = time.Minute

// checkPolicies repeats what the status of EvictionPolicies says.
func checkPolicies(f *Facts, l *findings) {
	const check = "policies"
	a := f.Arguments.Value
	switch {
	case f.Policies.missing() && a != nil && a.Cluster:
		f.reapply(l.problem(check, "the CustomResourceDefinition %s is not installed, and a replica with --policies=cluster that starts now never gets ready", resource), "%s")
		return
	case f.Policies.missing():
		l.note(check, "the CustomResourceDefinition %s is not installed: policies come from elsewhere", resource)
		return
	case f.Policies.Err != nil:
		l.skip(check, "%s", f.Policies.why())
		return
	case a != nil && !a.Cluster && len(f.Policies.Value) > 0:
		l.warn(check, "none of %d EvictionPolicies is in force: the replicas serve without --policies=cluster", len(f.Policies.Value)).
			cure("add that to the arguments of Deployment %s/%s, or delete them", f.Namespace, f.Name).run("kubectl get %s", resource)
		return
	}
	bad := 0
	for _, p := range f.Policies.Value {
		switch {
		case p.Ready == "True":
		case p.Ready == "" && f.Now.Sub(p.Changed) < young:
			l.note(check, "EvictionPolicy %s has no status yet", p.Name)
			bad++
		case p.Ready == "":
			l.warn(check, "no replica has looked at EvictionPolicy %s as it is now", p.Name).
				cure("see that the replicas serve with --policies cluster and may patch %s/status", resource).
				run("kubectl -n %s logs deployment/%s --tail=20", f.Namespace, f.Name)
			bad++
		default:
			l.problem(check, "EvictionPolicy %s is not in force: %s", p.Name, oneLine(p.Message)).
				cure("correct it").run("kubectl edit evictionpolicy %s", p.Name)
			bad++
		}
	}
	if bad == 0 {
		l.ok(check, "%d EvictionPolicies, all in force", len(f.Policies.Value))
	}
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// policyOf reads an EvictionPolicy. A status of another generation is none.
func policyOf(o *unstructured.Unstructured) Policy {
	p := Policy{Name: o.GetName(), Changed: o.GetCreationTimestamp().Time}
	for _, m := range o.GetManagedFields() {
		if m.Subresource == "" && m.Time != nil && m.Time.After(p.Changed) {
			p.Changed = m.Time.Time
		}
	}
	if observed, _, _ := unstructured.NestedInt64(o.Object, "status", "observedGeneration"); observed >= o.GetGeneration() {
		p.Ready, p.Message = condition(o, "Ready")
	}
	return p
}
