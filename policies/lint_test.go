package policies

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"
)

// warningFiles are the files of testdata/warnings that begin with the prefix.
func warningFiles(t *testing.T, prefix string) []File {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("testdata", "warnings", prefix+"*"))
	must(t, err)
	var files []File
	for _, name := range names {
		if filepath.Ext(name) != ".want" {
			data, err := os.ReadFile(name)
			must(t, err)
			files = append(files, File{Name: filepath.Base(name), Data: data})
		}
	}
	if len(files) == 0 {
		t.Fatalf("no file %s*", prefix)
	}
	return files
}

// TestLint holds the warnings of each file of testdata/warnings, on its own, to its .want.
func TestLint(t *testing.T) {
	for _, file := range warningFiles(t, "") {
		t.Run(file.Name, func(t *testing.T) {
			compiled(t, file)
			var lines []string
			for _, p := range Lint([]File{file}) {
				lines = append(lines, p.String())
			}
			golden(t, filepath.Join("testdata", "warnings", file.Name+".want"), lines)
			if strings.HasPrefix(file.Name, "safe_") && len(lines) > 0 {
				t.Errorf("a safe policy is warned of: %v", lines)
			}
		})
	}
}

// acceptedInLibrary are warnings of the library that are known and wanted: what is undefined there is a
// condition on purpose.
var acceptedInLibrary = []struct{ file, about, why string }{
	{"library/incident_freeze.rego", "input.parameters.reason", "invalid_parameters asks for it when it is needed"},
}

func TestLintOfTheLibraryIsSilent(t *testing.T) {
	for _, p := range Lint(LibraryFiles()) {
		if !slices.ContainsFunc(acceptedInLibrary, func(a struct{ file, about, why string }) bool {
			return p.File == a.file && strings.HasPrefix(p.Message, a.about+" ")
		}) {
			t.Errorf("%v", p)
		}
	}
}

func TestLintLeavesErrorsToCompile(t *testing.T) {
	for _, file := range []File{policy("x", "deny contains {"), policy("y", "deny contains input.bad"), {Name: "z.yaml", Data: []byte("kind: X\n")}} {
		if problems := Lint([]File{file, policy("a", `deny contains "x"`)}); problems != nil {
			t.Errorf("%s: %v", file.Name, problems)
		}
	}
}

// bare is the policy with a message that is always there: the conditions of its rules alone.
func bare(t *testing.T, file File) File {
	t.Helper()
	module, err := ast.ParseModuleWithOpts(file.Name, string(file.Data), ast.ParserOptions{RegoVersion: ast.RegoV1})
	must(t, err)
	f := &failOpen{module: module, left: 1000}
	var rules []*ast.Rule
	for _, rule := range module.Rules {
		isSet := rule.Head.RuleKind() == ast.MultiValue
		if isSet && rule.Head.Key.Value.Compare(ast.Var("violation")) != 0 {
			conditions, _ := f.split(rule.Body, shapesOf(module, nil))
			rule.Body = ast.NewBody(conditions...)
			rule.Head.Key = ast.StringTerm("held")
		}
		if len(rule.Head.Args) == 0 || !isSet {
			rules = append(rules, rule)
		}
	}
	module.Rules = rules
	text, err := format.AstWithOpts(module, format.Opts{RegoVersion: ast.RegoV1})
	must(t, err)
	return File{Name: file.Name, Data: text}
}

// loose compiles without the strictness that would refuse what bare leaves unused.
func loose(t *testing.T, file File) *Set {
	t.Helper()
	module, err := ast.ParseModuleWithOpts(file.Name, string(file.Data), ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1})
	must(t, err)
	compiler := ast.NewCompiler().WithDefaultRegoVersion(ast.RegoV1)
	if compiler.Compile(map[string]*ast.Module{file.Name: module}); compiler.Failed() {
		t.Fatalf("%s: %v\n%s", file.Name, compiler.Errors, file.Data)
	}
	set := &Set{compiler: compiler}
	set, problems := set.bind([]binding{{name: "x", policy: "x", file: file.Name}}, map[string]Metadata{"x": {ID: "x", Enforcement: Enforce}})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return set
}

