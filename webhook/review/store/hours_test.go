package store

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
)

// largestHour is the size of the largest row of hours, in bytes.
func largestHour(t *testing.T, s *Store) int {
	t.Helper()
	n := 0
	err := s.db.read(t.Context(), func(q reader) error {
		return one(t.Context(), q, &n, "SELECT max(length(body)) FROM hours", nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// addInvented adds n decisions of an hour, some at a time, each with a name of its own.
func addInvented(t *testing.T, s *Store, n int, name func(i int, m *made)) {
	t.Helper()
	var list []record.Record
	for i := range n {
		m := made{id: fmt.Sprint("i", i), at: time.Duration(i%3600) * time.Second, outcome: policies.Denied, policy: "p", message: "no"}
		name(i, &m)
		list = append(list, m.record())
		if len(list) == 500 || i == n-1 {
			add(t, s, list...)
			list = nil
		}
	}
}

func statsOf(t *testing.T, s *Store, f Filter) Stats {
	t.Helper()
	stats, err := s.Stats(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return stats
}

// honest are two decisions whose names nobody invented, after all others of the hour.
func honest() []record.Record {
	return records(
		made{id: "h1", at: 59*time.Minute + 58*time.Second, namespace: "shop", uid: "u1", node: "n1", workload: "Deployment/web", user: "jane", evictor: "kubectl", budget: "web"},
		made{id: "h2", at: 59*time.Minute + 59*time.Second, namespace: "shop", uid: "u2", node: "n2", workload: "Deployment/web", user: "jane", evictor: "kubectl", outcome: policies.Admitted},
	)
}

func TestInventedPodsLeaveNoTraceInSums(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(testing.TB, Options) *Store) {
		s := open(t, Options{})
		addInvented(t, s, 2000, func(i int, m *made) { m.pod = fmt.Sprint("pod-", i) })
		if n := largestHour(t, s); n > 512 {
			t.Errorf("a row has %d bytes", n)
		}
		add(t, s, honest()...)
		all := statsOf(t, s, Filter{})
		equal(t, "all", map[policies.Outcome]int{"denied": 2000, "delayed": 1, "admitted": 1}, all.Decisions)
		equal(t, "without a name", 0, all.Unnamed)
		equal(t, "an invented pod", map[policies.Outcome]int{"denied": 1}, statsOf(t, s, Filter{Pod: "pod-77"}).Decisions)
		equal(t, "a pod by its UID", map[policies.Outcome]int{"delayed": 1}, statsOf(t, s, Filter{Episode: "u1"}).Decisions)
	})
}

func TestInventedNamesAreBounded(t *testing.T) {
	const n = 1000
	long := strings.Repeat("x", 200)
	for name, invent := range map[string]func(i int, m *made){
		"namespaces, in any rows": func(i int, m *made) {
			m.namespace, m.user, m.evictor = fmt.Sprint(long, i), fmt.Sprint(long, i), fmt.Sprint(long, i)
		},
		"users":    func(i int, m *made) { m.user = fmt.Sprint(long, long, i) },
		"policies": func(i int, m *made) { m.policy = fmt.Sprint(long, i) },
		"outcomes": func(i int, m *made) { m.outcome = policies.Outcome(fmt.Sprint(long, i)) },
		"places": func(i int, m *made) {
			m.uid, m.node, m.workload = fmt.Sprint(i), fmt.Sprint(long, i), fmt.Sprint("Deployment/", long, i)
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, open func(testing.TB, Options) *Store) {
				s := open(t, Options{})
				s.rooms = rooms{whole: 16 << 10, placeless: 20 << 10}
				addInvented(t, s, n, invent)
				add(t, s, honest()...)
				if size := largestHour(t, s); size > 24<<10 {
					t.Errorf("a row has %d bytes", size)
				}
				all := statsOf(t, s, Filter{})
				sum := 0
				for _, m := range all.Decisions {
					sum += m
				}
				equal(t, "all", n+2, sum)
				if all.Unnamed == 0 || all.Unnamed > n+2 {
					t.Errorf("%d without a name", all.Unnamed)
				}
				for what, f := range map[string]Filter{
					"node": {Node: "n1"}, "workload": {Workload: "Deployment/web", Outcome: policies.Delayed}, "user": {User: "jane", Outcome: policies.Delayed},
					"budget": {Budget: "shop/web"}, "evictor": {Evictor: "kubectl", Outcome: policies.Delayed},
				} {
					equal(t, what, map[policies.Outcome]int{"delayed": 1}, statsOf(t, s, f).Decisions)
				}
				m := made{policy: "p", outcome: policies.Denied, at: 7 * time.Second}
				invent(n-1, &m)
				r := m.record()
				one := Filter{Namespace: r.Request.Namespace, User: r.Request.User.Username, Policy: m.policy, Workload: m.workload, Node: m.node, Outcome: m.outcome}
				if count, err := s.Count(t.Context(), one); err != nil || count != 1 {
					t.Errorf("the last invented name: %d, %v", count, err)
				}
			})
		})
	}
}

func TestRowsOfTheOldFormAreReadAndGoOn(t *testing.T) {
	s := opened(t, "sqlite::memory:", Options{})
	add(t, s, records(made{id: "d1", namespace: "shop", pod: "web-0", user: "jane", policy: "p"})...)
	old := []byte{oldForm}
	var facts []byte
	for _, text := range []string{"shop", "shop/web-0", "web-0", "", "", "jane", "user", "delayed", "policy"} {
		facts = appendText(facts, text)
	}
	facts = append(facts, 2, 1)
	facts = append(appendText(facts, "p"), byte(refused), 0)
	old = append(appendText(old, string(facts)), 1, 0, 1) // once, in the first minute
	err := s.write(t.Context(), func(w writer) error {
		_, err := w.exec(t.Context(), "UPDATE hours SET body = $1", old)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	whole := Filter{Since: noon, Until: after(time.Hour), User: "jane", Policy: "p"}
	equal(t, "the old row", map[policies.Outcome]int{"delayed": 1}, statsOf(t, s, whole).Decisions)
	add(t, s, records(made{id: "d2", namespace: "shop", pod: "web-1", user: "jane", policy: "p"})...)
	equal(t, "with a new one", map[policies.Outcome]int{"delayed": 2}, statsOf(t, s, whole).Decisions)
}
