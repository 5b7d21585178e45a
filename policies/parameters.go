package policies

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/evictgate/evictgate/policies/internal/limits"
	"github.com/evictgate/evictgate/policies/internal/rego"
)

// Parameters describes what a policy can be given: METADATA custom.parameters.
type Parameters struct {
	// Properties are JSON schemas by the name of the parameter; one with a default is always there.
	Properties map[string]any `json:"properties"`
	// Required names those that every binding must give: METADATA custom.required.
	Required []string `json:"required"`
}

// Names lists the parameters, sorted.
func (p *Parameters) Names() []string { return slices.Sorted(maps.Keys(p.Properties)) }

// Default is the default of a parameter; nil when it has none.
func (p *Parameters) Default(name string) any {
	property, _ := p.Properties[name].(map[string]any)
	return property["default"]
}

// Examples are parameters that can be bound: the first example in each schema that has no default.
func (p *Parameters) Examples() map[string]any {
	given := map[string]any{}
	for name := range p.Properties {
		property, _ := p.Properties[name].(map[string]any)
		if examples, ok := property["examples"].([]any); ok && len(examples) > 0 && p.Default(name) == nil {
			given[name] = examples[0]
		}
	}
	return given
}

// Schema is the JSON schema of the whole: an object that has no other members.
func (p *Parameters) Schema() map[string]any {
	schema := map[string]any{"type": "object", "additionalProperties": false, "properties": p.Properties}
	if len(p.Required) > 0 {
		schema["required"] = p.Required
	}
	return schema
}

// parametersOf reads the description from METADATA; nil when the policy declares no parameters, and may
// then be given any.
func parametersOf(a *ast.Annotations) (*Parameters, error) {
	raw, ok := a.Custom["parameters"]
	if !ok {
		return nil, nil
	}
	properties, ok := rego.PlainJSON(raw).(map[string]any)
	if !ok {
		return nil, rego.FieldErrorf("custom.parameters", "custom.parameters must be a map from the name of a parameter to its JSON schema")
	}
	p := &Parameters{Properties: properties}
	for _, name := range p.Names() {
		if _, ok := properties[name].(map[string]any); !ok {
			return nil, rego.FieldErrorf("custom.parameters."+name, "custom.parameters.%s must be a JSON schema, for example {type: integer, default: 1}", name)
		}
	}
	required, err := stringList(a.Custom["required"])
	if err != nil {
		return nil, rego.FieldErrorf("custom.required", "custom.required must be a list of names of parameters: %w", err)
	}
	for _, name := range required {
		if properties[name] == nil {
			return nil, rego.FieldErrorf("custom.required", "custom.required names %s, which custom.parameters lacks%s", name, rego.Instead(name, p.Names()))
		}
	}
	p.Required = required
	return p, p.verify()
}

// verify checks the schema itself, and the defaults against it.
func (p *Parameters) verify() error {
	for _, name := range p.Names() {
		if wrong := unknownType(p.Properties[name]); wrong != "" {
			return rego.FieldErrorf("custom.parameters."+name, "custom.parameters.%s has the type %s%s", name, wrong, rego.Instead(wrong, schemaTypes))
		}
		if m := (limits.Measure{Most: limits.MaxMember}); tooLargeSchema(&m, p.Properties[name]) {
			return rego.FieldErrorf("custom.parameters."+name, "custom.parameters.%s holds more than %d values, or is nested more than %d deep, which is the limit", name, limits.MaxMember, limits.MaxDepth)
		}
		if key := reference(p.Properties[name]); key != "" {
			return rego.FieldErrorf("custom.parameters."+name, "custom.parameters.%s has %s, which is not followed here: a schema could refer to itself; write it out", name, key)
		}
		if err := callSchema(ast.JSONSchemaVerify.Name, p.Properties[name]); err != nil {
			return rego.FieldErrorf("custom.parameters."+name, "custom.parameters.%s is not a JSON schema: %w", name, err)
		}
	}
	given := map[string]any{}
	for _, name := range p.Names() {
		if d := p.Default(name); d != nil {
			given[name] = d
		}
	}
	whole := *p
	whole.Required = nil
	for _, finding := range whole.check(given) {
		return rego.FieldErrorf("custom.parameters."+finding.name, "custom.parameters: the default of %s does not fit its own schema: %s", finding.name, finding.message)
	}
	return nil
}

func tooLargeSchema(m *limits.Measure, schema any) bool {
	value, err := ast.InterfaceToValue(schema)
	return err != nil || m.Add(value) != nil
}

