package rego

import (
	"errors"
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// fieldError is an error about a field, named by its dotted path.
type fieldError struct {
	field string
	err   error
}

func (e *fieldError) Error() string { return e.err.Error() }
func (e *fieldError) Unwrap() error { return e.err }

// FieldErrorf is an error about a field, named by its dotted path.
func FieldErrorf(field, format string, args ...any) error {
	return &fieldError{field, fmt.Errorf(format, args...)}
}

// FieldOf is the field that an error is about; empty when it does not say.
func FieldOf(err error) string {
	var e *fieldError
	if errors.As(err, &e) {
		return e.field
	}
	return ""
}

// Block finds the fields of a METADATA block.
type Block struct {
	block *ast.Annotations
	// Fields finds them by their dotted paths.
	Fields Places
}

// NewBlock reads the block as YAML again: a blank takes the place of each #, so that rows and
// columns stay as they are.
func NewBlock(a *ast.Annotations) Block {
	var text strings.Builder
	for line := range strings.Lines(string(a.Location.Text)) {
		indent, comment, _ := strings.Cut(line, "#")
		if strings.HasPrefix(strings.TrimSpace(comment), "METADATA") {
			comment = "\n"
		}
		text.WriteString(indent + " " + comment)
	}
	return Block{a, NewPlaces(text.String(), a.Location.Row)}
}

// Problem is a finding about the field of that dotted path, or about the block when it has none.
func (m Block) Problem(field, format string, args ...any) Problem {
	p := ProblemAt(m.block.Location, "METADATA: "+format, args...)
	if field == "" {
		return p
	}
	if row, col := m.Fields.At(strings.Split(field, ".")...); row > 0 {
		p.Row, p.Col = row, col
	}
	return p
}
