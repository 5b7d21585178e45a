package render

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/store"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestTablesAndDataHaveTheSameColumns(t *testing.T) {
	rows := []store.Row{{
		ID: "d1", At: noon, Episode: "u", Namespace: "shop", Pod: "web-0", Node: "n", Workload: "Deployment/web", User: "system:serviceaccount:ci:bot",
		Evictor: "service-account", Outcome: policies.Denied, Code: 403, DryRun: true, Message: "no", Kind: record.ByPolicy, Policies: []string{"p", "q"}, Revision: "r", Replica: "e-0",
	}}
	style := Style{Layout: Table, Time: func(time.Time) string { return "noon" }, ID: strings.ToUpper, Message: output.OrDash}
	want := [][]string{{"TIME", "ID", "POD", "EVICTOR", "OUTCOME", "WHY"}, {"noon", "D1", "shop/web-0", "ci:bot", "denied 403 (dry run)", "no"}}
	if diff := cmp.Diff(want, Decisions.Rows(&style, rows)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	style.Layout = Wide
	want = [][]string{
		{"TIME", "ID", "POD", "WORKLOAD", "NODE", "EVICTOR", "USER", "OUTCOME", "BLOCKER", "WHY"},
		{"noon", "D1", "shop/web-0", "Deployment/web", "n", "service-account", "system:serviceaccount:ci:bot", "denied 403 (dry run)", "policies p, q", "no"},
	}
	if diff := cmp.Diff(want, Decisions.Rows(&style, rows)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	want = [][]string{strings.Fields(
		"timestamp decision_id episode namespace pod workload node evictor user dry_run outcome code kind policies budgets message revision replica"), {
		"2026-11-23T12:00:00Z", "d1", "u", "shop", "web-0", "Deployment/web", "n", "service-account", "system:serviceaccount:ci:bot", "true", "denied", "403", "policy", "p;q", "", "no", "r", "e-0",
	}}
	if diff := cmp.Diff(want, Decisions.Lines(rows)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// The names of CSV are those of JSON, and each field of a decision has its column.
func TestEachFieldOfADecisionHasAColumn(t *testing.T) {
	got := map[string]bool{}
	for _, name := range Decisions.Names() {
		got[name] = true
	}
	row := reflect.TypeFor[store.Row]()
	for i := range row.NumField() {
		name, _, _ := strings.Cut(row.Field(i).Tag.Get("json"), ",")
		if !got[name] {
			t.Errorf("%s (%s) has no column", row.Field(i).Name, name)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("no field has these columns: %v", got)
	}
}
