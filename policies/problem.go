package policies

import (
	"errors"
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

// Error is one line a problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// problemsOf turns OPA's errors into ours; file is used for errors that have no place.
func problemsOf(err error, file string) Problems {
	var own Problems
	if errors.As(err, &own) {
		return own
	}
	var list ast.Errors
	if errors.As(err, &list) {
		problems := make(Problems, 0, len(list))
		for _, e := range list {
			problems = append(problems, problemOf(e, file))
		}
		return problems
	}
	var one *ast.Error
	if errors.As(err, &one) {
		return Problems{problemOf(one, file)}
	}
	return Problems{{File: file, Message: err.Error()}}
}

// problemOf says in our words what OPA says, where there are better ones, and keeps OPA's code and text
// where there are not.
func problemOf(e *ast.Error, file string) Problem {
	p := Problem{File: file}
	if e.Location != nil {
		p.Row, p.Col = e.Location.Row, e.Location.Col
		if e.Location.File != "" {
			p.File = e.Location.File
		}
	}
	if h, ok := hintFor(e); ok {
		p.Message = h.message
		if h.at != nil && h.at.Row > 0 && h.at.File == p.File {
			p.Row, p.Col = h.at.Row, h.at.Col
		}
		return p
	}
	p.Message = strings.TrimSpace(e.Code + ": " + e.Message)
	if e.Details != nil {
		for _, line := range e.Details.Lines() {
			if line = strings.TrimSpace(line); line != "" && strings.Trim(line, "^") != "" {
				p.Message += "; " + line
			}
		}
	}
	return p
}
