package policies

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
	"pgregory.net/rapid"
)

// anyJSON is a JSON value up to a depth.
func anyJSON(depth int) *rapid.Generator[any] {
	scalars := []*rapid.Generator[any]{
		rapid.Just[any](nil),
		rapid.Bool().AsAny(),
		rapid.Float64Range(-1e15, 1e15).AsAny(),
		rapid.String().AsAny(),
	}
	if depth == 0 {
		return rapid.OneOf(scalars...)
	}
	below := anyJSON(depth - 1)
	return rapid.OneOf(append(scalars,
		rapid.SliceOfN(below, 0, 4).AsAny(),
		rapid.MapOfN(rapid.String(), below, 0, 4).AsAny())...)
}

func TestAppendJSONParsesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw, err := json.Marshal(anyJSON(3).Draw(t, "value"))
		if err != nil {
			t.Fatalf("marshal: %v", err)
		}
		want := parsed(t, raw)
		value, err := ast.InterfaceToValue(want)
		if err != nil {
			t.Fatalf("convert: %v", err)
		}
		got := appendJSON([]byte("before "), value)
		if diff := cmp.Diff(want, parsed(t, got[len("before "):])); diff != "" {
			t.Fatalf("-want +got:\n%s", diff)
		}
	})
}

func TestAppendJSON(t *testing.T) {
	for want, value := range map[string]ast.Value{
		`null`:                        ast.NullValue,
		`9007199254740993`:            ast.Number("9007199254740993"),
		`"plain"`:                     ast.String("plain"),
		`"tab\t\"quoted\" \\ \u003c"`: ast.String("tab\t\"quoted\" \\ <"),
		"\"\ufffd\"":                  ast.String("\xff"),
		`{}`:                          ast.NewObject(),
		`[true,[],{"a":"b"}]`:         ast.NewArray(ast.BooleanTerm(true), ast.ArrayTerm(), ast.ObjectTerm(ast.Item(ast.StringTerm("a"), ast.StringTerm("b")))),
	} {
		got := appendJSON(nil, value)
		if diff := cmp.Diff(parsed(t, []byte(want)), parsed(t, got)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", want, diff)
		}
	}
	if got := string(appendJSON(nil, ast.Number("9007199254740993"))); got != "9007199254740993" {
		t.Errorf("a large number lost digits: %s", got)
	}
}
