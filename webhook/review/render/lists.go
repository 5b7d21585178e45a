package render

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/store"
)

const both = Table | Wide

// Decisions is the list of decisions.
var Decisions = Sheet[store.Row]{
	{Name: "timestamp", Data: func(r *store.Row) string { return Time(r.At) }, Title: "TIME", In: both, Cell: func(s *Style, r *store.Row) string { return s.Time(r.At) }},
	{Name: "decision_id", Data: func(r *store.Row) string { return r.ID }, Title: "ID", In: both, Cell: func(s *Style, r *store.Row) string { return s.ID(r.ID) }},
	{Name: "episode", Data: func(r *store.Row) string { return r.Episode }},
	{Name: "namespace", Data: func(r *store.Row) string { return r.Namespace }},
	{Name: "pod", Data: func(r *store.Row) string { return r.Pod }, Title: "POD", In: both, Cell: func(_ *Style, r *store.Row) string { return r.Namespace + "/" + r.Pod }},
	{Name: "workload", Data: func(r *store.Row) string { return r.Workload }, Title: "WORKLOAD", In: Wide},
	{Name: "node", Data: func(r *store.Row) string { return r.Node }, Title: "NODE", In: Wide},
	{Name: "evictor", Data: func(r *store.Row) string { return r.Evictor }, Title: "EVICTOR", In: both, Cell: func(s *Style, r *store.Row) string { return s.evictor(r) }},
	{Name: "user", Data: func(r *store.Row) string { return r.User }, Title: "USER", In: Wide},
	{Name: "dry_run", Data: func(r *store.Row) string { return strconv.FormatBool(r.DryRun) }},
	{Name: "outcome", Data: func(r *store.Row) string { return string(r.Outcome) }, Title: "OUTCOME", In: both, Cell: func(_ *Style, r *store.Row) string { return outcomeOf(r) }},
	{Name: "code", Data: func(r *store.Row) string { return strconv.Itoa(int(r.Code)) }},
	{Name: "kind", Data: func(r *store.Row) string { return string(r.Kind) }, Title: "BLOCKER", In: Wide, Cell: func(_ *Style, r *store.Row) string { return output.OrDash(Blocker(r.Kind, r.Policies, r.Budgets)) }},
	{Name: "policies", Data: func(r *store.Row) string { return List(r.Policies) }},
	{Name: "budgets", Data: func(r *store.Row) string { return List(r.Budgets) }},
	{Name: "message", Data: func(r *store.Row) string { return r.Message }, Title: "WHY", In: both, Cell: func(s *Style, r *store.Row) string { return s.Message(Reason(r.Message)) }},
	{Name: "revision", Data: func(r *store.Row) string { return r.Revision }},
	{Name: "replica", Data: func(r *store.Row) string { return r.Replica }},
}

// evictor is the user in a table that has no column for users.
func (s *Style) evictor(r *store.Row) string {
	if s.Layout == Wide {
		return r.Evictor
	}
	return EvictorName(r.Evictor, r.User)
}

func outcomeOf(r *store.Row) string {
	text := string(r.Outcome)
	if r.Code >= 400 {
		text += " " + strconv.Itoa(int(r.Code))
	}
	if r.DryRun {
		text += " (dry run)"
	}
	return text
}

