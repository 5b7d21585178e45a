package store

import (
	"cmp"
	"context"
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
	g, ctx := errgroup.WithContext(outer) // side by side, each with a core and a connection
	g.Go(func() error {
		return s.db.read(ctx, func(q reader) error { return s.decisions(ctx, q, f, t) })
	})
	g.Go(func() (err error) {
		return s.db.read(ctx, func(q reader) error {
			e, err = sumEpisodes(ctx, q, f)
			return err
		})
	})
	if err := g.Wait(); err != nil {
		return Stats{}, err
	}
	t.join(e)
	err := s.db.read(outer, func(q reader) error { return s.latestReplies(outer, q, f, e, t) })
	return t.stats(), err
}

// decisions counts those of the records.
func (s *Store) decisions(ctx context.Context, q reader, f Filter, t *tally) error {
	first, last, err := bounds(ctx, q)
	if err != nil {
		return err
	}
	f.Since, f.Until = orElse(f.Since, first), orElse(f.Until, last)
	t.span(f.Since, f.Until)
	return s.eachCount(ctx, q, f, t.step, t.add)
}

// bounds are the time of the first record, and the moment after the last; zero when there is none.
func bounds(ctx context.Context, q reader) (first, after time.Time, err error) {
	return boundsOf(ctx, q, "records")
}

// boundsOf are those of a table.
func boundsOf(ctx context.Context, q reader, table string) (first, after time.Time, err error) {
	each := func(to *time.Time, add int64) func(func(...any) error) error {
		return func(scan func(...any) error) error {
			var at int64
			err := scan(&at)
			*to = fromMicros(at + add)
			return err
		}
	}
	if err := q.query(ctx, each(&first, 0), "SELECT at FROM "+table+" ORDER BY at LIMIT 1"); err != nil {
		return first, after, err
	}
	return first, after, q.query(ctx, each(&after, 1), "SELECT at FROM "+table+" ORDER BY at DESC LIMIT 1")
}

// eachCount calls add with the facts of decisions, when they were, to the step, and how many there were: all
// that the filter chooses, dry runs included. Whole minutes come from the table hours, and the parts of minutes
// at both ends from the records; from these come the decisions about a pod, too.
func (s *Store) eachCount(ctx context.Context, q reader, f Filter, step int64, add func(d *facts, at int64, n int)) error {
	if !f.Since.Before(f.Until) {
		return nil
	}
	since, until := f.Since.UnixMicro(), f.Until.UnixMicro()
	from, to := -floor(-since, minute), floor(until, minute)
	if from >= to || f.Pod != "" || f.Episode != "" {
		return s.eachInPart(ctx, q, f, since, until, add)
	}
	if err := s.eachInPart(ctx, q, f, since, from, add); err != nil {
		return err
	}
	if err := s.eachInHours(ctx, q, f, from, to, step, add); err != nil {
		return err
	}
	return s.eachInPart(ctx, q, f, to, until, add)
}

func (s *Store) eachInPart(ctx context.Context, q reader, f Filter, since, until int64, add func(*facts, int64, int)) error {
	if since >= until {
		return nil
	}
	f.DryRuns, f.Since, f.Until = true, fromMicros(since), fromMicros(until)
	c, err := chooseRecords(ctx, q, f)
	if err != nil {
		return err
	}
	return q.query(ctx, func(scan func(...any) error) error {
		var at int64
		var id string
		var body []byte
		if err := scan(&at, &id, &body); err != nil {
			return err
		}
		var r record.Record
		if err := s.codec.decode(body, &r); err != nil {
			return err
		}
		d := factsOf(&r)
		add(&d, floor(at, minute), 1)
		return nil
	}, "SELECT "+c.columns+c.from+c.sql(), c.args...)
}

