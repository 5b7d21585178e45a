package policies

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

func fieldErrorf(field, format string, args ...any) error {
	return &fieldError{field, fmt.Errorf(format, args...)}
}

// fieldOfError is the field that an error is about; empty when it does not say.
func fieldOfError(err error) string {
	var e *fieldError
	if errors.As(err, &e) {
		return e.field
	}
	return ""
}

// metadata finds the fields of a METADATA block.
type metadata struct {
	block  *ast.Annotations
	fields places
}

// metadataPlaces reads the block as YAML again: a blank takes the place of each #, so that rows and
// columns stay as they are.
func metadataPlaces(a *ast.Annotations) metadata {
	var text strings.Builder
	for line := range strings.Lines(string(a.Location.Text)) {
		indent, comment, _ := strings.Cut(line, "#")
		if strings.HasPrefix(strings.TrimSpace(comment), "METADATA") {
			comment = "\n"
		}
		text.WriteString(indent + " " + comment)
	}
	return metadata{a, newPlaces(yamlDoc{row: a.Location.Row, text: text.String()})}
}

// problem is a finding about the field of that dotted path, or about the block when it has none.
func (m metadata) problem(field, format string, args ...any) Problem {
	p := problemAt(m.block.Location, "METADATA: "+format, args...)
	if field == "" {
		return p
	}
	if row, col := m.fields.of(strings.Split(field, ".")...); row > 0 {
		p.Row, p.Col = row, col
	}
	return p
}

// typeParameters tells OPA's type checker the parameters that a policy declares: a misspelt one, and one
// that is taken for another type, are errors then as they are anywhere below input. A description that
// cannot be read is left to metadataOf.
func typeParameters(module *ast.Module) {
	for _, a := range module.Annotations {
		if a.Scope != "package" {
			continue
		}
		if p, err := parametersOf(a); err == nil && p != nil {
			var schema any = typesOf(p.Schema())
			a.Schemas = append(a.Schemas, &ast.SchemaAnnotation{Path: parametersRef, Definition: &schema})
		}
	}
}

// typesOf is the part of a JSON schema that OPA's type checker understands: it errs on allOf, and takes a
// list of types for the first of them. What is left out allows everything.
func typesOf(schema map[string]any) map[string]any {
	plain := map[string]any{}
	switch t := schema["type"].(type) {
	case string:
		plain["type"] = t
	case []any:
		if len(t) != 2 || t[1] != "null" {
			return plain
		}
		plain["type"] = t
	default:
		return plain
	}
	if items, ok := schema["items"].(map[string]any); ok {
		plain["items"] = typesOf(items)
	}
	if others, ok := schema["additionalProperties"].(map[string]any); ok && schema["properties"] == nil {
		plain["additionalProperties"] = typesOf(others)
	}
	properties, ok := schema["properties"].(map[string]any)
	if !ok || schema["additionalProperties"] != false || schema["patternProperties"] != nil {
		return plain // OPA would take the properties for all there are
	}
	below := map[string]any{}
	for name, property := range properties {
		member, _ := property.(map[string]any)
		below[name] = typesOf(member)
	}
	plain["properties"], plain["additionalProperties"] = below, false
	return plain
}
