package store

import (
	"slices"
	"strings"
	"time"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
)

// facts are what decisions are filtered and counted by.
type facts struct {
	namespace, episode, pod, node, workload, user, evictor string
	dryRun, refused                                        bool
	outcome                                                policies.Outcome
	policies                                               []part
	budgets                                                []string
	// detail is other than whole in an entry of the table hours that lacks some of them.
	detail detail
}

// part is what a policy had in a decision.
type part struct {
	policy string
	did    effect
}

// effect is a set of what a policy did.
type effect uint64

const (
	refused effect = 1 << iota
	warned
	audited
	expired
	failed
	// undid failed, and that refused.
	undid
)

// blocker refuses an eviction: a policy, or a budget of a namespace.
type blocker struct {
	kind            record.BlockerKind
	namespace, name string
}

// title is the policy, or namespace/budget.
func (b blocker) title() string {
	if b.namespace == "" {
		return b.name
	}
	return b.namespace + "/" + b.name
}

func factsOf(r *record.Record) facts {
	reply := record.ReplyOf(r.Result, r.Timestamp)
	f := facts{
		namespace: clean(r.Request.Namespace), episode: clean(r.EpisodeID()), pod: clean(r.Request.Name), workload: clean(r.Workload()),
		user: clean(r.Request.User.Username), evictor: clean(r.Request.Evictor), dryRun: r.Request.DryRun, refused: reply.Refused(),
		outcome: policies.Outcome(clean(string(r.Result.Outcome))), policies: partsOf(r.Result),
	}
	if r.Pod != nil {
		f.node = clean(r.Pod.Node)
	}
	for _, b := range reply.Budgets {
		f.budgets = append(f.budgets, clean(b))
	}
	return f
}

// partsOf is sorted by policy.
func partsOf(d *policies.Decision) []part {
	did := map[string]effect{}
	for _, v := range d.Violations {
		did[clean(v.Policy)] |= effectOf(v)
	}
	for _, f := range d.Failures {
		did[clean(f.Policy)] |= failed
		if f.Enforcement == policies.Enforce && d.Outcome == policies.Undecided && !d.Allowed() {
			did[clean(f.Policy)] |= undid
		}
	}
	for _, c := range d.Causes {
		if c.Type == policies.PolicyCause {
			did[clean(c.Field)] |= refused
		}
	}
	parts := make([]part, 0, len(did))
	for policy, e := range did {
		parts = append(parts, part{policy, e})
	}
	slices.SortFunc(parts, func(a, b part) int { return strings.Compare(a.policy, b.policy) })
	return parts
}

// effectOf is nothing for a violation that enforces: whether it refused is said by the causes.
func effectOf(v policies.Violation) effect {
	switch {
	case v.Expired != nil:
		return expired
	case v.Enforcement == policies.Audit:
		return audited
	case v.Enforcement == policies.Warn, v.Effect == policies.Warning:
		return warned
	}
	return 0
}

// eachBlocker calls each with what refused; not at all when it was admitted.
func (f *facts) eachBlocker(each func(blocker)) {
	if !f.refused {
		return
	}
	for _, b := range f.budgets {
		each(blocker{budgetKind(len(f.budgets)), f.namespace, budgetName(b)})
	}
	for _, p := range f.policies {
		if p.did&refused != 0 {
			each(blocker{kind: record.ByPolicy, name: p.policy})
		}
		if p.did&undid != 0 {
			each(blocker{kind: record.ByFailure, name: p.policy})
		}
	}
}

func budgetKind(n int) record.BlockerKind {
	if n > 1 {
		return record.ByBudgets
	}
	return record.ByBudget
}

// budgetName is that of namespace/name, or of the name alone.
func budgetName(b string) string { return b[strings.LastIndexByte(b, '/')+1:] }

// names are the keys under which record_names has the record.
func (f *facts) names() []string {
	var names []string
	for _, p := range f.policies {
		names = append(names, "policy/"+p.policy)
	}
	for _, b := range f.budgets {
		if key := "budget/" + budgetName(b); !slices.Contains(names, key) {
			names = append(names, key)
		}
	}
	return names
}

// chooses reports whether a filter takes the decision, but for the time and the pod.
func (f *Filter) chooses(d *facts) bool {
	return (f.Namespace == "" || f.Namespace == d.namespace) &&
		(f.Workload == "" || f.Workload == d.workload || f.Workload == workloadName(d.workload)) &&
		(f.Node == "" || f.Node == d.node) &&
		(f.Evictor == "" || f.Evictor == d.evictor) &&
		(f.User == "" || f.User == d.user) &&
		(f.Outcome == "" || f.Outcome == d.outcome) &&
		(f.Policy == "" || slices.ContainsFunc(d.policies, func(p part) bool { return p.policy == f.Policy })) &&
		(f.Budget == "" || f.choosesBudget(d))
}

func (f *Filter) choosesBudget(d *facts) bool {
	namespace, name := splitBudget(f.Budget)
	return (namespace == "" || namespace == d.namespace) &&
		slices.ContainsFunc(d.budgets, func(b string) bool { return budgetName(b) == name })
}

// splitBudget cuts namespace/name; the namespace is empty where there is only a name.
func splitBudget(b string) (namespace, name string) {
	if i := strings.IndexByte(b, '/'); i >= 0 {
		return b[:i], b[i+1:]
	}
	return "", b
}

// workloadName is the name in Kind/name.
func workloadName(w string) string {
	_, name, _ := strings.Cut(w, "/")
	return name
}

// clean makes a filter's texts what they are in the store.
func (f Filter) clean() Filter {
	for _, s := range []*string{&f.Namespace, &f.Pod, &f.Workload, &f.Node, &f.Evictor, &f.User, &f.Policy, &f.Budget, &f.Episode} {
		*s = clean(*s)
	}
	f.Outcome, f.Fate = policies.Outcome(clean(string(f.Outcome))), record.Fate(clean(string(f.Fate)))
	return f
}

// rowOf is a record as lists show it.
func rowOf(r *record.Record) Row {
	reply := record.ReplyOf(r.Result, r.Timestamp)
	row := Row{
		ID: r.DecisionID, At: r.Timestamp, Episode: clean(r.EpisodeID()), Namespace: r.Request.Namespace, Pod: r.Request.Name, Workload: r.Workload(),
		User: r.Request.User.Username, Evictor: r.Request.Evictor, DryRun: r.Request.DryRun, Outcome: reply.Outcome, Code: reply.Code, Message: reply.Message,
		Kind: reply.Kind, Policies: some(reply.Policies), Budgets: some(reply.Budgets), Revision: r.Revision, Replica: r.Labels["id"],
	}
	if r.Pod != nil {
		row.Node = r.Pod.Node
	}
	return row
}

// some makes JSON's [] of a list that is nil.
func some[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// micros is a time as the store has it: microseconds since 1970.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}
