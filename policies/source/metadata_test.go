package source

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evictgate/evictgate/policies"
)

// withParameters is a policy with one declared parameter p and a rule.
func withParameters(schema, rule string) policies.File {
	return policies.File{Name: "x.rego", Data: []byte("# METADATA\n# title: X\n# description: Holds x\n# custom:\n#   parameters:\n#     p: " + schema + "\npackage eviction.x\n\n" + rule + "\n")}
}

// What a schema leaves open may be used in any way; what it says is held to.
func TestParametersAreTyped(t *testing.T) {
	const mismatch = "x.rego:9:25: `input.parameters.p == 3` can never hold: a string is compared with a number; put the number in quotes, or turn the string into one with to_number(…)"
	for name, tt := range map[string]struct {
		schema, rule string
		want         []string
	}{
		"a string is not a number":            {"{type: string}", `deny contains "held" if input.parameters.p == 3`, []string{mismatch}},
		"a string of an enum is not a number": {"{type: string, enum: [a, b]}", `deny contains "held" if input.parameters.p == 3`, []string{mismatch}},
		"no type is any type":                 {"{}", `deny contains "held" if input.parameters.p.a == input.parameters.p[0].b`, nil},
		"a default is not a type":             {"{default: 3}", `deny contains "held" if input.parameters.p == "3"`, nil},
		"an enum is not a type":               {"{enum: [a, 1]}", `deny contains "held" if input.parameters.p == 1`, nil},
		"an object of unknown fields":         {"{type: object}", `deny contains "held" if input.parameters.p.a == 1`, nil},
		"an object of strings":                {"{type: object, additionalProperties: {type: string}}", `deny contains "held" if input.parameters.p.a == "b"`, nil},
		"an object of patterns":               {`{type: object, patternProperties: {"^a": {type: string}}}`, `deny contains "held" if input.parameters.p.ab == "b"`, nil},
		"a list of anything":                  {"{type: array}", `deny contains "held" if input.parameters.p[_].a == 1`, nil},
		"a list of objects with more":         {"{type: array, items: {type: object, properties: {a: {type: string}}}}", `deny contains "held" if input.parameters.p[_].a == "b"`, nil},
		"an object with more fields":          {`{type: object, properties: {a: {type: string}}}`, `deny contains "held" if input.parameters.p.b == 1`, nil},
		"one of two types":                    {"{type: [string, integer]}", `deny contains "held" if input.parameters.p == 3`, nil},
		"null or a type":                      {`{type: ["null", string]}`, `deny contains "held" if input.parameters.p == "a"`, nil},
		"a reference": {`{$ref: "#/definitions/a", definitions: {a: {type: string}}}`, `deny contains "held" if input.parameters.p == "a"`,
			[]string{"x.rego:6:7: METADATA: custom.parameters.p has $ref, which is not followed here: a schema could refer to itself; write it out"}},
		"an object of one name or a pattern": {`{type: object, additionalProperties: false, properties: {a: {type: string}}, patternProperties: {"^b": {}}}`, `deny contains "held" if input.parameters.p.bc == "b"`, nil},
		"any of two schemas":                 {"{anyOf: [{type: string}, {type: integer}]}", `deny contains "held" if input.parameters.p == 3`, nil},
		"one of two schemas":                 {"{oneOf: [{type: string}, {type: integer}]}", `deny contains "held" if input.parameters.p == 3`, nil},
		"all of two schemas":                 {"{allOf: [{type: string}, {minLength: 1}]}", `deny contains "held" if input.parameters.p == "a"`, nil},
		"a constant":                         {"{const: a}", `deny contains "held" if input.parameters.p == "a"`, nil},
		"a pattern and a format":             {`{type: string, pattern: "^a", format: date-time}`, `deny contains "held" if input.parameters.p == "a"`, nil},
		"a string may be null":               {`{type: [string, "null"]}`, `deny contains "held" if is_null(input.parameters.p)`, nil},
		"a type may be asked for":            {"{type: string}", `deny contains "held" if not is_string(input.parameters.p)`, nil},
		"a number may have a fraction":       {"{type: number}", `deny contains "held" if input.parameters.p == 0.5`, nil},
		"a field of a parameter by mistake":  {"{type: object, additionalProperties: false, properties: {from: {type: string}}}", `deny contains "held" if input.parameters.p.form == "a"`, []string{"x.rego:9:44: input.parameters.p has no field form; did you mean from?"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Compile([]policies.File{withParameters(tt.schema, tt.rule)})
			if err == nil && tt.want == nil {
				return
			}
			if diff := cmp.Diff(tt.want, problemLines(t, err)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
