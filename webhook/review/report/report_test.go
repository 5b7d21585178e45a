package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/policies/output/outputtest"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// three is when what the tests print is looked at.
var three = clock{review.Clock{Now: time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC), Zone: time.UTC}}

func TestFateSentences(t *testing.T) {
	at := three.Now.Add(-time.Hour)
	answer := func(passage record.Passage) *record.Answer {
		return &record.Answer{At: at, User: "karpenter", Passage: passage, Message: "no", RefusedBy: "webhook x"}
	}
	for name, c := range map[string]struct {
		episode record.Episode
		want    []string
	}{
		"evicted, by the audit log": {record.Episode{Fate: record.Evicted, Eviction: answer(record.Decided), Sighting: &record.Sighting{Terminating: at, Gone: at.Add(time.Minute)}}, []string{
			"It was evicted: the API server carried out what karpenter asked for at 02:00:00Z (60m ago), as its audit log shows.",
			"The watch saw it terminating since 02:00:00Z, gone by 02:01:00Z.",
		}},
		"evicted, by the watch":        {record.Episode{Fate: record.Evicted, Sighting: &record.Sighting{EvictedByAPI: true}}, []string{"It was evicted: the API server marked the pod (condition DisruptionTarget, reason EvictionByEvictionAPI), as the watch saw."}},
		"failed open":                  {record.Episode{Fate: record.EvictedUnseen, Eviction: answer(record.FailedOpen), Unseen: 1}, []string{"It was evicted by karpenter at 02:00:00Z (60m ago) while evictgate could not be asked: the webhook failed open, as the API server's audit log shows.", "1 eviction of this pod did not pass evictgate, as the API server's audit log shows."}},
		"unseen":                       {record.Episode{Fate: record.EvictedUnseen, Eviction: answer(record.Unseen)}, []string{"It was evicted by karpenter at 02:00:00Z (60m ago) without evictgate being asked, as the API server's audit log shows."}},
		"refused by another webhook":   {record.Episode{Fate: record.RefusedElsewhere, Refusal: answer(record.Decided)}, []string{"It was admitted here, and then refused by webhook x at 02:00:00Z (60m ago), as the API server's audit log shows: no"}},
		"deleted, by the audit log":    {record.Episode{Fate: record.Deleted, Deletion: answer("")}, []string{"It was deleted directly, past budgets and policies, by karpenter at 02:00:00Z (60m ago), as the API server's audit log shows."}},
		"preempted":                    {record.Episode{Fate: record.Deleted, Sighting: &record.Sighting{DisruptedBy: "PreemptionByScheduler"}}, []string{"It was taken away in another way than by eviction: its condition DisruptionTarget has the reason PreemptionByScheduler, as the watch saw."}},
		"deleted, by the watch":        {record.Episode{Fate: record.Deleted, Sighting: &record.Sighting{Terminating: at}}, []string{"It was deleted directly, past budgets and policies: the watch saw it terminating without the mark that the API server gives to what it evicts.", "The watch saw it terminating since 02:00:00Z."}},
		"gone":                         {record.Episode{Fate: record.Gone, Sighting: &record.Sighting{Gone: at}}, []string{"It is gone, and nobody saw by whom.", "The watch saw it gone by 02:00:00Z."}},
		"blocked":                      {record.Episode{Fate: record.Blocked, FirstRefused: at, Last: three.Now.Add(-time.Minute)}, []string{"It is blocked: refused since 02:00:00Z (60m ago), the last time at 02:59:00Z (60s ago). The pod is still there, as far as is known."}},
		"a fate that is not known yet": {record.Episode{Fate: "new"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, fateSentences(three, &c.episode)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestShortestIDs(t *testing.T) {
	rows := []store.Row{{ID: "03fd39c3-aaaa"}, {ID: "03fd39c3-abbb"}, {ID: "7"}, {ID: "03fd39c3-aaaa"}}
	want := map[string]string{"03fd39c3-aaaa": "03fd39c3-aa", "03fd39c3-abbb": "03fd39c3-ab", "7": "7"}
	if diff := cmp.Diff(want, shortest(rows)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// hostile is a decision and an episode of which every text is drawn.
func hostile(t *rapid.T) (record.Record, record.Episode, store.Row) {
	text := func(what string) string { return outputtest.AnyText().Draw(t, what) }
	r := record.Record{
		DecisionID: text("id"), Timestamp: three.Now.Add(-time.Hour), Revision: text("revision"), Labels: map[string]string{"id": text("replica")},
		Request: record.Request{Namespace: text("namespace"), Name: text("pod"), Evictor: text("evictor"), User: policies.User{Username: text("user")}, Annotations: map[string]string{text("key"): text("value")}},
		Pod:     &record.Object{Name: text("pod"), UID: text("uid"), Node: text("node")}, Owner: &record.Object{Kind: text("kind"), Name: text("owner")},
		Result: &policies.Decision{
			Outcome: policies.Delayed, Code: 429, Message: text("message"), Warnings: []string{text("warning")},
			Violations: []policies.Violation{{Policy: text("policy"), Effect: policies.Delay, Enforcement: policies.Enforce, Reason: text("reason"), Detail: map[string]any{text("key"): text("value"), "list": []string{text("item")}}}},
			Failures:   []policies.Failure{{Policy: text("policy"), Error: text("error")}},
			Disruption: &policies.Disruption{Detail: text("detail"), Blockers: []policies.Blocker{{Name: text("blocker"), Why: text("why"), Detail: text("detail")}}, Cures: []string{text("cure")}},
			Override:   &policies.Override{Reason: text("reason"), Ignored: text("ignored")},
			Causes:     []policies.Cause{{Type: "DisruptionBudget", Field: text("budget")}},
		},
	}
	var e record.Episode
	e.Add(&r)
	row := store.Row{ID: r.DecisionID, At: r.Timestamp, Namespace: r.Request.Namespace, Pod: r.Request.Name, User: r.Request.User.Username, Evictor: r.Request.Evictor, Outcome: policies.Delayed, Code: 429, Message: r.Result.Message, Kind: record.ByPolicy, Policies: []string{text("policy")}}
	return r, e, row
}

// Whatever stands in records, what is printed of them shows as it stands, and is data where it should be.
func TestHostileRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		made, episode, row := hostile(t)
		for _, format := range []string{"table", "wide", "json", "yaml", "csv"} {
			l := Listing{Format: format, Clock: three.Clock}
			stuck := Stuck{StuckPods: review.StuckPods{At: three.Now, Stuck: []record.Episode{episode}}, Clock: three.Clock, Again: " --from x"}
			stats := Stats{Stats: store.Stats{
				Decisions: map[policies.Outcome]int{policies.Delayed: 1}, Blockers: []store.BlockerCount{{Kind: record.ByBudget, Name: row.Namespace, Refusals: 1}},
				Policies: []store.PolicyCount{{Policy: row.Pod}}, Users: []store.Count{{Name: row.User, Decisions: 1}},
			}, Clock: three.Clock}
			for what, print := range map[string]func(p output.Printer) error{
				"list": func(p output.Printer) error { return l.Decisions(p, store.Rows{Rows: []store.Row{row}, Next: row.ID}) },
				"episodes": func(p output.Printer) error {
					return l.Episodes(p, store.Episodes{Episodes: []record.Episode{episode}})
				},
				"stuck": func(p output.Printer) error { return stuck.Print(p, format) },
				"stats": func(p output.Printer) error { return stats.Print(p, format) },
				"decision": func(p output.Printer) error {
					return Story{Story: review.Story{Record: &made, Episode: &episode}, Clock: three.Clock}.Print(p, format)
				},
				"episode": func(p output.Printer) error {
					return Story{Story: review.Story{Record: &made, Episode: &episode, Whole: true}, Clock: three.Clock}.Print(p, format)
				},
			} {
				var out bytes.Buffer
				if err := print(output.Printer{Out: &out}); err != nil {
					t.Fatalf("%s as %s: %v", what, format, err)
				}
				if !outputtest.Shows(out.String()) {
					t.Fatalf("%s as %s: %q", what, format, out.String())
				}
				if format == "json" && !json.Valid(out.Bytes()) {
					t.Fatalf("%s is not JSON: %q", what, out.String())
				}
				if format == "csv" && what != "decision" && what != "episode" {
					if _, err := csv.NewReader(&out).ReadAll(); err != nil {
						t.Fatalf("%s is not CSV: %v", what, err)
					}
				}
			}
		}
	})
}

func TestAMegabyteMessageIsCutInATable(t *testing.T) {
	l := Listing{Format: "table", Clock: three.Clock}
	var out bytes.Buffer
	row := store.Row{ID: "d", At: three.Now, Namespace: "shop", Pod: "web-0", Outcome: policies.Denied, Code: 403, Message: strings.Repeat("x", 1<<20)}
	if err := l.Decisions(output.Printer{Out: &out}, store.Rows{Rows: []store.Row{row}}); err != nil {
		t.Fatal(err)
	}
	if out.Len() > 2000 || !strings.Contains(out.String(), "x… (1048576 characters)") {
		t.Errorf("%d bytes: %.300s", out.Len(), out.String())
	}
}

func TestTimelines(t *testing.T) {
	hour := func(h int, n int) store.Bucket {
		return store.Bucket{At: three.Now.Add(time.Duration(h) * time.Hour), Decisions: map[policies.Outcome]int{policies.Denied: n}}
	}
	for name, c := range map[string]struct {
		buckets []store.Bucket
		width   int
		step    time.Duration
		want    []int
	}{
		"nothing":                     {nil, 10, time.Hour, nil},
		"hours without any":           {[]store.Bucket{hour(0, 2), hour(3, 1)}, 10, time.Hour, []int{2, 0, 0, 1}},
		"more hours than columns":     {[]store.Bucket{hour(0, 2), hour(3, 1), hour(4, 5)}, 3, 2 * time.Hour, []int{2, 1, 5}},
		"buckets in another order":    {[]store.Bucket{hour(3, 1), hour(0, 2)}, 10, time.Hour, []int{2, 0, 0, 1}},
		"one hour on a single column": {[]store.Bucket{hour(0, 2)}, 1, time.Hour, []int{2}},
	} {
		t.Run(name, func(t *testing.T) {
			got := newTimeline(store.Stats{Step: time.Hour, Timeline: c.buckets}, c.width)
			if diff := cmp.Diff(c.want, got.counts[policies.Denied]); diff != "" || got.step != c.step {
				t.Errorf("step %s, -want +got:\n%s", got.step, diff)
			}
		})
	}
}

func TestBarsAndSparks(t *testing.T) {
	for name, c := range map[string]struct{ got, want string }{
		"nothing":              {draw(0, 10, 8, false), ""},
		"all":                  {draw(10, 10, 4, false), "████"},
		"a half":               {draw(5, 10, 3, false), "█▌"},
		"one of very many":     {draw(1, 100000, 4, false), "▏"},
		"ASCII":                {draw(5, 10, 4, true), "##"},
		"one of many in ASCII": {draw(1, 1000, 4, true), "#"},
		"a spark":              {spark([]int{0, 1, 400, 800}, 800, false), " ▁▄█"},
		"a spark in ASCII":     {spark([]int{0, 1, 400, 800}, 800, true), " .=@"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q, want %q", name, c.got, c.want)
		}
	}
}
