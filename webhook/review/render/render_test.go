package render

import (
	"bytes"
	"encoding/csv"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/store"
)

func TestSafe(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"plain text":               {"Deployment shop/web", "Deployment shop/web"},
		"other alphabets":          {"Größe, 大きさ, размер 🙂", "Größe, 大きさ, размер 🙂"},
		"colours":                  {"\x1b[31mred\x1b[0m", `\x1b[31mred\x1b[0m`},
		"an 8-bit escape":          {"a\u009b31mb", `a\u009b31mb`},
		"the title of the window":  {"\x1b]0;owned\x07", `\x1b]0;owned\a`},
		"backspace and delete":     {"a\bb\x7fc", `a\bb\x7fc`},
		"new lines":                {"a\r\nb\tc\u2028d", "a  b c d"},
		"a writing direction":      {"user\u202egnp.exe", `user\u202egnp.exe`},
		"what is not seen":         {"ad\u200bmin\ufeff\u00ad\u3164", `ad\u200bmin\ufeff\u00ad\u3164`},
		"no UTF-8":                 {"a\xff\xc3(", `a\xff\xc3(`},
		"the replacement itself":   {"a\uFFFDb", "a\uFFFDb"},
		"an accent":                {"e\u0301", "e\u0301"},
		"accents that run over":    {"e" + strings.Repeat("\u0301", 6), "e" + strings.Repeat("\u0301", 4) + `\u0301\u0301`},
		"another plane":            {"\U000E0041", `\U000e0041`},
		"a space of another width": {"a\u00a0b", "a b"},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, Line(c.text)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestCSVCells(t *testing.T) {
	for text, want := range map[string]string{
		"plain": "plain", "": "", "=HYPERLINK(1)": "'=HYPERLINK(1)", "+1": "'+1", "-1": "'-1", "@SUM(1)": "'@SUM(1)", "\t=1": "' =1", "\r=1": "' =1", "\n=1": "' =1",
		"a\nb": "a b", "\x1b[31m": `\x1b[31m`, "1-2": "1-2", "'quoted": "''quoted", `a "b", c`: `a "b", c`,
	} {
		var out bytes.Buffer
		if err := WriteCSV(&out, [][]string{{"x", text}}); err != nil {
			t.Fatal(err)
		}
		lines, err := csv.NewReader(&out).ReadAll()
		if err != nil || lines[0][1] != want {
			t.Errorf("%q became %q (%v), want %q", text, lines, err, want)
		}
	}
}

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestTablesAndDataHaveTheSameColumns(t *testing.T) {
	rows := []store.Row{{
		ID: "d1", At: noon, Episode: "u", Namespace: "shop", Pod: "web-0", Node: "n", Workload: "Deployment/web", User: "system:serviceaccount:ci:bot",
		Evictor: "service-account", Outcome: policies.Denied, Code: 403, DryRun: true, Message: "no", Kind: record.ByPolicy, Policies: []string{"p", "q"}, Revision: "r", Replica: "e-0",
	}}
	style := Style{Layout: Table, Time: func(time.Time) string { return "noon" }, ID: strings.ToUpper, Message: OrDash}
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
