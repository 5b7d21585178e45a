package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/evictgate/evictgate/policies"
	postgresql "github.com/evictgate/evictgate/test/harness/postgres"
	"github.com/evictgate/evictgate/webhook/record"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// after is a time of the tests.
func after(d time.Duration) time.Time { return noon.Add(d) }

// eachStore runs a test on a new store of each kind.
func eachStore(t *testing.T, f func(t *testing.T, open func(testing.TB, Options) *Store)) {
	t.Run("SQLite", func(t *testing.T) {
		url := "sqlite:" + filepath.Join(t.TempDir(), "store.db")
		f(t, func(t testing.TB, o Options) *Store { return opened(t, url, o) })
	})
	t.Run("SQLite in memory", func(t *testing.T) {
		s := opened(t, "sqlite::memory:", Options{})
		f(t, func(_ testing.TB, o Options) *Store {
			s.retention = o.Retention
			return s
		})
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		url := newDatabase(t)
		f(t, func(t testing.TB, o Options) *Store { return opened(t, url, o) })
	})
}

// server is one for all tests of the package, started by the first that needs it.
var (
	server = sync.OnceValues(func() (s *postgresql.Server, err error) {
		s, err = postgresql.Start(context.Background())
		stopServer = func() { _ = s.Stop() }
		return s, err
	})
	stopServer = func() {}
)

var databases atomic.Int64

// newDatabase is the URL of one.
func newDatabase(t testing.TB) string {
	t.Helper()
	s, err := server()
	postgresql.SkipWithout(t, err)
	url, err := s.CreateDatabase(context.Background(), fmt.Sprint("test", databases.Add(1)))
	if err != nil {
		t.Fatal(err)
	}
	return url
}

