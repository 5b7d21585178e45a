package evictionpolicy

import (
	"fmt"
	"strings"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
)

// findingOf is a problem of a unit as the author of its EvictionPolicy looks for it: by field, and inside a block of
// Rego by line and column. Whoever is answered knows which are warnings.
func findingOf(u source.Unit, p policies.Problem) policies.Problem {
	p.Severity = 0
	switch {
	case p.File != u.Name: // about another, beside which this one cannot stand
		return policies.Problem{Path: "spec", Message: p.String()}
	case p.Path == "":
		p.Path = "spec"
	}
	return p
}

// maxFindings bounds what one answer or condition lists.
const maxFindings = 50

// findingsOf lists the problems of a unit, and how many more there are.
func findingsOf(u source.Unit, ps policies.Problems) (findings policies.Problems, more int) {
	if len(ps) > maxFindings {
		ps, more = ps[:maxFindings], len(ps)-maxFindings
	}
	for _, p := range ps {
		findings = append(findings, findingOf(u, p))
	}
	return findings, more
}

// linesOf writes the problems of a unit, one a line.
func linesOf(u source.Unit, ps policies.Problems) string {
	findings, more := findingsOf(u, ps)
	lines := make([]string, 0, len(findings)+1)
	for _, f := range findings {
		lines = append(lines, f.AtField())
	}
	if more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(lines, "\n")
}
