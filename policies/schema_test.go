package policies

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// violations lists where a JSON value differs from a schema of ours.
func differences(value any, schema map[string]any, at string) []string {
	switch v := value.(type) {
	case nil, bool, string, float64:
		if !allows(schema, v) {
			return []string{fmt.Sprintf("%s: %v is not of type %v", at, v, schema["type"])}
		}
		return nil
	case []any:
		items, _ := schema["items"].(map[string]any)
		var found []string
		for i, item := range v {
			found = append(found, differences(item, items, fmt.Sprintf("%s[%d]", at, i))...)
		}
		return found
	}
	object := value.(map[string]any)
	properties, _ := schema["properties"].(map[string]any)
	required, _ := schema["required"].([]any)
	var found []string
	for _, key := range required {
		if _, ok := object[key.(string)]; !ok {
			found = append(found, fmt.Sprintf("%s.%s is missing", at, key))
		}
	}
	for _, key := range sortedKeys(object) {
		below, ok := properties[key].(map[string]any)
		if !ok {
			if below, ok = schema["additionalProperties"].(map[string]any); !ok && len(schema) > 0 {
				found = append(found, fmt.Sprintf("%s.%s is not in the schema", at, key))
				continue
			}
		}
		found = append(found, differences(object[key], below, at+"."+key)...)
	}
	return found
}

// allows reports whether a scalar is of the schema's type; a schema without one allows everything.
func allows(schema map[string]any, v any) bool {
	types, ok := schema["type"].([]any)
	if !ok {
		if schema["type"] == nil {
			return true
		}
		types = []any{schema["type"]}
	}
	name := map[bool]string{true: "null", false: fmt.Sprintf("%T", v)}[v == nil]
	name = map[string]string{"bool": "boolean", "float64": "integer"}[name] + map[string]string{"null": "null", "string": "string"}[name]
	return slices.Contains(types, any(name))
}

func TestTheProjectionFitsTheSchema(t *testing.T) {
	schema := InputSchema()
	rapid.Check(t, func(t *rapid.T) {
		raw, err := appendProjection(anyInput().Draw(t, "input"))
		if err != nil {
			t.Fatalf("project: %v", err)
		}
		for _, d := range differences(parsed(t, raw), schema, "input") {
			if !isZeroTime(d) {
				t.Error(d)
			}
		}
	})
}

// isZeroTime: a time that is not set is null, as everywhere in Kubernetes; the schema says string, so
// that OPA's type checker takes its format.
func isZeroTime(difference string) bool { return contains(difference, "<nil> is not of type string") }

func TestInputJSONNeverLacksAKey(t *testing.T) {
	schema := InputSchema()
	rapid.Check(t, func(t *rapid.T) {
		raw, err := json.Marshal(anyInput().Draw(t, "input"))
		if err != nil {
			t.Fatalf("marshal: %v", err)
		}
		for _, d := range differences(parsed(t, raw), schema, "input") {
			if contains(d, "is missing") || contains(d, "is not in the schema") {
				t.Error(d)
			}
		}
	})
}

func TestInputSchema(t *testing.T) {
	schema := InputSchema()
	if diff := cmp.Diff([]any{"now", "request", "pod", "namespace", "node", "owner", "peers", "budgets", "disruption", "neighbours", "claims", "cluster", "history", "parameters"}, schema["required"]); diff != "" {
		t.Errorf("required -want +got:\n%s", diff)
	}
	properties := schema["properties"].(map[string]any)
	for key, want := range map[string]map[string]any{
		"now":        {"type": "string", "format": "date-time"},
		"parameters": {"type": "object", "additionalProperties": map[string]any{}},
		"namespace": {
			"type": []any{"object", "null"}, "additionalProperties": false, "required": []any{"name", "labels", "annotations"},
			"properties": map[string]any{
				"name":        map[string]any{"type": "string"},
				"labels":      map[string]any{"type": "object", "additionalProperties": map[string]any{"type": "string"}},
				"annotations": map[string]any{"type": "object", "additionalProperties": map[string]any{"type": "string"}},
			},
		},
	} {
		if diff := cmp.Diff(want, properties[key]); diff != "" {
			t.Errorf("%s -want +got:\n%s", key, diff)
		}
	}
	raw := schemaJSON(t)
	var back map[string]any
	if err := json.Unmarshal(raw, &back); err != nil || back["title"] != schema["title"] || raw[len(raw)-1] != '\n' {
		t.Errorf("the schema's JSON is not the schema: %v, title %v", err, back["title"])
	}
}
