package record_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
)

var update = flag.Bool("update", false, "rewrite generated files")

const schemaFile = "schema/record.json"

// TestShippedSchema holds schema/record.json to the Go types it is made from.
func TestShippedSchema(t *testing.T) {
	m := schemaMaker{defs: map[string]any{}, docs: docsOf(t, "record.go", "basis.go", "../../policies/project.go", "../../policies/decision.go", "../../policies/input.go")}
	schema := m.object(reflect.TypeFor[record.Record]())
	schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	schema["$id"] = fmt.Sprintf("https://evictgate.dev/schema/record.v%d.json", record.Version)
	schema["title"] = "Evictgate decision record"
	schema["$defs"] = m.defs
	var want bytes.Buffer
	encoder := json.NewEncoder(&want)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(schema); err != nil {
		t.Fatal(err)
	}
	for _, path := range m.bare {
		t.Errorf("%s has no description: add a doc comment, or a line to plain", path)
	}
	if *update {
		if err := os.WriteFile(schemaFile, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%s is not what it is made from; run make generate", schemaFile)
	}
}

// schemaMaker turns Go types into a JSON Schema.
type schemaMaker struct {
	defs map[string]any
	docs map[string]string
	bare []string
}

// values are those of types whose constants are all there is.
var values = map[reflect.Type][]any{
	reflect.TypeFor[policies.Outcome]():     {policies.Admitted, policies.Delayed, policies.Denied, policies.Undecided},
	reflect.TypeFor[policies.Effect]():      {policies.Deny, policies.Delay, policies.Warning},
	reflect.TypeFor[policies.Enforcement](): {policies.Enforce, policies.Warn, policies.Audit},
	reflect.TypeFor[policies.BudgetMode]():  {policies.AnswerBudgets, policies.AdviseBudgets},
	reflect.TypeFor[policies.OnError]():     {policies.OnErrorDelay, policies.OnErrorDeny, policies.OnErrorAdmit},
}

// plain describes fields whose names say enough in Go.
var plain = map[string]string{
	"Request.Namespace": "The pod's namespace.", "User.Username": "The name of the user.", "User.Groups": "The groups of the user.",
	"Object.Kind": "The kind of the object, for example Deployment.", "Object.Name": "The name of the object.", "Object.UID": "The UID of the object.",
	"Decision.Outcome":    "What became of the review: admitted, delayed (429), denied (403, or 500 when budgets are misconfigured) or undecided.",
	"Decision.Violations": "What the policies found, those included that only warn or are audited.", "Decision.Failures": "Policies that could not be evaluated.",
	"Violation.Effect": "The set of the policy in which the violation stands.", "Violation.Enforcement": "What the violation does: enforce decides, warn tells the client, audit only records.",
	"Violation.Reason": "What the policy says, in one line.", "Violation.Detail": "What else the policy says.",
	"Failure.Policy": "The name of the binding.", "Failure.Enforcement": "What the policy's violations would have done.",
	"Cause.Type": "EvictionPolicy for a policy, DisruptionBudget for a budget.", "Cause.Message": "The reason.",
	"Disruption.Allowed": "Whether the budgets allow the eviction.", "Blocker.Name": "The name of the pod.",
}

func (m *schemaMaker) object(t reflect.Type) map[string]any {
	properties, required := map[string]any{}, []any{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		property := m.schema(f.Type)
		property["description"] = m.describe(t.Name()+"."+f.Name, f.Name, name)
		properties[name] = property
		if !strings.Contains(options, "omitempty") {
			required = append(required, name)
		}
	}
	if t == reflect.TypeFor[record.Record]() {
		properties["record_version"].(map[string]any)["const"] = record.Version
		properties["path"].(map[string]any)["const"] = "eviction"
		result := properties["result"].(map[string]any) // every record has one
		result["$ref"] = "#/$defs/Decision"
		delete(result, "anyOf")
	}
	return map[string]any{"type": "object", "description": m.docs[t.Name()], "properties": properties, "required": required}
}

// describe is the doc comment with the field's JSON name in the place of its Go name.
func (m *schemaMaker) describe(path, name, key string) string {
	if text, ok := plain[path]; ok {
		return text
	}
	text := m.docs[path]
	if text == "" {
		m.bare = append(m.bare, path)
	}
	text = strings.ReplaceAll(text, "InputRefs", "input_refs")
	text = strings.TrimSuffix(text, " It comes last: see AppendJSON.")
	if rest, ok := strings.CutPrefix(text, name+" "); ok {
		return key + " " + rest
	}
	return text
}

func (m *schemaMaker) schema(t reflect.Type) map[string]any {
	if list, ok := values[t]; ok {
		return map[string]any{"type": "string", "enum": list}
	}
	switch t {
	case reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case reflect.TypeFor[metav1.Time]():
		return map[string]any{"type": []any{"string", "null"}, "format": "date-time"}
	case reflect.TypeFor[json.RawMessage]():
		return map[string]any{"type": []any{"object", "null"}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		if t.Elem().Kind() == reflect.Struct && t.Elem() != reflect.TypeFor[metav1.Time]() {
			return map[string]any{"anyOf": []any{m.schema(t.Elem()), map[string]any{"type": "null"}}}
		}
		return m.schema(t.Elem())
	case reflect.Struct:
		if _, ok := m.defs[t.Name()]; !ok {
			m.defs[t.Name()] = nil
			m.defs[t.Name()] = m.object(t)
		}
		return map[string]any{"$ref": "#/$defs/" + t.Name()}
	case reflect.Slice:
		return map[string]any{"type": []any{"array", "null"}, "items": m.schema(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": []any{"object", "null"}, "additionalProperties": m.schema(t.Elem())}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Interface:
		return map[string]any{}
	}
	return map[string]any{"type": "integer"}
}

// docsOf reads the doc comments of types and their fields, as Type and Type.Field.
func docsOf(t *testing.T, files ...string) map[string]string {
	t.Helper()
	docs := map[string]string{}
	add := func(name string, g *ast.CommentGroup) {
		if _, ok := docs[name]; !ok { // of two types of one name, the first file's counts
			docs[name] = strings.Join(strings.Fields(g.Text()), " ")
		}
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.TYPE {
				continue
			}
			for _, spec := range g.Specs {
				named := spec.(*ast.TypeSpec)
				add(named.Name.Name, g.Doc)
				s, ok := named.Type.(*ast.StructType)
				if !ok {
					continue
				}
				for _, f := range s.Fields.List {
					for _, name := range f.Names {
						add(named.Name.Name+"."+name.Name, f.Doc)
					}
				}
			}
		}
	}
	return docs
}

// compiled is the shipped schema; strict allows no field that it does not name.
func compiled(t *testing.T, strict bool) *jsonschema.Schema {
	t.Helper()
	raw, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if strict {
		closed(schema)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("record.json", schema); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("record.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closed(schema any) {
	switch v := schema.(type) {
	case map[string]any:
		if _, ok := v["properties"].(map[string]any); ok && v["type"] == "object" {
			v["additionalProperties"] = false
		}
		for _, below := range v {
			closed(below)
		}
	case []any:
		for _, below := range v {
			closed(below)
		}
	}
}

// The samples are held to what the webhook writes by its tests.
func TestRecordsAreAsTheSchemaSays(t *testing.T) {
	raw, err := os.ReadFile("schema/samples.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	strict := compiled(t, true)
	seen := map[policies.Outcome]int{}
	for line := range bytes.Lines(raw) {
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
		if err != nil {
			t.Fatal(err)
		}
		if err := strict.Validate(value); err != nil {
			t.Errorf("%.100s: %v", line, err)
		}
		var r record.Record
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		seen[r.Result.Outcome]++
	}
	for _, outcome := range values[reflect.TypeFor[policies.Outcome]()] {
		if seen[outcome.(policies.Outcome)] == 0 {
			t.Errorf("no sample is %s", outcome)
		}
	}
}

func TestTheSchemaRefusesWhatIsNoRecord(t *testing.T) {
	raw, err := os.ReadFile("schema/samples.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := bytes.Cut(raw, []byte("\n"))
	schema := compiled(t, false)
	for name, tt := range map[string]struct {
		change func(map[string]any)
		ok     bool
	}{
		"as it is":              {func(map[string]any) {}, true},
		"with a new field":      {func(r map[string]any) { r["new"] = 1 }, true},
		"without an id":         {func(r map[string]any) { delete(r, "decision_id") }, false},
		"of another version":    {func(r map[string]any) { r["record_version"] = 2 }, false},
		"another outcome":       {func(r map[string]any) { r["result"].(map[string]any)["outcome"] = "allowed" }, false},
		"without a result":      {func(r map[string]any) { r["result"] = nil }, false},
		"a time that is none":   {func(r map[string]any) { r["timestamp"] = "yesterday" }, false},
		"a text as input":       {func(r map[string]any) { r["input"] = "{}" }, false},
		"a pod that is a text":  {func(r map[string]any) { r["pod"] = "web-0" }, false},
		"no input and no owner": {func(r map[string]any) { r["input"], r["owner"] = nil, nil }, true},
	} {
		t.Run(name, func(t *testing.T) {
			value, err := jsonschema.UnmarshalJSON(bytes.NewReader(first))
			if err != nil {
				t.Fatal(err)
			}
			tt.change(value.(map[string]any))
			if err := schema.Validate(value); (err == nil) != tt.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}
