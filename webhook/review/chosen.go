package review

import (
	"slices"
	"strings"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// Chosen reports whether a filter chooses a record, as a store would.
func Chosen(f *store.Filter, r *record.Record) bool {
	workload := r.Workload()
	_, workloadName, _ := strings.Cut(workload, "/")
	pod, node := r.EpisodeID(), ""
	if r.Pod != nil {
		node = r.Pod.Node
	}
	inTime := !r.Timestamp.Before(f.Since) && (f.Until.IsZero() || r.Timestamp.Before(f.Until))
	return inTime && (f.DryRuns || !r.Request.DryRun) &&
		either(f.Namespace, r.Request.Namespace) && either(f.Pod, r.Request.Name, pod) &&
		either(f.Workload, workload, workloadName) && either(f.Node, node) &&
		either(f.Evictor, r.Request.Evictor) && either(f.User, r.Request.User.Username) &&
		either(string(f.Outcome), string(r.Result.Outcome)) &&
		either(f.Policy, policiesIn(r.Result)...) && either(f.Budget, budgetsIn(r)...)
}

// either reports whether what is wanted is one of some values; nothing wanted is fine.
func either(wanted string, values ...string) bool {
	return wanted == "" || slices.Contains(values, wanted)
}

func policiesIn(d *policies.Decision) []string {
	var names []string
	for _, v := range d.Violations {
		names = append(names, v.Policy)
	}
	for _, f := range d.Failures {
		names = append(names, f.Policy)
	}
	return names
}

// budgetsIn are the budgets that refuse, by name and by namespace/name.
func budgetsIn(r *record.Record) []string {
	reply := record.ReplyOf(r.Result, r.Timestamp)
	names := reply.Budgets
	for _, name := range reply.Budgets {
		names = append(names, r.Request.Namespace+"/"+name)
	}
	return names
}
