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
