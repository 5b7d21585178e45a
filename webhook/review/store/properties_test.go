package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
)

// emptied opens a store once and empties it for each example: a new one each time would take most of the
// test's time.
func emptied(t testing.TB, open func(testing.TB, Options) *Store) func() *Store {
	s := open(t, Options{})
	return func() *Store {
		err := s.write(context.Background(), func(w writer) error {
			for _, table := range []string{"decisions", "records", "record_names", "episodes", "episode_names", "answers", "decisions_by_day", "decisions_by_hour", "decisions_by_minute"} {
				if _, err := w.exec(context.Background(), "DELETE FROM "+table); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

// happened is what a store is given, in the order of time.
type happened struct {
	records []record.Record
	answers []record.Answer
}

// happenings are few pods, tried by few, over some hours: what differs meets often. Moments are unique,
// since the newest of two replies decides.
func happenings(t *rapid.T) happened {
	var h happened
	one := func(name string, of ...string) string { return rapid.SampledFrom(of).Draw(t, name) }
	for i := range rapid.IntRange(1, 25).Draw(t, "records") {
		m := made{
			id: fmt.Sprintf("d%02d", i), namespace: one("namespace", "bank", "shop"), pod: one("pod", "a", "b"), uid: one("uid", "", "1", "2"),
			workload: one("workload", "", "Deployment/w", "StatefulSet/w", "StatefulSet/x"),
			user:     one("user", "u", "v", "w\x00\xff"), evictor: one("evictor", "user", "kured"), message: one("message", "", "no", "later"),
			outcome: rapid.SampledFrom([]policies.Outcome{policies.Admitted, policies.Delayed, policies.Denied, policies.Undecided}).Draw(t, "outcome"),
			policy:  one("policy", "", "p", "q"), budget: one("budget", "", "x", "y", "x,y"),
			dryRun: rapid.IntRange(0, 4).Draw(t, "dry run") == 0,
			at:     time.Duration(rapid.IntRange(0, 5).Draw(t, "hour"))*time.Hour + time.Duration(rapid.IntRange(0, 7200).Draw(t, "s"))*500*time.Millisecond + time.Duration(i)*time.Microsecond,
		}
		if m.uid != "" { // a pod keeps its node and its workload
			m.node, m.workload = "n"+m.uid, []string{"StatefulSet/w", "Deployment/w"}[len(m.pod+m.uid)%2]
			if m.uid == "2" {
				m.workload = "StatefulSet/x"
			}
			m.uid = m.namespace + "-" + m.pod + "-" + m.uid
		}
		if m.outcome == policies.Admitted {
			m.message, m.budget = "", ""
		}
		h.records = append(h.records, m.record())
	}
	for i := range rapid.IntRange(0, 8).Draw(t, "answers") {
		h.answers = append(h.answers, h.answer(t, i))
	}
	return h
}

// answer is to a record, or to an eviction or a deletion that nobody decided.
func (h happened) answer(t *rapid.T, i int) record.Answer {
	r := rapid.SampledFrom(h.records).Draw(t, "of")
	a := record.Answer{
		ID: fmt.Sprint("a", i), At: r.Timestamp.Add(time.Duration(i+1) * time.Millisecond), Verb: record.VerbEvict, Namespace: r.Request.Namespace, Pod: r.Request.Name,
		User: "u", Code: rapid.SampledFrom([]int32{201, 429}).Draw(t, "code"),
	}
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		a.Passage = record.Unseen
	case 1:
		a.Verb = record.VerbDelete
		if r.Pod != nil && rapid.Bool().Draw(t, "uid is known") {
			a.PodUID = r.Pod.UID
		}
	default:
		a.Passage, a.ReviewUID, a.DryRun = record.Decided, r.DecisionID, r.Request.DryRun
		if a.Code == 429 {
			a.RefusedBy = "budget"
		}
	}
	return a
}

// state is all that a store says.
type state struct {
	Rows     []Row
	Episodes []record.Episode
	Stats    Stats
}

func stateOf(t *rapid.T, s *Store) state {
	ctx := context.Background()
	rows, err := s.List(ctx, Filter{DryRuns: true}, Page{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	page, err := s.Episodes(ctx, Filter{}, Page{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	stats, err := s.Stats(ctx, Filter{})
	if err != nil {
		t.Fatal(err)
	}
	return state{rows.Rows, page.Episodes, stats}
}

// give hands over what happened in any order and in any parts, some of it twice.
func (h happened) give(t *rapid.T, s *Store) {
	ctx := context.Background()
	order := rapid.Permutation(slices.Collect(func(yield func(int) bool) {
		for i := range len(h.records) + len(h.answers) {
			if !yield(i) {
				return
			}
		}
	})).Draw(t, "order")
	var records []record.Record
	var answers []record.Answer
	flush := func() {
		if _, err := s.Add(ctx, records); err != nil {
			t.Fatal(err)
		}
		if _, err := s.AddAnswers(ctx, answers); err != nil {
			t.Fatal(err)
		}
		if rapid.IntRange(0, 2).Draw(t, "keep") > 0 { // else they come again with the next
			records, answers = nil, nil
		}
	}
	for _, i := range order {
		if i < len(h.records) {
			records = append(records, h.records[i])
		} else {
			answers = append(answers, h.answers[i-len(h.records)])
		}
		if rapid.IntRange(0, 3).Draw(t, "flush") == 0 {
			flush()
		}
	}
	flush()
}

func TestAnyOrderAndAnySplitGiveTheSame(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(testing.TB, Options) *Store) {
		empty := emptied(t, open)
		rapid.Check(t, func(t *rapid.T) {
			h := happenings(t)
			s := empty()
			if _, err := s.Add(context.Background(), h.records); err != nil {
				t.Fatal(err)
			}
			if _, err := s.AddAnswers(context.Background(), h.answers); err != nil {
				t.Fatal(err)
			}
			want := stateOf(t, s)
			h.give(t, empty())
			same(t, "in another order", want, stateOf(t, s))
		})
	})
}

func same(t *rapid.T, what string, want, got any) {
	if diff := diffOf(want, got); diff != "" {
		t.Fatalf("%s: -want +got:\n%s", what, diff)
	}
}

// anyFilter is one whose values are met.
func anyFilter(t *rapid.T) Filter {
	one := func(name string, of ...string) string {
		if rapid.IntRange(0, 3).Draw(t, name+" is given") > 0 {
			return ""
		}
		return rapid.SampledFrom(of).Draw(t, name)
	}
	f := Filter{
		Namespace: one("namespace", "bank", "shop"), Pod: one("pod", "a", "b", "shop-a-1"), Workload: one("workload", "w", "StatefulSet/w", "StatefulSet/x"),
		Node: one("node", "n1", "n2"), Evictor: one("evictor", "user", "kured"), User: one("user", "u", "w\x00\xff"), Policy: one("policy", "p", "q", "broken"),
		Budget: one("budget", "x", "y", "shop/x"), Outcome: policies.Outcome(one("outcome", "admitted", "denied", "undecided")),
		Fate: record.Fate(one("fate", "blocked", "admitted", "evicted")), Episode: one("episode", "shop-a-1", "shop/a"), DryRuns: rapid.Bool().Draw(t, "dry runs"),
	}
	moment := func(name string) time.Time {
		if rapid.Bool().Draw(t, name+" is given") {
			return time.Time{}
		}
		return after(time.Duration(rapid.IntRange(-60, 7*3600).Draw(t, name)) * time.Second)
	}
	f.Since, f.Until = moment("since"), moment("until")
	return f
}

// takes is the filter in plain Go.
func takes(f Filter, r record.Record) bool {
	is := func(want string, of ...string) bool { return want == "" || slices.Contains(of, want) }
	reply := record.ReplyOf(r.Result, r.Timestamp)
	node, uid := "", ""
	if r.Pod != nil {
		node, uid = r.Pod.Node, r.Pod.UID
	}
	var named, budgets []string
	for _, v := range r.Result.Violations {
		named = append(named, v.Policy)
	}
	for _, v := range r.Result.Failures {
		named = append(named, v.Policy)
	}
	for _, b := range reply.Budgets {
		budgets = append(budgets, b, r.Request.Namespace+"/"+b)
	}
	return (f.Since.IsZero() || !r.Timestamp.Before(f.Since)) && (f.Until.IsZero() || r.Timestamp.Before(f.Until)) &&
		is(f.Namespace, r.Request.Namespace) && is(f.Pod, r.Request.Name, uid) && is(f.Workload, r.Workload(), strings.TrimPrefix(r.Workload(), "Deployment/"), strings.TrimPrefix(r.Workload(), "StatefulSet/")) &&
		is(f.Node, node) && is(f.Evictor, r.Request.Evictor) && is(f.User, r.Request.User.Username) && is(f.Policy, named...) && is(f.Budget, budgets...) &&
		is(string(f.Outcome), string(r.Result.Outcome)) && is(f.Episode, r.EpisodeID()) && (f.DryRuns || !r.Request.DryRun)
}

// takesEpisode is the filter of episodes in plain Go, but for the time.
func takesEpisode(f Filter, e record.Episode, attempts []time.Time) bool {
	is := func(want string, of ...string) bool { return want == "" || slices.Contains(of, want) }
	var users, evictors, named, budgets, outcomes []string
	for _, a := range e.Evictors {
		users, evictors = append(users, strings.ReplaceAll(a.User, "\x00", "\uFFFD")), append(evictors, a.Evictor)
	}
	for _, r := range e.Replies {
		named = append(named, r.Policies...)
		for _, b := range r.Budgets {
			budgets = append(budgets, b, e.Namespace+"/"+b)
		}
	}
	for o := range e.Outcomes {
		outcomes = append(outcomes, string(o))
	}
	tried := slices.ContainsFunc(append(attempts, e.First, e.Last), func(at time.Time) bool {
		return (f.Since.IsZero() || !at.Before(f.Since)) && (f.Until.IsZero() || at.Before(f.Until))
	})
	return (tried || ((f.Since.IsZero() || f.Until.IsZero()) && !e.Last.Before(f.Since) && (f.Until.IsZero() || e.First.Before(f.Until)))) &&
		is(f.Namespace, e.Namespace) && is(f.Pod, e.Pod, e.PodUID) &&
		is(f.Workload, e.Workload, strings.TrimPrefix(e.Workload, "Deployment/"), strings.TrimPrefix(e.Workload, "StatefulSet/")) &&
		is(f.Node, e.Node) && is(clean(f.User), users...) && is(f.Evictor, evictors...) && is(f.Policy, named...) && is(f.Budget, budgets...) &&
		is(string(f.Outcome), outcomes...) && is(string(f.Fate), string(e.Fate)) && is(f.Episode, e.ID)
}

func TestFiltersAgreeWithPlainGo(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(testing.TB, Options) *Store) {
		empty := emptied(t, open)
		rapid.Check(t, func(t *rapid.T) {
			ctx, h, s := context.Background(), happenings(t), empty()
			for part := range slices.Chunk(h.records, 10) {
				if _, err := s.Add(ctx, part); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := s.AddAnswers(ctx, h.answers); err != nil {
				t.Fatal(err)
			}
			all := stateOf(t, s).Episodes
			for range 6 {
				checkFilter(t, s, h, all, anyFilter(t))
			}
		})
	})
}

func checkFilter(t *rapid.T, s *Store, h happened, all []record.Episode, f Filter) {
	ctx := context.Background()
	want, attempts := []string{}, map[string][]time.Time{}
	outcomes, timeline, dryRuns := map[policies.Outcome]int{}, map[policies.Outcome]int{}, 0
	refusals := map[string]int{}
	for _, r := range h.records {
		if !r.Request.DryRun {
			attempts[r.EpisodeID()] = append(attempts[r.EpisodeID()], r.Timestamp)
		}
		if takes(f, r) {
			want = append(want, r.DecisionID)
		}
		every := f
		if every.DryRuns = true; !takes(every, r) {
			continue
		}
		if r.Request.DryRun {
			dryRuns++
			continue
		}
		outcomes[r.Result.Outcome]++
		if r.Result.Code >= 400 {
			refusals[r.Request.User.Username]++
		}
	}
	rows, err := s.List(ctx, f, Page{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	got := rowIDs(rows.Rows)
	slices.Sort(got)
	slices.Sort(want)
	same(t, fmt.Sprintf("list %+v", f), want, got)
	if n, err := s.Count(ctx, f); err != nil || n != len(want) {
		t.Fatalf("%+v: Count %d, %v; want %d", f, n, err, len(want))
	}

	page, err := s.Episodes(ctx, f, Page{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	episodes, fates := []record.Episode{}, map[record.Fate]int{}
	for _, e := range all {
		if takesEpisode(f, e, attempts[e.ID]) {
			episodes = append(episodes, e)
			fates[e.Fate]++
		}
	}
	same(t, fmt.Sprintf("episodes %+v", f), episodes, page.Episodes)

	stats, err := s.Stats(ctx, f)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range stats.Timeline {
		for o, n := range b.Decisions {
			timeline[o] += n
		}
	}
	same(t, fmt.Sprintf("stats %+v", f), outcomes, stats.Decisions)
	same(t, fmt.Sprintf("timeline %+v", f), outcomes, timeline)
	same(t, fmt.Sprintf("fates %+v", f), fates, stats.Episodes)
	if stats.DryRuns != dryRuns {
		t.Fatalf("%+v: %d dry runs, want %d", f, stats.DryRuns, dryRuns)
	}
	total, named := 0, 0
	for _, n := range outcomes {
		total += n
	}
	for _, u := range stats.Users {
		named += u.Decisions
		if name := strings.ReplaceAll(u.Name, "w\uFFFD\uFFFD", "w\x00\xff"); u.Refused != refusals[name] {
			t.Fatalf("%+v: user %s refused %d times, want %d", f, u.Name, u.Refused, refusals[name])
		}
	}
	if named != total {
		t.Fatalf("%+v: users have %d decisions of %d", f, named, total)
	}
}
