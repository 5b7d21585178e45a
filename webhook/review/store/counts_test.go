package store

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
)

func statsOf(t *testing.T, s *Store, f Filter) Stats {
	t.Helper()
	stats, err := s.Stats(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return stats
}

// Whoever evicts makes names up: sums have all of them, in no more rows than there are records, and they go with these.
func TestInventedNamesAreBoundedByTheRecords(t *testing.T) {
	const n = 200
	long := strings.Repeat("x", 200)
	for name, invent := range map[string]func(i int, m *made){
		"namespaces, users and evictors": func(i int, m *made) {
			m.namespace, m.user, m.evictor = fmt.Sprint(long, i), fmt.Sprint(long, long, i), fmt.Sprint(long, i)
		},
		"policies": func(i int, m *made) { m.policy = fmt.Sprint("a= ,%", long, i) },
		"budgets":  func(i int, m *made) { m.budget = fmt.Sprint(long, "b ", i) },
		"outcomes": func(i int, m *made) { m.outcome = policies.Outcome(fmt.Sprint(long, i)) },
		"pods":     func(i int, m *made) { m.pod = fmt.Sprint("pod-", i) },
		"places": func(i int, m *made) {
			m.uid, m.node, m.workload = fmt.Sprint(i), fmt.Sprint(long, i), fmt.Sprint("Deployment/", long, i)
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, open func(testing.TB, Options) *Store) {
				s := open(t, Options{Retention: Retention{Age: time.Hour}})
				var list []record.Record
				var m made
				for i := range n {
					m = made{id: fmt.Sprint("i", i), at: time.Duration(i) * time.Second, outcome: policies.Denied, policy: "p"}
					invent(i, &m)
					list = append(list, m.record())
				}
				add(t, s, list...)
				add(t, s, made{id: "honest", at: n * time.Second, namespace: "shop", uid: "u1", node: "n1", workload: "Deployment/web", user: "jane", evictor: "kubectl", budget: "web"}.record())
				for table, rows := range rowsOf(t, s) {
					if strings.HasPrefix(table, "decisions_by_") && rows > n+1 {
						t.Errorf("%s has %d rows for %d records", table, rows, n+1)
					}
				}
				if name == "pods" && rowsOf(t, s)["decisions_by_hour"] != 2 {
					t.Errorf("pods leave a trace in sums: %v", rowsOf(t, s))
				}
				for what, f := range map[string]Filter{
					"node": {Node: "n1"}, "workload": {Workload: "Deployment/web"}, "user": {User: "jane"}, "budget": {Budget: "shop/web"}, "evictor": {Evictor: "kubectl"},
				} {
					equal(t, what, map[policies.Outcome]int{"delayed": 1}, statsOf(t, s, f).Decisions)
				}
				last := Filter{Namespace: m.namespace, User: m.user, Evictor: m.evictor, Policy: m.policy, Budget: m.budget, Workload: m.workload, Node: m.node, Outcome: m.outcome, Pod: m.pod}
				if count, err := s.Count(t.Context(), last); err != nil || count != 1 {
					t.Errorf("the last invented name: %d, %v", count, err)
				}
				if removed, err := s.Retain(t.Context(), after(100*time.Hour)); err != nil || removed != n+1 {
					t.Errorf("removed %d, %v", removed, err)
				}
				for table, rows := range rowsOf(t, s) {
					if rows != 0 {
						t.Errorf("%s has %d rows", table, rows)
					}
				}
			})
		})
	}
}

// What is kept by adding and taking away is what the records say.
func TestSumsAgreeWithTheRecordsThatAreLeft(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(testing.TB, Options) *Store) {
		empty := emptied(t, open)
		rapid.Check(t, func(t *rapid.T) {
			h, s := happenings(t), empty()
			s.retention = Retention{Age: time.Hour}
			if _, err := s.Add(t.Context(), h.records); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Retain(t.Context(), after(time.Duration(rapid.IntRange(0, 8*60).Draw(t, "now"))*time.Minute)); err != nil {
				t.Fatal(err)
			}
			kept := happened{}
			for r, err := range s.Records(t.Context(), Filter{DryRuns: true}) {
				if err != nil {
					t.Fatal(err)
				}
				kept.records = append(kept.records, r)
			}
			was, err := s.Stats(t.Context(), Filter{})
			if err != nil {
				t.Fatal(err)
			}
			again := empty()
			if _, err := again.Add(t.Context(), kept.records); err != nil {
				t.Fatal(err)
			}
			is, err := again.Stats(t.Context(), Filter{})
			if err != nil {
				t.Fatal(err)
			}
			is.Episodes, was.Episodes, is.Blockers, was.Blockers = nil, nil, nil, nil // episodes keep what their records said
			same(t, "sums", is, was)
		})
	})
}

// A record comes back as it was, but for what JSONB does not take.
func TestARecordComesBack(t *testing.T) {
	input := `{"z":1,"a":{"n":[0.10,1e3,12345678901234567890,-0.5],"huge":[1e131071,-2.5E+1000,1e-9999,1e100,"x\"1e5555,"],"nul":"a\u0000b","half":"\ud800x","pair":"\ud83d\ude00","back":"\\u0000","text":"ü\n\"/<>"},"":[],"null":null}`
	want := strings.NewReplacer(`a\u0000b`, `a\ufffdb`, `\ud800x`, `\ufffdx`, `1e131071`, `"1e131071"`, `-2.5E+1000`, `"-2.5E+1000"`, `1e-9999`, `"1e-9999"`).Replace(input)
	eachStore(t, func(t *testing.T, open func(testing.TB, Options) *Store) {
		s := open(t, Options{})
		r := made{id: "d1", uid: "u1", budget: "web", policy: "p", message: "a <b> & \"c\" \\u0000"}.record()
		r.Input = json.RawMessage(input)
		add(t, s, r)
		got, err := s.Record(t.Context(), "d1")
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "input", jsonOf(t, want), jsonOf(t, string(got.Input)))
		got.Input, r.Input = nil, nil
		equal(t, "the rest", r, got)
	})
}

func jsonOf(t *testing.T, text string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}
