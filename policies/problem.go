package policies

import (
	"errors"
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Problem is one finding about a policy source, at its place.
type Problem struct {
	File string `json:"file"`
	// Row and Col count from 1; 0 means that the whole file is meant.
	Row int `json:"row"`
	Col int `json:"col"`
	// Path is the field of an EvictionPolicy, for example spec.parameters.min_ready; empty for Rego.
	Path    string `json:"path,omitempty"`
	Message string `json:"message"`
}

// String is file:row:col: message, as compilers print it.
func (p Problem) String() string {
	switch {
	case p.Row == 0:
		return p.File + ": " + p.Message
	case p.Col == 0:
		return fmt.Sprintf("%s:%d: %s", p.File, p.Row, p.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Row, p.Col, p.Message)
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

func problemOf(e *ast.Error, file string) Problem {
	p := Problem{File: file, Message: strings.TrimSpace(e.Code + ": " + e.Message)}
	if name, ok := strings.CutPrefix(e.Message, "undefined function "); ok && ast.BuiltinMap[name] != nil {
		p.Message += "; it is left out here, since a decision must not depend on the network, the environment or chance"
	}
	if e.Location != nil {
		p.Row, p.Col = e.Location.Row, e.Location.Col
		if e.Location.File != "" {
			p.File = e.Location.File
		}
	}
	if e.Details != nil {
		for _, line := range e.Details.Lines() {
			if line = strings.TrimSpace(line); line != "" && strings.Trim(line, "^") != "" {
				p.Message += "; " + line
			}
		}
	}
	return p
}
