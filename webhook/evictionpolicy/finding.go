package evictionpolicy

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
)

// finding is a problem as the author of an EvictionPolicy looks for it: by field, and inside a block of
// Rego by line and column.
type finding struct {
	field string
	// place is row:col inside the field; empty for the field as a whole.
	place   string
	message string
}

// String is field:row:col: message, or field: message.
func (f finding) String() string {
	if f.place != "" {
		return f.field + ":" + f.place + ": " + f.message
	}
	return f.field + ": " + f.message
}

// detail is what stands beside the field in a cause of a refusal.
func (f finding) detail() string {
	if f.place != "" {
		return f.place + ": " + f.message
	}
	return f.message
}

// findingOf finds the field that a problem of a unit is about. The rows and columns of a unit's file are
// not the author's, those of its Rego are.
func findingOf(u source.Unit, p policies.Problem) finding {
	switch {
	case p.File == u.Name: // about the policy beside others
		return finding{field: "spec", message: p.Message}
	case p.File != u.Files[0].Name:
		return finding{field: "spec", message: p.String()}
	case p.Path == "":
		return finding{field: "spec", message: p.Message}
	}
	message := p.Message
	for _, said := range []string{p.Path + ": ", p.Path + " ", fmt.Sprintf("line %d of the text: ", p.InnerRow)} {
		message = strings.TrimPrefix(message, said)
	}
	return finding{field: p.Path, place: placeOf(p), message: message}
}

// placeOf is row:col inside the field, as far as they are known.
func placeOf(p policies.Problem) string {
	switch {
	case p.InnerRow == 0:
		return ""
	case p.InnerCol == 0:
		return strconv.Itoa(p.InnerRow)
	}
	return fmt.Sprintf("%d:%d", p.InnerRow, p.InnerCol)
}

// maxFindings bounds what one answer or condition lists.
const maxFindings = 50

// findingsOf lists the problems of a unit, and how many more there are.
func findingsOf(u source.Unit, ps policies.Problems) (findings []finding, more int) {
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
		lines = append(lines, f.String())
	}
	if more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(lines, "\n")
}
