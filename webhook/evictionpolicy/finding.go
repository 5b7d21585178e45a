package evictionpolicy

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/evictgate/evictgate/policies"
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

// leadingField is a field at the begin of a message, which goes on with a colon or as a sentence.
var leadingField = regexp.MustCompile(`^(spec(?:\.[A-Za-z]+|\[[0-9]+\])+):? `)

// findingOf finds the field that a problem of a unit is about. The rows and columns of a unit's file are
// not the author's, those of its Rego are.
func findingOf(u policies.Unit, p policies.Problem) finding {
	file := u.Files[0].Name
	switch {
	case strings.HasPrefix(p.File, file+" ("): // as policies calls the module in spec.rego
		return finding{field: "spec.rego", place: placeOf(p), message: p.Message}
	case p.File == u.Name: // about the policy beside others
		return finding{field: "spec", message: p.Message}
	case p.File != file:
		return finding{field: "spec", message: p.String()}
	case p.Path != "":
		return finding{field: p.Path, message: p.Message}
	}
	message := strings.TrimPrefix(p.Message, strings.Replace(u.Name, "/", " ", 1)+": ")
	if m := leadingField.FindStringSubmatch(message); m != nil {
		return finding{field: m[1], message: message[len(m[0]):]}
	}
	return finding{field: "spec", message: message}
}

// placeOf is row:col, as far as they are known.
func placeOf(p policies.Problem) string {
	switch {
	case p.Row == 0:
		return ""
	case p.Col == 0:
		return strconv.Itoa(p.Row)
	}
	return fmt.Sprintf("%d:%d", p.Row, p.Col)
}

// maxFindings bounds what one answer or condition lists.
const maxFindings = 50

// findingsOf lists the problems of a unit, and how many more there are.
func findingsOf(u policies.Unit, ps policies.Problems) (findings []finding, more int) {
	if len(ps) > maxFindings {
		ps, more = ps[:maxFindings], len(ps)-maxFindings
	}
	for _, p := range ps {
		findings = append(findings, findingOf(u, p))
	}
	return findings, more
}

// linesOf writes the problems of a unit, one a line.
func linesOf(u policies.Unit, ps policies.Problems) string {
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
