// Package report prints what authors of policies ask for: what is wrong with them, what they decide and why, how their tests
// went, and what there is.
package report

import (
	"fmt"
	"strings"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/output"
)

// printer prints the parts of reports.
type printer struct{ output.Printer }

// Problems prints findings about policies, and how many there are.
func Problems(p output.Printer, problems policies.Problems) {
	if len(problems) == 0 {
		return
	}
	warnings := 0
	for _, problem := range problems {
		p.Aside("%s\n", problem)
		if problem.Severity == policies.SeverityWarning {
			warnings++
		}
	}
	var counts []string
	if errs := len(problems) - warnings; errs > 0 {
		counts = append(counts, fmt.Sprintf("%d %s", errs, output.Plural("problem", errs)))
	}
	if warnings > 0 {
		counts = append(counts, fmt.Sprintf("%d %s", warnings, output.Plural("warning", warnings)))
	}
	p.Aside("evictgate: %s in the policies\n", strings.Join(counts, " and "))
}
