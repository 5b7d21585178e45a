package store

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
)

// facts are what decisions are filtered and counted by. Records and the sums of them have these columns.
type facts struct {
	namespace, workloadKind, workloadName, node, user, evictor string
	outcome                                                    policies.Outcome
	dryRun, refused                                            bool
	// policies lists NAME=refused,audited and the like, and budgets names, with a space in between.
	policies, budgets string
}

var factColumns = []string{
	"namespace", "workload_kind", "workload_name", "node", "username", "evictor", "outcome", "dry_run", "refused", "policies", "budgets",
}

// values are those of factColumns.
func (f *facts) values() []any {
	return []any{
		f.namespace, f.workloadKind, f.workloadName, f.node, f.user, f.evictor, string(f.outcome), f.dryRun, f.refused, f.policies, f.budgets,
	}
}

// targets are where factColumns are scanned to.
func (f *facts) targets() []any {
	return []any{
		&f.namespace, &f.workloadKind, &f.workloadName, &f.node, &f.user, &f.evictor, (*string)(&f.outcome), &f.dryRun, &f.refused, &f.policies, &f.budgets,
	}
}

// digest is a key of a bounded length for all of them.
func (f *facts) digest() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", f.values()))
	return hex.EncodeToString(sum[:12])
}

func factsOf(r *record.Record, reply *record.Reply) facts {
	f := facts{
		namespace: clean(r.Request.Namespace), user: clean(r.Request.User.Username), evictor: clean(r.Request.Evictor),
		outcome: policies.Outcome(clean(string(r.Result.Outcome))), dryRun: r.Request.DryRun, refused: reply.Refused(),
		policies: joinParts(partsOf(r.Result)), budgets: joinNames(reply.Budgets),
	}
	f.workloadKind, f.workloadName = splitWorkload(clean(r.Workload()))
	if r.Pod != nil {
		f.node = clean(r.Pod.Node)
	}
	return f
}

// part is what a policy had in a decision.
type part struct {
	policy string
	did    effect
}

// effect is a set of what a policy did.
type effect uint

const (
	refused effect = 1 << iota
	warned
	audited
	expired
	failed
	// undid failed, and that refused.
	undid
)

// effects are the words for them.
var effects = []struct {
	effect effect
	word   string
}{{refused, "refused"}, {warned, "warned"}, {audited, "audited"}, {expired, "expired"}, {failed, "failed"}, {undid, "undecided"}}

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

func joinParts(parts []part) string {
	list := make([]string, len(parts))
	for i, p := range parts {
		var did []string
		for _, e := range effects {
			if p.did&e.effect != 0 {
				did = append(did, e.word)
			}
		}
		list[i] = escape(p.policy) + "=" + strings.Join(did, ",")
	}
	return strings.Join(list, " ")
}

func splitParts(text string) []part {
	var parts []part
	for _, one := range strings.Fields(text) {
		policy, did, _ := strings.Cut(one, "=")
		p := part{policy: unescape(policy)}
		for _, e := range effects {
			if slices.Contains(strings.Split(did, ","), e.word) {
				p.did |= e.effect
			}
		}
		parts = append(parts, p)
	}
	return parts
}

func joinNames(budgets []string) string {
	list := make([]string, len(budgets))
	for i, b := range budgets {
		list[i] = escape(budgetName(clean(b)))
	}
	return strings.Join(list, " ")
}

func splitNames(text string) []string {
	names := strings.Fields(text)
	for i, name := range names {
		names[i] = unescape(name)
	}
	return names
}

// escape leaves a name that Kubernetes takes as it is. In any other it replaces what separates names.
func escape(name string) string {
	if name == "" {
		return "%"
	}
	return url.QueryEscape(name)
}

func unescape(name string) string {
	text, err := url.QueryUnescape(name)
	if err != nil { // the empty name
		return ""
	}
	return text
}

// blocker refuses an eviction. Its name is that of a policy, or namespace/name of a budget.
type blocker struct {
	kind record.BlockerKind
	name string
}

// blockers are what refused; none when it was admitted.
func (f *facts) blockers() []blocker {
	if !f.refused {
		return nil
	}
	var list []blocker
	budgets := splitNames(f.budgets)
	for _, b := range budgets {
		list = append(list, blocker{record.ByBudgetsOf(len(budgets)), f.namespace + "/" + b})
	}
	for _, p := range splitParts(f.policies) {
		if p.did&refused != 0 {
			list = append(list, blocker{record.ByPolicy, p.policy})
		}
		if p.did&undid != 0 {
			list = append(list, blocker{record.ByFailure, p.policy})
		}
	}
	return list
}

// budgetName is that of namespace/name, or of the name alone.
func budgetName(b string) string { return b[strings.LastIndexByte(b, '/')+1:] }

// names are the keys under which record_names has a record.
func (f *facts) names() []string {
	var names []string
	for _, p := range splitParts(f.policies) {
		names = append(names, "policy/"+p.policy)
	}
	for _, b := range splitNames(f.budgets) {
		if key := "budget/" + b; !slices.Contains(names, key) {
			names = append(names, key)
		}
	}
	return names
}

// splitBudget cuts namespace/name; the namespace is empty where there is only a name.
func splitBudget(b string) (namespace, name string) {
	if i := strings.IndexByte(b, '/'); i >= 0 {
		return b[:i], b[i+1:]
	}
	return "", b
}

// splitWorkload cuts Kind/name; the name is empty where there is no slash.
func splitWorkload(w string) (kind, name string) {
	kind, name, _ = strings.Cut(w, "/")
	return kind, name
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
