package policies

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const caseHead = "cases:\n- name: c\n  samples: [a.yaml]\n  evict: shop/web-0\n  now: 2026-11-23T12:00:00Z\n"

func TestLoadSuiteChecksItsCases(t *testing.T) {
	for name, tt := range map[string]struct{ yaml, want string }{
		"no cases":                {"cases: []\n", "no cases"},
		"an unknown field":        {"case: []\n", `error unmarshaling JSON: while decoding JSON: json: unknown field "case"`},
		"no name":                 {strings.Replace(caseHead, "name: c", "user: c", 1), `cases[0] "": name is missing`},
		"no samples":              {strings.Replace(caseHead, "[a.yaml]", "[]", 1), `cases[0] "c": samples is missing: name the files with the cluster's objects`},
		"a pod without namespace": {strings.Replace(caseHead, "shop/", "", 1), `cases[0] "c": evict is "web-0"; expected namespace/name of a pod`},
		"no time":                 {strings.Replace(caseHead, "now: 2026-11-23T12:00:00Z", "user: c", 1), `cases[0] "c": now is missing: a decision must not depend on the day of the test`},
		"no outcome":              {caseHead, `cases[0] "c": expect.outcome is ""; expected one of admitted, delayed, denied, undecided`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, map[string]string{suiteFile: tt.yaml})
			_, err := LoadSuite(dir)
			if want := filepath.Join(dir, suiteFile) + ": " + tt.want; err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
	if _, err := LoadSuite(t.TempDir()); err == nil || !strings.HasPrefix(err.Error(), "read suite: ") {
		t.Errorf("no suite: %v", err)
	}
}

func TestSuiteRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "held")
	write(t, dir, map[string]string{
		"held.rego": string(policy("held", "deny contains $\"held for {input.parameters.who}\" if input.parameters.who\n\nwarn contains \"mind\"").Data),
		suiteFile: caseHead + `  parameters: {who: me}
  expect: {outcome: denied, code: 403, message: held for me, warnings: [mind], violations: 2}
- name: another enforcement
  samples: [a.yaml]
  evict: shop/web-0
  now: 2026-11-23T12:00:00Z
  parameters: {who: me}
  enforcement: Audit
  expect: {outcome: admitted, code: 200}
- name: everything is otherwise
  samples: [a.yaml]
  evict: shop/web-0
  now: 2026-11-23T12:00:00Z
  expect: {outcome: delayed, code: 429, message: held, warnings: [nothing], violations: 3}
- name: no such pod
  samples: [a.yaml]
  evict: shop/gone
  now: 2026-11-23T12:00:00Z
  expect: {outcome: denied}
`})
	suite, err := LoadSuite(dir)
	if err != nil {
		t.Fatal(err)
	}
	gather := func(samples []string, c Case, needs *Needs) (*Input, error) {
		if diff := cmp.Diff([]string{filepath.Join(dir, "a.yaml")}, samples); diff != "" {
			t.Errorf("samples -want +got:\n%s", diff)
		}
		if !needs.Reads("parameters", "who") || needs.Reads("pod") {
			t.Errorf("needs are %q", needs.Refs())
		}
		if c.Evict == "shop/gone" {
			return nil, errors.New("the samples have no pod shop/gone")
		}
		return inputFor(), nil
	}
	got := map[string][]string{}
	for _, r := range suite.Run(t.Context(), gather) {
		if r.Suite != "held" || r.Passed() != (len(r.Failures) == 0) {
			t.Errorf("result %+v", r)
		}
		got[r.Case] = r.Failures
	}
	want := map[string][]string{
		"c": nil, "another enforcement": nil, "no such pod": {"the samples have no pod shop/gone"},
		"everything is otherwise": {
			`outcome is admitted, expected delayed; message: ""; failures: []`, "code is 200, expected 429", `message "" does not contain "held"`,
			`no warning contains "nothing"; there are ["mind (policy held)"]`,
			"1 violations, expected 3: [{held warn enforce mind map[] <nil>}]",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestASuiteNamesThePolicyThatIsNotThere(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{suiteFile: "policy: other.rego\n" + caseHead + "  expect: {outcome: denied}\n"})
	suite, err := LoadSuite(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := suite.Run(t.Context(), nil)[0]
	if r.Passed() || !strings.HasPrefix(r.Failures[0], "read the policy under test: open "+filepath.Join(dir, "other.rego")) {
		t.Errorf("failures %q", r.Failures)
	}
}
