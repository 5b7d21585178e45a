package record

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
)

// reader is a set that reads all of the request.
func reader(t testing.TB) *policies.Set {
	t.Helper()
	s, err := source.Compile([]policies.File{{Name: "reads.rego", Data: []byte("package eviction.reads\n\ndeny contains {\"reason\": \"held\", \"detail\": {}} if input.request.annotations.held == \"yes\"\n\nwarn contains {\"reason\": g, \"detail\": {}} if {\n\tsome g in input.request.user.groups\n\tg == \"nobody\"\n}\n\nwarn contains {\"reason\": \"root\", \"detail\": {}} if input.request.user.username == \"root\"\n\nwarn contains {\"reason\": k, \"detail\": {}} if {\n\tsome k, v in input.request.annotations\n\tv == \"warn\"\n}\n")}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func recordOf(t testing.TB, s *policies.Set, request policies.Request) Record {
	t.Helper()
	request.UID, request.Namespace, request.Name = "review-1", "shop", "web-0"
	in := &policies.Input{Now: metav1.NewTime(noon), Request: request}
	reading := s.Read(in)
	r, err := New(in, reading, reading.Evaluate(t.Context(), policies.Options{}), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWhatIsTooLongIsCutAndNamed(t *testing.T) {
	s := reader(t)
	several := map[string]string{}
	for i := range 400 {
		several[fmt.Sprintf("key-%03d", i)] = "some longer value"
	}
	for name, c := range map[string]struct {
		request policies.Request
		erased  []string
	}{
		"nothing": {request: policies.Request{User: policies.User{Username: strings.Repeat("u", maxUser), Groups: slices.Repeat([]string{strings.Repeat("g", maxGroup)}, maxGroups)}, Annotations: map[string]string{"a": strings.Repeat("v", maxAnnotation)}}},
		"the user's name": {
			policies.Request{User: policies.User{Username: strings.Repeat("u", maxUser+1)}},
			[]string{"/request/user/username", "/requested_by", "/input/request/user/username"},
		},
		"a group": {
			policies.Request{User: policies.User{Username: "ana", Groups: []string{strings.Repeat("é", maxGroup)}}},
			[]string{"/request/user/groups", "/input/request/user/groups"},
		},
		"many groups": {
			policies.Request{User: policies.User{Username: "ana", Groups: slices.Repeat([]string{"g"}, maxGroups+1)}},
			[]string{"/request/user/groups", "/input/request/user/groups"},
		},
		"the value of an annotation": {
			policies.Request{Annotations: map[string]string{"a/b~c": strings.Repeat("v", maxAnnotation+1), "short": "v"}},
			[]string{"/request/annotations/a~1b~0c", "/input/request/annotations/a~1b~0c"},
		},
		"many annotations": {policies.Request{Annotations: several}, []string{"/request/annotations", "/input/request/annotations"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := recordOf(t, s, c.request)
			if diff := cmp.Diff(c.erased, r.Erased); diff != "" {
				t.Errorf("erased: -want +got:\n%s", diff)
			}
			in, err := policies.ParseInput(r.Input)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(r.Request.User, in.Request.User, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("the user beside the input and in it:\n%s", diff)
			}
			if diff := cmp.Diff(r.Request.Annotations, in.Request.Annotations, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("the annotations beside the input and in it:\n%s", diff)
			}
		})
	}
}

// TestARecordIsBounded: whatever a client sends, and policies quote, the record has a bounded size, is valid, and its
// texts are those that were sent, or their beginnings.
func TestARecordIsBounded(t *testing.T) {
	s := reader(t)
	rapid.Check(t, func(rt *rapid.T) {
		text := func(most int) *rapid.Generator[string] {
			return rapid.Custom(func(rt *rapid.T) string {
				part := rapid.SampledFrom([]string{"x", "é", "\xff", "\n", "~/", "\"\\", "日本"}).Draw(rt, "part")
				return strings.Repeat(part, rapid.IntRange(0, most).Draw(rt, "times")) + rapid.StringN(0, 8, 16).Draw(rt, "end")
			})
		}
		request := policies.Request{
			User:        policies.User{Username: text(4000).Draw(rt, "user"), Groups: rapid.SliceOfN(text(600), 0, 100).Draw(rt, "groups")},
			Annotations: rapid.MapOfN(text(500), text(3000), 0, 30).Draw(rt, "annotations"),
		}
		if rapid.Bool().Draw(rt, "override") {
			request.Annotations[policies.OverrideAnnotation] = text(3000).Draw(rt, "reason")
		}
		r := recordOf(t, s, request)
		many := rapid.IntRange(0, 300).Draw(rt, "violations")
		long := text(5000).Draw(rt, "quoted")
		d := *r.Result
		for range many {
			d.Violations = append(d.Violations, policies.Violation{Policy: "p", Effect: policies.Deny, Reason: long, Detail: map[string]any{"quoted": []any{long}}})
			d.Warnings = append(d.Warnings, long)
			d.Causes = append(d.Causes, policies.Cause{Message: long})
			d.Failures = append(d.Failures, policies.Failure{Error: long})
		}
		r.Result = &d
		if err := r.bound(); err != nil {
			rt.Fatal(err)
		}
		line, err := r.AppendJSON(nil)
		if err != nil {
			rt.Fatal(err)
		}
		// A byte of text is six of JSON at most.
		if most := 6*(2*(maxUser+maxGroups*maxGroup+2*maxAnnotations)+5*maxFindings*maxFinding+2*maxResult) + 64<<10; len(line) > most {
			rt.Fatalf("a record of %d bytes, at most %d", len(line), most)
		}
		var back Record
		if err := json.Unmarshal(line, &back); err != nil {
			rt.Fatal(err)
		}
		for key, value := range r.Request.Annotations {
			sent := request.Annotations[key]
			if kept, cut := strings.CutSuffix(value, "…"); value != sent && (!cut || !strings.HasPrefix(strings.ToValidUTF8(sent, ""), strings.ToValidUTF8(kept, ""))) {
				rt.Fatalf("annotation %q has %q", key, value)
			}
		}
		for _, v := range d.Violations[len(d.Violations)-many:] { // the answer is made of it
			if v.Reason != long || v.Detail == nil {
				rt.Fatal("the decision itself was changed")
			}
		}
	})
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		text string
		n    int
		want string
	}{{"abc", 3, "abc"}, {"abcdef", 5, "ab…"}, {"aéé", 4, "a…"}, {"ééé", 5, "é…"}} {
		if got := cut(c.text, c.n); got != c.want || len(got) > c.n || !utf8.ValidString(got) {
			t.Errorf("cut(%q, %d) = %q, want %q", c.text, c.n, got, c.want)
		}
	}
}

// TestALargeInputIsLeftOut: a record that no reader takes would be of no use.
func TestALargeInputIsLeftOut(t *testing.T) {
	r := Record{Input: json.RawMessage(`"` + strings.Repeat("x", maxInput) + `"`)}
	r.boundInput()
	if string(r.Input) != "null" || !slices.Equal(r.Erased, []string{"/input"}) {
		t.Errorf("%d bytes, erased %q", len(r.Input), r.Erased)
	}
}
