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
	// Row and Col count from 1; 0 means that the whole file, or the whole line, is meant. An object of a cluster has none.
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

// String is file:row:col: message, as compilers print it. An object of a cluster has no lines: its problem is told by
// field, for example "EvictionPolicy/freeze spec.rego:3:15: message".
func (p Problem) String() string {
	if p.Row == 0 && p.Path != "" {
		return p.File + " " + p.AtField()
	}
	place := p.File
	if p.Row > 0 {
		place += fmt.Sprintf(":%d", p.Row)
	}
	if p.Row > 0 && p.Col > 0 {
		place += fmt.Sprintf(":%d", p.Col)
	}
	return place + ": " + p.said(p.Message)
}

// AtField is the problem as a reader of the object sees it, by field instead of by file, for example
// "spec.rego:3:15: message".
func (p Problem) AtField() string {
	if p.Path == "" {
		return p.Message
	}
	if p.InnerRow > 0 {
		return p.Path + ":" + p.Detail()
	}
	return p.Path + ": " + p.Detail()
}

// Detail is what AtField says beside the field, for example "3:15: message". A message that begins with the field is
// told without it.
func (p Problem) Detail() string {
	inner := p.inner()
	message := p.Message
	for _, begin := range []string{p.Path + ":" + inner + " ", p.Path + ": ", p.Path + " "} {
		message = strings.TrimPrefix(message, begin)
	}
	if inner == "" {
		return p.said(message)
	}
	return inner + " " + p.said(message)
}

// inner is the place within the field, as far as it is known: "3:15:", "3:" or nothing.
func (p Problem) inner() string {
	switch {
	case p.InnerRow > 0 && p.InnerCol > 0:
		return fmt.Sprintf("%d:%d:", p.InnerRow, p.InnerCol)
	case p.InnerRow > 0:
		return fmt.Sprintf("%d:", p.InnerRow)
	}
	return ""
}

// said is a message with its severity.
func (p Problem) said(message string) string {
	if p.Severity == SeverityWarning {
		return "warning: " + message
	}
	return message
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
