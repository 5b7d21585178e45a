package faults

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// row is what came of one scenario.
type row struct {
	scenario
	all    int
	others map[answer]int
	// most is the bound of this run.
	most int
	// knocks are reviews over new connections, unheard those that were not answered.
	knocks, unheard int
}

// failed is how many got anything but a decision.
func (r row) failed() (n int) {
	for _, c := range r.others {
		n += c
	}
	return n
}

// kinds says what else came than decisions, the most frequent first.
func (r row) kinds() string {
	var kinds []answer
	for a := range r.others {
		kinds = append(kinds, a)
	}
	slices.SortFunc(kinds, func(a, b answer) int {
		if r.others[a] != r.others[b] {
			return r.others[b] - r.others[a]
		}
		return strings.Compare(string(a), string(b))
	})
	var parts []string
	for _, k := range kinds {
		parts = append(parts, fmt.Sprintf("%d %s", r.others[k], k))
	}
	return strings.Join(parts, ", ")
}

// plain is the table for a terminal.
func plain(rows []row) string {
	var b strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&b, "%-60s %5d evictions %4d no decision (bound %d) %s\n", r.fault, r.all, r.failed(), r.most, r.kinds())
	}
	return b.String()
}

const (
	page    = "../../../docs/faults.md"
	heading = "| fault | what an eviction gets | evictions | anything but a decision | new connections, failed | why |"
)

// document writes docs/faults.md, or compares it: it has the same scenarios, and those that must have none claim
// zero. The other figures are those of another run.
func (w *world) document(t *testing.T) {
	t.Helper()
	if len(w.rows) < len(scenarios) || t.Failed() {
		return // a part of them was run, or skipped
	}
	if *update {
		must(t, os.WriteFile(page, []byte(markdown(w.rows)), 0o644))
		return
	}
	raw, err := os.ReadFile(page)
	must(t, err)
	_, table, found := strings.Cut(string(raw), heading+"\n")
	if !found {
		t.Fatalf("%s has no table; write it with -update", page)
	}
	lines := strings.Split(strings.TrimSpace(table), "\n")[1:]
	if len(lines) != len(w.rows) {
		t.Fatalf("%s has %d rows, expected %d; write it with -update", page, len(lines), len(w.rows))
	}
	for i, line := range lines {
		if problem := w.rows[i].differs(strings.Split(line, " | ")); problem != "" {
			t.Errorf("%s: %s; write it with -update\n%s", page, problem, line)
		}
	}
}

// differs compares a row of the page.
func (r row) differs(cells []string) string {
	own := strings.Split(r.markdown(), " | ")
	if len(cells) != len(own) {
		return fmt.Sprintf("%d cells, expected %d", len(cells), len(own))
	}
	for _, i := range []int{0, 1, len(own) - 1} {
		if cells[i] != own[i] {
			return fmt.Sprintf("%q, expected %q", cells[i], own[i])
		}
	}
	if zero := cells[3] == "0"; r.bound == nil && !zero {
		return fmt.Sprintf("%q, expected 0", cells[3])
	}
	return ""
}

// markdown is the row of the page.
func (r row) markdown() string {
	failed := fmt.Sprint(r.failed())
	if r.failed() > 0 {
		failed = r.kinds()
	}
	return fmt.Sprintf("| %s | %s | %d | %s | %d, %d | %s |", r.fault, r.gets, r.all, failed, r.knocks, r.unheard, r.why)
}

func markdown(rows []row) string {
	lines := []string{preface, heading, "|---|---|---|---|---|---|"}
	for _, r := range rows {
		lines = append(lines, r.markdown())
	}
	return strings.Join(lines, "\n") + "\n"
}

const preface = `# What an eviction gets when something fails

Written by ` + "`make faults`" + `, with the figures of one run. Every run of the tests makes all of it happen again, on a
real control plane with three replicas of the program behind one address, and fails when a planned operation
has anything but decisions, or a fault more than its bound.

Four clients evict one pod after the other and one drains ten at once, about 30 evictions a second: pods that
may go and go, that a policy denies or delays, that one budget or two protect; dry runs among them; policy/v1
and policy/v1beta1. A decision is an admitted eviction, a refusal of ours by 403, 429 or (two budgets) 500, or
the API server's own answer about the pod or its budget. Beside them 20 reviews a second come over a new connection
each, as from an API server that has just started. No pod that must stay was deleted in any run, and
the records of all replicas are as many as the decisions, but for those that kill -9 or a lost node took along.

The replicas are probed as in config/: /readyz each 2 s, out after 2 failures, half a second for the way to
the nodes; a container that has ended is noticed after a second at most. A lost node is a replica that is
stopped for good and that nobody probes. failurePolicy is Fail and timeoutSeconds 5. With Ignore, an eviction that
got anything but a decision of ours gets the API server's own.
`
