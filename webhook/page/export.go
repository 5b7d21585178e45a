package page

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/evictgate/evictgate/webhook/audit"
	"github.com/evictgate/evictgate/webhook/audit/store"
)

// Exports have the names of the JSON that the review commands print. What does not fit one answer goes on
// at the address that the header Link names.

// sheet is a table for a spreadsheet.
type sheet struct {
	header []string
	rows   [][]string
}

func (s *sheet) add(cells ...string) { s.rows = append(s.rows, cells) }

func writeJSON(w http.ResponseWriter, v view) error {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(true)
	if err := encoder.Encode(v.data); err != nil {
		return fmt.Errorf("write %s as JSON: %w", v.title, err)
	}
	exportHeaders(w, v, "application/json", "")
	_, _ = w.Write(b.Bytes())
	return nil
}

func writeCSV(w http.ResponseWriter, v view) error {
	var b bytes.Buffer
	out := csv.NewWriter(&b)
	_ = out.Write(v.sheet.header)
	for _, row := range v.sheet.rows {
		safe := make([]string, len(row))
		for i, cell := range row {
			safe[i] = neutral(cell)
		}
		_ = out.Write(safe)
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("write %s as CSV: %w", v.title, err)
	}
	exportHeaders(w, v, "text/csv; charset=utf-8; header=present", "evictgate-"+strings.ToLower(v.template)+".csv")
	_, _ = w.Write(b.Bytes())
	return nil
}

func exportHeaders(w http.ResponseWriter, v view, kind, file string) {
	w.Header().Set("Content-Type", kind)
	if file != "" {
		w.Header().Set("Content-Disposition", `attachment; filename="`+file+`"`)
	}
	if v.next != "" {
		w.Header().Set("Link", "<"+v.next+`>; rel="next"`)
	}
}

// neutral keeps a spreadsheet from taking a cell for a formula: such a cell begins with an apostrophe, as
// does one that begins with an apostrophe itself, so that taking one away gives the text back.
func neutral(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r\n'", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}

func writeProblem(w http.ResponseWriter, pr problem) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(pr.Status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": pr.What, "next": pr.Next})
}

func stamp(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format(time.RFC3339Nano)
}

// several writes a list into one cell, a member a line.
func several(list []string) string { return strings.Join(list, "\n") }

func rowSheet(rows []store.Row) *sheet {
	s := &sheet{header: []string{
		"decision_id", "timestamp", "episode", "namespace", "pod", "node", "workload", "user", "evictor", "dry_run",
		"outcome", "code", "message", "kind", "policies", "budgets", "revision", "replica",
	}}
	for _, r := range rows {
		s.add(r.ID, stamp(r.At), r.Episode, r.Namespace, r.Pod, r.Node, r.Workload, r.User, r.Evictor, strconv.FormatBool(r.DryRun),
			string(r.Outcome), strconv.Itoa(int(r.Code)), r.Message, string(r.Kind), several(r.Policies), several(r.Budgets), r.Revision, r.Replica)
	}
	return s
}

func episodeSheet(episodes []audit.Episode) *sheet {
	s := &sheet{header: []string{
		"id", "namespace", "pod", "pod_uid", "node", "workload", "fate", "first", "last", "attempts", "first_refused",
		"last_admitted", "evictors", "outcome", "code", "message", "kind", "policies", "budgets", "cures",
	}}
	for _, e := range episodes {
		latest := audit.Reply{}
		if e.Latest != nil {
			latest = *e.Latest
		}
		s.add(e.ID, e.Namespace, e.Pod, e.PodUID, e.Node, e.Workload, string(e.Fate), stamp(e.First), stamp(e.Last), strconv.Itoa(e.Attempts),
			stamp(e.FirstRefused), stamp(e.LastAdmitted), several(evictorNames(e)), string(latest.Outcome), strconv.Itoa(int(latest.Code)), latest.Message,
			string(latest.Kind), several(latest.Policies), several(latest.Budgets), several(latest.Cures))
	}
	return s
}

func evictorNames(e audit.Episode) []string {
	var names []string
	for _, a := range e.Evictors {
		if !contains(names, a.Evictor) {
			names = append(names, a.Evictor)
		}
	}
	return names
}

func timelineSheet(stats store.Stats) *sheet {
	s := &sheet{header: []string{"at"}}
	for _, o := range outcomes {
		s.header = append(s.header, string(o))
	}
	for _, b := range stats.Timeline {
		row := []string{stamp(b.At)}
		for _, o := range outcomes {
			row = append(row, strconv.Itoa(b.Decisions[o]))
		}
		s.add(row...)
	}
	return s
}

func policySheet(policies []store.PolicyCount) *sheet {
	s := &sheet{header: []string{"policy", "refused", "warned", "audited", "expired", "failed"}}
	for _, p := range policies {
		s.add(p.Policy, strconv.Itoa(p.Refused), strconv.Itoa(p.Warned), strconv.Itoa(p.Audited), strconv.Itoa(p.Expired), strconv.Itoa(p.Failed))
	}
	return s
}

func blockerSheet(blockers []store.BlockerCount) *sheet {
	s := &sheet{header: []string{"kind", "name", "refusals", "stuck", "message"}}
	for _, b := range blockers {
		s.add(string(b.Kind), b.Name, strconv.Itoa(b.Refusals), strconv.Itoa(b.Stuck), b.Message)
	}
	return s
}
