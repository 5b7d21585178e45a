package replay

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/evictgate/evictgate/policies"
)

// Report says what another set of policies would have decided. Its lists are sorted by their count, the
// greatest first.
type Report struct {
	// Revision is that of the set.
	Revision string `json:"revision"`
	// Since and Until are the times of the earliest and the latest record; zero without records.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
	// Records are Unchanged, Answered otherwise, Found otherwise (the same answer, other findings), or not
	// judged.
	Records   int `json:"records"`
	Unchanged int `json:"unchanged"`
	Answered  int `json:"answered_otherwise"`
	Found     int `json:"found_otherwise"`
	NotJudged int `json:"not_judged"`
	// Transitions counts changed answers, Policies what each policy has to do with a change.
	Transitions []Transition   `json:"transitions"`
	Policies    []PolicyChange `json:"policies"`
	Evictors    []Group        `json:"evictors"`
	Workloads   []Group        `json:"workloads"`
	// MoreWorkloads counts changed decisions about workloads beyond those that are listed.
	MoreWorkloads int `json:"more_workloads,omitempty"`
	// Obstacles say why decisions are not judged; one decision may have several.
	Obstacles []Obstacle `json:"obstacles"`

	policies    map[string]*PolicyChange
	transitions map[Transition]*Transition
	evictors    map[string]*Group
	workloads   map[string]*Group
	obstacles   map[obstacle]*Obstacle
}

// Judged is the number of records that were.
func (r *Report) Judged() int { return r.Records - r.NotJudged }

// Changed is the number of decisions that would be others.
func (r *Report) Changed() int { return r.Answered + r.Found }

// Transition counts the decisions that would be answered in one way instead of another.
type Transition struct {
	Before     policies.Outcome `json:"before"`
	BeforeCode int32            `json:"before_code"`
	After      policies.Outcome `json:"after"`
	AfterCode  int32            `json:"after_code"`
	Decisions  int              `json:"decisions"`
	Example    string           `json:"example"`
}

// PolicyChange counts the decisions in which a policy does what it did not, or no longer does what it did.
// A policy that warns finds something and does not refuse: it warns, audits, is overridden or has held the
// pod for too long.
type PolicyChange struct {
	Policy          string `json:"policy"`
	NewlyRefuses    int    `json:"newly_refuses"`
	NoLongerRefuses int    `json:"no_longer_refuses"`
	NewlyWarns      int    `json:"newly_warns"`
	NoLongerWarns   int    `json:"no_longer_warns"`
	NewlyFails      int    `json:"newly_fails"`
	NoLongerFails   int    `json:"no_longer_fails"`
	// Examples are the first decisions, at most three.
	Examples []Change `json:"examples"`
}

func (p PolicyChange) count() int {
	return p.NewlyRefuses + p.NoLongerRefuses + p.NewlyWarns + p.NoLongerWarns + p.NewlyFails + p.NoLongerFails
}

// Group counts changes by who evicts, or by the workload, namespace/Kind/name.
type Group struct {
	Name string `json:"name"`
	// Refused were admitted before, Admitted were refused before; Otherwise are answered in another way that
	// is neither; Found have the same answer and other findings.
	Refused   int `json:"newly_refused"`
	Admitted  int `json:"newly_admitted"`
	Otherwise int `json:"answered_otherwise"`
	Found     int `json:"found_otherwise"`
	// Example is the id of the first decision.
	Example string `json:"example"`
}

func (g Group) count() int { return g.Refused + g.Admitted + g.Otherwise + g.Found }

// Obstacle counts the decisions that are not judged for one reason.
type Obstacle struct {
	Reason Reason `json:"reason"`
	// Policy reads what is not held; empty when no policy is concerned.
	Policy string `json:"policy,omitempty"`
	// Ref is what it reads, or the part of the record that is missing.
	Ref       string `json:"ref,omitempty"`
	Decisions int    `json:"decisions"`
	Example   string `json:"example"`
}

// maxExamples and maxWorkloads bound what a report holds, however many records there are.
const (
	maxExamples  = 3
	maxWorkloads = 10_000
)

func newReport(revision string) *Report {
	return &Report{
		Revision: revision, policies: map[string]*PolicyChange{}, transitions: map[Transition]*Transition{},
		evictors: map[string]*Group{}, workloads: map[string]*Group{}, obstacles: map[obstacle]*Obstacle{},
	}
}

func (r *Report) add(j *judgement) {
	r.Records++
	if r.Since.IsZero() || j.at.Before(r.Since) {
		r.Since = j.at
	}
	if j.at.After(r.Until) {
		r.Until = j.at
	}
	switch {
	case len(j.obstacles) > 0:
		r.NotJudged++
		r.addObstacles(j)
	case j.change == nil:
		r.Unchanged++
	default:
		r.addChange(j.change)
	}
}

