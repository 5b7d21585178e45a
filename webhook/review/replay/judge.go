package replay

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	policyv1 "k8s.io/api/policy/v1"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
)

// Reason is why a decision is not judged.
type Reason string

const (
	// ReadsBeyond: a policy reads what the record does not hold.
	ReadsBeyond Reason = "reads_beyond"
	// Erased: what is needed is not whole in the record: a mask took it out, or it was too long.
	Erased Reason = "erased"
	// NotDecided: then the decision was not the policies': a panic, a timeout, or none were loaded.
	NotDecided Reason = "not_decided"
	// OldRecord: the record is from before it held what a replay needs.
	OldRecord Reason = "old_record"
	// Unreadable: the record is of a later version, or its input is none.
	Unreadable Reason = "unreadable"
	// Unended: a policy did not end in time now.
	Unended Reason = "unended"
)

// obstacle is what keeps a decision from being judged.
type obstacle struct {
	Reason Reason
	// Policy is empty when it is not one policy's matter. Ref is a path of the input, or of the record.
	Policy, Ref string
}

// judgement is what is found about one record.
type judgement struct {
	err       error
	id        string
	at        time.Time
	obstacles []obstacle // none when it is judged
	change    *Change    // nil when nothing changes
}

// judge decides records again, one after the other.
type judge struct {
	ctx     context.Context
	set     *policies.Set
	options Options
	// read are the refs and pointers of earlier records: most have the same.
	read map[string]parsed
}

type parsed struct {
	refs   *refs
	erased pointers
}

func (j *judge) judge(o offered) judgement {
	if o.err != nil {
		return judgement{err: o.err}
	}
	r := &o.record
	found := judgement{id: r.DecisionID, at: r.Timestamp}
	if why := unusable(r); why != nil {
		found.obstacles = []obstacle{*why}
		return found
	}
	h := j.held(r)
	if found.obstacles = j.prepare(h); len(found.obstacles) > 0 {
		return found
	}
	options, why := j.recorded(h)
	if why != nil {
		found.obstacles = []obstacle{*why}
		return found
	}
	onError := options.OnError
	d := j.set.Read(h.in).Evaluate(j.ctx, options)
	for _, f := range d.Failures {
		if f.Chance() || f.OutOfSteps() && !endedSo(r, f.Policy) {
			found.obstacles = append(found.obstacles, obstacle{Unended, f.Policy, ""})
		}
	}
	if onError == "" && d.Outcome == policies.Undecided {
		found.obstacles = append(found.obstacles, obstacle{Reason: OldRecord, Ref: "basis"})
	}
	if len(found.obstacles) == 0 {
		found.change = changeOf(h, d)
	}
	return found
}

// endedSo reports whether a policy took all its steps in the record, too.
func endedSo(r *record.Record, policy string) bool {
	return slices.ContainsFunc(r.Result.Failures, func(f policies.Failure) bool { return f.Policy == policy && f.OutOfSteps() })
}

// unusable says what keeps a record from being read at all.
func unusable(r *record.Record) *obstacle {
	switch {
	case r.Version < 1 || r.Version > record.Version:
		return &obstacle{Reason: Unreadable, Ref: "record_version"}
	case r.Result == nil:
		return &obstacle{Reason: Unreadable, Ref: "result"}
	case r.Pod == nil && len(r.Result.Failures) > 0 || slices.ContainsFunc(r.Result.Failures, policies.Failure.Chance):
		return &obstacle{Reason: NotDecided}
	}
	return nil
}

// needed are the parts of a record without which nothing can be compared, or concluded.
var needed = [][]string{
	path("timestamp"), path("result.outcome"), path("result.code"),
	path("result.violations.*.policy"), path("result.violations.*.effect"), path("result.violations.*.enforcement"),
	path("result.failures.*.policy"), path("result.failures.*.enforcement"),
	path("result.disruption.allowed"), path("result.disruption.code"), path("result.override.ignored"),
}

