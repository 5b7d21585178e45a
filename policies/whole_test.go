package policies

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestTheWholeInputIsThatOfAPolicyThatReadsAllOfIt(t *testing.T) {
	s, err := compileFiles([]File{{Name: "x.rego", Data: []byte("package eviction.x\n\nwarn contains {\"reason\": json.marshal(input), \"detail\": {}}\n")}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"input"}, s.Refs()); diff != "" {
		t.Fatal(diff)
	}
	rapid.Check(t, func(t *rapid.T) {
		in := anyInput().Draw(t, "input")
		parameters := in.Parameters
		got, err := in.JSON()
		if err != nil {
			t.Fatalf("whole: %v", err)
		}
		want, err := s.Read(in).JSON()
		if err != nil {
			t.Fatalf("read: %v", err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Fatalf("-read +whole:\n%s", diff)
		}
		if diff := cmp.Diff(parameters, in.Parameters); diff != "" {
			t.Fatalf("the Input was changed:\n%s", diff)
		}
		if !json.Valid(got) {
			t.Fatalf("no JSON: %s", got)
		}
	})
}
