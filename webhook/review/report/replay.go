package report

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/webhook/review/render"
	"github.com/evictgate/evictgate/webhook/review/replay"
)

// shownGroups is how many evictors and workloads a table has; the other formats have all.
const shownGroups = 10

// Replay prints what a replay found. The lines of csv are written already: its summary goes to p.Err.
func Replay(to output.Printer, format string, r *replay.Report) error {
	p := printer{to}
	if done, err := p.Structured(format, r); done {
		return err
	}
	if format == "csv" {
		p.Aside("%s", replaySummary(r))
		if r.Changed() == 0 {
			return output.WriteCSV(p.Out, [][]string{changes.Names()})
		}
		return nil
	}
	p.Printf("%s", replaySummary(r))
	if len(r.Transitions) > 0 {
		p.Printf("\n")
		if err := p.Table([]string{"BEFORE", "AFTER", "DECISIONS", "EXAMPLE"}, transitionRows(r)); err != nil {
			return err
		}
	}
	if err := p.replayCounts("POLICY", policyColumns, policyCounts(r)); err != nil {
		return err
	}
	if err := p.replayCounts("EVICTOR", groupColumns, groupCounts(r.Evictors)); err != nil {
		return err
	}
	if err := p.replayCounts("WORKLOAD", groupColumns, groupCounts(r.Workloads)); err != nil {
		return err
	}
	p.replayExamples(r)
	p.replayObstacles(r)
	return nil
}

// replaySummary ends with a newline.
func replaySummary(r *replay.Report) string {
	return fmt.Sprintf("%d %s from %s to %s, replayed with revision %s:\n  %d unchanged, %d answered otherwise, %d with the same answer for other reasons, %d not judged\n",
		r.Records, output.Plural("decision", r.Records), instant(r.Since), instant(r.Until), r.Revision, r.Unchanged, r.Answered, r.Found, r.NotJudged)
}