// runningPod draws an input as a running pod of a cluster has it, with parts missing at random.
func runningPod(t *rapid.T) *Input {
	in := anyInput().Draw(t, "input")
	if in.Pod == nil {
		in.Pod = &corev1.Pod{}
	}
	in.Pod.Name, in.Pod.Spec.NodeName, in.Pod.Status.Phase, in.Pod.DeletionTimestamp = "pod", "node", corev1.PodRunning, nil
	in.Request.Evictor = rapid.SampledFrom([]string{"user", "karpenter"}).Draw(t, "evictor")
	if in.Owner != nil {
		in.Owner.Kind = rapid.SampledFrom([]string{"Deployment", "Job", "x"}).Draw(t, "kind")
	}
	if in.Disruption == nil {
		in.Disruption = &Disruption{}
	}
	if rapid.Bool().Draw(t, "blocked") {
		in.Budgets = append(in.Budgets, Budget{Name: "spent"})
	}
	if rapid.Bool().Draw(t, "labelled") {
		in.Pod.Labels = map[string]string{"app": "a", "team": "t"}
	}
	return in
}

func holds(set *Set, in *Input) bool {
	d := set.Evaluate(context.Background(), in, Options{})
	return len(d.Violations) > 0
}

// TestSafePoliciesNeverLoseAViolation: where the analysis finds nothing, the rule holds an eviction
// whenever its conditions do.
func TestSafePoliciesNeverLoseAViolation(t *testing.T) {
	for _, file := range warningFiles(t, "safe_") {
		t.Run(file.Name, func(t *testing.T) {
			set, conditions := loose(t, file), loose(t, bare(t, file))
			met := 0
			rapid.Check(t, func(r *rapid.T) {
				in := runningPod(r)
				if !holds(conditions, in) {
					return
				}
				met++
				if !holds(set, in) {
					raw, _ := json.Marshal(in)
					r.Fatalf("the conditions hold, but nothing is held: %s", raw)
				}
			})
			if met == 0 {
				t.Error("the conditions never held")
			}
		})
	}
}

// TestOpenPoliciesLoseAViolation: each warning is true of some input.
func TestOpenPoliciesLoseAViolation(t *testing.T) {
	for _, file := range warningFiles(t, "open_") {
		t.Run(file.Name, func(t *testing.T) {
			set, conditions := loose(t, file), loose(t, bare(t, file))
			inputs := rapid.Custom(runningPod)
			for seed := range 3000 {
				if in := inputs.Example(seed); holds(conditions, in) && !holds(set, in) {
					return
				}
			}
			t.Errorf("nothing was ever lost; the conditions are\n%s", bare(t, file).Data)
		})
	}
}

// TestBrokenSourcesAreTold cuts pieces out of good sources: whatever is left, it compiles or is told with
// a place that is there.
func TestBrokenSourcesAreTold(t *testing.T) {
	sources := append(LibraryFiles(), warningFiles(t, "")...)
	rapid.Check(t, func(r *rapid.T) {
		file := sources[rapid.IntRange(0, len(sources)-1).Draw(r, "file")]
		from := rapid.IntRange(0, len(file.Data)).Draw(r, "from")
		to := min(len(file.Data), from+rapid.IntRange(0, 40).Draw(r, "length"))
		file.Data = append(append([]byte{}, file.Data[:from]...), file.Data[to:]...)
		_, err := Compile([]File{file})
		problems := Lint([]File{file})
		if err != nil {
			problems = problemsOf(err, "")
		}
		for _, p := range problems {
			if rows := strings.Count(string(file.Data), "\n") + 1; p.Message == "" || p.Row < 0 || p.Row > rows || p.Col < 0 {
				r.Fatalf("%+v of %d lines\n%s", p, rows, file.Data)
			}
		}
	})
}

// TestSeverity: the words are part of the JSON.
func TestSeverity(t *testing.T) {
	want := Problems{
		{File: "x.rego", Row: 3, Col: 1, Message: "a"},
		{Severity: SeverityWarning, File: "x.yaml", Row: 9, Col: 25, Path: "spec.rego", InnerRow: 3, InnerCol: 21, Message: "b"},
	}
	raw, err := json.Marshal(want)
	must(t, err)
	const text = `[{"severity":"error","file":"x.rego","row":3,"col":1,"message":"a"},` +
		`{"severity":"warning","file":"x.yaml","row":9,"col":25,"path":"spec.rego","inner_row":3,"inner_col":21,"message":"b"}]`
	if string(raw) != text {
		t.Errorf("got  %s\nwant %s", raw, text)
	}
	var back Problems
	must(t, json.Unmarshal(raw, &back))
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
