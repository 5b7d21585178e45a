package record

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/evictgate/evictgate/policies"
)

// Fate is what became of the pod of an episode.
type Fate string

const (
	// Evicted by the Eviction API.
	Evicted Fate = "evicted"
	// EvictedUnseen: evicted by the Eviction API without a decision of ours, as its audit log shows.
	EvictedUnseen Fate = "evicted_unseen"
	// RefusedByBudget: we admitted, and the API server's own look at the budgets refused.
	RefusedByBudget Fate = "refused_by_budget"
	// RefusedElsewhere: we admitted, and another webhook or the API server refused.
	RefusedElsewhere Fate = "refused_elsewhere"
	// Deleted around us: by a DELETE of the pod or a disruption that is not an eviction.
	Deleted Fate = "deleted"
	// Gone, finished or removed, and nobody saw by whom.
	Gone Fate = "gone"
	// AdmittedOnly: we admitted, and nothing is known of what came after.
	AdmittedOnly Fate = "admitted"
	// Blocked: the last answer is a refusal of ours, and the pod is still there as far as is known.
	Blocked Fate = "blocked"
)

// Fates lists all of them, the good ends first.
var Fates = []Fate{Evicted, AdmittedOnly, Blocked, RefusedByBudget, RefusedElsewhere, Deleted, Gone, EvictedUnseen}

// BlockerKind is what refuses an eviction.
type BlockerKind string

const (
	// ByBudget is a budget that allows no disruption now.
	ByBudget BlockerKind = "budget"
	// ByBudgets are two or more budgets on one pod: a human must act.
	ByBudgets BlockerKind = "misconfigured_budgets"
	// ByPolicy is a violation.
	ByPolicy BlockerKind = "policy"
	// ByFailure is a policy that could not be evaluated.
	ByFailure BlockerKind = "failure"
)

// BlockerKinds lists all of them.
var BlockerKinds = []BlockerKind{ByBudget, ByBudgets, ByPolicy, ByFailure}

// maxListed bounds the distinct evictors, and the distinct replies, that an episode lists: a policy's
// message may differ each time. What is beyond it is counted in the last one.
const maxListed = 32

// Episode is all that is known of one pod's evictions until the pod is gone: retries folded. It is made by
// Add, Answered and See, in any order and with the same result; dry runs have no part in it. The zero
// value is an empty episode.
type Episode struct {
	// ID is the pod's UID, or namespace/name where the UID is not known.
	ID        string `json:"id"`
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	PodUID    string `json:"pod_uid,omitempty"`
	Node      string `json:"node,omitempty"`
	// Workload is Kind/name of the pod's top controller; empty for a bare pod.
	Workload string `json:"workload,omitempty"`
	Fate     Fate   `json:"fate"`
	// First and Last are the times of the first and the last attempt; of the API server's answer when no
	// attempt passed us.
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	// Attempts are decisions; Outcomes counts them by outcome.
	Attempts int                      `json:"attempts"`
	Outcomes map[policies.Outcome]int `json:"outcomes,omitempty"`
	// Evictors says who tried, in the order of their first attempt.
	Evictors []Attempts `json:"evictors,omitempty"`
	// Replies says what they were told, in the order of the first time.
	Replies []Reply `json:"replies,omitempty"`
	// Latest is the last reply; null when no attempt passed us.
	Latest *Reply `json:"latest,omitempty"`
	// FirstRefused is the first attempt that was refused, and LastAdmitted the last that was admitted.
	FirstRefused time.Time `json:"first_refused,omitzero"`
	LastAdmitted time.Time `json:"last_admitted,omitzero"`
	// Eviction is the API server's answer that carried the eviction out, Refusal its last refusal of an
	// eviction that we did not refuse ourselves, Deletion that of a DELETE; null when its audit log has none.
	Eviction *Answer `json:"eviction,omitempty"`
	Refusal  *Answer `json:"refusal,omitempty"`
	Deletion *Answer `json:"deletion,omitempty"`
	// Unseen counts the API server's answers to evictions that did not pass us.
	Unseen int `json:"unseen,omitempty"`
	// Sighting is what the watch saw of the pod; null when it saw nothing.
	Sighting *Sighting `json:"sighting,omitempty"`
}

// Attempts are those of one user.
type Attempts struct {
	Evictor string    `json:"evictor"`
	User    string    `json:"user"`
	Count   int       `json:"count"`
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
}

