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

// Records of files are chosen as a store chooses them.
func TestAFilterChoosesAlikeInFilesAndInAStore(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(testing.TB, Options) *Store) {
		empty := emptied(t, open)
		some := 0 // filters that chose some of the records, and not all
		rapid.Check(t, func(t *rapid.T) {
			var list []record.Record
			for i := range rapid.IntRange(1, 8).Draw(t, "records") {
				list = append(list, chosenRecord(t, i))
			}
			s := empty()
			if _, err := s.Add(context.Background(), slices.Clone(list)); err != nil {
				t.Fatal(err)
			}
			for range 8 {
				f := chosenFilter(t)
				want, got := storedIDs(t, s, f), []string{}
				for i := range list {
					if f.Chooses(&list[i]) {
						got = append(got, list[i].DecisionID)
					}
				}
				same(t, fmt.Sprintf("%+v", f), want, got)
				if len(got) > 0 && len(got) < len(list) {
					some++
				}
			}
		})
		if some == 0 {
			t.Error("no filter chose some of the records")
		}
	})
}

// long is longer than what texts are found by.
var long = strings.Repeat("long", maxText)

// someMoment is one of a record or of a filter, which may be finer than a store keeps them.
func someMoment(t *rapid.T, what string) time.Time {
	return after(time.Duration(rapid.IntRange(0, 5).Draw(t, what))*time.Minute + rapid.SampledFrom([]time.Duration{0, 0, 300, 700, time.Microsecond}).Draw(t, what+" and"))
}

func chosenFilter(t *rapid.T) Filter {
	one := func(name string, of ...string) string {
		if rapid.IntRange(0, 3).Draw(t, name+" is given") > 0 {
			return ""
		}
		return rapid.SampledFrom(of).Draw(t, name)
	}
	f := Filter{
		Namespace: one("namespace", "shop", "other", "none"), Pod: one("pod", "web-0", "uid-0", "shop/web-0"), Episode: one("episode", "uid-0", "shop/web-0", "web-0"),
		Workload: one("workload", "web", "Deployment/web", "Deployment/", "/web", "Deployment", "a/b"), Node: one("node", "n1", long),
		Evictor: one("evictor", "karpenter", "user"), User: one("user", "admin", "nul\x00", long), Policy: one("policy", "x", "y z", "a/b", "cause", long, "%"),
		Budget: one("budget", "b", "shop/b", "other/b", "/b", "shop/", "b c"), Outcome: policies.Outcome(one("outcome", "delayed", "undecided", "none")),
		Fate: record.Fate(one("fate", "evicted")), DryRuns: rapid.Bool().Draw(t, "dry runs"),
	}
	if rapid.IntRange(0, 2).Draw(t, "since is given") == 0 {
		f.Since = someMoment(t, "since")
	}
	if rapid.IntRange(0, 2).Draw(t, "until is given") == 0 {
		f.Until = someMoment(t, "until")
	}
	return f
}

func chosenRecord(t *rapid.T, i int) record.Record {
	one := func(what string, values ...string) string { return rapid.SampledFrom(values).Draw(t, what) }
	policy := func() string { return one("policy", "x", "y z", "a/b", long, "%", "") }
	r := record.Record{
		Version: record.Version, DecisionID: fmt.Sprint("r", i), Timestamp: someMoment(t, "at"),
		Request: record.Request{
			Namespace: one("namespace", "shop", "other"), Name: one("pod", "web-0", "db-0"), User: policies.User{Username: one("user", "admin", "lou", "nul\x00", long)},
			Evictor: one("evictor", "user", "karpenter"), DryRun: rapid.IntRange(0, 3).Draw(t, "dry run") == 0,
		},
		Result: &policies.Decision{Outcome: policies.Admitted, Code: 200},
	}
	if rapid.Bool().Draw(t, "known") {
		r.Pod = &record.Object{Kind: "Pod", Name: r.Request.Name, UID: one("uid", "uid-0", "uid-1", ""), Node: one("node", "n1", "n2", long)}
	}
	if rapid.Bool().Draw(t, "owned") {
		r.Owner = &record.Object{Kind: one("kind", "Deployment", "a", ""), Name: one("owner", "web", "db", "b", "Deployment", ""), UID: "o"}
	}
	d := r.Result
	switch rapid.IntRange(0, 5).Draw(t, "result") {
	case 0:
		d.Outcome, d.Code, d.Message = policies.Delayed, 429, "m"
		d.Causes = []policies.Cause{{Type: "DisruptionBudget", Field: one("budgets", "b", "c", "b,c", "shop/b", "b c", ""), Message: "m"}}
	case 1:
		d.Outcome, d.Code, d.Message = policies.Denied, 403, "m"
		d.Violations = []policies.Violation{{Policy: policy(), Effect: policies.Deny, Enforcement: policies.Enforce, Reason: "m"}}
		d.Causes = []policies.Cause{{Type: policies.PolicyCause, Field: d.Violations[0].Policy, Message: "m"}}
	case 2:
		d.Violations = []policies.Violation{{Policy: policy(), Effect: policies.Deny, Enforcement: policies.Audit, Reason: "m"}}
	case 3:
		d.Failures = []policies.Failure{{Policy: policy(), Enforcement: policies.Warn, Error: "e"}}
	case 4: // its violation was too much to be kept
		d.Outcome, d.Code, d.Message = policies.Denied, 403, "m"
		d.Causes = []policies.Cause{{Type: policies.PolicyCause, Field: "cause", Message: "m"}}
	}
	return r
}

func storedIDs(t *rapid.T, s *Store, f Filter) []string {
	ids := []string{}
	for r, err := range s.Records(context.Background(), f) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, r.DecisionID)
	}
	slices.Sort(ids)
	return ids
}

// What refused is told alike from a record's columns, in sums, and from its reply, in episodes.
func TestWhatRefusedIsTheSameInSumsAndInEpisodes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		for _, r := range happenings(t).records {
			reply := record.ReplyOf(r.Result, r.Timestamp)
			f := factsOf(&r, &reply)
			if reply.Refused() {
				same(t, "who refused", names(f.blockers()), names(blockersOf(r.Request.Namespace, &reply)))
			}
		}
	})
}

func names(list []blocker) []string {
	texts := []string{}
	for _, b := range list {
		texts = append(texts, string(b.kind)+" "+b.name)
	}
	return texts
}

func BenchmarkChooses(b *testing.B) {
	r := made{id: "d", uid: "u1", node: "n1", workload: "Deployment/web", budget: "web", policy: "p", message: "no"}.record()
	f := Filter{Namespace: "shop", Policy: "p", Since: after(-time.Hour)}
	b.ReportAllocs()
	for b.Loop() {
		f.Chooses(&r)
	}
}