func opened(t testing.TB, url string, o Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// made is what a test says of a record.
type made struct {
	id, namespace, pod, uid, node, workload, user, evictor string
	at                                                     time.Duration
	outcome                                                policies.Outcome
	policy, budget, message                                string
	dryRun                                                 bool
}

// record makes what is not said: a refusal of user admin.
func (m made) record() record.Record {
	r := record.Record{
		Version: record.Version, DecisionID: m.id, Timestamp: after(m.at), Labels: map[string]string{"id": "replica-1"}, Path: "eviction",
		Request: record.Request{
			Namespace: cmp.Or(m.namespace, "shop"), Name: cmp.Or(m.pod, "web-0"), Evictor: cmp.Or(m.evictor, "user"), DryRun: m.dryRun,
			User: policies.User{Username: cmp.Or(m.user, "admin")},
		},
		Revision: "r1", Input: json.RawMessage(`{"pod":null}`), Result: m.decision(),
	}
	r.RequestedBy = r.Request.User.Username
	if m.uid != "" {
		r.Pod = &record.Object{Kind: "Pod", Name: r.Request.Name, UID: m.uid, Node: m.node}
	}
	if kind, name, ok := strings.Cut(m.workload, "/"); ok {
		r.Owner = &record.Object{Kind: kind, Name: name}
	}
	return r
}

func (m made) decision() *policies.Decision {
	d := &policies.Decision{Outcome: cmp.Or(m.outcome, policies.Delayed), Code: 200, Message: m.message}
	switch d.Outcome {
	case policies.Delayed:
		d.Code = 429
	case policies.Denied:
		d.Code = 403
	case policies.Undecided:
		d.Code = 500
		d.Failures = []policies.Failure{{Policy: cmp.Or(m.policy, "broken"), Enforcement: policies.Enforce, Error: "no"}}
		return d
	}
	if m.budget != "" {
		d.Disruption = &policies.Disruption{Code: d.Code, Budgets: strings.Split(m.budget, ","), Cures: []string{"wait"}}
		if d.Code != 200 {
			d.Causes = append(d.Causes, policies.Cause{Type: "DisruptionBudget", Field: m.budget})
		}
	}
	if m.policy != "" {
		v := policies.Violation{Policy: m.policy, Effect: policies.Delay, Enforcement: policies.Enforce, Reason: "held"}
		if d.Code == 200 {
			v.Enforcement = policies.Audit
		} else {
			d.Causes = append(d.Causes, policies.Cause{Type: policies.PolicyCause, Field: m.policy, Message: "held"})
		}
		d.Violations = append(d.Violations, v)
	}
	return d
}

func records(list ...made) []record.Record {
	rs := make([]record.Record, len(list))
	for i, m := range list {
		m.id = cmp.Or(m.id, fmt.Sprint("d", i))
		rs[i] = m.record()
	}
	return rs
}

func add(t testing.TB, s *Store, list ...record.Record) {
	t.Helper()
	got, err := s.Add(context.Background(), list)
	if err != nil || got != (Added{New: len(list)}) {
		t.Fatalf("Add: %+v, %v", got, err)
	}
}

func listed(t testing.TB, s *Store, f Filter) []string {
	t.Helper()
	rows, err := s.List(context.Background(), f, Page{Limit: 10000})
	if err != nil {
		t.Fatal(err)
	}
	return rowIDs(rows.Rows)
}

func rowIDs(rows []Row) []string {
	ids := []string{}
	for _, r := range rows {
		ids = append(ids, r.ID)
	}
	return ids
}

func diffOf(want, got any) string { return gocmp.Diff(want, got, cmpopts.EquateEmpty()) }

func equal(t testing.TB, what string, want, got any) {
	t.Helper()
	if diff := diffOf(want, got); diff != "" {
		t.Errorf("%s: -want +got:\n%s", what, diff)
	}
}

func TestTheLifeOfAStuckPod(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(testing.TB, Options) *Store) {
		s, ctx := open(t, Options{}), t.Context()
		pod := made{uid: "u1", node: "n1", workload: "Deployment/web", budget: "web", message: "web needs 1"}
		refused, admitted := pod, pod
		refused.id, admitted.id, admitted.at, admitted.outcome = "d1", "d2", time.Minute, policies.Admitted
		add(t, s, refused.record())
		stuck, err := s.Stuck(ctx, Filter{}, after(-time.Hour))
		if err != nil || len(stuck) != 1 || stuck[0].Fate != record.Blocked || stuck[0].Latest.Budgets[0] != "web" {
			t.Fatalf("stuck: %+v, %v", stuck, err)
		}
		if stuck, err = s.Stuck(ctx, Filter{}, after(time.Second)); err != nil || len(stuck) != 0 {
			t.Errorf("stuck although not tried since: %+v, %v", stuck, err)
		}

		add(t, s, admitted.record())
		if got, err := s.Add(ctx, []record.Record{admitted.record(), refused.record()}); err != nil || got != (Added{Known: 2}) {
			t.Errorf("added twice: %+v, %v", got, err)
		}
		e, err := s.Episode(ctx, "u1")
		if err != nil || e.Attempts != 2 || e.Fate != record.AdmittedOnly {
			t.Errorf("episode: %+v, %v", e, err)
		}

		answers := []record.Answer{{ID: "a1", At: after(61 * time.Second), Verb: record.VerbEvict, Passage: record.Decided, Namespace: "shop", Pod: "web-0", Code: 201, ReviewUID: "d2"}}
		for i, want := range []Added{{New: 1}, {Known: 1}} {
			if got, err := s.AddAnswers(ctx, answers); err != nil || got != want {
				t.Errorf("answers, time %d: %+v, %v", i+1, got, err)
			}
		}
		if err := s.AddSightings(ctx, []record.Sighting{
			{Namespace: "shop", Pod: "web-0", PodUID: "u1", EvictedByAPI: true, Terminating: after(62 * time.Second)},
			{Namespace: "shop", Pod: "other", PodUID: "u9", Gone: after(time.Second)},
		}); err != nil {
			t.Fatal(err)
		}
		unsettled, err := s.Unsettled(ctx, Page{})
		if e, _ = s.Episode(ctx, "u1"); err != nil || len(unsettled.Episodes) != 0 || e.Fate != record.Evicted || e.Sighting == nil {
			t.Errorf("unsettled %+v, %v; episode %+v", unsettled, err, e)
		}
		if page, err := s.Episodes(ctx, Filter{}, Page{}); err != nil || len(page.Episodes) != 1 {
			t.Errorf("a sighting made an episode: %+v, %v", page, err)
		}

		got, err := s.Record(ctx, "d2")
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "record", admitted.record(), got)
		if _, err := s.Record(ctx, "d3"); !errors.Is(err, ErrNotFound) {
			t.Errorf("no record: %v", err)
		}
		if _, err := s.Episode(ctx, "u2"); !errors.Is(err, ErrNotFound) {
			t.Errorf("no episode: %v", err)
		}
	})
}