// Reply is one answer of ours, and how often it was given.
type Reply struct {
	Outcome policies.Outcome `json:"outcome"`
	Code    int32            `json:"code"`
	Message string           `json:"message,omitempty"`
	// Kind is empty when admitted. Policies and Budgets are those that refuse.
	Kind     BlockerKind `json:"kind,omitempty"`
	Policies []string    `json:"policies,omitempty"`
	Budgets  []string    `json:"budgets,omitempty"`
	// Cures says what unblocks it, in the order a person would try.
	Cures []string  `json:"cures,omitempty"`
	Count int       `json:"count"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
}

// EpisodeID is the id of the episode that a record belongs to.
func (r *Record) EpisodeID() string {
	if r.Pod != nil && r.Pod.UID != "" {
		return r.Pod.UID
	}
	return r.Request.Namespace + "/" + r.Request.Name
}

// Workload is Kind/name of the owner; empty when there is none.
func (r *Record) Workload() string {
	if r.Owner == nil {
		return ""
	}
	return r.Owner.Kind + "/" + r.Owner.Name
}

// ReplyOf is what a decision answered.
func ReplyOf(d *policies.Decision, at time.Time) Reply {
	r := Reply{Outcome: d.Outcome, Code: d.Code, Message: d.Message, Count: 1, First: at, Last: at}
	for _, c := range d.Causes {
		if c.Type == policies.PolicyCause {
			r.Policies = addOnce(r.Policies, c.Field)
		} else {
			r.Budgets = strings.Split(c.Field, ",")
		}
	}
	if len(r.Budgets) > 0 && d.Disruption != nil {
		r.Cures = d.Disruption.Cures
	}
	if d.Outcome == policies.Undecided {
		for _, f := range d.Failures {
			if f.Enforcement == policies.Enforce {
				r.Policies = addOnce(r.Policies, f.Policy)
			}
		}
	}
	r.Kind = r.kind()
	return r
}

func (r *Reply) kind() BlockerKind {
	switch {
	case !r.Refused():
		return ""
	case r.Outcome == policies.Undecided:
		return ByFailure
	case len(r.Budgets) > 0:
		return ByBudgetsOf(len(r.Budgets))
	}
	return ByPolicy
}

// ByBudgetsOf is the kind of a refusal by so many budgets on one pod.
func ByBudgetsOf(n int) BlockerKind {
	if n > 1 {
		return ByBudgets
	}
	return ByBudget
}

func addOnce(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// Refused reports whether the eviction was.
func (r *Reply) Refused() bool { return r.Code >= 400 }

// Add folds a record in. The caller sees to it that each record is added once, and that it is of this
// episode and no dry run.
func (e *Episode) Add(r *Record) { e.AddReply(r, ReplyOf(r.Result, r.Timestamp)) }

// AddReply is Add for who has the record's ReplyOf.
func (e *Episode) AddReply(r *Record, reply Reply) {
	newest := e.Latest == nil || !r.Timestamp.Before(e.Latest.Last)
	e.identify(r, newest)
	e.span(r.Timestamp)
	e.Attempts++
	if e.Outcomes == nil {
		e.Outcomes = map[policies.Outcome]int{}
	}
	e.Outcomes[r.Result.Outcome]++
	e.Evictors = addAttempt(e.Evictors, Attempts{Evictor: r.Request.Evictor, User: r.Request.User.Username, Count: 1, First: r.Timestamp, Last: r.Timestamp})
	e.Replies = addReply(e.Replies, reply)
	if newest {
		e.Latest = &reply
	}
	if !reply.Refused() {
		e.LastAdmitted = later(e.LastAdmitted, r.Timestamp)
	} else {
		e.FirstRefused = earlier(e.FirstRefused, r.Timestamp)
	}
	e.Fate = e.fate()
}

// identify says whose episode it is; of what may change, such as the node of a pending pod, the newest
// counts.
func (e *Episode) identify(r *Record, newest bool) {
	e.ID, e.Namespace, e.Pod = r.EpisodeID(), r.Request.Namespace, r.Request.Name
	if r.Pod == nil {
		return
	}
	e.PodUID = r.Pod.UID
	if newest || e.Node == "" {
		e.Node = cmp.Or(r.Pod.Node, e.Node)
	}
	if newest || e.Workload == "" {
		e.Workload = cmp.Or(r.Workload(), e.Workload)
	}
}

func (e *Episode) span(at time.Time) {
	e.First, e.Last = earlier(e.First, at), later(e.Last, at)
}

// earlier and later leave out what is not known.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func addAttempt(list []Attempts, a Attempts) []Attempts {
	i := slices.IndexFunc(list, func(b Attempts) bool { return b.Evictor == a.Evictor && b.User == a.User })
	if i < 0 && len(list) < maxListed {
		list = append(list, a)
	} else {
		if i < 0 {
			i = len(list) - 1
		}
		b := &list[i]
		b.Count, b.First, b.Last = b.Count+a.Count, earlier(b.First, a.First), later(b.Last, a.Last)
	}
	slices.SortFunc(list, func(a, b Attempts) int {
		return cmp.Or(a.First.Compare(b.First), cmp.Compare(a.Evictor, b.Evictor), cmp.Compare(a.User, b.User))
	})
	return list
}

func addReply(list []Reply, r Reply) []Reply {
	switch i := slices.IndexFunc(list, r.says); {
	case i >= 0:
		if !r.Last.Before(list[i].Last) {
			list[i].Cures = r.Cures
		}
		list[i].again(r)
	case len(list) < maxListed:
		list = append(list, r)
	default:
		list[len(list)-1].again(r)
	}
	slices.SortFunc(list, func(a, b Reply) int {
		return cmp.Or(a.First.Compare(b.First), cmp.Compare(a.Outcome, b.Outcome), cmp.Compare(a.Message, b.Message), cmp.Compare(a.Code, b.Code),
			slices.Compare(a.Policies, b.Policies), slices.Compare(a.Budgets, b.Budgets))
	})
	return list
}

// says reports whether both say the same: two policies may well have the same message.
func (r *Reply) says(o Reply) bool {
	return o.Outcome == r.Outcome && o.Code == r.Code && o.Message == r.Message && o.Kind == r.Kind &&
		slices.Equal(o.Policies, r.Policies) && slices.Equal(o.Budgets, r.Budgets)
}

// again counts another reply.
func (r *Reply) again(o Reply) {
	r.Count, r.First, r.Last = r.Count+o.Count, earlier(r.First, o.First), later(r.Last, o.Last)
}

// Answered folds in how the API server answered. The caller sees to it that each answer is folded once.
// Dry runs, and what never came as far as a webhook, have no part in an episode.
func (e *Episode) Answered(a Answer) {
	if a.DryRun || a.Passage == NotCalled {
		return
	}
	if e.ID == "" {
		e.ID, e.Namespace, e.Pod, e.PodUID = cmp.Or(a.PodUID, a.Namespace+"/"+a.Pod), a.Namespace, a.Pod, a.PodUID
	}
	if a.Verb == VerbEvict && a.Passage != Decided {
		e.Unseen++
		e.span(a.At)
	}
	switch {
	case a.Verb == VerbDelete && a.Succeeded():
		keepLatest(&e.Deletion, a)
	case a.Verb == VerbEvict && a.Succeeded():
		keepLatest(&e.Eviction, a)
	case a.Verb == VerbEvict && a.RefusedBy != "":
		keepLatest(&e.Refusal, a)
	}
	e.Fate = e.fate()
}

func keepLatest(at **Answer, a Answer) {
	if o := *at; o == nil || cmp.Or(a.At.Compare(o.At), cmp.Compare(a.ID, o.ID)) > 0 {
		*at = &a
	}
}

// See folds in what the watch saw of the pod.
func (e *Episode) See(s Sighting) {
	if e.ID == "" {
		e.ID, e.Namespace, e.Pod, e.PodUID = s.PodUID, s.Namespace, s.Pod, s.PodUID
	}
	if o := e.Sighting; o != nil {
		s.EvictedByAPI = s.EvictedByAPI || o.EvictedByAPI
		s.DisruptedBy = max(s.DisruptedBy, o.DisruptedBy)
		s.Terminating, s.Finished, s.Gone = earlier(s.Terminating, o.Terminating), earlier(s.Finished, o.Finished), earlier(s.Gone, o.Gone)
	}
	e.Sighting = &s
	e.Fate = e.fate()
}

// Over reports whether the pod is gone or on its way.
func (e *Episode) Over() bool {
	s := e.Sighting
	return e.Eviction != nil || e.Deletion != nil ||
		(s != nil && (!s.Terminating.IsZero() || !s.Finished.IsZero() || !s.Gone.IsZero()))
}

// Stuck reports whether the pod's eviction is refused and was tried again after since.
func (e *Episode) Stuck(since time.Time) bool { return e.Fate == Blocked && !e.Last.Before(since) }

func (e *Episode) fate() Fate {
	switch {
	case e.Over():
		return e.end()
	case e.Latest != nil && e.Latest.Refused():
		return Blocked
	case e.Refusal == nil || e.Refusal.At.Before(e.LastAdmitted):
		return AdmittedOnly
	case e.Refusal.RefusedBy == RefuserBudget:
		return RefusedByBudget
	}
	return RefusedElsewhere
}

// end is the fate of a pod that is gone. The API server marks each pod that it evicts, so one that was
// seen terminating without the mark was deleted in another way.
func (e *Episode) end() Fate {
	s := e.Sighting
	switch {
	case e.Eviction != nil && e.Eviction.Passage != Decided:
		return EvictedUnseen
	case e.Eviction != nil, s != nil && s.EvictedByAPI:
		return Evicted
	case e.Deletion != nil, s != nil && (s.DisruptedBy != "" || !s.Terminating.IsZero()):
		return Deleted
	}
	return Gone
}
