package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/audit"
	"github.com/evictgate/evictgate/webhook/audit/store"
)

// listing is what the lists are printed by.
type listing struct {
	*listFlags
	filter store.Filter
	clock  clock
}

// reviewRows prints decisions.
func (p printer) reviewRows(l listing, r store.Rows) error {
	if r.Rows == nil {
		r.Rows = []store.Row{}
	}
	if done, err := p.structured(l.format, r); done {
		return err
	}
	switch {
	case l.format == "csv":
		return p.csv(rowCSV(r.Rows))
	case len(r.Rows) == 0:
		p.nothing("No decisions", l)
		return nil
	case l.format == "wide":
		p.cutTable(rowsWide(l.clock, r.Rows))
	default:
		var why footnotes
		p.cutTable(rowsTable(l.clock, r.Rows, &why))
		p.footnotes(why, "decision")
	}
	p.goOn(r.Next)
	return nil
}

func rowsTable(c clock, rows []store.Row, why *footnotes) [][]string {
	ids := make([]string, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	short := shortest(ids)
	table := [][]string{{"TIME", "ID", "POD", "EVICTOR", "OUTCOME", "WHY"}}
	for i, r := range rows {
		table = append(table, []string{
			c.at(r.At), short[i], r.Namespace + "/" + r.Pod, evictorName(r.Evictor, r.User), outcomeCell(r), why.mark(reasonText(r.Message)),
		})
	}
	return table
}

func rowsWide(c clock, rows []store.Row) [][]string {
	table := [][]string{{"TIME", "ID", "POD", "WORKLOAD", "NODE", "EVICTOR", "USER", "OUTCOME", "BLOCKER", "WHY"}}
	for _, r := range rows {
		table = append(table, []string{
			c.at(r.At), r.ID, r.Namespace + "/" + r.Pod, orDash(r.Workload), orDash(r.Node), r.Evictor, r.User, outcomeCell(r),
			orDash(blocker(r.Kind, r.Policies, r.Budgets)), orDash(reasonText(r.Message)),
		})
	}
	return table
}

// evictorName is an evictor, or the user when it has no name of its own.
func evictorName(evictor, user string) string {
	switch evictor {
	case "user", "node", "service-account", "":
		return cut(strings.TrimPrefix(safe(user), "system:serviceaccount:"), maxName)
	}
	return evictor
}

// maxName bounds a user's name in a table, in columns.
const maxName = 40

func outcomeCell(r store.Row) string {
	text := string(r.Outcome)
	if r.Code >= 400 {
		text += " " + strconv.Itoa(int(r.Code))
	}
	if r.DryRun {
		text += " (dry run)"
	}
	return text
}

// blocker names what refuses.
func blocker(kind audit.BlockerKind, policies, budgets []string) string {
	switch kind {
	case audit.ByBudget:
		return "budget " + strings.Join(budgets, ", ")
	case audit.ByBudgets:
		return fmt.Sprintf("%d budgets: %s", len(budgets), strings.Join(budgets, ", "))
	case audit.ByPolicy:
		return plural1("policy", "policies", len(policies)) + " " + strings.Join(policies, ", ")
	case audit.ByFailure:
		return "failed " + plural1("policy", "policies", len(policies)) + " " + strings.Join(policies, ", ")
	}
	return ""
}

func plural1(one, many string, n int) string {
	if n == 1 {
		return one
	}
	return many
}

// reasonText is a message without the sentence that every refusal by a budget begins with.
func reasonText(message string) string {
	return strings.TrimPrefix(message, policies.BudgetSentence+" ")
}

// shortID is how many characters of an id are shown at least.
const shortID = 8

// shortest cuts ids as far as they stay different from each other.
func shortest(ids []string) []string {
	sorted := slices.Sorted(slices.Values(ids))
	short := make([]string, len(ids))
	for i, id := range ids {
		n := shortID
		at, _ := slices.BinarySearch(sorted, id)
		if at > 0 {
			n = max(n, common(id, sorted[at-1])+1)
		}
		if at+1 < len(sorted) {
			n = max(n, common(id, sorted[at+1])+1)
		}
		short[i] = id[:min(n, len(id))]
	}
	return short
}

// common is how many bytes two ids have in common at the beginning.
func common(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// footnotes are texts that a table gives the numbers of, and how many rows have each.
type footnotes struct {
	texts  []string
	counts []int
}

// mark is what stands in the table.
func (f *footnotes) mark(text string) string {
	if text == "" {
		return "-"
	}
	i := slices.Index(f.texts, text)
	if i < 0 {
		i = len(f.texts)
		f.texts, f.counts = append(f.texts, text), append(f.counts, 0)
	}
	f.counts[i]++
	return fmt.Sprintf("[%d]", i+1)
}

// maxNote bounds a reason in a table, in characters; review show has the whole.
const maxNote = 1000

func (p printer) footnotes(f footnotes, what string) {
	if len(f.texts) > 0 {
		p.printf("\nWhy:\n")
	}
	for i, text := range f.texts {
		p.point(2, fmt.Sprintf("[%d]", i+1), "%d %s: %s", f.counts[i], plural(what, f.counts[i]), atMost(text, maxNote))
	}
}

// cutTable prints rows, the first being the header, and cuts the last column in a terminal.
func (p printer) cutTable(rows [][]string) {
	p.printf("%s", columns(rows, p.width()))
}

// nothing says that a list is empty, and what was looked at.
func (p printer) nothing(what string, l listing) {
	switch since := l.filter.Since; {
	case l.page.After != "":
		p.say(0, "No more.")
	case since.IsZero():
		p.say(0, "%s.", what)
	default:
		p.say(0, "%s since %s; --since 7d or --since all looks further back.", what, l.clock.at(since))
	}
}

// goOn says how to see the next page.
func (p printer) goOn(next string) {
	if next != "" {
		p.printf("\nThere are more: add --after %s, or --all\n", safe(shellQuote(next)))
	}
}

func rowCSV(rows []store.Row) ([]string, [][]string) {
	table := make([][]string, len(rows))
	for i, r := range rows {
		table[i] = []string{
			r.ID, csvTime(r.At), r.Episode, r.Namespace, r.Pod, r.Node, r.Workload, r.User, r.Evictor, strconv.FormatBool(r.DryRun), string(r.Outcome),
			strconv.Itoa(int(r.Code)), r.Message, string(r.Kind), csvList(r.Policies), csvList(r.Budgets), r.Revision, r.Replica,
		}
	}
	return []string{
		"decision_id", "timestamp", "episode", "namespace", "pod", "node", "workload", "user", "evictor", "dry_run", "outcome",
		"code", "message", "kind", "policies", "budgets", "revision", "replica",
	}, table
}
