package report

import (
	"bytes"
	"encoding/xml"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evictgate/evictgate/policies/output"
	"github.com/evictgate/evictgate/policies/suite"
)

// TestJUnitCanBeReadBack prints names and texts that XML cannot hold as they are.
func TestJUnitCanBeReadBack(t *testing.T) {
	report := &suite.TestReport{Directories: []suite.TestDirectory{{
		Directory: "a/b<c>", Tests: 2, Cases: 1, Failed: 1, Skipped: 1, Seconds: 1.5,
		Results: []suite.TestResult{
			{Name: `test_x["a\x00" & <b>]`, File: "a/x_test.rego", Row: 3, Output: "printed \x1b[1m]]>\n", Differences: []suite.Difference{
				{Place: "a/x_test.rego:4:2", What: `x == "<"`, Expected: `"<"`, Actual: "\x01&"},
			}},
			{Name: "todo_test_y", Skipped: true},
			{Name: "a case", Case: true, Passed: true},
		},
	}, {Directory: "none", Untested: true}}}
	var out bytes.Buffer
	if err := (printer{output.Printer{Out: &out}}).junit(report); err != nil {
		t.Fatal(err)
	}
	var got junitSuites
	if err := xml.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	failure := &junitFailure{
		Message: "x == \"<\" is \uFFFD&, expected \"<\"", Type: "difference",
		Text: "a/x_test.rego:4:2: x == \"<\"\n  expected  \"<\"\n  actual    \uFFFD&",
	}
	want := junitSuites{
		XMLName: xml.Name{Local: "testsuites"}, Name: "evictgate policy test", Tests: 3, Failures: 1, Skipped: 1, Time: "1.500",
		Suites: []junitSuite{{
			Name: "a/b<c>", Tests: 3, Failures: 1, Skipped: 1, Time: "1.500",
			Cases: []junitCase{
				{Name: "test_x[\"a\\x00\" & <b>]", ClassName: "a.b<c>", File: "a/x_test.rego", Line: 3, Time: "0.000", Failure: failure, Output: "printed \uFFFD[1m]]>\n"},
				{Name: "todo_test_y", ClassName: "a.b<c>", Time: "0.000", Skipped: &struct{}{}},
				{Name: "a case", ClassName: "a.b<c>", Time: "0.000"},
			},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
