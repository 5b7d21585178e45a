package report

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review"
	"github.com/evictgate/evictgate/webhook/review/render"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// Stats is what decisions sum up to, and how it is told.
type Stats struct {
	store.Stats
	Clock review.Clock
	// ASCII says that a terminal shows no other characters.
	ASCII bool
}

func (r Stats) clock() clock { return clock{r.Clock} }

// Print prints what decisions sum up to.
func (r Stats) Print(to output.Printer, format string) error {
	p := printer{to}
	if done, err := p.Structured(format, r.Stats); done {
		return err
	}
	if format == "csv" {
		return output.WriteCSV(p.Out, statsCSV(r.Stats))
	}
	total := 0
	for _, n := range r.Decisions {
		total += n
	}
	p.Say(0, "%d %s%s%s", total, output.Plural("decision", total), spanText(r), dryRunsText(r.DryRuns))
	if total == 0 {
		return nil
	}
	p.Printf("\n")
	p.chart(r, outcomeBars(r.Decisions))
	p.timeline(r)
	if bars := fateBars(r.Episodes); len(bars) > 0 {
		p.Heading("What became of the pods")
		p.chart(r, bars)
	}
	p.blockers(r)
	p.policyCounts(r.Policies)
	p.counts(r, "Evictors", r.Evictors)
	p.counts(r, "Users", r.Users)
	p.counts(r, "Namespaces", r.Namespaces)
	p.counts(r, "Workloads", r.Workloads)
	p.counts(r, "Nodes", r.Nodes)
	return nil
}

func spanText(r Stats) string {
	switch {
	case r.Since.IsZero() && r.Until.IsZero():
		return ""
	case r.Since.IsZero():
		return " before " + r.clock().at(r.Until)
	case r.Until.IsZero():
		return " since " + r.clock().at(r.Since)
	}
	return " " + r.clock().between(r.Since, r.Until)
}

func dryRunsText(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", and %d %s", n, output.Plural("dry run", n))
}

// bar is a line of a chart.
type bar struct {
	name  string
	count int
	// note follows the count.
	note string
}

// barWidth is that of the longest bar, in columns.
const barWidth = 30

// chart draws bars, the longest being that of the greatest count.
func (p printer) chart(r Stats, bars []bar) {
	most := 0
	for _, b := range bars {
		most = max(most, b.count)
	}
	rows := make([][]string, len(bars))
	for i, b := range bars {
		rows[i] = []string{"  " + b.name, strconv.Itoa(b.count), b.note, draw(b.count, most, barWidth, r.ASCII)}
	}
	p.Printf("%s", output.Columns(rows, p.Width()))
}

// draw makes a bar; what is not zero is seen.
func draw(count, most, width int, ascii bool) string {
	if count <= 0 || most <= 0 {
		return ""
	}
	if ascii {
		return strings.Repeat("#", max(1, count*width/most))
	}
	eighths := max(1, count*width*8/most)
	text := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		text += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return text
}

func outcomeBars(counts map[policies.Outcome]int) []bar {
	var bars []bar
	for _, o := range review.Outcomes {
		if n := counts[o]; n > 0 {
			bars = append(bars, bar{name: string(o), count: n})
		}
	}
	return bars
}

func fateBars(counts map[record.Fate]int) []bar {
	var bars []bar
	for _, f := range record.Fates {
		if n := counts[f]; n > 0 {
			bars = append(bars, bar{name: render.Fate(f), count: n, note: fateNotes[f]})
		}
	}
	return bars
}

// fateNotes say what the words mean.
var fateNotes = map[record.Fate]string{
	record.Evicted:          "by the Eviction API",
	record.AdmittedOnly:     "not known what came after",
	record.Blocked:          "refused, and still there",
	record.RefusedByBudget:  "by the API server, after we admitted",
	record.RefusedElsewhere: "by another webhook or the API server",
	record.Deleted:          "around us, not by eviction",
	record.Gone:             "not known by whom",
	record.EvictedUnseen:    "without a decision of ours",
}

// timelineWidth bounds the columns of the timeline.
const timelineWidth = 72

// timeline draws, for each outcome, how its decisions spread over the time.
func (p printer) timeline(r Stats) {
	t := newTimeline(r.Stats, timelineWidth)
	if len(t.starts) < 2 {
		return
	}
	p.Heading(fmt.Sprintf("Over time, %s a column", length(t.step)))
	for _, o := range review.Outcomes {
		counts, most := t.counts[o], 0
		for _, n := range counts {
			most = max(most, n)
		}
		if most > 0 {
			p.Printf("  %-10s|%s| at most %d\n", o, spark(counts, most, r.ASCII), most)
		}
	}
	first, last := r.clock().at(t.starts[0]), r.clock().at(t.starts[len(t.starts)-1].Add(t.step))
	gap := max(3, len(t.starts)+2-len(first)-len(last))
	p.Printf("  %-10s%s%s%s\n", "", first, strings.Repeat(" ", gap), last)
}

// timeline has a count for each start, by outcome.
type timeline struct {
	step   time.Duration
	starts []time.Time
	counts map[policies.Outcome][]int
}

