package suite

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/evictgate/evictgate/policies"
)

func TestParametersInWords(t *testing.T) {
	const properties = `
size: {type: integer, minimum: 1, maximum: 9, default: 3, description: " how many "}
effect: {enum: [delay, deny], default: delay}
names: {type: array, items: {type: string, minLength: 1, pattern: "^a"}, minItems: 1, maxItems: 4}
either: {type: [string, "null"]}
labels: {type: object, additionalProperties: {type: string}}
anything: {}
rules:
  type: array
  items:
    type: object
    required: [who]
    properties:
      who: {type: array, items: {type: string}}
      at: {type: object, properties: {hour: {type: number}}}
`
	p := &policies.Parameters{Required: []string{"rules"}}
	if err := yaml.Unmarshal([]byte(properties), &p.Properties); err != nil {
		t.Fatal(err)
	}
	want := []Parameter{
		{Name: "rules", Type: "list of {at, who}", Required: true},
		{Name: "rules[].who", Type: "list of string", Required: true},
		{Name: "rules[].at", Type: "{hour}"},
		{Name: "rules[].at.hour", Type: "number"},
		{Name: "anything", Type: "any"},
		{Name: "effect", Type: "delay or deny", Default: "delay"},
		{Name: "either", Type: "string or null"},
		{Name: "labels", Type: "map to string"},
		{Name: "names", Type: "list of (string, length at least 1, pattern ^a), at least 1 of them, at most 4 of them"},
		{Name: "size", Type: "integer, minimum 1, maximum 9", Default: 3.0, Description: "how many"},
	}
	if diff := cmp.Diff(want, parameterList(p)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if list := parameterList(nil); list != nil {
		t.Errorf("no parameters: %v", list)
	}
}

// TestExampleIsOfACaseThatWillDo chooses among cases that refuse, that lack a parameter, that only admit.
func TestExampleIsOfACaseThatWillDo(t *testing.T) {
	const head = "apiVersion: evictgate.dev/v1alpha1\nkind: EvictionPolicy\nmetadata:\n  name: rate-limit\nspec:\n  library: rate_limit\n"
	admits := Case{Parameters: map[string]any{"max": 1}, Expect: Expect{Outcome: policies.Admitted}}
	refuses := Case{Parameters: map[string]any{"max": 2}, Expect: Expect{Outcome: policies.Delayed}, Enforcement: "Audit"}
	bare := Case{Expect: Expect{Outcome: policies.Denied}}
	wrong := Case{Parameters: map[string]any{"max": "x"}, Expect: Expect{Problem: "max"}}
	for name, tt := range map[string]struct {
		required bool
		effects  []policies.Effect
		suite    *Suite
		want     string
	}{
		"the first that refuses with parameters": {false, []policies.Effect{policies.Delay}, &Suite{Cases: []Case{wrong, admits, bare, refuses}}, "  enforcement: Audit\n  parameters:\n    max: 2\n"},
		"one that refuses without":               {false, []policies.Effect{policies.Delay}, &Suite{Cases: []Case{wrong, admits, bare}}, "  enforcement: Enforce\n"},
		"one that has what must be given":        {true, []policies.Effect{policies.Deny}, &Suite{Cases: []Case{wrong, bare, admits}}, "  enforcement: Enforce\n  parameters:\n    max: 1\n"},
		"a policy that only warns":               {false, []policies.Effect{policies.Warning}, &Suite{Cases: []Case{admits}}, "  enforcement: Warn\n  parameters:\n    max: 1\n"},
		"no suite":                               {false, []policies.Effect{policies.Deny}, nil, "  enforcement: Enforce\n"},
	} {
		d := Description{BoundPolicy: policies.BoundPolicy{Policy: "rate_limit"}, Effects: tt.effects, Parameters: []Parameter{{Name: "max", Required: tt.required}}}
		got, err := d.Example(tt.suite)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(head+tt.want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
}
