package policies

import (
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/evictgate/evictgate/policies/internal/rego"
)

// MetadataOf reads the METADATA of a policy; a helper module gives a zero Metadata.
func MetadataOf(compiler *ast.Compiler, module *ast.Module) (Metadata, Problems) {
	meta := Metadata{ID: rego.PolicyID(module), Enforcement: Enforce}
	if meta.ID == "" {
		return Metadata{}, nil
	}
	a := compiler.GetAnnotationSet().GetPackageScope(module.Package)
	if a == nil {
		return meta, nil
	}
	meta.Title, meta.Description = a.Title, strings.TrimSpace(a.Description)
	for _, r := range a.RelatedResources {
		meta.RelatedResources = append(meta.RelatedResources, r.Ref.String())
	}
	at := rego.NewBlock(a)
	var problems Problems
	if id, ok := a.Custom["id"]; ok && id != meta.ID {
		problems = append(problems, at.Problem("custom.id", "custom.id is %v, but the package is eviction.%s", id, meta.ID))
	}
	if raw, ok := a.Custom["enforcement"]; ok {
		e, err := parseEnforcement(fmt.Sprint(raw))
		if err != nil {
			problems = append(problems, at.Problem("custom.enforcement", "custom.enforcement: %v", err))
		} else if e != "" {
			meta.Enforcement = e
		}
	}
	parameters, err := parametersOf(a)
	if err != nil {
		problems = append(problems, at.Problem(rego.FieldOf(err), "%v", err))
	}
	meta.Parameters = parameters
	meta.HistoryDepth = rego.PlainJSON(a.Custom["history_depth"])
	meta.NeighboursBy, _ = a.Custom["neighbours_by"].(string)
	meta.Default = a.Custom["default"] == true
	return meta, problems
}

// TypeParameters tells OPA's type checker the parameters that a policy declares: a misspelt one, and one
// that is taken for another type, are errors then as they are anywhere below input. A description that
// cannot be read is left to MetadataOf.
func TypeParameters(module *ast.Module) {
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
