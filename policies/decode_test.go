package policies

import (
	"bytes"
	"encoding/json"
	"fmt"
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

// OPA's own way is the measure.
func TestTermOfIsWhatOPAReads(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw, err := json.Marshal(anyJSON(3).Draw(t, "value"))
		if err != nil {
			t.Fatalf("marshal: %v", err)
		}
		if diff := termDiff(raw); diff != "" {
			t.Fatal(diff)
		}
	})
	for _, raw := range []string{
		`null`, `9007199254740993`, `1e30`, `-0.5`, `"tab\t\"quoted\" \\ \u003c \ud83d\ude00"`, `""`, `{}`, `[]`,
		`[true,false,[],{"a":"b","pod":{"name":null}},512,513,-1,-2,99999999999999999999]`,
	} {
		if diff := termDiff([]byte(raw)); diff != "" {
			t.Error(diff)
		}
	}
}

func termDiff(raw []byte) string {
	want, err := ast.ValueFromReader(bytes.NewReader(raw))
	if err != nil {
		return err.Error()
	}
	got, err := termOf(raw)
	if err != nil {
		return err.Error()
	}
	if got.Value.Compare(want) == 0 {
		return ""
	}
	return fmt.Sprintf("%s: -want +got:\n%s", raw, cmp.Diff(want.String(), got.String()))
}

func TestTermOfRefusesWhatIsNotJSON(t *testing.T) {
	for _, raw := range []string{
		``, `{`, `}`, `[`, `[1`, `[1 2]`, `[1,`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1 "b":2}`, `{a:1}`, `{,}`, `"open`, `"open\`, `"\x"`, `nul`, `tru`, `fals`, `x`, `1 2`, `[]]`,
	} {
		if term, err := termOf([]byte(raw)); err == nil {
			t.Errorf("%s is read as %v", raw, term)
		}
	}
}
