package store

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
)

func TestCompleteness(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(testing.TB, Options) *Store) {
		s := open(t, Options{})
		add(t, s, records(made{}, made{dryRun: true, at: time.Second}, made{at: 2 * time.Second}, made{at: time.Hour})...)
		answer := func(id, review string, at time.Duration, passage record.Passage) record.Answer {
			return record.Answer{ID: id, At: after(at), Verb: record.VerbEvict, Passage: passage, Namespace: "shop", Pod: "web-0", Code: 429, ReviewUID: review}
		}
		deleted := answer("a9", "", 0, "")
		deleted.Verb = record.VerbDelete
		answers := []record.Answer{
			answer("a0", "d0", -time.Millisecond, record.Decided), // it began before the time
			answer("a1", "d1", time.Second, record.Decided),
			answer("a2", "d1", 2*time.Second, record.Decided), // a second answer to one decision
			answer("a3", "lost", 3*time.Second, record.Decided),
			answer("a4", "", 4*time.Second, record.FailedOpen), answer("a5", "", 5*time.Second, record.Unseen), answer("a6", "", 6*time.Second, record.NotCalled),
			answer("a7", "later", time.Hour, record.Decided), deleted,
		}
		if _, err := s.AddAnswers(t.Context(), answers); err != nil {
			t.Fatal(err)
		}
		got, err := s.Completeness(t.Context(), noon, after(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		var rows, without, unseen []string
		for _, r := range got.WithoutAnswer {
			rows = append(rows, r.ID)
		}
		for _, a := range got.WithoutDecision {
			without = append(without, a.ID)
		}
		for _, a := range got.NotSeen {
			unseen = append(unseen, a.ID)
		}
		equal(t, "lists", [][]string{{"d2"}, {"a3", "a2"}, {"a5", "a4"}}, [][]string{rows, without, unseen})
		got.WithoutAnswer, got.WithoutDecision, got.NotSeen = nil, nil, nil
		equal(t, "numbers", Completeness{
			Since: noon, Until: after(time.Minute), Decisions: 3, Answers: 3, Matched: 2, MissingAnswers: 1, MissingDecisions: 2,
			Passages: map[record.Passage]int{record.Decided: 3, record.FailedOpen: 1, record.Unseen: 1, record.NotCalled: 1},
		}, got)
		if got.Complete() {
			t.Error("complete")
		}
		if all, err := s.Completeness(t.Context(), after(-time.Hour), after(-time.Minute)); err != nil || !all.Complete() {
			t.Errorf("nothing is not complete: %+v, %v", all, err)
		}
	})
}

func TestStats(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(testing.TB, Options) *Store) {
		s := open(t, Options{})
		if got, err := s.Stats(t.Context(), Filter{}); err != nil || len(got.Timeline) != 0 || got.Decisions == nil {
			t.Errorf("nothing: %+v, %v", got, err)
		}
		failed := made{uid: "u2", pod: "c", outcome: policies.Undecided, policy: "broken", at: 3 * time.Hour}.record()
		failed.Result.Violations = []policies.Violation{{Policy: "old", Effect: policies.Deny, Enforcement: policies.Warn, Expired: &policies.Expired{MaxHold: "1h"}}}
		add(t, s, append(records(
			made{uid: "u0", pod: "a", budget: "web", node: "n1", workload: "Deployment/web", message: "first"},
			made{uid: "u0", pod: "a", budget: "web", node: "n1", workload: "Deployment/web", message: "second", at: time.Minute},
			made{uid: "u1", pod: "b", policy: "night", user: "bot", evictor: "kured", at: 2 * time.Minute},
			made{uid: "u1", pod: "b", policy: "night", user: "bot", evictor: "kured", outcome: policies.Admitted, at: 3 * time.Minute},
			made{uid: "u1", dryRun: true, at: time.Hour},
		), func() record.Record { failed.DecisionID = "d9"; return failed }())...)
		got, err := s.Stats(t.Context(), Filter{Since: noon, Until: after(4 * time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Timeline) != 48 || got.Step != 5*time.Minute || got.Timeline[0].Decisions[policies.Delayed] != 3 || len(got.Timeline[1].Decisions) != 0 {
			t.Errorf("timeline: %d buckets of %v: %+v", len(got.Timeline), got.Step, got.Timeline)
		}
		got.Timeline = nil
		equal(t, "stats", Stats{
			Since: noon, Until: after(4 * time.Hour), Step: 5 * time.Minute, DryRuns: 1,
			Decisions: map[policies.Outcome]int{policies.Delayed: 3, policies.Admitted: 1, policies.Undecided: 1},
			Episodes:  map[record.Fate]int{record.Blocked: 2, record.AdmittedOnly: 1},
			Blockers: []BlockerCount{
				{Kind: record.ByBudget, Name: "shop/web", Refusals: 2, Stuck: 1, Message: "second"},
				{Kind: record.ByFailure, Name: "broken", Refusals: 1, Stuck: 1},
				{Kind: record.ByPolicy, Name: "night", Refusals: 1},
			},
			Policies:   []PolicyCount{{Policy: "night", Refused: 1, Audited: 1}, {Policy: "broken", Failed: 1}, {Policy: "old", Expired: 1}},
			Evictors:   []Count{{"user", 3, 3}, {"kured", 2, 1}},
			Users:      []Count{{"admin", 3, 3}, {"bot", 2, 1}},
			Namespaces: []Count{{"shop", 5, 4}},
			Workloads:  []Count{{"shop/Deployment/web", 2, 2}},
			Nodes:      []Count{{"n1", 2, 2}},
		}, got)
	})
}