func (r *Report) addObstacles(j *judgement) {
	for _, o := range j.obstacles {
		at := r.obstacles[o]
		if at == nil {
			at = &Obstacle{Reason: o.Reason, Policy: o.Policy, Ref: o.Ref, Example: j.id}
			r.obstacles[o] = at
		}
		at.Decisions++
	}
}

func (r *Report) addChange(c *Change) {
	if c.Kind == Answered {
		r.Answered++
		key := Transition{Before: c.Before.Outcome, BeforeCode: c.Before.Code, After: c.After.Outcome, AfterCode: c.After.Code}
		at := r.transitions[key]
		if at == nil {
			copied := key
			copied.Example = c.DecisionID
			at = &copied
			r.transitions[key] = at
		}
		at.Decisions++
	} else {
		r.Found++
	}
	r.addPolicies(c)
	countIn(r.evictors, c.Evictor, c)
	workload := fmt.Sprintf("%s/%s", c.Namespace, c.Workload)
	if r.workloads[workload] == nil && len(r.workloads) >= maxWorkloads {
		r.MoreWorkloads++
		return
	}
	countIn(r.workloads, workload, c)
}

func countIn(groups map[string]*Group, name string, c *Change) {
	g := groups[name]
	if g == nil {
		g = &Group{Name: name, Example: c.DecisionID}
		groups[name] = g
	}
	refused, refuses := c.Before.Code >= 400, c.After.Code >= 400
	switch {
	case c.Kind == Found:
		g.Found++
	case refuses && !refused:
		g.Refused++
	case refused && !refuses:
		g.Admitted++
	default:
		g.Otherwise++
	}
}

// addPolicies counts what each policy does in one of the two decisions and not in the other.
func (r *Report) addPolicies(c *Change) {
	before, after := rolesOf(c.Before.Findings), rolesOf(c.After.Findings)
	for _, name := range namesIn(c.Before.Findings, c.After.Findings) {
		if before[name] == after[name] {
			continue
		}
		p := r.policies[name]
		if p == nil {
			p = &PolicyChange{Policy: name}
			r.policies[name] = p
		}
		p.compare(before[name], after[name])
		if len(p.Examples) < maxExamples {
			p.Examples = append(p.Examples, *c)
		}
	}
}

// roles are what a policy does in a decision.
type roles struct{ refuses, warns, fails bool }

func rolesOf(findings []Finding) map[string]roles {
	m := map[string]roles{}
	for _, f := range findings {
		is := m[f.Policy]
		switch {
		case f.Effect == failure:
			is.fails = true
		case f.Refuses():
			is.refuses = true
		default:
			is.warns = true
		}
		m[f.Policy] = is
	}
	return m
}

func namesIn(lists ...[]Finding) []string {
	var names []string
	for _, f := range slices.Concat(lists...) {
		names = append(names, f.Policy)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (p *PolicyChange) compare(before, after roles) {
	for _, role := range []struct {
		was, is    bool
		newly, not *int
	}{
		{before.refuses, after.refuses, &p.NewlyRefuses, &p.NoLongerRefuses},
		{before.warns, after.warns, &p.NewlyWarns, &p.NoLongerWarns},
		{before.fails, after.fails, &p.NewlyFails, &p.NoLongerFails},
	} {
		switch {
		case role.is && !role.was:
			*role.newly++
		case role.was && !role.is:
			*role.not++
		}
	}
}

// close makes the lists.
func (r *Report) close() *Report {
	r.Transitions = sorted(r.transitions, func(a, b *Transition) int {
		return cmp.Or(cmp.Compare(b.Decisions, a.Decisions), cmp.Compare(a.Before, b.Before), cmp.Compare(a.After, b.After),
			cmp.Compare(a.BeforeCode, b.BeforeCode), cmp.Compare(a.AfterCode, b.AfterCode))
	})
	r.Policies = sorted(r.policies, func(a, b *PolicyChange) int {
		return cmp.Or(cmp.Compare(b.count(), a.count()), cmp.Compare(a.Policy, b.Policy))
	})
	byCount := func(a, b *Group) int { return cmp.Or(cmp.Compare(b.count(), a.count()), cmp.Compare(a.Name, b.Name)) }
	r.Evictors, r.Workloads = sorted(r.evictors, byCount), sorted(r.workloads, byCount)
	r.Obstacles = sorted(r.obstacles, func(a, b *Obstacle) int {
		return cmp.Or(cmp.Compare(b.Decisions, a.Decisions), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Ref, b.Ref))
	})
	return r
}

func sorted[K comparable, V any](m map[K]*V, compare func(a, b *V) int) []V {
	pointers := make([]*V, 0, len(m))
	for _, v := range m {
		pointers = append(pointers, v)
	}
	slices.SortFunc(pointers, compare)
	list := make([]V, len(pointers))
	for i, v := range pointers {
		list[i] = *v
	}
	return list
}
