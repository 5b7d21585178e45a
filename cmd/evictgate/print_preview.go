package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/preview"
)

// preview prints a report: a row per pod, then each reason once with how many pods it holds.
func (p printer) preview(format string, r previewReport) error {
	if done, err := p.structured(format, r); done {
		return err
	}
	if len(r.Pods) == 0 {
		p.printf("%s: no pods\n", r.Target)
	} else if err := p.table(previewRows(r, format == "wide")); err != nil {
		return err
	}
	p.reasons(r)
	if len(r.Budgets) > 0 {
		p.printf("\nBudgets that can never let a drain finish:\n")
		for _, b := range r.Budgets {
			p.printf("  %s/%s (%d pods): %s\n", b.Namespace, b.Name, b.Pods, b.Why)
		}
	}
	p.printf("\n%s\n", summary(r))
	return nil
}

func previewRows(r previewReport, wide bool) ([]string, [][]string) {
	header := []string{"NAMESPACE", "POD", "OWNER", "NOW"}
	if r.drained {
		header = append(header, "DRAIN")
	}
	if wide {
		header = append(header, "NODE", "MESSAGE")
	}
	rows := make([][]string, len(r.Pods))
	for i, pod := range r.Pods {
		rows[i] = []string{pod.Namespace, pod.Pod, orDash(pod.Owner), nowCell(pod)}
		if r.drained {
			rows[i] = append(rows[i], drainCell(pod))
		}
		if wide {
			rows[i] = append(rows[i], orDash(pod.Node), orDash(decisionOf(pod).Message))
		}
	}
	return header, rows
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// decisionOf is the decision to explain: how a drain ends, or what holds now.
func decisionOf(r preview.Result) *policies.Decision {
	switch {
	case r.Stuck != nil:
		return r.Stuck
	case r.Now != nil:
		return r.Now
	}
	return &policies.Decision{}
}

func nowCell(r preview.Result) string {
	switch {
	case r.Now == nil:
		return "skipped"
	case r.Now.Allowed():
		return string(r.Now.Outcome)
	}
	return fmt.Sprintf("%s %d", r.Now.Outcome, r.Now.Code)
}

func drainCell(r preview.Result) string {
	switch {
	case r.Now == nil:
		return "-"
	case r.Evicted != nil:
		return "after " + (time.Duration(*r.Evicted * float64(time.Second))).String()
	}
	return "stuck"
}

// reasons prints every distinct message once: those that hold at the end first.
func (p printer) reasons(r previewReport) {
	var skipped []string
	var messages []string
	count := map[string]int{}
	add := func(message string) {
		if message != "" {
			if count[message]++; count[message] == 1 {
				messages = append(messages, message)
			}
		}
	}
	for _, pod := range r.Pods {
		if pod.Skipped != "" {
			skipped = append(skipped, pod.Skipped)
			continue
		}
		add(decisionOf(pod).Message)
	}
	if len(messages) > 0 {
		p.printf("\nWhy:\n")
	}
	for _, m := range messages {
		p.printf("  %d %s: %s\n", count[m], plural("pod", count[m]), m)
	}
	if len(skipped) > 0 {
		p.printf("\nSkipped: %d (%s)\n", len(skipped), strings.Join(unique(skipped), "; "))
	}
}

func unique(list []string) []string {
	seen := map[string]bool{}
	var kept []string
	for _, s := range list {
		if !seen[s] {
			seen[s] = true
			kept = append(kept, s)
		}
	}
	return kept
}

func summary(r previewReport) string {
	var refused, stuck, evicted int
	var last float64
	for _, pod := range r.Pods {
		if pod.Refused() {
			refused++
		}
		if pod.Stuck != nil {
			stuck++
		}
		if pod.Evicted != nil {
			evicted++
			last = max(last, *pod.Evicted)
		}
	}
	text := fmt.Sprintf("%d of %d %s refused now", refused, len(r.Pods), plural("pod", len(r.Pods)))
	if !r.drained {
		return text
	}
	if stuck > 0 {
		return fmt.Sprintf("%s; a drain evicts %d and does not finish: %d stuck", text, evicted, stuck)
	}
	return fmt.Sprintf("%s; a drain finishes: the last pod goes after %s", text, time.Duration(last*float64(time.Second)))
}