// Episodes is the list of pods, and what became of them.
var Episodes = Sheet[record.Episode]{
	{Name: "id", Data: func(e *record.Episode) string { return e.ID }, Title: "ID", In: Wide},
	{Name: "namespace", Data: func(e *record.Episode) string { return e.Namespace }},
	{Name: "pod", Data: func(e *record.Episode) string { return e.Pod }, Title: "POD", In: both, Cell: func(_ *Style, e *record.Episode) string { return e.Namespace + "/" + e.Pod }},
	{Name: "pod_uid", Data: func(e *record.Episode) string { return e.PodUID }},
	{Name: "workload", Data: func(e *record.Episode) string { return e.Workload }, Title: "WORKLOAD", In: Wide},
	{Name: "node", Data: func(e *record.Episode) string { return e.Node }, Title: "NODE", In: Wide},
	{Name: "fate", Data: func(e *record.Episode) string { return string(e.Fate) }, Title: "FATE", In: both, Cell: func(_ *Style, e *record.Episode) string { return Fate(e.Fate) }},
	{Name: "attempts", Data: func(e *record.Episode) string { return strconv.Itoa(e.Attempts) }, Title: "TRIES", In: both},
	{Name: "first", Data: func(e *record.Episode) string { return Time(e.First) }, Title: "FIRST", In: both, Cell: func(s *Style, e *record.Episode) string { return s.Time(e.First) }},
	{Name: "last", Data: func(e *record.Episode) string { return Time(e.Last) }, Title: "LAST", In: both, Cell: func(s *Style, e *record.Episode) string { return s.Time(e.Last) }},
	{Name: "first_refused", Data: func(e *record.Episode) string { return Time(e.FirstRefused) }},
	{Name: "last_admitted", Data: func(e *record.Episode) string { return Time(e.LastAdmitted) }},
	{Name: "evictors", Data: func(e *record.Episode) string { return List(evictorsOf(e)) }, Title: "EVICTORS", In: both, Cell: func(_ *Style, e *record.Episode) string { return EvictorNames(e.Evictors) }},
	{Name: "users", Data: func(e *record.Episode) string { return List(usersOf(e)) }},
	{Name: "outcome", Data: func(e *record.Episode) string { return string(latest(e).Outcome) }},
	{Name: "code", Data: func(e *record.Episode) string { return strconv.Itoa(int(latest(e).Code)) }},
	{Name: "kind", Data: func(e *record.Episode) string { return string(latest(e).Kind) }, Title: "BLOCKER", In: Wide, Cell: func(_ *Style, e *record.Episode) string { return output.OrDash(BlockerOf(e)) }},
	{Name: "policies", Data: func(e *record.Episode) string { return List(latest(e).Policies) }},
	{Name: "budgets", Data: func(e *record.Episode) string { return List(latest(e).Budgets) }},
	{Name: "message", Data: lastMessage, Title: "WHY", In: both, Cell: func(s *Style, e *record.Episode) string { return s.Message(Reason(lastMessage(e))) }},
	{Name: "cures", Data: func(e *record.Episode) string { return List(latest(e).Cures) }},
}

func latest(e *record.Episode) *record.Reply {
	if e.Latest == nil {
		return &record.Reply{}
	}
	return e.Latest
}

// lastMessage is what the last attempt was told; the API server's own words when it refused what we admitted.
func lastMessage(e *record.Episode) string {
	if (e.Fate == record.RefusedByBudget || e.Fate == record.RefusedElsewhere) && e.Refusal != nil {
		return e.Refusal.Message
	}
	return latest(e).Message
}

// Fate is a fate in words.
func Fate(f record.Fate) string { return strings.ReplaceAll(string(f), "_", " ") }

func evictorsOf(e *record.Episode) (names []string) {
	for _, a := range e.Evictors {
		names = AddOnce(names, a.Evictor)
	}
	return names
}

func usersOf(e *record.Episode) (names []string) {
	for _, a := range e.Evictors {
		names = AddOnce(names, a.User)
	}
	return names
}

// AddOnce adds a name to a list that does not have it yet.
func AddOnce(names []string, name string) []string {
	if slices.Contains(names, name) {
		return names
	}
	return append(names, name)
}

// EvictorName is an evictor, or the user when it has no name of its own.
func EvictorName(evictor, user string) string {
	switch evictor {
	case "user", "node", "service-account", "":
		return output.Cut(strings.TrimPrefix(output.Line(user), "system:serviceaccount:"), maxName)
	}
	return evictor
}

// maxName bounds a user's name in a table, in columns.
const maxName = 40

// EvictorNames names as many of those who tried as a cell has room for.
func EvictorNames(list []record.Attempts) string {
	var names []string
	for _, a := range list {
		names = AddOnce(names, EvictorName(a.Evictor, a.User))
	}
	if more := len(names) - maxEvictors; more > 0 {
		names = append(names[:maxEvictors], fmt.Sprintf("+%d", more))
	}
	return output.OrDash(strings.Join(names, ","))
}

// maxEvictors bounds those that a cell names.
const maxEvictors = 2

// BlockerOf names what refused the last attempt; empty when nothing did.
func BlockerOf(e *record.Episode) string {
	r := latest(e)
	return Blocker(r.Kind, r.Policies, r.Budgets)
}

// Blocker names what refuses; empty when nothing does.
func Blocker(kind record.BlockerKind, policies, budgets []string) string {
	switch kind {
	case record.ByBudget:
		return "budget " + strings.Join(budgets, ", ")
	case record.ByBudgets:
		return fmt.Sprintf("%d budgets: %s", len(budgets), strings.Join(budgets, ", "))
	case record.ByPolicy:
		return policyWord(policies) + strings.Join(policies, ", ")
	case record.ByFailure:
		return "failed " + policyWord(policies) + strings.Join(policies, ", ")
	}
	return ""
}

func policyWord(policies []string) string {
	if len(policies) == 1 {
		return "policy "
	}
	return "policies "
}

// Reason is a message without the sentence that every refusal by a budget begins with.
func Reason(message string) string {
	return strings.TrimPrefix(message, policies.BudgetSentence+" ")
}
