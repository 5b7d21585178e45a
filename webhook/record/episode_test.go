package record

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evictgate/evictgate/policies"
)

// attempt is the record of one decision about pod web-0.
func attempt(after time.Duration, user string, d policies.Decision) *Record {
	return &Record{
		Timestamp: noon.Add(after), Request: Request{Namespace: "shop", Name: "web-0", Evictor: "user", User: policies.User{Username: user}},
		Pod: &Object{Kind: "Pod", Name: "web-0", UID: "uid-0", Node: "n1"}, Owner: &Object{Kind: "Deployment", Name: "web"}, Result: &d,
	}
}

func admitted() policies.Decision { return policies.Decision{Outcome: policies.Admitted, Code: 200} }

func byBudget(names string) policies.Decision {
	d := policies.Decision{
		Outcome: policies.Delayed, Code: 429, Message: "needs 2 has 2", Causes: []policies.Cause{{Type: "DisruptionBudget", Field: names}},
		Disruption: &policies.Disruption{Code: 429, Budgets: []string{names}, Cures: []string{"wait"}},
	}
	if names == "a,b" {
		d.Outcome, d.Code = policies.Denied, 500
	}
	return d
}

func byPolicy(names ...string) policies.Decision {
	d := policies.Decision{Outcome: policies.Denied, Code: 403, Message: "never"}
	for _, name := range names {
		d.Causes = append(d.Causes, policies.Cause{Type: policies.PolicyCause, Field: name})
	}
	return d
}

