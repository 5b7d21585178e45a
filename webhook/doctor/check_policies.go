package doctor

import (
	"strings"
	"time"
)

// young is the age below which a policy may have no status yet.
const young = time.Minute

// checkPolicies repeats what the status of EvictionPolicies says.
func checkPolicies(f *Facts, l *findings) {
	const check = "policies"
	switch {
	case f.Policies.missing():
		l.note(check, "the CustomResourceDefinition %s is not installed: policies come from elsewhere", resource)
		return
	case f.Policies.Err != nil:
		l.skip(check, "%s", f.Policies.why())
		return
	}
	bad := 0
	for _, p := range f.Policies.Value {
		switch {
		case p.Ready == "True":
		case p.Ready == "" && f.Now.Sub(p.Created) < young:
			l.note(check, "EvictionPolicy %s has no status yet", p.Name)
			bad++
		case p.Ready == "":
			l.warn(check, "no replica has looked at EvictionPolicy %s", p.Name).
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