// newTimeline spreads the buckets over the whole time, also where there are none, on at most width columns.
func newTimeline(s store.Stats, width int) timeline {
	t := timeline{step: s.Step, counts: map[policies.Outcome][]int{}}
	if len(s.Timeline) == 0 || s.Step <= 0 {
		return t
	}
	first, last := s.Timeline[0].At, s.Timeline[0].At
	for _, b := range s.Timeline {
		if b.At.Before(first) {
			first = b.At
		}
		if b.At.After(last) {
			last = b.At
		}
	}
	buckets := int(last.Sub(first)/s.Step) + 1
	each := (buckets + width - 1) / width // buckets a column
	t.step *= time.Duration(each)
	for i := 0; i < buckets; i += each {
		t.starts = append(t.starts, first.Add(time.Duration(i)*s.Step))
	}
	for _, o := range review.Outcomes {
		t.counts[o] = make([]int, len(t.starts))
	}
	for _, b := range s.Timeline {
		for o, n := range b.Decisions {
			if counts, ok := t.counts[o]; ok {
				counts[int(b.At.Sub(first)/t.step)] += n
			}
		}
	}
	return t
}

// spark draws counts as one character each; what is not zero is seen.
func spark(counts []int, most int, ascii bool) string {
	levels := []rune(" ▁▂▃▄▅▆▇█")
	if ascii {
		levels = []rune(" .:-=+*#@")
	}
	var b strings.Builder
	for _, n := range counts {
		level := 0
		if n > 0 {
			level = max(1, n*(len(levels)-1)/most)
		}
		b.WriteRune(levels[level])
	}
	return b.String()
}

func (p printer) blockers(r Stats) {
	if len(r.Blockers) == 0 {
		return
	}
	most := r.Blockers[0].Refusals
	rows := [][]string{{"  WHAT REFUSES", "REFUSALS", "STUCK PODS", ""}}
	for _, b := range r.Blockers {
		rows = append(rows, []string{"  " + blockerName(b), strconv.Itoa(b.Refusals), strconv.Itoa(b.Stuck), draw(b.Refusals, most, barWidth, r.ASCII)})
	}
	p.Printf("\n%s", output.Columns(rows, p.Width()))
}

func blockerName(b store.BlockerCount) string {
	switch b.Kind {
	case record.ByBudget:
		return "budget " + b.Name
	case record.ByBudgets:
		return "budget " + b.Name + " (one of several on a pod)"
	case record.ByFailure:
		return "policy " + b.Name + " (failed)"
	}
	return "policy " + b.Name
}

func (p printer) policyCounts(list []store.PolicyCount) {
	if len(list) == 0 {
		return
	}
	rows := [][]string{{"  POLICY", "REFUSED", "WARNED", "AUDITED", "EXPIRED", "FAILED"}}
	for _, c := range list {
		row := []string{"  " + c.Policy}
		for _, n := range []int{c.Refused, c.Warned, c.Audited, c.Expired, c.Failed} {
			row = append(row, zeroDash(n))
		}
		rows = append(rows, row)
	}
	p.Printf("\n%s", output.Columns(rows, 0))
}

// zeroDash makes the numbers that count stand out.
func zeroDash(n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n)
}

func (p printer) counts(r Stats, title string, list []store.Count) {
	if len(list) == 0 {
		return
	}
	most := list[0].Decisions
	rows := [][]string{{"  " + strings.ToUpper(title), "DECISIONS", "REFUSED", ""}}
	for _, c := range list {
		name := c.Name
		if name == "" {
			name = "(none)"
		}
		rows = append(rows, []string{"  " + name, strconv.Itoa(c.Decisions), zeroDash(c.Refused), draw(c.Decisions, most, barWidth, r.ASCII)})
	}
	p.Printf("\n%s", output.Columns(rows, p.Width()))
}

// statsCSV has a header, and a row for each number.
func statsCSV(s store.Stats) [][]string {
	rows := [][]string{{"section", "name", "measure", "value"}}
	add := func(section, name, measure string, value int) {
		rows = append(rows, []string{section, name, measure, strconv.Itoa(value)})
	}
	for _, o := range review.Outcomes {
		add("decisions", string(o), "decisions", s.Decisions[o])
	}
	add("dry_runs", "", "decisions", s.DryRuns)
	for _, f := range record.Fates {
		add("episodes", string(f), "episodes", s.Episodes[f])
	}
	for _, b := range s.Timeline {
		for _, o := range review.Outcomes {
			add("timeline", render.Time(b.At), string(o), b.Decisions[o])
		}
	}
	for _, b := range s.Blockers {
		add("blockers", string(b.Kind)+" "+b.Name, "refusals", b.Refusals)
		add("blockers", string(b.Kind)+" "+b.Name, "stuck", b.Stuck)
	}
	for _, c := range s.Policies {
		add("policies", c.Policy, "refused", c.Refused)
		add("policies", c.Policy, "warned", c.Warned)
		add("policies", c.Policy, "audited", c.Audited)
		add("policies", c.Policy, "expired", c.Expired)
		add("policies", c.Policy, "failed", c.Failed)
	}
	for _, list := range []struct {
		section string
		counts  []store.Count
	}{{"evictors", s.Evictors}, {"users", s.Users}, {"namespaces", s.Namespaces}, {"workloads", s.Workloads}, {"nodes", s.Nodes}} {
		for _, c := range list.counts {
			add(list.section, c.Name, "decisions", c.Decisions)
			add(list.section, c.Name, "refused", c.Refused)
		}
	}
	return rows
}
