package faults

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// row is what came of one scenario.
type row struct {
	scenario
	all    int
	others map[answer]int
}

// failed is how many got anything but a decision.
func (r row) failed() (n int) {
	for _, c := range r.others {
		n += c
	}
	return n
}

// kinds says what else came than decisions, the most frequent first.
func (r row) kinds() string {
	var kinds []answer
	for a := range r.others {
		kinds = append(kinds, a)
	}
	slices.SortFunc(kinds, func(a, b answer) int {
		if r.others[a] != r.others[b] {
			return r.others[b] - r.others[a]
		}
		return strings.Compare(string(a), string(b))
	})
	var parts []string
	for _, k := range kinds {
		parts = append(parts, fmt.Sprintf("%d %s", r.others[k], k))
	}
	return strings.Join(parts, ", ")
}

// plain is the table for a terminal.
func plain(rows []row) string {
	var b strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&b, "%-60s %5d evictions %4d no decision (bound %d) %s\n", r.fault, r.all, r.failed(), r.bound, r.kinds())
	}
	return b.String()
}

func (w *world) document(*testing.T) {}