func TestTheTimelineHasFewBuckets(t *testing.T) {
	for window, want := range map[time.Duration]string{
		time.Second: "1 of 1m0s", time.Hour: "61 of 1m0s", 24 * time.Hour: "49 of 30m0s", 7 * 24 * time.Hour: "85 of 2h0m0s", 30 * 24 * time.Hour: "61 of 12h0m0s",
		20 * 365 * 24 * time.Hour: "66 of 2688h0m0s",
	} {
		tally := newTally()
		tally.span(after(7*time.Second), after(7*time.Second+window))
		if got := fmt.Sprintf("%d of %v", len(tally.timeline), tally.stats().Step); got != want {
			t.Errorf("%v: %s, want %s", window, got, want)
		}
	}
}

func TestHostileRecords(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(testing.TB, Options) *Store) {
		s, ctx := open(t, Options{}), t.Context()
		evil := "\x00\xff<b>\x1b[31m\u202e'; DROP TABLE records; --\n"
		m := made{id: evil, namespace: evil, pod: evil, uid: evil, node: evil, workload: "K/" + evil, user: evil, evictor: evil, policy: evil, budget: evil, message: strings.Repeat(evil, 1<<15)}
		add(t, s, m.record())
		want := strings.NewReplacer("\xff", "\uFFFD", "\x00", "\uFFFD").Replace(evil) // JSONB takes neither
		got, err := s.Record(ctx, evil)
		if err != nil || got.Result.Message != strings.Repeat(want, 1<<15) || got.Request.Name != want || got.DecisionID != want {
			t.Errorf("record: %v", err)
		}
		for name, f := range map[string]Filter{
			"namespace": {Namespace: evil}, "pod": {Pod: evil}, "workload": {Workload: "K/" + evil}, "node": {Node: evil}, "user": {User: evil},
			"evictor": {Evictor: evil}, "policy": {Policy: evil}, "budget": {Budget: evil}, "episode": {Episode: evil},
		} {
			if n := len(listed(t, s, f)); n != 1 {
				t.Errorf("%s: %d records", name, n)
			}
			if page, err := s.Episodes(ctx, f, Page{}); err != nil || len(page.Episodes) != 1 {
				t.Errorf("%s: %d episodes, %v", name, len(page.Episodes), err)
			}
		}
		if _, err := s.Stats(ctx, Filter{}); err != nil {
			t.Error(err)
		}
		if _, err := s.AddAnswers(ctx, []record.Answer{{ID: evil, At: noon, Verb: record.Verb(evil), Passage: record.Passage(evil), Namespace: evil, Pod: evil, ReviewUID: evil, Message: evil}}); err != nil {
			t.Error(err)
		}
		for name, r := range map[string]record.Record{"it has no decision_id": {}, "it has no result": {DecisionID: "d"}} {
			if _, err := s.Add(ctx, []record.Record{r}); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %v", name, err)
			}
		}
		long := strings.Repeat("é", 5000)
		add(t, s, made{id: long, namespace: long, pod: long, uid: long, node: long, workload: "K/" + long, user: long, evictor: long, policy: long, budget: long + "," + long}.record())
		if ids := listed(t, s, Filter{User: long, Policy: long, Budget: long, Pod: long}); len(ids) != 1 || ids[0] != long {
			t.Errorf("%d records of long names", len(ids))
		}
		early, late := made{id: "early"}.record(), made{id: "late"}.record()
		early.Timestamp, late.Timestamp = time.Time{}, time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
		add(t, s, early, late)
		if n, err := s.Count(ctx, Filter{}); err != nil || n != 4 {
			t.Errorf("%d records of 10,000 years, %v", n, err)
		}
	})
}