func TestARowSaysWhatARecordIs(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(testing.TB, Options) *Store) {
		s := open(t, Options{})
		m := made{id: "d1", uid: "u1", node: "n1", workload: "StatefulSet/db", budget: "db,all", policy: "p", message: "no", user: "karpenter", evictor: "karpenter", outcome: policies.Denied}
		add(t, s, m.record())
		got, err := s.List(t.Context(), Filter{}, Page{})
		equal(t, fmt.Sprint("list ", err), Rows{Rows: []Row{{
			ID: "d1", At: noon, Episode: "u1", Namespace: "shop", Pod: "web-0", Node: "n1", Workload: "StatefulSet/db", User: "karpenter", Evictor: "karpenter",
			Outcome: policies.Denied, Code: 403, Message: "no", Kind: record.ByBudgets, Policies: []string{"p"}, Budgets: []string{"db", "all"}, Revision: "r1", Replica: "replica-1",
		}}}, got)
	})
}

func TestFilters(t *testing.T) {
	list := records(
		made{uid: "u0", node: "n1", workload: "Deployment/web", budget: "web", user: "admin", evictor: "user"},
		made{uid: "u1", pod: "web-1", node: "n2", workload: "StatefulSet/web", policy: "night", at: time.Minute, user: "drainer", evictor: "kured"},
		made{namespace: "bank", pod: "db-0", policy: "night", outcome: policies.Admitted, at: 2 * time.Minute},
		made{namespace: "bank", pod: "db-0", uid: "u3", outcome: policies.Undecided, policy: "broken", at: 3 * time.Minute},
		made{uid: "u0", dryRun: true, at: 4 * time.Minute, budget: "web"},
		made{namespace: "bank", pod: "db-1", uid: "u5", budget: "web,db", outcome: policies.Denied, at: 5 * time.Minute},
	)
	cases := map[string]struct {
		f        Filter
		ids      string
		episodes string
	}{
		"nothing":                             {Filter{}, "d5 d3 d2 d1 d0", "u5 u3 bank/db-0 u1 u0"},
		"dry runs, too":                       {Filter{DryRuns: true}, "d5 d4 d3 d2 d1 d0", "u5 u3 bank/db-0 u1 u0"},
		"since is inclusive":                  {Filter{Since: after(3 * time.Minute)}, "d5 d3", "u5 u3"},
		"until is exclusive":                  {Filter{Until: after(3 * time.Minute)}, "d2 d1 d0", "bank/db-0 u1 u0"},
		"a namespace":                         {Filter{Namespace: "bank"}, "d5 d3 d2", "u5 u3 bank/db-0"},
		"a pod's name":                        {Filter{Pod: "db-0"}, "d3 d2", "u3 bank/db-0"},
		"a pod's UID":                         {Filter{Pod: "u1"}, "d1", "u1"},
		"an episode's id is no pod":           {Filter{Pod: "bank/db-0"}, "", ""},
		"a workload's name":                   {Filter{Workload: "web"}, "d1 d0", "u1 u0"},
		"a workload's kind, too":              {Filter{Workload: "Deployment/web"}, "d0", "u0"},
		"a node":                              {Filter{Node: "n2"}, "d1", "u1"},
		"an evictor":                          {Filter{Evictor: "kured"}, "d1", "u1"},
		"a user":                              {Filter{User: "drainer"}, "d1", "u1"},
		"a policy that refused, or audited":   {Filter{Policy: "night"}, "d2 d1", "u1"},
		"a policy that failed":                {Filter{Policy: "broken"}, "d3", "u3"},
		"a budget's name":                     {Filter{Budget: "web"}, "d5 d0", "u5 u0"},
		"a budget's namespace, too":           {Filter{Budget: "bank/web"}, "d5", "u5"},
		"an outcome":                          {Filter{Outcome: policies.Undecided}, "d3", "u3"},
		"a fate is of episodes":               {Filter{Fate: record.AdmittedOnly}, "d5 d3 d2 d1 d0", "bank/db-0"},
		"an episode":                          {Filter{Episode: "bank/db-0"}, "d2", "bank/db-0"},
		"two at once":                         {Filter{Namespace: "bank", Budget: "web"}, "d5", "u5"},
		"a value that is SQL":                 {Filter{Namespace: "' OR 1=1 --"}, "", ""},
		"a value with NUL and invalid UTF-8":  {Filter{User: "a\x00\xff"}, "", ""},
		"a value with the signs of parameter": {Filter{User: "$1 ?"}, "", ""},
	}
	eachStore(t, func(t *testing.T, open func(testing.TB, Options) *Store) {
		s, ctx := open(t, Options{}), t.Context()
		add(t, s, list...)
		for name, c := range cases {
			want := strings.Fields(c.ids)
			equal(t, name, want, listed(t, s, c.f))
			if n, err := s.Count(ctx, c.f); err != nil || n != len(want) {
				t.Errorf("%s: Count %d, %v", name, n, err)
			}
			var oldest []string
			for r, err := range s.Records(ctx, c.f) {
				if err != nil {
					t.Fatal(err)
				}
				oldest = append(oldest, r.DecisionID)
			}
			slices.Reverse(oldest)
			equal(t, name+": Records", want, oldest)
			page, err := s.Episodes(ctx, c.f, Page{})
			got := []string{}
			for _, e := range page.Episodes {
				got = append(got, e.ID)
			}
			equal(t, fmt.Sprint(name, ": Episodes ", err), strings.Fields(c.episodes), got)
		}
	})
}

