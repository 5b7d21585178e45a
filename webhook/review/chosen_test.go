package review

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// Records from files are chosen as a store chooses them.
func TestAFilterChoosesAlikeInFilesAndInAStore(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	one := func(t *rapid.T, what string, values ...string) string { return rapid.SampledFrom(values).Draw(t, what) }
	chosenSome := 0
	rapid.Check(t, func(t *rapid.T) {
		var list []record.Record
		for i := range rapid.IntRange(1, 8).Draw(t, "records") {
			list = append(list, someRecord(t, i, at))
		}
		instant := func(what string) time.Time {
			if rapid.IntRange(0, 2).Draw(t, what+" given") > 0 {
				return time.Time{}
			}
			return at.Add(time.Duration(rapid.IntRange(0, 5).Draw(t, what)) * time.Minute)
		}
		f := store.Filter{
			Since: instant("since"), Until: instant("until"), Namespace: one(t, "namespace", "", "", "shop"), Pod: one(t, "pod", "", "", "", "web-0", "uid-0"),
			Workload: one(t, "workload", "", "", "", "web", "Deployment/web", "Deployment/db"), Node: one(t, "node", "", "", "", "n1"),
			Evictor: one(t, "evictor", "", "", "", "karpenter"), User: one(t, "user", "", "", "", "admin"), Policy: one(t, "policy", "", "", "", "x", "y"),
			Budget: one(t, "budget", "", "", "", "b", "shop/b", "other/b"), Outcome: policies.Outcome(one(t, "outcome", "", "", "", "delayed")), DryRuns: rapid.Bool().Draw(t, "dry runs"),
		}
		var got []string
		for i := range list {
			if Chosen(&f, &list[i]) {
				got = append(got, list[i].DecisionID)
			}
		}
		want := storedIDs(t, list, f)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%+v -stored +in files:\n%s", f, diff)
		}
		if len(got) > 0 && len(got) < len(list) {
			chosenSome++
		}
	})
	if chosenSome == 0 {
		t.Error("no filter chose some of the records")
	}
}

func someRecord(t *rapid.T, i int, at time.Time) record.Record {
	one := func(what string, values ...string) string { return rapid.SampledFrom(values).Draw(t, what) }
	r := record.Record{
		Version: record.Version, DecisionID: fmt.Sprint("r", i), Timestamp: at.Add(time.Duration(rapid.IntRange(0, 5).Draw(t, "at")) * time.Minute),
		Request: record.Request{
			Namespace: one("namespace", "shop", "other"), Name: one("pod", "web-0", "db-0"), User: policies.User{Username: one("user", "admin", "lou")},
			Evictor: one("evictor", "user", "karpenter"), DryRun: rapid.IntRange(0, 3).Draw(t, "dry run") == 0,
		},
		Result: &policies.Decision{Outcome: policies.Admitted, Code: 200},
	}
	if rapid.Bool().Draw(t, "known") {
		r.Pod = &record.Object{Kind: "Pod", Name: r.Request.Name, UID: one("uid", "uid-0", "uid-1"), Node: one("node", "n1", "n2")}
		r.Owner = &record.Object{Kind: "Deployment", Name: one("owner", "web", "db"), UID: "o"}
	}
	d := r.Result
	switch rapid.IntRange(0, 4).Draw(t, "result") {
	case 0:
		d.Outcome, d.Code, d.Message = policies.Delayed, 429, "m"
		d.Causes = []policies.Cause{{Type: "DisruptionBudget", Field: one("budgets", "b", "c", "b,c"), Message: "m"}}
	case 1:
		d.Outcome, d.Code, d.Message = policies.Denied, 403, "m"
		d.Violations = []policies.Violation{{Policy: one("violated", "x", "y"), Effect: policies.Deny, Enforcement: policies.Enforce, Reason: "m"}}
		d.Causes = []policies.Cause{{Type: policies.PolicyCause, Field: d.Violations[0].Policy, Message: "m"}}
	case 2:
		d.Violations = []policies.Violation{{Policy: one("violated", "x", "y"), Effect: policies.Deny, Enforcement: policies.Audit, Reason: "m"}}
	case 3:
		d.Failures = []policies.Failure{{Policy: one("failed", "x", "y"), Enforcement: policies.Warn, Error: "e"}}
	}
	return r
}

func storedIDs(t *rapid.T, list []record.Record, f store.Filter) []string {
	ctx := context.Background()
	s, err := store.Open(ctx, "sqlite::memory:", store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if _, err := s.Add(ctx, list); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for r, err := range s.Records(ctx, f) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, r.DecisionID)
	}
	slices.Sort(ids)
	return ids
}
