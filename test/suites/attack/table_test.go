package attack

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// row is what came of one attack.
type row struct {
	attack
	sent    int64
	memory  int64 // bytes, the most resident
	latency latency
	died    bool
	failed  bool
}

const (
	page    = "../../../docs/security-figures.md"
	heading = "| attack | what it is | sent | memory | p99: quiet, harmless load, attack | what remains |"
)

// plain is the table for a terminal.
func plain(rows []*row) string {
	var b strings.Builder
	for _, r := range rows {
		verdict := "holds"
		if r.failed {
			verdict = "FAILS"
		}
		fmt.Fprintf(&b, "%-32s %s %8s sent %10s %s\n", r.name, verdict, orNone(r.sent > 0, fmt.Sprint(r.sent)), r.mib(), r.times())
	}
	return b.String()
}

func orNone(some bool, text string) string {
	if !some {
		return "-"
	}
	return text
}

func (r *row) mib() string { return orNone(r.memory > 0, fmt.Sprintf("%d MiB", r.memory>>20)) }

func (r *row) times() string {
	l := r.latency
	return orNone(l.attacked > 0, fmt.Sprintf("%s, %s, %s", milli(l.quiet), milli(l.harmless), milli(l.attacked)))
}

func (r *row) markdown() string {
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s |", r.name, r.what, orNone(r.sent > 0, fmt.Sprint(r.sent)), r.mib(), r.times(), r.remains)
}

func markdown(rows []*row) string {
	lines := []string{preface, heading, "|---|---|---|---|---|---|"}
	for _, r := range rows {
		lines = append(lines, r.markdown())
	}
	return strings.Join(lines, "\n") + "\n"
}

// document writes the page, or holds it to the attacks; its figures are those of another run.
func document(t *testing.T, rows []*row) {
	t.Helper()
	if *update {
		if t.Failed() || len(rows) < len(attacks) {
			t.Fatalf("%s is not written: not every attack was withstood", page)
		}
		must(t, os.WriteFile(page, []byte(markdown(rows)), 0o644))
	}
}

// TestThePageHasEveryAttack compares all but the figures.
func TestThePageHasEveryAttack(t *testing.T) {
	if *update {
		t.Skip("it is being written")
	}
	_, table, found := strings.Cut(string(got(os.ReadFile(page))(t)), heading+"\n")
	if !found {
		t.Fatalf("%s has no table; write it with make attack", page)
	}
	lines := strings.Split(strings.TrimSpace(table), "\n")[1:]
	if len(lines) != len(attacks) {
		t.Fatalf("%s has %d rows, expected %d; write it with make attack", page, len(lines), len(attacks))
	}
	for i, a := range attacks {
		want := &row{attack: a}
		have, own := strings.Split(lines[i], " | "), strings.Split(want.markdown(), " | ")
		if len(have) != len(own) || have[0] != own[0] || have[1] != own[1] || have[5] != own[5] {
			t.Errorf("%s: %q, expected the attack %q; write it with make attack", page, lines[i], want.markdown())
		}
	}
}

const preface = `# What attacks do to the gate

Written by ` + "`make attack`" + `, with the figures of one run. Every run of the tests attacks the real program again, in the
1 GiB of memory that config/ gives a replica, and fails when it ends, when its memory is above the limit, when an
ordinary review is answered wrongly, when the 99th percentile of ordinary reviews is three times what it is without the
attack, or when a decision has no record.

The latencies are of 40 ordinary reviews a second, the medians of three rounds: alone, beside the same load on a server
that does nothing with it, and under the attack. All run on one machine of two cores, the attackers with a lower
priority. Memory is the most that the program had resident, at its peak.
`
