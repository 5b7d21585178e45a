package page

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/webhook/review"
	"github.com/evictgate/evictgate/webhook/review/render"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// Exports have the names of the JSON that the review commands print. What does not fit one answer goes on
// at the address that the header Link names.

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
	if err := output.WriteCSV(&b, v.sheet); err != nil {
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

func writeProblem(w http.ResponseWriter, pr problem) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(pr.Status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": pr.What, "next": pr.Next})
}

func timelineSheet(stats store.Stats) [][]string {
	header := []string{"at"}
	for _, o := range review.Outcomes {
		header = append(header, string(o))
	}
	lines := [][]string{header}
	for _, b := range stats.Timeline {
		line := []string{render.Time(b.At)}
		for _, o := range review.Outcomes {
			line = append(line, strconv.Itoa(b.Decisions[o]))
		}
		lines = append(lines, line)
	}
	return lines
}

func policySheet(policies []store.PolicyCount) [][]string {
	lines := [][]string{{"policy", "refused", "warned", "audited", "expired", "failed"}}
	for _, p := range policies {
		lines = append(lines, []string{p.Policy, strconv.Itoa(p.Refused), strconv.Itoa(p.Warned), strconv.Itoa(p.Audited), strconv.Itoa(p.Expired), strconv.Itoa(p.Failed)})
	}
	return lines
}

func blockerSheet(blockers []store.BlockerCount) [][]string {
	lines := [][]string{{"kind", "name", "refusals", "stuck", "message"}}
	for _, b := range blockers {
		lines = append(lines, []string{string(b.Kind), b.Name, strconv.Itoa(b.Refusals), strconv.Itoa(b.Stuck), b.Message})
	}
	return lines
}
