package store

import (
	"database/sql/driver"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
)

// answered is what the store says to a question, a line each row.
func answered(t *testing.T, s *Store, columns int, sql string) []string {
	t.Helper()
	lines := []string{}
	err := s.db.read(t.Context(), func(q reader) error {
		return q.query(t.Context(), func(scan func(...any) error) error {
			row, to := make([]any, columns), []any{}
			for i := range row {
				to = append(to, &row[i])
			}
			err := scan(to...)
			lines = append(lines, line(row))
			return err
		}, sql)
	})
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return lines
}

func line(row []any) string {
	for i, v := range row {
		switch v := v.(type) {
		case time.Time:
			row[i] = v.UTC().Format(timeForm)
		case driver.Valuer: // a sum of PostgreSQL
			row[i], _ = v.Value()
		}
	}
	return strings.TrimSuffix(fmt.Sprintln(row...), "\n")
}

// questions are the statements of docs/store.md for an engine: those of both, and its own.
func questions(t *testing.T, engine string) []string {
	t.Helper()
	page, err := os.ReadFile("../../../docs/store.md")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, block := range regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		for statement := range strings.SplitSeq(block[1], ";\n") {
			first, _, _ := strings.Cut(statement, "\n")
			if statement = strings.TrimSuffix(statement, ";"); strings.TrimSpace(statement) != "" && (!strings.Contains(first, "only") || strings.Contains(first, engine)) {
				list = append(list, statement)
			}
		}
	}
	return list
}

// An operator asks the store with psql, sqlite3 or Grafana.
func TestTheStoreIsPlainSQL(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(testing.TB, Options) *Store) {
		s := open(t, Options{})
		now := time.Now().UTC().Truncate(time.Hour).Add(-10 * time.Minute)
		m := func(id string, age time.Duration, m made) record.Record {
			m.id, m.at = id, now.Add(-age).Sub(noon)
			return m.record()
		}
		add(t, s,
			m("d1", 60*time.Minute, made{namespace: "bank", budget: "web", uid: "u1", node: "n1", workload: "Deployment/web", message: "web needs 2 pods"}),
			m("d2", 61*time.Minute, made{namespace: "bank", policy: "night", outcome: policies.Denied, uid: "u1", node: "n1", workload: "Deployment/web"}),
			m("d3", 2*time.Minute, made{namespace: "shop", pod: "web-1", policy: "night", uid: "u2", message: "not at night"}),
			m("d4", time.Minute, made{namespace: "shop", outcome: policies.Admitted, policy: "quota", uid: "u3"}),
			m("d5", 72*time.Hour, made{namespace: "old", pod: "db-0", policy: "night", uid: "u4", message: "not at night"}),
			m("d6", 0, made{namespace: "bank", budget: "web", dryRun: true}),
		)
		engine := "SQLite"
		if _, isPostgres := s.db.(*postgres); isPostgres {
			engine = "PostgreSQL"
		}
		at := func(age, step time.Duration) string { return floor(now.Add(-age), step).Format(timeForm) }
		want := [][]string{
			{"bank 2", "shop 1"},
			{at(72*time.Hour, hour) + " delayed 1", at(time.Hour, hour) + " delayed 1", at(time.Hour, hour) + " denied 1", at(0, hour) + " admitted 1", at(0, hour) + " delayed 1"},
			{"d3 429 not at night", "d1 429 web needs 2 pods", "d5 429 not at night"},
			{at(2*time.Minute, time.Microsecond) + " shop web-1 admin", at(61*time.Minute, time.Microsecond) + " bank web-0 admin", at(72*time.Hour, time.Microsecond) + " old db-0 admin"},
			{"bank 1", "old 1", "shop 1"},
			{"old db-0 1 policy night", "bank web-0 2 budget bank/web", "shop web-1 1 policy night"},
		}
		columns := []int{2, 3, 3, 4, 2, 4}
		list := questions(t, engine)
		if len(list) != len(want) {
			t.Fatalf("docs/store.md has %d questions for %s, want %d", len(list), engine, len(want))
		}
		for i, sql := range list {
			equal(t, sql, want[i], answered(t, s, columns[i], sql))
		}
	})
}