// eachInHours asks the table hours, and the records where a row does not tell which decisions the filter chooses.
func (s *Store) eachInHours(ctx context.Context, q reader, f Filter, from, to, step int64, add func(*facts, int64, int)) error {
	c := &condition{}
	c.and("at >= ?", floor(from, hour))
	c.and("at < ?", to)
	if f.Namespace != "" {
		c.and("part = ?", hourPart(f.Namespace))
	}
	hidden := map[int64]map[int64]bool{}
	err := q.query(ctx, func(scan func(...any) error) error {
		var at, part int64
		var body []byte
		if err := scan(&at, &part, &body); err != nil {
			return err
		}
		switch hides, err := f.hides(body); {
		case err != nil:
			return err
		case hides:
			if hidden[at] == nil {
				hidden[at] = map[int64]bool{}
			}
			hidden[at][part] = true
			return nil
		}
		return f.eachInRow(body, at, from, to, step, add)
	}, "SELECT at, part, body FROM hours"+c.sql(), c.args...)
	if err != nil {
		return err
	}
	for at, parts := range hidden {
		err := s.eachInPart(ctx, q, f, max(from, at), min(to, at+hour), func(d *facts, at int64, n int) {
			if parts[hourPart(d.namespace)] {
				add(d, at, n)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// eachInRow are the decisions in a row of the hour that begins at a time.
func (f *Filter) eachInRow(body []byte, at, from, to, step int64, add func(*facts, int64, int)) error {
	var d facts
	var bad error
	err := eachEntry(body, func(text string, counts *cursor) {
		bad = cmp.Or(bad, d.decode(text))
		if !f.chooses(&d) {
			counts.skipCounts()
			return
		}
		sum, end := 0, at // of what is before the end, the next multiple of the step
		for range counts.uint() {
			m, n := at+int64(counts.byte())*minute, int(counts.uint())
			if m < from || m >= to {
				continue
			}
			if m >= end {
				if sum > 0 {
					add(&d, end-1, sum)
				}
				sum, end = 0, floor(m, step)+step
			}
			sum += n
		}
		if sum > 0 {
			add(&d, end-1, sum)
		}
	})
	return cmp.Or(bad, err)
}

// tally adds up.
type tally struct {
	since, until                       time.Time
	step                               int64
	decisions                          map[policies.Outcome]int
	dryRuns, unnamed                   int
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
var widths = []int64{1, 5, 10, 15, 30, 60, 2 * 60, 3 * 60, 6 * 60, 12 * 60, 24 * 60, 2 * 24 * 60, 7 * 24 * 60}

const maxBuckets = 96

// span makes the buckets of a time: each begins at a multiple of the step, so that they stay where they
// are when the time moves on.
func (t *tally) span(since, until time.Time) {
	t.since, t.until = since, until
	if !since.Before(until) {
		return
	}
	from, to := since.UnixMicro(), until.UnixMicro()
	for i := 0; ; i++ {
		if i < len(widths) {
			t.step = widths[i] * minute
		} else {
			t.step *= 2
		}
		if (to-1-floor(from, t.step))/t.step < maxBuckets {
			break
		}
	}
	for at := floor(from, t.step); at < to; at += t.step {
		t.timeline = append(t.timeline, Bucket{At: fromMicros(at), Decisions: map[policies.Outcome]int{}})
	}
}

func (t *tally) add(d *facts, at int64, n int) {
	if d.dryRun {
		t.dryRuns += n
		return
	}
	if d.detail != whole {
		t.unnamed += n
	}
	t.decisions[d.outcome] += n
	t.timeline[(floor(at, t.step)-t.timeline[0].At.UnixMicro())/t.step].Decisions[d.outcome] += n
	d.eachBlocker(func(b blocker) { t.blocker(b).Refusals += n })
	for _, p := range d.policies {
		t.policy(p, n)
	}
	for _, one := range []struct {
		to   map[string]*Count
		name string
	}{{t.evictors, d.evictor}, {t.users, d.user}, {t.namespaces, d.namespace}, {t.nodes, d.node}} {
		if one.name != "" { // it is known
			addCount(one.to, one.name, n, d.refused)
		}
	}
	if d.workload != "" {
		addCount(t.workloads, workload{d.namespace, d.workload}, n, d.refused)
	}
}

func (t *tally) blocker(b blocker) *BlockerCount {
	if t.blockers[b] == nil {
		t.blockers[b] = &BlockerCount{Kind: b.kind, Name: b.title()}
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
	c, err := pageOfEpisodes(ctx, q, f)
	if err != nil {
		return e, err
	}
	return e, q.query(ctx, func(scan func(...any) error) error {
		var fate, lines string
		var n int
		var last int64
		err := scan(&fate, &lines, &n, &last)
		e.fates[record.Fate(fate)] += n
		for _, b := range parseBlockers(lines) {
			e.stuck[b] += n
			if p, known := e.newest[b]; !known || last > p.at || (last == p.at && lines > p.id) {
				e.newest[b] = position{last, lines}
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
func (s *Store) latestReplies(ctx context.Context, q reader, f Filter, e episodeSums, t *tally) error {
	shown := map[BlockerCount]bool{}
	for _, b := range t.topBlockers() {
		shown[b] = true
	}
	for b, p := range e.newest {
		if c := t.blockers[b]; shown[*c] {
			message, err := s.reply(ctx, q, f, p)
			if err != nil {
				return err
			}
			c.Message = message
		}
	}
	return nil
}

// reply is the latest message to an episode that the filter chooses, with this last attempt and blockers.
func (s *Store) reply(ctx context.Context, q reader, f Filter, p position) (message string, err error) {
	c := chosenEpisodes(f)
	c.and("e.fate = ?", string(record.Blocked))
	c.and("e.last = ?", p.at)
	c.and("e.blocked_by = ?", p.id)
	return message, q.query(ctx, func(scan func(...any) error) error {
		var body []byte
		if err := scan(&body); err != nil {
			return err
		}
		e, err := s.readEpisode(body)
		if e.Latest != nil {
			message = e.Latest.Message
		}
		return err
	}, "SELECT e.body FROM episodes e"+c.sql()+" ORDER BY e.id DESC LIMIT 1", c.args...)
}

const maxCounts = 20

func (t *tally) stats() Stats {
	return Stats{
		Since: t.since, Until: t.until, Step: time.Duration(t.step) * time.Microsecond,
		Decisions: t.decisions, DryRuns: t.dryRuns, Unnamed: t.unnamed, Episodes: t.episodes, Timeline: t.timeline,
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
