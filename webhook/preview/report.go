package preview

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/evictgate/evictgate/policies/output"
)

// Report is what evictions would meet.
type Report struct {
	Target   string             `json:"target"`
	Revision string             `json:"revision"`
	At       time.Time          `json:"at"`
	Pods     []Result           `json:"pods"`
	Budgets  []ImpossibleBudget `json:"impossible_budgets"`
	// Drained says that a drain was played.
	Drained bool `json:"-"`
}

// Refused reports whether an eviction would be refused now.
func (r Report) Refused() bool {
	return slices.ContainsFunc(r.Pods, Result.Refused)
}

// Print prints a row per pod, then each reason once, under the number that the rows give it.
// With wide, the reasons stand in the rows.
func (r Report) Print(p output.Printer, format string) error {
	if done, err := p.Structured(format, r); done {
		return err
	}
	why := reasonsOf(r)
	if len(r.Pods) == 0 {
		p.Printf("%s: no pods\n", r.Target)
	} else if err := p.Table(previewRows(r, why, format == "wide")); err != nil {
		return err
	}
	if format != "wide" {
		r.reasons(p, why)
	}
	if len(r.Budgets) > 0 {
		p.Printf("\nBudgets that can never let a drain finish:\n")
		for _, b := range r.Budgets {
			p.Printf("  %s/%s (%d %s): %s\n", b.Namespace, b.Name, b.Pods, output.Plural("pod", b.Pods), b.Why)
		}
	}
	p.Printf("\n%s\n", summary(r))
	return nil
}

func previewRows(r Report, why []string, wide bool) ([]string, [][]string) {
	header := []string{"NAMESPACE", "POD", "OWNER", "NOW"}
	if wide {
		header = slices.Insert(header, 2, "NODE")
	}
	if r.Drained {
		header = append(header, "DRAIN")
	}
	header = append(header, "WHY")
	rows := make([][]string, len(r.Pods))
	for i, pod := range r.Pods {
		rows[i] = []string{pod.Namespace, pod.Pod, output.OrDash(pod.Owner), nowCell(pod)}
		if wide {
			rows[i] = slices.Insert(rows[i], 2, output.OrDash(pod.Node))
		}
		if r.Drained {
			rows[i] = append(rows[i], drainCell(pod))
		}
		reason := reasonOf(pod)
		if n := slices.Index(why, reason); n >= 0 && !wide {
			reason = fmt.Sprintf("[%d]", n+1)
		}
		rows[i] = append(rows[i], output.OrDash(reason))
	}
	return header, rows
}

// reasonOf is what there is to say of a pod: why a drain leaves it, or why it is refused now.
func reasonOf(r Result) string {
	switch {
	case r.Stuck != nil:
		return r.Stuck.Message
	case r.Now != nil:
		return r.Now.Message
	}
	return r.Skipped
}

// reasonsOf lists every distinct reason once, in the order of the pods.
func reasonsOf(r Report) []string {
	var list []string
	for _, pod := range r.Pods {
		if reason := reasonOf(pod); reason != "" && !slices.Contains(list, reason) {
			list = append(list, reason)
		}
	}
	return list
}

func nowCell(r Result) string {
	switch {
	case r.Now == nil:
		return "skipped"
	case r.Now.Allowed():
		return string(r.Now.Outcome)
	}
	return fmt.Sprintf("%s %d", r.Now.Outcome, r.Now.Code)
}

func drainCell(r Result) string {
	switch {
	case r.Now == nil:
		return "-"
	case r.Evicted != nil && *r.Evicted == 0:
		return "at once"
	case r.Evicted != nil:
		return "after " + seconds(*r.Evicted)
	case r.Stuck.Code == http.StatusTooManyRequests:
		return "stuck"
	}
	return "given up"
}

func seconds(s float64) string { return time.Duration(s * float64(time.Second)).String() }

func (r Report) reasons(p output.Printer, why []string) {
	if len(why) > 0 {
		p.Printf("\nWhy:\n")
	}
	for i, reason := range why {
		n := 0
		for _, pod := range r.Pods {
			if reasonOf(pod) == reason {
				n++
			}
		}
		p.Printf("  [%d] %d %s: %s\n", i+1, n, output.Plural("pod", n), reason)
	}
}

func summary(r Report) string {
	var refused, left, evicted, skipped int
	var last float64
	for _, pod := range r.Pods {
		switch {
		case pod.Skipped != "":
			skipped++
		case pod.Evicted != nil:
			evicted++
			last = max(last, *pod.Evicted)
		case pod.Stuck != nil:
			left++
		}
		if pod.Refused() {
			refused++
		}
	}
	text := fmt.Sprintf("%d of %d %s refused now", refused, len(r.Pods), output.Plural("pod", len(r.Pods)))
	if skipped > 0 {
		text += fmt.Sprintf(", %d skipped", skipped)
	}
	switch {
	case !r.Drained || evicted+left == 0:
		return text
	case left > 0:
		return fmt.Sprintf("%s; a drain evicts %d and leaves %d", text, evicted, left)
	case last == 0:
		return text + "; a drain evicts all at once"
	}
	return fmt.Sprintf("%s; a drain evicts all, the last after %s", text, seconds(last))
}
