package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/render"
)

// reviewStuck prints the pods that are stuck, each reason and its cures once below.
func (p printer) reviewStuck(format string, r stuckReport) error {
	if done, err := p.structured(format, r); done {
		return err
	}
	switch {
	case format == "csv":
		return render.WriteCSV(p.out, render.Episodes.Lines(r.Stuck))
	case len(r.Stuck) == 0:
		p.nothingStuck(r)
		return nil
	case format == "wide":
		p.cutTable(stuckWide(r))
	default:
		groups := stuckGroups(r.Stuck)
		p.cutTable(stuckTable(r, groups))
		p.printf("\nWhy, and what unblocks it:\n")
		shared := sharedCures(groups)
		for i, g := range groups {
			p.stuckGroup(i+1, g, shared)
		}
		if len(shared) > 0 {
			p.printf("  If that does not help:\n")
		}
		for _, cure := range shared {
			p.point(6, "-", "%s", cure)
		}
	}
	p.printf("\n")
	p.say(0, "%s", stuckSummary(r))
	e := r.Stuck[0]
	p.say(0, "The whole story of one: evictgate review show%s %s", r.again, shellQuote(e.Namespace+"/"+e.Pod))
	return nil
}

func (p printer) nothingStuck(r stuckReport) {
	switch {
	case r.TriedSince.IsZero():
		p.say(0, "Nothing is stuck, and no refused eviction was given up.")
	case r.givenUp > 0:
		p.say(0, "Nothing is stuck: no refused eviction was tried again within %s. %s; --all lists %s.", length(r.within), givenUpText(r.givenUp), plural1("it", "them", r.givenUp))
	default:
		p.say(0, "Nothing is stuck: no refused eviction was tried again within %s.", length(r.within))
	}
}

func givenUpText(n int) string {
	return fmt.Sprintf("%d %s refused before, and nobody tries any more", n, plural1("pod was", "pods were", n))
}

func stuckSummary(r stuckReport) string {
	oldest := r.Stuck[0].FirstRefused
	text := fmt.Sprintf("%d %s stuck, the oldest since %s.", len(r.Stuck), plural1("pod is", "pods are", len(r.Stuck)), r.clock.ago(oldest))
	if r.TriedSince.IsZero() {
		text = fmt.Sprintf("%d %s stuck or given up, the oldest since %s.", len(r.Stuck), plural1("pod is", "pods are", len(r.Stuck)), r.clock.ago(oldest))
	}
	if r.givenUp > 0 {
		text += fmt.Sprintf(" %s: --all lists %s, too.", givenUpText(r.givenUp), plural1("it", "them", r.givenUp))
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
	p.point(2, mark, "%d %s%s: %s", g.pods, plural("pod", g.pods), of, atMost(render.Reason(g.reason), maxNote))
	p.numbered(2+len(mark)+1, without(g.cures, shared))
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

// numbered prints what to try, one after the other.
func (p printer) numbered(indent int, list []string) {
	for i, text := range list {
		p.point(indent, fmt.Sprintf("%d.", i+1), "%s", text)
	}
}

func stuckTable(r stuckReport, groups []stuckGroup) [][]string {
	table := [][]string{{"AGE", "POD", "NODE", "BLOCKER", "TRIES", "LAST", "EVICTORS", "WHY"}}
	for _, e := range r.Stuck {
		why := slices.IndexFunc(groups, func(g stuckGroup) bool { return g.holds(e) })
		table = append(table, []string{
			r.clock.age(e.FirstRefused), e.Namespace + "/" + e.Pod, render.OrDash(e.Node), shortBlocker(e), strconv.Itoa(e.Attempts),
			r.clock.age(e.Last), render.EvictorNames(e.Evictors), fmt.Sprintf("[%d]", why+1),
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
	return render.OrDash(render.BlockerOf(&e))
}

func stuckWide(r stuckReport) [][]string {
	table := [][]string{{"AGE", "SINCE", "POD", "UID", "WORKLOAD", "NODE", "BLOCKER", "TRIES", "LAST", "EVICTORS", "CURE", "WHY"}}
	for _, e := range r.Stuck {
		cure := ""
		if len(e.Latest.Cures) > 0 {
			cure = e.Latest.Cures[0]
		}
		table = append(table, []string{
			r.clock.age(e.FirstRefused), r.clock.at(e.FirstRefused), e.Namespace + "/" + e.Pod, render.OrDash(e.PodUID), render.OrDash(e.Workload), render.OrDash(e.Node),
			render.OrDash(render.BlockerOf(&e)), strconv.Itoa(e.Attempts), r.clock.age(e.Last), render.EvictorNames(e.Evictors), render.OrDash(cure), render.OrDash(render.Reason(e.Latest.Message)),
		})
	}
	return table
}
