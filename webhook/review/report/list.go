package report

import (
	"fmt"
	"slices"

	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review"
	"github.com/evictgate/evictgate/webhook/review/render"
	"github.com/evictgate/evictgate/webhook/review/store"
)

// Listing says how a list is printed, and of what.
type Listing struct {
	// Format is table, wide, json, yaml or csv.
	Format string
	// Filter chose, and After is where the list goes on.
	Filter store.Filter
	After  string
	Clock  review.Clock
}

// Decisions prints decisions.
func (l Listing) Decisions(p output.Printer, r store.Rows) error {
	if r.Rows == nil {
		r.Rows = []store.Row{}
	}
	if done, err := p.Structured(l.Format, r); done {
		return err
	}
	return printList(printer{p}, l, list[store.Row]{sheet: render.Decisions, members: r.Rows, next: r.Next, none: "No decisions", one: "decision", short: shortest})
}

// Episodes prints pods, and what became of them.
func (l Listing) Episodes(p output.Printer, e store.Episodes) error {
	if e.Episodes == nil {
		e.Episodes = []record.Episode{}
	}
	if done, err := p.Structured(l.Format, e); done {
		return err
	}
	return printList(printer{p}, l, list[record.Episode]{sheet: render.Episodes, members: e.Episodes, next: e.Next, none: "No evictions", one: "pod"})
}

// list is a page of a list, and the words for it.
type list[T any] struct {
	sheet     render.Sheet[T]
	members   []T
	next      string
	none, one string
	// short has for each id how the table writes it; nil where that has none.
	short func([]T) map[string]string
}

func printList[T any](p printer, l Listing, of list[T]) error {
	var why footnotes
	style := &render.Style{Layout: render.Wide, Time: clock{l.Clock}.at, ID: func(id string) string { return id }, Message: output.OrDash}
	switch {
	case l.Format == "csv":
		return output.WriteCSV(p.Out, of.sheet.Lines(of.members))
	case len(of.members) == 0:
		p.nothing(of.none, l)
		return nil
	case l.Format == "table":
		style.Layout, style.Message = render.Table, why.mark
		if of.short != nil {
			short := of.short(of.members)
			style.ID = func(id string) string { return short[id] }
		}
	}
	p.CutTable(of.sheet.Rows(style, of.members))
	p.footnotes(why, of.one)
	p.goOn(of.next)
	return nil
}

// shortID is how many characters of an id are shown at least.
const shortID = 8

// shortest has for each id how far it may be cut and stays different from the others.
func shortest(rows []store.Row) map[string]string {
	ids := make([]string, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	short := make(map[string]string, len(ids))
	for at, id := range ids {
		n := shortID
		if at > 0 {
			n = max(n, common(id, ids[at-1])+1)
		}
		if at+1 < len(ids) {
			n = max(n, common(id, ids[at+1])+1)
		}
		short[id] = id[:min(n, len(id))]
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
		p.Printf("\nWhy:\n")
	}
	for i, text := range f.texts {
		p.Point(2, fmt.Sprintf("[%d]", i+1), "%d %s: %s", f.counts[i], output.Plural(what, f.counts[i]), output.AtMost(text, maxNote))
	}
}

// nothing says that a list is empty, and what was looked at.
func (p printer) nothing(what string, l Listing) {
	switch since := l.Filter.Since; {
	case l.After != "":
		p.Say(0, "No more.")
	case since.IsZero():
		p.Say(0, "%s.", what)
	default:
		p.Say(0, "%s since %s; --since 7d or --since all looks further back.", what, clock{l.Clock}.at(since))
	}
}

// goOn says how to see the next page.
func (p printer) goOn(next string) {
	if next != "" {
		p.Printf("\nThere are more: add --after %s, or --all\n", output.Line(output.ShellQuote(next)))
	}
}
