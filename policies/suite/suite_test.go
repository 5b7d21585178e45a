package suite

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
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
			write(t, dir, map[string]string{source.SuiteFile: tt.yaml})
			_, err := Load(dir)
			if want := filepath.Join(dir, source.SuiteFile) + ": " + tt.want; err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
	if _, err := Load(t.TempDir()); err == nil || !strings.HasPrefix(err.Error(), "read suite: ") {
		t.Errorf("no suite: %v", err)
	}
}

func TestSuiteRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "held")
	write(t, dir, map[string]string{
		"held.rego": string(policy("held", "deny contains $\"held for {input.parameters.who}\" if input.parameters.who\n\nwarn contains \"mind\"").Data),
		source.SuiteFile: caseHead + `  parameters: {who: me}
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
	suite, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	gather := func(samples []string, r policies.Request, _ time.Time, needs *policies.Needs) (*policies.Input, error) {
		if diff := cmp.Diff([]string{filepath.Join(dir, "a.yaml")}, samples); diff != "" {
			t.Errorf("samples -want +got:\n%s", diff)
		}
		if !needs.Reads("parameters", "who") || needs.Reads("pod") {
			t.Errorf("needs are %q", needs.Refs())
		}
		if r.Name == "gone" {
			return nil, errors.New("the samples have no pod shop/gone")
		}
		return inputFor(), nil
	}
	got := map[string][]string{}
	for _, r := range suite.Run(t.Context(), gather) {
		if r.Suite != "held" || r.Passed() != (len(r.Differences) == 0) {
			t.Errorf("result %+v", r)
		}
		got[r.Case] = nil
		for _, d := range r.Differences {
			got[r.Case] = append(got[r.Case], d.String())
		}
	}
	want := map[string][]string{
		"c": nil, "another enforcement": nil, "no such pod": {"the case is not decided: the samples have no pod shop/gone, expected a decision"},
		"everything is otherwise": {
			"outcome is admitted, expected delayed", "code is 200, expected 429", `message is "", expected one that contains "held"`,
			`warnings is ["mind (policy held)"], expected one that contains "nothing"`,
			"number of violations is 1; warn: mind (policy held), expected 3",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestASuiteNamesThePolicyThatIsNotThere(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{source.SuiteFile: "policy: other.rego\n" + caseHead + "  expect: {outcome: denied}\n"})
	suite, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := suite.Run(t.Context(), nil)[0]
	if r.Passed() || !strings.HasPrefix(r.Differences[0].Actual, "not decided: read the policy under test: open "+filepath.Join(dir, "other.rego")) {
		t.Errorf("differences %v", r.Differences)
	}
}

func TestASuiteOfAnEvictionPolicy(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "guard")
	write(t, dir, map[string]string{
		"guard.yaml": `apiVersion: evictgate.dev/v1alpha1
kind: EvictionPolicy
metadata: {name: guard}
spec:
  library: protected_namespaces
  enforcement: Warn
  parameters: {namespaces: [shop]}
`,
		"broken.yaml": "apiVersion: evictgate.dev/v1alpha1\nkind: EvictionPolicy\nmetadata: {name: broken}\nspec: {library: nope}\n",
		"empty.yaml":  "# nothing\n",
	})
	run := func(policy, expect string) []string {
		t.Helper()
		write(t, dir, map[string]string{source.SuiteFile: "policy: " + policy + "\n" + caseHead + "  expect: " + expect + "\n"})
		suite, err := Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		var found []string
		for _, r := range suite.Run(t.Context(), func([]string, policies.Request, time.Time, *policies.Needs) (*policies.Input, error) {
			return inputFor(), nil
		}) {
			for _, d := range r.Differences {
				found = append(found, d.String())
			}
		}
		return found
	}
	for name, tt := range map[string]struct {
		policy, expect string
		want           []string
	}{
		"its own parameters and enforcement": {"guard.yaml", "{outcome: admitted, violations: 1, warnings: [would deny]}", nil},
		"a problem that is expected":         {"broken.yaml", "{problem: the library has no policy}", nil},
		"another problem":                    {"guard.yaml", "{problem: x}", []string{`the binding is accepted, expected refused with a problem that contains "x"`}},
		"no policy in the file":              {"empty.yaml", "{outcome: admitted}", []string{"the case is not decided: " + filepath.Join(dir, "empty.yaml") + " holds no EvictionPolicy, expected a decision"}},
	} {
		if diff := cmp.Diff(tt.want, run(tt.policy, tt.expect)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
	write(t, dir, map[string]string{source.SuiteFile: "policy: guard.yaml\n" + caseHead + "  parameters: {x: 1}\n  expect: {outcome: admitted}\n"})
	if _, err := Load(dir); err == nil || !strings.HasSuffix(err.Error(), `cases[0] "c": parameters, enforcement, match and maxHold stand in guard.yaml, which is tested as it is; leave them out`) {
		t.Errorf("parameters in both: %v", err)
	}
}

// What is gathered is the eviction of the case, at its time; its history goes with it.
func TestACaseIsAnEviction(t *testing.T) {
	now, zero := metav1.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), int64(0)
	for name, tt := range map[string]struct {
		given Case
		want  policies.Request
	}{
		"all that it says": {
			Case{Evict: "shop/web-0", User: "jane", Groups: []string{"ops"}, Annotations: map[string]string{"a": "b"}, DeleteOptions: &metav1.DeleteOptions{GracePeriodSeconds: &zero}},
			policies.Request{UID: "suite", Namespace: "shop", Name: "web-0", User: policies.User{Username: "jane", Groups: []string{"ops"}}, Annotations: map[string]string{"a": "b"}, DeleteOptions: &metav1.DeleteOptions{GracePeriodSeconds: &zero}},
		},
		"without a user": {Case{Evict: "shop/web-0"}, policies.Request{UID: "suite", Namespace: "shop", Name: "web-0", User: policies.User{Username: "admin"}}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "held")
			write(t, dir, map[string]string{"held.rego": string(policy("held", `deny contains "x" if count(input.history.owner) == 1`).Data)})
			c := tt.given
			c.Now, c.History, c.Expect.Outcome = now, &policies.History{Owner: []metav1.Time{now}}, policies.Denied
			for _, r := range (&Suite{Dir: dir, Cases: []Case{c}}).Run(t.Context(), func(_ []string, r policies.Request, at time.Time, _ *policies.Needs) (*policies.Input, error) {
				if diff := cmp.Diff(tt.want, r); diff != "" || !at.Equal(now.Time) {
					t.Errorf("at %s, request -want +got:\n%s", at, diff)
				}
				return inputFor(), nil
			}) {
				if !r.Passed() {
					t.Error(r.Differences)
				}
			}
		})
	}
}
