package rego

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSeverity: the words are part of the JSON.
func TestSeverity(t *testing.T) {
	want := Problems{
		{File: "x.rego", Row: 3, Col: 1, Message: "a"},
		{Severity: SeverityWarning, File: "x.yaml", Row: 9, Col: 25, Path: "spec.rego", InnerRow: 3, InnerCol: 21, Message: "b"},
	}
	raw, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	const text = `[{"severity":"error","file":"x.rego","row":3,"col":1,"message":"a"},` +
		`{"severity":"warning","file":"x.yaml","row":9,"col":25,"path":"spec.rego","inner_row":3,"inner_col":21,"message":"b"}]`
	if string(raw) != text {
		t.Errorf("got  %s\nwant %s", raw, text)
	}
	var back Problems
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, back); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, tt := range []struct{ got, want string }{
		{want[0].AtField(), "a"},
		{want[1].AtField(), "spec.rego:3:21: warning: b"},
		{Problem{Path: "spec.maxHold", Message: "c"}.AtField(), "spec.maxHold: c"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
	if err := json.Unmarshal([]byte(`[{"severity":"bad"}]`), &back); err == nil {
		t.Error("an unknown severity is taken")
	}
}

func TestAProblemIsToldAtItsPlace(t *testing.T) {
	const object = "EvictionPolicy/x"
	for name, tt := range map[string]struct {
		problem              Problem
		text, field, atField string
	}{
		"a file":                   {Problem{File: "x.rego", Message: "a"}, "x.rego: a", "", "a"},
		"a line":                   {Problem{File: "x.rego", Row: 3, Message: "a"}, "x.rego:3: a", "", "a"},
		"a place in Rego":          {Problem{File: "x.rego", Row: 3, Col: 1, Message: "a"}, "x.rego:3:1: a", "", "a"},
		"a field in a file":        {Problem{File: "x.yaml", Row: 6, Col: 3, Path: "spec.maxHold", Message: "spec.maxHold is -1s"}, "x.yaml:6:3: spec.maxHold is -1s", "is -1s", "spec.maxHold: is -1s"},
		"Rego in a file":           {Problem{File: "x.yaml", Row: 9, Col: 5, Path: "spec.rego", InnerRow: 3, InnerCol: 1, Message: "a"}, "x.yaml:9:5: a", "3:1: a", "spec.rego:3:1: a"},
		"quoted Rego in a file":    {Problem{File: "x.yaml", Row: 6, Col: 3, Path: "spec.rego", InnerRow: 3, InnerCol: 1, Message: "spec.rego:3:1: a"}, "x.yaml:6:3: spec.rego:3:1: a", "3:1: a", "spec.rego:3:1: a"},
		"an object":                {Problem{File: object, Message: "a"}, "EvictionPolicy/x: a", "", "a"},
		"a field of an object":     {Problem{File: object, Path: "spec.maxHold", Message: "spec.maxHold is -1s"}, "EvictionPolicy/x spec.maxHold: is -1s", "is -1s", "spec.maxHold: is -1s"},
		"a parameter":              {Problem{File: object, Path: "spec.parameters.min", Message: "spec.parameters: expected a map"}, "EvictionPolicy/x spec.parameters.min: spec.parameters: expected a map", "spec.parameters: expected a map", "spec.parameters.min: spec.parameters: expected a map"},
		"Rego of an object":        {Problem{File: object, Path: "spec.rego", InnerRow: 3, InnerCol: 15, Message: "a"}, "EvictionPolicy/x spec.rego:3:15: a", "3:15: a", "spec.rego:3:15: a"},
		"a line of its Rego":       {Problem{File: object, Path: "spec.rego", InnerRow: 3, Message: "a"}, "EvictionPolicy/x spec.rego:3: a", "3: a", "spec.rego:3: a"},
		"a warning about its line": {Problem{Severity: SeverityWarning, File: object, Path: "spec.rego", InnerRow: 3, InnerCol: 15, Message: "a"}, "EvictionPolicy/x spec.rego:3:15: warning: a", "3:15: warning: a", "spec.rego:3:15: warning: a"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tt.problem.String(); got != tt.text {
				t.Errorf("text %q, want %q", got, tt.text)
			}
			if got := tt.problem.AtField(); got != tt.atField {
				t.Errorf("at the field %q, want %q", got, tt.atField)
			}
			if got := tt.problem.Detail(); tt.problem.Path != "" && got != tt.field {
				t.Errorf("beside the field %q, want %q", got, tt.field)
			}
		})
	}
}
