package rego

import (
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Severity is how bad a problem is. As JSON it is "error" or "warning".
type Severity int

const (
	// SeverityError: the set cannot be used.
	SeverityError Severity = iota
	// SeverityWarning: the set can be used, but hardly does what its author means.
	SeverityWarning
)

// String is error or warning.
func (s Severity) String() string {
	if s == SeverityWarning {
		return "warning"
	}
	return "error"
}

// MarshalText writes error or warning.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (s *Severity) UnmarshalText(text []byte) error {
	for _, known := range []Severity{SeverityError, SeverityWarning} {
		if string(text) == known.String() {
			*s = known
			return nil
		}
	}
	return fmt.Errorf("severity %q is neither error nor warning", text)
}

// Problem is one finding about a policy source, at its place. Its JSON keys are stable: severity, file,
// row, col and message are always there; path, inner_row and inner_col only when they say something.
type Problem struct {
	Severity Severity `json:"severity"`
	File     string   `json:"file"`
	// Row and Col count from 1; 0 means that the whole file, or the whole line, is meant.
	Row int `json:"row"`
	Col int `json:"col"`
	// Path is the field of an EvictionPolicy, for example spec.parameters.min_ready or spec.rego; empty
	// for a Rego file.
	Path string `json:"path,omitempty"`
	// InnerRow and InnerCol are the place within the text of spec.rego, from 1; 0 elsewhere. They serve a
	// reader who has the object, but not the file.
	InnerRow int    `json:"inner_row,omitempty"`
	InnerCol int    `json:"inner_col,omitempty"`
	Message  string `json:"message"`
}

// String is file:row:col: message, as compilers print it.
func (p Problem) String() string {
	place, message := p.File, p.Message
	if p.Row > 0 {
		place += fmt.Sprintf(":%d", p.Row)
	}
	if p.Row > 0 && p.Col > 0 {
		place += fmt.Sprintf(":%d", p.Col)
	}
	if p.Severity == SeverityWarning {
		message = "warning: " + message
	}
	return place + ": " + message
}

// AtField is the problem as a reader of the object sees it, by field instead of by file, for example
// "spec.rego:3:15: message".
func (p Problem) AtField() string {
	switch {
	case p.Path == "":
		return p.Message
	case p.InnerRow > 0:
		return Problem{File: p.Path, Row: p.InnerRow, Col: p.InnerCol, Severity: p.Severity, Message: p.Message}.String()
	}
	return Problem{File: p.Path, Severity: p.Severity, Message: p.Message}.String()
}

// Problems is the error of a set that cannot be used; it lists everything found, not the first.
type Problems []Problem

// MaxProblems is how many problems are told of one file.
const MaxProblems = 100

// AtMost keeps the first problems of each file, and counts the others.
func AtMost(ps Problems) Problems {
	if len(ps) <= MaxProblems {
		return ps
	}
	var kept Problems
	told, last := map[string]int{}, map[string]int{}
	for _, p := range ps {
		switch told[p.File]++; {
		case told[p.File] < MaxProblems:
			kept = append(kept, p)
		case told[p.File] == MaxProblems:
			last[p.File] = len(kept)
			kept = append(kept, p)
		}
	}
	for file, i := range last {
		if more := told[file] - MaxProblems + 1; more > 1 {
			kept[i] = Problem{Severity: kept[i].Severity, File: file, Message: fmt.Sprintf("and %d more", more)}
		}
	}
	return kept
}

// Error is one line a problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// ProblemAt is a finding at a place in a Rego file.
func ProblemAt(l *ast.Location, format string, args ...any) Problem {
	return Problem{File: l.File, Row: l.Row, Col: l.Col, Message: fmt.Sprintf(format, args...)}
}
