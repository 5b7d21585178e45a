package store

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
)

// Stats sums up the decisions and episodes that a filter chooses. Without Since or Until the time goes from
// the first to the last decision of the store.
func (s *Store) Stats(outer context.Context, f Filter) (Stats, error) {
	f = f.clean()
	t := newTally()
	var e episodeSums
	err := s.db.read(outer, func(q reader) error { return t.begin(outer, q, f) })
	if err != nil {
		return Stats{}, err
	}
	asked := f
	asked.Since, asked.Until, asked.DryRuns = t.since, t.until, true
	g, ctx := errgroup.WithContext(outer) // side by side, each with a core and a connection
	for _, ask := range []func(reader) error{
		func(q reader) error { return eachCount(ctx, q, asked, t.add) },
		func(q reader) error { return s.eachMoment(ctx, q, asked, t.step, t.addMoment) },
		func(q reader) (err error) {
			e, err = sumEpisodes(ctx, q, f)
			return err
		},
	} {
		g.Go(func() error { return s.db.read(ctx, ask) })
	}
	if err := g.Wait(); err != nil {
		return Stats{}, err
	}
	t.join(e)
	err = s.db.read(outer, func(q reader) error { return latestReplies(outer, q, f, e, t) })
	return t.stats(), err
}

// begin makes the buckets of the filter's time, or of all that there is.
func (t *tally) begin(ctx context.Context, q reader, f Filter) error {
	first, last, err := bounds(ctx, q)
	t.span(orElse(f.Since, first), orElse(f.Until, last))
	return err
}

// bounds are the time of the first record, and the moment after the last; zero when there is none.
func bounds(ctx context.Context, q reader) (first, after time.Time, err error) {
	return boundsOf(ctx, q, "records")
}

// boundsOf are those of a table.
func boundsOf(ctx context.Context, q reader, table string) (first, after time.Time, err error) {
	each := func(to *time.Time, add time.Duration) func(func(...any) error) error {
		return func(scan func(...any) error) error {
			var at moment
			err := scan(&at)
			*to = at.Add(add)
			return err
		}
	}
	if err := q.query(ctx, each(&first, 0), "SELECT at FROM "+table+" ORDER BY at LIMIT 1"); err != nil {
		return first, after, err
	}
	return first, after, q.query(ctx, each(&after, time.Microsecond), "SELECT at FROM "+table+" ORDER BY at DESC LIMIT 1")
}

// tally adds up.
type tally struct {
	since, until                       time.Time
	step                               time.Duration
	decisions                          map[policies.Outcome]int
	dryRuns                            int
	episodes                           map[record.Fate]int
	timeline                           []Bucket
	blockers                           map[blocker]*BlockerCount
	policies                           map[string]*PolicyCount
	evictors, users, namespaces, nodes map[string]*Count
	workloads                          map[workload]*Count
}

type workload struct{ namespace, name string }

func newTally() *tally {
	t := &tally{
		decisions: map[policies.Outcome]int{}, timeline: []Bucket{},
		blockers: map[blocker]*BlockerCount{}, policies: map[string]*PolicyCount{}, workloads: map[workload]*Count{},
	}
	for _, counts := range []*map[string]*Count{&t.evictors, &t.users, &t.namespaces, &t.nodes} {
		*counts = map[string]*Count{}
	}
	return t
}

// widths of a bucket, in minutes.
var widths = []time.Duration{1, 5, 10, 15, 30, 60, 2 * 60, 3 * 60, 6 * 60, 12 * 60, 24 * 60, 2 * 24 * 60, 7 * 24 * 60}

const maxBuckets = 96

// span makes the buckets of a time: each begins at a multiple of the step, so that they stay where they
// are when the time moves on.
func (t *tally) span(since, until time.Time) {
	t.since, t.until = since, until
	if !since.Before(until) {
		return
	}
	for i := 0; ; i++ {
		if i < len(widths) {
			t.step = widths[i] * time.Minute
		} else {
			t.step *= 2
		}
		if (until.UnixMicro()-1-floor(since, t.step).UnixMicro())/t.step.Microseconds() < maxBuckets {
			break
		}
	}
	for at := floor(since, t.step); at.Before(until); at = at.Add(t.step) {
		t.timeline = append(t.timeline, Bucket{At: at, Decisions: map[policies.Outcome]int{}})
	}
}

// addMoment counts the decisions of a part of the time.
func (t *tally) addMoment(at time.Time, m moments, n int) {
	if !m.dryRun {
		i := (floor(at, t.step).UnixMicro() - t.timeline[0].At.UnixMicro()) / t.step.Microseconds()
		t.timeline[i].Decisions[policies.Outcome(m.outcome)] += n
	}
}

func (t *tally) add(f *facts, n int) {
	if f.dryRun {
		t.dryRuns += n
		return
	}
	t.decisions[f.outcome] += n
	for _, b := range f.blockers() {
		t.blocker(b).Refusals += n
	}
	for _, p := range splitParts(f.policies) {
		t.policy(p, n)
	}
	for _, one := range []struct {
		to   map[string]*Count
		name string
	}{{t.evictors, f.evictor}, {t.users, f.user}, {t.namespaces, f.namespace}, {t.nodes, f.node}} {
		if one.name != "" { // it is known
			addCount(one.to, one.name, n, f.refused)
		}
	}
	if f.workloadName != "" {
		addCount(t.workloads, workload{f.namespace, f.workloadKind + "/" + f.workloadName}, n, f.refused)
	}
}

