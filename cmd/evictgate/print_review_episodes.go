package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/evictgate/evictgate/webhook/audit"
	"github.com/evictgate/evictgate/webhook/audit/store"
)

// reviewEpisodes prints episodes.
func (p printer) reviewEpisodes(l listing, e store.Episodes) error {
	if e.Episodes == nil {
		e.Episodes = []audit.Episode{}
	}
	if done, err := p.structured(l.format, e); done {
		return err
	}
	switch {
	case l.format == "csv":
		return p.csv(episodesCSV(e.Episodes))
	case len(e.Episodes) == 0:
		p.nothing("No evictions", l)
		return nil
	case l.format == "wide":
		p.cutTable(episodesWide(l.clock, e.Episodes))
	default:
		var why footnotes
		p.cutTable(episodesTable(l.clock, e.Episodes, &why))
		p.footnotes(why, "pod")
	}
	p.goOn(e.Next)
	return nil
}

func episodesTable(c clock, list []audit.Episode, why *footnotes) [][]string {
	table := [][]string{{"POD", "FATE", "TRIES", "FIRST", "LAST", "EVICTORS", "WHY"}}
	for _, e := range list {
		table = append(table, []string{
			e.Namespace + "/" + e.Pod, fateText(e.Fate), strconv.Itoa(e.Attempts), c.at(e.First), c.at(e.Last), evictorsCell(e.Evictors), why.mark(reasonText(lastReason(e))),
		})
	}
	return table
}

func episodesWide(c clock, list []audit.Episode) [][]string {
	table := [][]string{{"ID", "POD", "WORKLOAD", "NODE", "FATE", "TRIES", "FIRST", "LAST", "EVICTORS", "BLOCKER", "WHY"}}
	for _, e := range list {
		table = append(table, []string{
			e.ID, e.Namespace + "/" + e.Pod, orDash(e.Workload), orDash(e.Node), fateText(e.Fate), strconv.Itoa(e.Attempts), c.at(e.First), c.at(e.Last),
			evictorsCell(e.Evictors), orDash(blockerOf(e)), orDash(reasonText(lastReason(e))),
		})
	}
	return table
}

// fateText is a fate in words.
func fateText(f audit.Fate) string { return strings.ReplaceAll(string(f), "_", " ") }

// evictors names those who tried, each once.
func evictors(list []audit.Attempts) []string {
	var names []string
	for _, a := range list {
		names = addName(names, a.Evictor)
	}
	return names
}

// evictorsCell names as many as there is room for.
func evictorsCell(list []audit.Attempts) string {
	var names []string
	for _, a := range list {
		names = addName(names, evictorName(a.Evictor, a.User))
	}
	if more := len(names) - maxEvictors; more > 0 {
		names = append(names[:maxEvictors], fmt.Sprintf("+%d", more))
	}
	return orDash(strings.Join(names, ","))
}

// maxEvictors bounds those that a row names.
const maxEvictors = 2

func addName(names []string, name string) []string {
	if slices.Contains(names, name) {
		return names
	}
	return append(names, name)
}

// lastReason is what the last attempt was told; the API server's own words when it refused what we admitted.
func lastReason(e audit.Episode) string {
	switch {
	case (e.Fate == audit.RefusedByBudget || e.Fate == audit.RefusedElsewhere) && e.Refusal != nil:
		return e.Refusal.Message
	case e.Latest != nil:
		return e.Latest.Message
	}
	return ""
}

func blockerOf(e audit.Episode) string {
	if e.Latest == nil {
		return ""
	}
	return blocker(e.Latest.Kind, e.Latest.Policies, e.Latest.Budgets)
}

func episodesCSV(list []audit.Episode) ([]string, [][]string) {
	table := make([][]string, len(list))
	for i, e := range list {
		latest := e.Latest
		if latest == nil {
			latest = &audit.Reply{}
		}
		var users []string
		for _, a := range e.Evictors {
			users = addName(users, a.User)
		}
		table[i] = []string{
			e.ID, e.Namespace, e.Pod, e.PodUID, e.Node, e.Workload, string(e.Fate), csvTime(e.First), csvTime(e.Last), csvTime(e.FirstRefused), strconv.Itoa(e.Attempts),
			csvList(evictors(e.Evictors)), csvList(users), string(latest.Outcome), strconv.Itoa(int(latest.Code)),
			string(latest.Kind), csvList(latest.Policies), csvList(latest.Budgets), lastReason(e), csvList(latest.Cures),
		}
	}
	return []string{
		"episode", "namespace", "pod", "pod_uid", "node", "workload", "fate", "first", "last", "first_refused", "attempts",
		"evictors", "users", "outcome", "code", "kind", "policies", "budgets", "message", "cures",
	}, table
}
