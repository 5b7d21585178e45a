package policies

import (
	"reflect"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/evictgate/evictgate/policies/internal/fields"
)

// InputSchema is the JSON schema of Input, derived from the Go type. Policies are compiled against
// it, so that a typo below `input` is an error. It is shipped as schema/input.json for editors and
// for `opa check -s policies/schema/input.json`.
func InputSchema() map[string]any {
	schema := schemaOf(reflect.TypeFor[Input]())
	schema["$schema"] = "http://json-schema.org/draft-07/schema#"
	schema["title"] = "Evictgate policy input"
	return schema
}

func schemaOf(t reflect.Type) map[string]any {
	switch t {
	case timeType, microTimeType:
		return map[string]any{"type": "string", "format": "date-time"}
	case reflect.TypeFor[resource.Quantity]():
		return map[string]any{"type": "string"}
	case reflect.TypeFor[intstr.IntOrString](), reflect.TypeFor[metav1.FieldsV1]():
		return map[string]any{}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return nullable(schemaOf(t.Elem()))
	case reflect.Struct:
		return structSchema(t)
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t.Elem())}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return map[string]any{"type": "string"}
		}
		return map[string]any{"type": "array", "items": schemaOf(t.Elem())}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Interface:
		return map[string]any{}
	default:
		return map[string]any{"type": "integer"}
	}
}

// nullable adds null to the types. OPA's type checker takes the other type, so a policy asks with
// is_null rather than by comparison.
func nullable(schema map[string]any) map[string]any {
	if name, ok := schema["type"].(string); ok {
		schema["type"] = []any{name, "null"}
	}
	return schema
}

func structSchema(t reflect.Type) map[string]any {
	properties := map[string]any{}
	var required []any
	for _, f := range fields.Of(t) {
		properties[f.Name] = schemaOf(t.FieldByIndex(f.Index).Type)
		if !f.Optional() {
			required = append(required, f.Name)
		}
	}
	schema := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		schema["required"] = required
	}
	return schema
}