// prepare restores the Input and says what it lacks.
func (j *judge) prepare(h *held) []obstacle {
	for _, at := range needed {
		if h.erased.touch(at) {
			return []obstacle{{Reason: Erased, Ref: strings.Join(at, ".")}}
		}
	}
	why, err := h.restore()
	switch {
	case err != nil:
		return []obstacle{{Reason: Unreadable, Ref: "input"}}
	case why != nil:
		return []obstacle{*why}
	}
	if j.options.Evictors != nil {
		if h.erased.touch(path("request.user")) {
			return []obstacle{{Reason: Erased, Ref: "request.user"}}
		}
		h.in.Request.Evictor = j.options.Evictors.Of(h.in.Request.User)
	}
	h.sameNeighbours = sameNeighbours(h.record, j.set.Needs().Neighbours())
	obstacles := j.gaps(h)
	if len(obstacles) == 0 {
		h.trim(j.set.Needs())
	}
	return obstacles
}

func (j *judge) gaps(h *held) []obstacle {
	var list []obstacle
	for _, g := range j.set.Gaps(h.in, h) {
		o := obstacle{ReadsBeyond, g.Policy, g.Ref}
		if at, err := policies.ParseRef(g.Ref); err == nil && h.erased.touch(append([]string{"input"}, at...)) {
			o.Reason = Erased
		}
		list = append(list, o)
	}
	return list
}

func sameNeighbours(r *record.Record, by policies.NeighbourLabels) bool {
	if r.Basis == nil || r.Basis.Neighbours == nil {
		return false
	}
	recorded := r.Basis.Neighbours
	return recorded.All == by.All && maps.Equal(setOf(recorded.Labels), setOf(by.Labels))
}

func setOf(list []string) map[string]bool {
	set := map[string]bool{}
	for _, s := range list {
		set[s] = true
	}
	return set
}

// recorded are the settings of the decision, but for those that the replay is given. OnError is empty when it
// is not known.
func (j *judge) recorded(h *held) (policies.Options, *obstacle) {
	o := policies.Options{Budgets: j.options.Budgets, OnError: j.options.OnError, PolicySteps: j.options.PolicySteps}
	r := h.record
	if r.Basis != nil && !h.erased.touch(path("basis")) {
		o.Budgets, o.OnError = cmp.Or(o.Budgets, r.Basis.Budgets), cmp.Or(o.OnError, r.Basis.OnError)
	}
	o.OnError = cmp.Or(o.OnError, onErrorOf(r.Result))
	if o.Budgets == "" {
		var ok bool
		if o.Budgets, ok = budgetsOf(r.Result); !ok {
			return o, &obstacle{Reason: OldRecord, Ref: "basis"}
		}
	}
	switch asked := r.Result.Override; {
	case j.options.Override != nil:
		o.Override = *j.options.Override
		if asked != nil && h.erased.touch(path("request.user")) {
			return o, &obstacle{Reason: Erased, Ref: "request.user"}
		}
	case asked != nil && asked.Authorised():
		o.Override.Users = []string{h.in.Request.User.Username}
	}
	return o, nil
}

// onErrorOf tells from a decision that could not be made how it was answered; empty for any other.
func onErrorOf(d *policies.Decision) policies.OnError {
	if d.Outcome != policies.Undecided {
		return ""
	}
	return map[int32]policies.OnError{200: policies.OnErrorAdmit, 403: policies.OnErrorDeny, 429: policies.OnErrorDelay}[d.Code]
}

// budgetsOf tells from a decision who was to refuse when a budget blocks; false when it does not tell.
func budgetsOf(d *policies.Decision) (policies.BudgetMode, bool) {
	byBudget := func(c policies.Cause) bool { return c.Type == string(policyv1.DisruptionBudgetCause) }
	switch {
	case d.Disruption == nil, d.Disruption.Allowed, slices.ContainsFunc(d.Causes, byBudget):
		return policies.AnswerBudgets, true
	case d.Outcome == policies.Denied:
		return "", false
	}
	return policies.AdviseBudgets, true
}

// maxRead bounds what is kept of refs: a replica has as many as it had sets of policies.
const maxRead = 256

func (j *judge) held(r *record.Record) *held {
	key := strings.Join(r.InputRefs, "\x00") + "\x01" + strings.Join(r.Erased, "\x00")
	p, ok := j.read[key]
	if !ok {
		p = parsed{refs: &refs{}, erased: parsePointers(r.Erased)}
		for _, ref := range r.InputRefs {
			if path, err := policies.ParseRef(ref); err == nil {
				p.refs.add(path)
			}
		}
		if j.read == nil || len(j.read) >= maxRead {
			j.read = map[string]parsed{}
		}
		j.read[key] = p
	}
	return &held{record: r, in: &policies.Input{}, refs: p.refs, erased: p.erased}
}