func TestReplies(t *testing.T) {
	failed := policies.Decision{
		Outcome: policies.Undecided, Code: 429, Failures: []policies.Failure{{Policy: "broken", Enforcement: policies.Enforce}, {Policy: "other", Enforcement: policies.Audit}},
		Disruption: &policies.Disruption{Allowed: true},
	}
	failedOpen := failed
	failedOpen.Code = 200
	both := byBudget("web")
	both.Causes = append(both.Causes, policies.Cause{Type: policies.PolicyCause, Field: "freeze"}, policies.Cause{Type: policies.PolicyCause, Field: "freeze"})
	denied := byPolicy("freeze", "quorum")
	denied.Disruption = &policies.Disruption{Code: 429, Budgets: []string{"web"}, Cures: []string{"wait"}}
	for name, c := range map[string]struct {
		decision policies.Decision
		want     Reply
	}{
		"admitted":                           {admitted(), Reply{Outcome: policies.Admitted, Code: 200}},
		"one budget":                         {byBudget("web"), Reply{Outcome: policies.Delayed, Code: 429, Message: "needs 2 has 2", Kind: ByBudget, Budgets: []string{"web"}, Cures: []string{"wait"}}},
		"two budgets":                        {byBudget("a,b"), Reply{Outcome: policies.Denied, Code: 500, Message: "needs 2 has 2", Kind: ByBudgets, Budgets: []string{"a", "b"}, Cures: []string{"wait"}}},
		"policies, whatever the budget says": {denied, Reply{Outcome: policies.Denied, Code: 403, Message: "never", Kind: ByPolicy, Policies: []string{"freeze", "quorum"}}},
		"a budget, and a policy twice":       {both, Reply{Outcome: policies.Delayed, Code: 429, Message: "needs 2 has 2", Kind: ByBudget, Policies: []string{"freeze"}, Budgets: []string{"web"}, Cures: []string{"wait"}}},
		"a policy that failed":               {failed, Reply{Outcome: policies.Undecided, Code: 429, Kind: ByFailure, Policies: []string{"broken"}}},
		"one that failed and is admitted":    {failedOpen, Reply{Outcome: policies.Undecided, Code: 200, Policies: []string{"broken"}}},
	} {
		c.want.Count, c.want.First, c.want.Last = 1, noon, noon
		if diff := cmp.Diff(c.want, ReplyOf(&c.decision, noon)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
}

func TestRetriesFoldIntoOneEpisode(t *testing.T) {
	var e Episode
	for i := range 3 {
		e.Add(attempt(time.Duration(i)*5*time.Second, "admin", byBudget("web")))
	}
	e.Add(attempt(7*time.Second, "robot", byPolicy("freeze")))
	e.Add(attempt(15*time.Second, "admin", admitted()))
	at := func(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }
	last := Reply{Outcome: policies.Admitted, Code: 200, Count: 1, First: at(15), Last: at(15)}
	want := Episode{
		ID: "uid-0", Namespace: "shop", Pod: "web-0", PodUID: "uid-0", Node: "n1", Workload: "Deployment/web", Fate: AdmittedOnly,
		First: at(0), Last: at(15), Attempts: 5, Outcomes: map[policies.Outcome]int{policies.Delayed: 3, policies.Denied: 1, policies.Admitted: 1},
		Evictors: []Attempts{{"user", "admin", 4, at(0), at(15)}, {"user", "robot", 1, at(7), at(7)}},
		Replies: []Reply{
			{Outcome: policies.Delayed, Code: 429, Message: "needs 2 has 2", Kind: ByBudget, Budgets: []string{"web"}, Cures: []string{"wait"}, Count: 3, First: at(0), Last: at(10)},
			{Outcome: policies.Denied, Code: 403, Message: "never", Kind: ByPolicy, Policies: []string{"freeze"}, Count: 1, First: at(7), Last: at(7)},
			last,
		},
		Latest: &last, FirstRefused: at(0), LastAdmitted: at(15),
	}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestFates(t *testing.T) {
	refused, ok := attempt(0, "admin", byBudget("web")), attempt(time.Second, "admin", admitted())
	answer := func(passage Passage, code int32, by string) Answer {
		return Answer{ID: by + "1", Verb: VerbEvict, Passage: passage, Code: code, RefusedBy: by, At: noon.Add(2 * time.Second), Namespace: "shop", Pod: "web-0"}
	}
	then := noon.Add(time.Minute)
	for name, c := range map[string]struct {
		parts []any
		want  Fate
	}{
		"refused":                                      {[]any{refused}, Blocked},
		"refused, then admitted":                       {[]any{refused, ok}, AdmittedOnly},
		"admitted, then refused":                       {[]any{ok, attempt(2*time.Second, "admin", byBudget("web"))}, Blocked},
		"admitted and carried out":                     {[]any{refused, ok, answer(Decided, 201, "")}, Evicted},
		"admitted and marked by the API server":        {[]any{ok, Sighting{EvictedByAPI: true, Terminating: then}}, Evicted},
		"marked, but not yet terminating":              {[]any{ok, Sighting{EvictedByAPI: true}}, AdmittedOnly},
		"admitted, and the budget refused":             {[]any{ok, answer(Decided, 429, "budget")}, RefusedByBudget},
		"admitted, and another webhook refused":        {[]any{ok, answer(Decided, 403, "webhook other")}, RefusedElsewhere},
		"admitted, and it did not come to it":          {[]any{ok, answer(Decided, 409, "api-server")}, RefusedElsewhere},
		"admitted once more after the budget refused":  {[]any{ok, answer(Decided, 429, "budget"), attempt(5*time.Second, "admin", admitted())}, AdmittedOnly},
		"refused by us, and the audit log agrees":      {[]any{refused, answer(Decided, 429, "")}, Blocked},
		"refused, then let through while we were away": {[]any{refused, answer(FailedOpen, 201, "")}, EvictedUnseen},
		"never seen":                                    {[]any{answer(Unseen, 201, "")}, EvictedUnseen},
		"never seen, and the budget refused":            {[]any{answer(FailedOpen, 429, "budget")}, RefusedByBudget},
		"never seen, since we were away":                {[]any{answer(FailedClosed, 500, "webhook evictions.evictgate.dev")}, RefusedElsewhere},
		"a dry run that was not seen":                   {[]any{refused, Answer{Verb: VerbEvict, Passage: Unseen, Code: 201, DryRun: true}}, Blocked},
		"refused, then deleted":                         {[]any{refused, Answer{Verb: VerbDelete, Code: 200}}, Deleted},
		"refused, and a DELETE that was refused, too":   {[]any{refused, Answer{Verb: VerbDelete, Code: 403}}, Blocked},
		"refused, then seen terminating without a mark": {[]any{refused, Sighting{Terminating: then}}, Deleted},
		"refused, then preempted":                       {[]any{refused, Sighting{DisruptedBy: "PreemptionByScheduler", Terminating: then}}, Deleted},
		"refused, then finished":                        {[]any{refused, Sighting{Finished: then}}, Gone},
		"refused, then not there any more":              {[]any{refused, Sighting{Gone: then}}, Gone},
		"evicted, then gone":                            {[]any{ok, Sighting{EvictedByAPI: true, Terminating: then}, Sighting{Gone: then}}, Evicted},
	} {
		if e := fold(c.parts); e.Fate != c.want {
			t.Errorf("%s: %s, want %s", name, e.Fate, c.want)
		}
	}
}

func fold(parts []any) Episode {
	var e Episode
	for _, part := range parts {
		switch part := part.(type) {
		case *Record:
			e.Add(part)
		case Answer:
			e.Answered(part)
		case Sighting:
			part.Namespace, part.Pod, part.PodUID = "shop", "web-0", "uid-0"
			e.See(part)
		}
	}
	return e
}

func TestAnEpisodeDoesNotDependOnTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		decisions := []policies.Decision{admitted(), byBudget("web"), byBudget("a,b"), byPolicy("freeze")}
		users := []string{"admin", "robot"}
		parts := []any{attempt(0, "admin", admitted())} // without an attempt, the id goes by what there is
		for i := range rapid.IntRange(0, 8).Draw(t, "parts") {
			at := time.Duration(i+1) * time.Second
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0, 1:
				parts = append(parts, attempt(at, rapid.SampledFrom(users).Draw(t, "user"), rapid.SampledFrom(decisions).Draw(t, "decision")))
			case 2:
				parts = append(parts, Answer{
					ID: fmt.Sprint(i), At: noon.Add(at), Namespace: "shop", Pod: "web-0", PodUID: "uid-0", Code: rapid.SampledFrom([]int32{201, 429}).Draw(t, "code"),
					Verb:      rapid.SampledFrom([]Verb{VerbEvict, VerbDelete}).Draw(t, "verb"),
					Passage:   rapid.SampledFrom([]Passage{Decided, FailedOpen, Unseen, NotCalled}).Draw(t, "passage"),
					RefusedBy: rapid.SampledFrom([]string{"", "budget", "api-server"}).Draw(t, "by"), DryRun: rapid.Bool().Draw(t, "dry run"),
				})
			default:
				s := Sighting{EvictedByAPI: rapid.Bool().Draw(t, "evicted"), DisruptedBy: rapid.SampledFrom([]string{"", "PreemptionByScheduler"}).Draw(t, "by")}
				for _, field := range []*time.Time{&s.Terminating, &s.Finished, &s.Gone} {
					if rapid.IntRange(0, 3).Draw(t, "seen") == 0 {
						*field = noon.Add(at)
					}
				}
				parts = append(parts, s)
			}
		}
		if diff := cmp.Diff(fold(parts), fold(rapid.Permutation(parts).Draw(t, "order"))); diff != "" {
			t.Fatalf("-in order +in another:\n%s", diff)
		}
	})
}

func TestTheSameMessageOfAnotherPolicyIsAnotherReply(t *testing.T) {
	var e Episode
	for i, policy := range []string{"night", "weekend", "night"} {
		e.Add(attempt(time.Duration(i)*time.Minute, "u", byPolicy(policy)))
	}
	got := ""
	for _, r := range e.Replies {
		got += fmt.Sprint(r.Policies, r.Count, " ")
	}
	if want := "[night] 2 [weekend] 1 "; got != want {
		t.Errorf("replies %s, want %s", got, want)
	}
}

func TestAnEpisodeListsABoundedNumberOfReplies(t *testing.T) {
	var e Episode
	for i := range 1000 {
		d := byPolicy("freeze")
		d.Message = fmt.Sprint(i)
		e.Add(attempt(time.Duration(i)*time.Second, fmt.Sprint("user-", i), d))
	}
	n := 0
	for _, r := range e.Replies {
		n += r.Count
	}
	m := 0
	for _, a := range e.Evictors {
		m += a.Count
	}
	if len(e.Replies) != maxListed || len(e.Evictors) != maxListed || n != 1000 || m != 1000 {
		t.Errorf("%d replies of %d, %d users with %d attempts", len(e.Replies), n, len(e.Evictors), m)
	}
}