func (t *tally) blocker(b blocker) *BlockerCount {
	if t.blockers[b] == nil {
		t.blockers[b] = &BlockerCount{Kind: b.kind, Name: b.name}
	}
	return t.blockers[b]
}

func (t *tally) policy(p part, n int) {
	c := t.policies[p.policy]
	if c == nil {
		c = &PolicyCount{Policy: p.policy}
		t.policies[p.policy] = c
	}
	for _, one := range []struct {
		effect effect
		to     *int
	}{{refused, &c.Refused}, {warned, &c.Warned}, {audited, &c.Audited}, {expired, &c.Expired}, {failed, &c.Failed}} {
		if p.did&one.effect != 0 {
			*one.to += n
		}
	}
}

func addCount[K comparable](to map[K]*Count, key K, n int, refused bool) {
	c := to[key]
	if c == nil {
		c = &Count{}
		to[key] = c
	}
	c.Decisions += n
	if refused {
		c.Refused += n
	}
}

// episodeSums counts episodes by fate, and those that are blocked by what blocks them.
type episodeSums struct {
	fates  map[record.Fate]int
	stuck  map[blocker]int
	newest map[blocker]position // the last attempt; its id is the line of blocked_by
}

func sumEpisodes(ctx context.Context, q reader, f Filter) (episodeSums, error) {
	e := episodeSums{map[record.Fate]int{}, map[blocker]int{}, map[blocker]position{}}
	c, err := chooseEpisodes(ctx, q, f, true)
	if err != nil {
		return e, err
	}
	return e, q.query(ctx, func(scan func(...any) error) error {
		var fate, lines string
		var n int
		var last moment
		err := scan(&fate, &lines, &n, &last)
		e.fates[record.Fate(fate)] += n
		for _, b := range parseBlockers(lines) {
			e.stuck[b] += n
			if p, known := e.newest[b]; !known || last.After(p.at) || (last.Equal(p.at) && lines > p.id) {
				e.newest[b] = position{last.Time, lines}
			}
		}
		return err
	}, "SELECT e.fate, e.blocked_by, count(*), max(e.last) FROM episodes e"+c.sql()+" GROUP BY e.fate, e.blocked_by", c.args...)
}

func (t *tally) join(e episodeSums) {
	t.episodes = e.fates
	for b, n := range e.stuck {
		t.blocker(b).Stuck = n
	}
}

// latestReplies finds the newest reply of each blocker that is shown.
func latestReplies(ctx context.Context, q reader, f Filter, e episodeSums, t *tally) error {
	shown := map[BlockerCount]bool{}
	for _, b := range t.topBlockers() {
		shown[b] = true
	}
	for b, p := range e.newest {
		if c := t.blockers[b]; shown[*c] {
			message, err := reply(ctx, q, f, p)
			if err != nil {
				return err
			}
			c.Message = message
		}
	}
	return nil
}

// reply is the latest message to an episode that the filter chooses, with this last attempt and blockers.
func reply(ctx context.Context, q reader, f Filter, p position) (message string, err error) {
	c, err := chooseEpisodes(ctx, q, f, false)
	if err != nil {
		return "", err
	}
	c.and("e.fate = ?", string(record.Blocked))
	c.and("e.last = ?", p.at)
	c.and("e.blocked_by = ?", p.id)
	return message, q.query(ctx, func(scan func(...any) error) error {
		var text []byte
		if err := scan(&text); err != nil {
			return err
		}
		var e record.Episode
		err := json.Unmarshal(text, &e)
		if e.Latest != nil {
			message = e.Latest.Message
		}
		return err
	}, "SELECT e.episode FROM episodes e"+c.sql()+" ORDER BY e.id DESC LIMIT 1", c.args...)
}

const maxCounts = 20

func (t *tally) stats() Stats {
	return Stats{
		Since: t.since, Until: t.until, Step: t.step,
		Decisions: t.decisions, DryRuns: t.dryRuns, Episodes: t.episodes, Timeline: t.timeline,
		Blockers: t.topBlockers(), Policies: t.topPolicies(),
		Evictors: top(t.evictors), Users: top(t.users), Namespaces: top(t.namespaces), Nodes: top(t.nodes), Workloads: t.topWorkloads(),
	}
}

func (t *tally) topWorkloads() []Count {
	named := make(map[string]*Count, len(t.workloads))
	for w, c := range t.workloads {
		named[w.namespace+"/"+w.name] = c
	}
	return top(named)
}

func top(counts map[string]*Count) []Count {
	for name, c := range counts {
		c.Name = name
	}
	return first(counts, func(a, b Count) int {
		return cmp.Or(b.Decisions-a.Decisions, b.Refused-a.Refused, strings.Compare(a.Name, b.Name))
	})
}

func (t *tally) topBlockers() []BlockerCount {
	return first(t.blockers, func(a, b BlockerCount) int {
		return cmp.Or(b.Refusals-a.Refusals, b.Stuck-a.Stuck, cmp.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name))
	})
}

func (t *tally) topPolicies() []PolicyCount {
	sum := func(c PolicyCount) int { return c.Refused + c.Warned + c.Audited + c.Expired + c.Failed }
	return first(t.policies, func(a, b PolicyCount) int {
		return cmp.Or(sum(b)-sum(a), b.Refused-a.Refused, strings.Compare(a.Policy, b.Policy))
	})
}

func first[K comparable, V any](counts map[K]*V, compare func(a, b V) int) []V {
	list := make([]V, 0, len(counts))
	for c := range maps.Values(counts) {
		list = append(list, *c)
	}
	slices.SortFunc(list, compare)
	return list[:min(len(list), maxCounts)]
}