// reference is the key by which a schema refers to another one, or to itself; empty when it does not.
func reference(schema any) string {
	switch s := schema.(type) {
	case map[string]any:
		for key, value := range s {
			if key == "$ref" || key == "$recursiveRef" || key == "$dynamicRef" {
				return key
			}
			if found := reference(value); found != "" {
				return found
			}
		}
	case []any:
		for _, value := range s {
			if found := reference(value); found != "" {
				return found
			}
		}
	}
	return ""
}

// schemaTypes are the types that JSON schema knows.
var schemaTypes = []string{"array", "boolean", "integer", "null", "number", "object", "string"}

// unknownType is the type that a schema names, when there is no such type.
func unknownType(schema any) string {
	object, _ := schema.(map[string]any)
	name, ok := object["type"].(string)
	if !ok || slices.Contains(schemaTypes, name) {
		return ""
	}
	return name
}

// wrongParameter is one finding about given parameters.
type wrongParameter struct {
	// name is the parameter; empty when it is about all of them.
	name, message string
}

// check compares given parameters with the schema.
func (p *Parameters) check(given map[string]any) []wrongParameter {
	var found []wrongParameter
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if _, ok := p.Properties[name]; !ok {
			found = append(found, wrongParameter{name, fmt.Sprintf("there is no parameter %s%s", name, p.instead(name))})
		}
	}
	for _, name := range p.Required {
		if _, ok := given[name]; !ok {
			found = append(found, wrongParameter{"", fmt.Sprintf("parameter %s is missing", name)})
		}
	}
	for _, name := range p.Names() {
		value, ok := given[name]
		if !ok {
			continue
		}
		for _, e := range matchSchema(name, value, p.Properties[name]) {
			found = append(found, wrongParameter{name, "parameter " + e})
		}
	}
	return found
}

// instead says which parameters there are, the likeliest first.
func (p *Parameters) instead(name string) string {
	if len(p.Properties) == 0 {
		return "; the policy takes none"
	}
	return rego.Instead(name, p.Names())
}

// complete adds the defaults of what is not given.
func (p *Parameters) complete(given map[string]any) map[string]any {
	all := maps.Clone(given)
	if all == nil {
		all = map[string]any{}
	}
	for name := range p.Properties {
		if _, ok := all[name]; !ok {
			if d := p.Default(name); d != nil {
				all[name] = d
			}
		}
	}
	return all
}

// matchSchema compares a named value with a schema by OPA's own validator, and says in words what
// differs, each with its place below the name.
func matchSchema(name string, value, schema any) []string {
	result, err := callBuiltin(ast.JSONMatchSchema.Name, map[string]any{name: value}, map[string]any{"properties": map[string]any{name: schema}})
	if err != nil {
		return []string{fmt.Sprintf("%s: %v", name, err)}
	}
	list, _ := result.([]any)
	if len(list) != 2 || list[0] == true {
		return nil
	}
	var found []string
	findings, _ := list[1].([]any)
	for _, f := range findings {
		if finding, ok := f.(map[string]any); ok {
			found = append(found, fmt.Sprintf("%v: %v", finding["field"], finding["desc"]))
		}
	}
	return found
}

func callSchema(name string, schema any) error {
	result, err := callBuiltin(name, schema)
	if err != nil {
		return err
	}
	if list, ok := result.([]any); ok && len(list) == 2 && list[0] != true {
		return fmt.Errorf("%v", list[1])
	}
	return nil
}

// callBuiltin calls one of OPA's builtins with plain values.
func callBuiltin(name string, args ...any) (any, error) {
	operands := make([]*ast.Term, len(args))
	for i, a := range args {
		value, err := ast.InterfaceToValue(a)
		if err != nil {
			return nil, err
		}
		operands[i] = ast.NewTerm(value)
	}
	var result any
	err := topdown.GetBuiltin(name)(topdown.BuiltinContext{Context: context.Background(), Capabilities: limits.Capabilities()}, operands, func(t *ast.Term) error {
		var err error
		result, err = ast.JSON(t.Value)
		return err
	})
	return result, err
}

func stringList(v any) ([]string, error) {
	if v == nil {
		return nil, nil
	}
	list, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("found %v", v)
	}
	names := make([]string, len(list))
	for i, item := range list {
		if names[i], ok = item.(string); !ok {
			return nil, fmt.Errorf("found %v", item)
		}
	}
	return names, nil
}
