package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review"
	"github.com/evictgate/evictgate/webhook/review/render"
)

// Stuck are the pods that are stuck, and how they are told.
type Stuck struct {
	review.StuckPods
	Clock review.Clock
	// Again are the flags by which a command looks at the same place.
	Again string
}

func (r Stuck) clock() clock { return clock{r.Clock} }

// Print prints the pods that are stuck, each reason and its cures once below.
func (r Stuck) Print(to output.Printer, format string) error {
	p := printer{to}
	if done, err := p.Structured(format, r.StuckPods); done {
		return err
	}
	switch {
	case format == "csv":
		return output.WriteCSV(p.Out, render.Episodes.Lines(r.Stuck))
	case len(r.Stuck) == 0:
		p.nothingStuck(r)
		return nil
	case format == "wide":
		p.CutTable(stuckWide(r))
	default:
		groups := stuckGroups(r.Stuck)
		p.CutTable(stuckTable(r, groups))
		p.Printf("\nWhy, and what unblocks it:\n")
		shared := sharedCures(groups)
		for i, g := range groups {
			p.stuckGroup(i+1, g, shared)
		}
		if len(shared) > 0 {
			p.Printf("  If that does not help:\n")
		}
		for _, cure := range shared {
			p.Point(6, "-", "%s", cure)
		}
	}
	p.Printf("\n")
	p.Say(0, "%s", stuckSummary(r))
	e := r.Stuck[0]
	p.Say(0, "The whole story of one: evictgate review show%s %s", r.Again, output.ShellQuote(e.Namespace+"/"+e.Pod))
	return nil
}

func (p printer) nothingStuck(r Stuck) {
	switch {
	case r.TriedSince.IsZero():
		p.Say(0, "Nothing is stuck, and no refused eviction was given up.")
	case r.GivenUp > 0:
		p.Say(0, "Nothing is stuck: no refused eviction was tried again within %s. %s; --all lists %s.", length(r.Within), givenUpText(r.GivenUp), output.OneOrMany("it", "them", r.GivenUp))
	default:
		p.Say(0, "Nothing is stuck: no refused eviction was tried again within %s.", length(r.Within))
	}
}

func givenUpText(n int) string {
	return fmt.Sprintf("%d %s refused before, and nobody tries any more", n, output.OneOrMany("pod was", "pods were", n))
}

func stuckSummary(r Stuck) string {
	oldest := r.Stuck[0].FirstRefused
	text := fmt.Sprintf("%d %s stuck, the oldest since %s.", len(r.Stuck), output.OneOrMany("pod is", "pods are", len(r.Stuck)), r.clock().ago(oldest))
	if r.TriedSince.IsZero() {
		text = fmt.Sprintf("%d %s stuck or given up, the oldest since %s.", len(r.Stuck), output.OneOrMany("pod is", "pods are", len(r.Stuck)), r.clock().ago(oldest))
	}
	if r.GivenUp > 0 {
		text += fmt.Sprintf(" %s: --all lists %s, too.", givenUpText(r.GivenUp), output.OneOrMany("it", "them", r.GivenUp))
	}
	return text
}

// stuckGroup holds the pods that block for the same reason.
type stuckGroup struct {
	reason    string
	cures     []string
	workloads []string
	pods      int
}

func stuckGroups(list []record.Episode) []stuckGroup {
	var groups []stuckGroup
	for _, e := range list {
		i := slices.IndexFunc(groups, func(g stuckGroup) bool { return g.holds(e) })
		if i < 0 {
			i = len(groups)
			groups = append(groups, stuckGroup{reason: e.Latest.Message, cures: e.Latest.Cures})
		}
		g := &groups[i]
		g.pods++
		if e.Workload != "" {
			g.workloads = render.AddOnce(g.workloads, e.Workload)
		}
	}
	return groups
}

func (g stuckGroup) holds(e record.Episode) bool {
	return g.reason == e.Latest.Message && slices.Equal(g.cures, e.Latest.Cures)
}

// sharedCures are those of more than one group: what would help with any of them.
func sharedCures(groups []stuckGroup) []string {
	counts := map[string]int{}
	var shared []string
	for _, g := range groups {
		for _, cure := range g.cures {
			if counts[cure]++; counts[cure] == 2 {
				shared = append(shared, cure)
			}
		}
	}
	return shared
}

// maxWorkloads bounds those that are named beside a reason.
const maxWorkloads = 3

func (p printer) stuckGroup(n int, g stuckGroup, shared []string) {
	of := ""
	if len(g.workloads) > 0 {
		of = " of " + strings.Join(g.workloads[:min(maxWorkloads, len(g.workloads))], ", ")
		if more := len(g.workloads) - maxWorkloads; more > 0 {
			of += fmt.Sprintf(" and %d more", more)
		}
	}
	mark := fmt.Sprintf("[%d]", n)
	p.Point(2, mark, "%d %s%s: %s", g.pods, output.Plural("pod", g.pods), of, output.AtMost(render.Reason(g.reason), maxNote))
	p.Numbered(2+len(mark)+1, without(g.cures, shared))
}

// without leaves out what is told elsewhere.
func without(list, others []string) []string {
	var rest []string
	for _, text := range list {
		if !slices.Contains(others, text) {
			rest = append(rest, text)
		}
	}
	return rest
}

func stuckTable(r Stuck, groups []stuckGroup) [][]string {
	table := [][]string{{"AGE", "POD", "NODE", "BLOCKER", "TRIES", "LAST", "EVICTORS", "WHY"}}
	for _, e := range r.Stuck {
		why := slices.IndexFunc(groups, func(g stuckGroup) bool { return g.holds(e) })
		table = append(table, []string{
			r.clock().age(e.FirstRefused), e.Namespace + "/" + e.Pod, output.OrDash(e.Node), shortBlocker(e), strconv.Itoa(e.Attempts),
			r.clock().age(e.Last), render.EvictorNames(e.Evictors), fmt.Sprintf("[%d]", why+1),
		})
	}
	return table
}

// shortBlocker leaves the names of several to the reason.
func shortBlocker(e record.Episode) string {
	switch n := len(e.Latest.Policies); {
	case e.Latest.Kind == record.ByBudgets:
		return fmt.Sprintf("%d budgets", len(e.Latest.Budgets))
	case n > 1:
		return fmt.Sprintf("%d policies", n)
	}
	return output.OrDash(render.BlockerOf(&e))
}

func stuckWide(r Stuck) [][]string {
	table := [][]string{{"AGE", "SINCE", "POD", "UID", "WORKLOAD", "NODE", "BLOCKER", "TRIES", "LAST", "EVICTORS", "CURE", "WHY"}}
	for _, e := range r.Stuck {
		cure := ""
		if len(e.Latest.Cures) > 0 {
			cure = e.Latest.Cures[0]
		}
		table = append(table, []string{
			r.clock().age(e.FirstRefused), r.clock().at(e.FirstRefused), e.Namespace + "/" + e.Pod, output.OrDash(e.PodUID), output.OrDash(e.Workload), output.OrDash(e.Node),
			output.OrDash(render.BlockerOf(&e)), strconv.Itoa(e.Attempts), r.clock().age(e.Last), render.EvictorNames(e.Evictors), output.OrDash(cure), output.OrDash(render.Reason(e.Latest.Message)),
		})
	}
	return table
}