// An episode lists a bounded number of users and replies, and is found by all.
func TestAnEpisodeIsFoundByAllThatItsRecordsName(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(testing.TB, Options) *Store) {
		s, list := open(t, Options{}), []record.Record{}
		for i := range 100 {
			n := fmt.Sprintf("%02d", i)
			list = append(list, made{
				id: "d" + n, uid: "u", user: "user" + n, evictor: "evictor" + n, policy: "policy" + n, budget: "budget" + n, message: "not now " + fmt.Sprint(i%50),
				at: time.Duration(i) * time.Second,
			}.record())
		}
		add(t, s, list...)
		for i := range list {
			n := fmt.Sprintf("%02d", i)
			for _, f := range []Filter{{User: "user" + n}, {Evictor: "evictor" + n}, {Policy: "policy" + n}, {Budget: "shop/budget" + n}} {
				page, err := s.Episodes(t.Context(), f, Page{})
				if err != nil || len(page.Episodes) != 1 {
					t.Errorf("%+v: %d episodes, %v", f, len(page.Episodes), err)
				}
			}
		}
	})
}

func TestPagesStayWhereTheyAre(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(testing.TB, Options) *Store) {
		s, ctx := open(t, Options{}), t.Context()
		var want []string
		for i := range 10 { // five at each of two moments: their ids decide
			m := made{id: fmt.Sprint("d", i), uid: fmt.Sprint("u", i), at: time.Duration(i/5) * time.Second}
			add(t, s, m.record())
			want = append([]string{m.id}, want...)
		}
		var got, episodes []string
		p, q := Page{Limit: 3}, Page{Limit: 3}
		for i := 0; ; i++ {
			rows, err := s.List(ctx, Filter{}, p)
			if err != nil {
				t.Fatal(err)
			}
			page, err := s.Episodes(ctx, Filter{}, q)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page.Episodes {
				episodes = append(episodes, strings.Replace(e.ID, "u", "d", 1))
			}
			got = append(got, rowIDs(rows.Rows)...)
			if rows.Next == "" || page.Next == "" {
				equal(t, "both end", rows.Next, page.Next)
				break
			}
			p.After, q.After = rows.Next, page.Next
			add(t, s, made{id: fmt.Sprint("new", i), uid: fmt.Sprint("new", i), at: time.Hour + time.Duration(i)}.record())
		}
		equal(t, "pages", want, got)
		equal(t, "pages of episodes", want, episodes)
		for _, bad := range []string{"x", "!", "MTIz", "eCB5"} {
			if _, err := s.List(ctx, Filter{}, Page{After: bad}); err == nil || !strings.Contains(err.Error(), "is not a page of a list; take what the page before gives as next") {
				t.Errorf("page %q: %v", bad, err)
			}
			if _, err := s.Episodes(ctx, Filter{}, Page{After: bad}); err == nil {
				t.Errorf("page %q of episodes is taken", bad)
			}
		}
		if rows, err := s.List(ctx, Filter{}, Page{Limit: 13}); err != nil || rows.Next != "" {
			t.Errorf("a next page after the last record: %q, %v", rows.Next, err)
		}
	})
}