func instant(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func transitionRows(r *replay.Report) [][]string {
	rows := make([][]string, len(r.Transitions))
	for i, t := range r.Transitions {
		rows[i] = []string{
			fmt.Sprintf("%s %d", output.Line(string(t.Before)), t.BeforeCode), fmt.Sprintf("%s %d", t.After, t.AfterCode),
			strconv.Itoa(t.Decisions), output.Line(t.Example),
		}
	}
	return rows
}

// countRow is a row of numbers.
type countRow struct {
	name   string
	counts []int
}

var policyColumns = []string{"NEWLY REFUSES", "NO LONGER REFUSES", "NEWLY WARNS", "NO LONGER WARNS", "NEWLY FAILS", "NO LONGER FAILS"}

func policyCounts(r *replay.Report) []countRow {
	rows := make([]countRow, len(r.Policies))
	for i, c := range r.Policies {
		rows[i] = countRow{c.Policy, []int{c.NewlyRefuses, c.NoLongerRefuses, c.NewlyWarns, c.NoLongerWarns, c.NewlyFails, c.NoLongerFails}}
	}
	return rows
}

var groupColumns = []string{"NEWLY REFUSED", "NEWLY ADMITTED", "ANSWERED OTHERWISE", "OTHER REASONS"}

func groupCounts(groups []replay.Group) []countRow {
	rows := make([]countRow, len(groups))
	for i, g := range groups {
		rows[i] = countRow{g.Name, []int{g.Refused, g.Admitted, g.Otherwise, g.Found}}
	}
	return rows
}

// replayCounts prints a table without the columns in which there is nothing.
func (p printer) replayCounts(what string, columns []string, list []countRow) error {
	if len(list) == 0 {
		return nil
	}
	header := []string{what}
	rows := make([][]string, min(len(list), shownGroups))
	for i := range rows {
		rows[i] = []string{output.Line(list[i].name)}
	}
	for c, column := range columns {
		total := 0
		for _, row := range list {
			total += row.counts[c]
		}
		if total == 0 {
			continue
		}
		header = append(header, column)
		for i := range rows {
			rows[i] = append(rows[i], strconv.Itoa(list[i].counts[c]))
		}
	}
	p.Printf("\n")
	if err := p.Table(header, rows); err != nil {
		return err
	}
	if more := len(list) - len(rows); more > 0 {
		p.Printf("… and %d more; -o json has them\n", more)
	}
	return nil
}

// replayExamples prints the first decision that each policy changes.
func (p printer) replayExamples(r *replay.Report) {
	if len(r.Policies) > 0 {
		p.Printf("\nExamples:\n")
	}
	for i, c := range r.Policies {
		if i == shownGroups {
			break
		}
		e := &c.Examples[0]
		p.Printf("  %s: decision %s at %s, pod %s/%s of %s, by %s\n    before: %s\n    after:  %s\n", output.Line(c.Policy), output.Line(e.DecisionID), instant(e.Timestamp),
			output.Line(e.Namespace), output.Line(e.Pod), output.Line(e.Workload), output.Line(e.Evictor), answerText(e.Before), answerText(e.After))
	}
}

func answerText(a replay.Answer) string {
	text := fmt.Sprintf("%s %d", a.Outcome, a.Code)
	if a.Message != "" {
		text += ": " + a.Message
	}
	if len(a.Findings) > 0 && a.Message == "" {
		var list []string
		for _, f := range a.Findings {
			list = append(list, fmt.Sprintf("%s (%s, %s)", f.Policy, f.Effect, f.Enforcement))
		}
		text += ", with " + strings.Join(list, ", ")
	}
	return output.Line(text)
}

// replayObstacles says why decisions are not judged.
func (p printer) replayObstacles(r *replay.Report) {
	if len(r.Obstacles) > 0 {
		p.Printf("\nNot judged:\n")
	}
	for _, o := range r.Obstacles {
		p.Printf("  %d %s: %s (such as %s)\n", o.Decisions, output.Plural("decision", o.Decisions), output.Line(obstacleText(o)), output.Line(o.Example))
	}
}

func obstacleText(o replay.Obstacle) string {
	switch {
	case o.Reason == replay.ReadsBeyond:
		return fmt.Sprintf("policy %s reads %s, which the record does not hold; serve --record-input=full records whole objects", o.Policy, o.Ref)
	case o.Reason == replay.Erased && o.Policy != "":
		return fmt.Sprintf("policy %s reads %s, which is not whole in the record (see its erased)", o.Policy, o.Ref)
	case o.Reason == replay.Erased:
		return fmt.Sprintf("%s is not whole in the record (see its erased)", o.Ref)
	case o.Reason == replay.NotDecided:
		return "the policies did not decide then: they were not loaded or not asked in time, or the program failed"
	case o.Reason == replay.OldRecord:
		return fmt.Sprintf("the record is from before it held %s", o.Ref)
	case o.Reason == replay.Unended:
		return fmt.Sprintf("policy %s did not end now; give it more by --policy-steps", o.Policy)
	}
	return fmt.Sprintf("the record cannot be read: its %s", o.Ref)
}

// changes are the columns of csv.
var changes = render.Sheet[replay.Change]{
	{Name: "decision_id", Data: func(c *replay.Change) string { return c.DecisionID }},
	{Name: "timestamp", Data: func(c *replay.Change) string { return render.Time(c.Timestamp) }},
	{Name: "kind", Data: func(c *replay.Change) string { return string(c.Kind) }},
	{Name: "namespace", Data: func(c *replay.Change) string { return c.Namespace }},
	{Name: "pod", Data: func(c *replay.Change) string { return c.Pod }},
	{Name: "workload", Data: func(c *replay.Change) string { return c.Workload }},
	{Name: "user", Data: func(c *replay.Change) string { return c.User }},
	{Name: "evictor", Data: func(c *replay.Change) string { return c.Evictor }},
	{Name: "before_outcome", Data: func(c *replay.Change) string { return string(c.Before.Outcome) }},
	{Name: "before_code", Data: func(c *replay.Change) string { return strconv.Itoa(int(c.Before.Code)) }},
	{Name: "after_outcome", Data: func(c *replay.Change) string { return string(c.After.Outcome) }},
	{Name: "after_code", Data: func(c *replay.Change) string { return strconv.Itoa(int(c.After.Code)) }},
	{Name: "before_message", Data: func(c *replay.Change) string { return c.Before.Message }},
	{Name: "after_message", Data: func(c *replay.Change) string { return c.After.Message }},
}

// Changes writes each change as a line of csv, at once.
func Changes(p output.Printer) func(*replay.Change) error {
	first := true
	return func(c *replay.Change) error {
		lines := [][]string{changes.Names(), changes.Record(c)}
		if !first {
			lines = lines[1:]
		}
		first = false
		return output.WriteCSV(p.Out, lines)
	}
}

// ReplayProgress tells every two seconds how far a replay is; done is the part of its records that was
// read, of 1.
func ReplayProgress(p output.Printer, done func(records int) float64) func(int) {
	start := time.Now()
	last := start
	return func(records int) {
		now := time.Now()
		if now.Sub(last) < 2*time.Second {
			return
		}
		last = now
		text := fmt.Sprintf("replay: %d decisions, %.0f/s", records, float64(records)/now.Sub(start).Seconds())
		if part := done(records); part > 0 && part < 1 {
			left := time.Duration(float64(now.Sub(start)) * (1 - part) / part)
			text += fmt.Sprintf(", %.0f %%, about %s left", 100*part, max(left.Round(time.Second), time.Second))
		}
		p.Aside("%s\n", text)
	}
}
