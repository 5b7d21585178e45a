package check

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
	"github.com/open-policy-agent/opa/v1/topdown"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/internal/opa"
	"github.com/evictgate/evictgate/policies/internal/policytest"
	"github.com/evictgate/evictgate/policies/internal/rego"
	"github.com/evictgate/evictgate/policies/source"
)

// warningFiles are the files of testdata/warnings that begin with the prefix.
func warningFiles(t *testing.T, prefix string) []policies.File {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("testdata", "warnings", prefix+"*"))
	must(t, err)
	var files []policies.File
	for _, name := range names {
		if filepath.Ext(name) != ".want" {
			data, err := os.ReadFile(name)
			must(t, err)
			files = append(files, policies.File{Name: filepath.Base(name), Data: data})
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
			_, err := source.Compile([]policies.File{file})
			must(t, err)
			var lines []string
			for _, p := range Lint([]policies.File{file}) {
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
	for _, p := range Lint(policies.LibraryFiles()) {
		if !slices.ContainsFunc(acceptedInLibrary, func(a struct{ file, about, why string }) bool {
			return p.File == a.file && strings.HasPrefix(p.Message, a.about+" ")
		}) {
			t.Errorf("%v", p)
		}
	}
}

func TestLintLeavesErrorsToCompile(t *testing.T) {
	for _, file := range []policies.File{policy("x", "deny contains {"), policy("y", "deny contains input.bad"), {Name: "z.yaml", Data: []byte("kind: X\n")}} {
		if problems := Lint([]policies.File{file, policy("a", `deny contains "x"`)}); problems != nil {
			t.Errorf("%s: %v", file.Name, problems)
		}
	}
}

// bare is the policy with a message that is always there: the conditions of its rules alone.
func bare(t *testing.T, file policies.File) policies.File {
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
	return policies.File{Name: file.Name, Data: text}
}

// loose compiles without the strictness that would refuse what bare leaves unused.
func loose(t *testing.T, file policies.File) *ast.Compiler {
	t.Helper()
	module, err := ast.ParseModuleWithOpts(file.Name, string(file.Data), ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1})
	must(t, err)
	compiler := ast.NewCompiler().WithDefaultRegoVersion(ast.RegoV1)
	if compiler.Compile(map[string]*ast.Module{file.Name: module}); compiler.Failed() {
		t.Fatalf("%s: %v\n%s", file.Name, compiler.Errors, file.Data)
	}
	return compiler
}

// runningPod draws an input as a running pod of a cluster has it, with parts missing at random.
func runningPod(t *rapid.T) *policies.Input {
	in := policytest.Any[policies.Input]().Draw(t, "input")
	if in.Pod == nil {
		in.Pod = &corev1.Pod{}
	}
	in.Pod.Name, in.Pod.Spec.NodeName, in.Pod.Status.Phase, in.Pod.DeletionTimestamp = "pod", "node", corev1.PodRunning, nil
	in.Request.Evictor = rapid.SampledFrom([]string{"user", "karpenter"}).Draw(t, "evictor")
	if in.Owner != nil {
		in.Owner.Kind = rapid.SampledFrom([]string{"Deployment", "Job", "x"}).Draw(t, "kind")
	}
	if in.Disruption == nil {
		in.Disruption = &policies.Disruption{}
	}
	if rapid.Bool().Draw(t, "blocked") {
		in.Budgets = append(in.Budgets, policies.Budget{Name: "spent"})
	}
	if rapid.Bool().Draw(t, "labelled") {
		in.Pod.Labels = map[string]string{"app": "a", "team": "t"}
	}
	return in
}

// holds reports whether the policy x has a violation with a reason. One that fails has none.
func holds(t interface{ Fatal(...any) }, compiler *ast.Compiler, in *policies.Input) bool {
	raw, err := in.JSON()
	if err != nil {
		t.Fatal(err)
	}
	input, err := ast.ValueFromReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	held := false
	for _, effect := range rego.EffectNames {
		ref := rego.EffectRef("x", effect)
		if len(compiler.GetRulesExact(ref)) == 0 {
			continue
		}
		query, err := opa.Query(compiler, ast.NewBody(ast.Equality.Expr(ast.VarTerm("found"), ast.NewTerm(ref))), nil)
		if err != nil {
			t.Fatal(err)
		}
		err = query.WithInput(ast.NewTerm(input)).WithTime(in.Now.Truncate(time.Second)).Iter(context.Background(), func(answer topdown.QueryResult) error {
			answer[ast.Var("found")].Value.(ast.Set).Foreach(func(member *ast.Term) { held = held || hasReason(member.Value) })
			return nil
		})
		if err != nil {
			return false
		}
	}
	return held
}

func hasReason(v ast.Value) bool {
	if object, ok := v.(ast.Object); ok {
		reason := object.Get(ast.StringTerm("reason"))
		if reason == nil {
			return false
		}
		v = reason.Value
	}
	text, ok := v.(ast.String)
	return ok && rego.OneLine(string(text)) != ""
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
				if !holds(r, conditions, in) {
					return
				}
				met++
				if !holds(r, set, in) {
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
				if in := inputs.Example(seed); holds(t, conditions, in) && !holds(t, set, in) {
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
	sources := append(policies.LibraryFiles(), warningFiles(t, "")...)
	rapid.Check(t, func(r *rapid.T) {
		file := sources[rapid.IntRange(0, len(sources)-1).Draw(r, "file")]
		from := rapid.IntRange(0, len(file.Data)).Draw(r, "from")
		to := min(len(file.Data), from+rapid.IntRange(0, 40).Draw(r, "length"))
		file.Data = append(append([]byte{}, file.Data[:from]...), file.Data[to:]...)
		_, problems := Files([]policies.File{file})
		for _, p := range problems {
			if rows := strings.Count(string(file.Data), "\n") + 1; p.Message == "" || p.Row < 0 || p.Row > rows || p.Col < 0 {
				r.Fatalf("%+v of %d lines\n%s", p, rows, file.Data)
			}
		}
	})
}

// A policy that is tried is looked at as part of the set, with the helpers that others offer.
func TestATrialHasTheDoubtsOfACheck(t *testing.T) {
	helper := policies.File{Name: "names.rego", Data: []byte("package lib.names\n\nlong := 63\n")}
	doubtful := policies.File{Name: "x.rego", Data: []byte("package eviction.x\n\nimport data.lib.names\n\ndeny contains \"x\" if count(input.pod.metadata.name) > names.long\n")}
	s := source.New()
	s.Add("dir", false)
	s.Put("dir", []source.Unit{{Name: "names", Files: []policies.File{helper}}}, nil)
	must(t, s.Begin(t.Context()))
	trial, err := s.Trial("dir", source.Unit{Name: "x", Files: []policies.File{doubtful}})
	must(t, err)
	found := Try(trial)
	_, want := Files([]policies.File{helper, doubtful})
	if len(found.Problems) > 0 || len(want) == 0 || found.Doubts.Error() != want.Error() {
		t.Errorf("problems %v; doubts\n%v\nwant\n%v", found.Problems, found.Doubts, want)
	}
}
