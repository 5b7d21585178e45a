package suite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/tester"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/internal/limits"
	"github.com/evictgate/evictgate/policies/internal/rego"
	"github.com/evictgate/evictgate/policies/source"
)

// TestOptions say which tests are run, and how.
type TestOptions struct {
	// Run selects tests and cases by their name; nil selects all.
	Run *regexp.Regexp
	// Timeout bounds one Rego test, and one case; 10 s by default.
	Timeout time.Duration
	// Coverage asks which lines of the policies the tests and cases evaluate.
	Coverage bool
	// Gather makes the Input of a case.
	Gather GatherFunc
}

// TestReport is what came of the tests below some paths.
type TestReport struct {
	Directories []TestDirectory `json:"directories"`
	// Coverage is null when it was not asked for.
	Coverage *Coverage `json:"coverage"`
}

// TestDirectory is a directory of policies with the results of its tests: those of *_test.rego, then the
// cases of suite.yaml.
type TestDirectory struct {
	Directory string `json:"directory"`
	// Tests and Cases count those that were run; a directory may have none.
	Tests   int          `json:"tests"`
	Cases   int          `json:"cases"`
	Failed  int          `json:"failed"`
	Skipped int          `json:"skipped"`
	Results []TestResult `json:"results"`
	// Untested says that the directory has neither *_test.rego nor suite.yaml.
	Untested bool    `json:"untested"`
	Seconds  float64 `json:"seconds"`
}

// TestResult is what came of a Rego test, of one case of a test with several, or of a case of a suite.
type TestResult struct {
	Name string `json:"name"`
	// Case says that it is a case of a suite.
	Case bool `json:"case"`
	// File and Row are where it stands.
	File        string       `json:"file"`
	Row         int          `json:"row"`
	Passed      bool         `json:"passed"`
	Skipped     bool         `json:"skipped"`
	Differences []Difference `json:"differences"`
	// Output is what a Rego test printed.
	Output  string  `json:"output"`
	Seconds float64 `json:"seconds"`
	// Decision is that of a case that failed; null for others.
	Decision *policies.Decision `json:"decision"`
}

// Failed reports whether a test failed.
func (r TestReport) Failed() bool {
	return slices.ContainsFunc(r.Directories, func(d TestDirectory) bool { return d.Failed > 0 })
}

// Ran is how many tests and cases were run.
func (r TestReport) Ran() int {
	n := 0
	for _, d := range r.Directories {
		n += d.Tests + d.Cases
	}
	return n
}

// Test runs what tests the policies below the paths: every *_test.rego by OPA's tester, with the
// settings of the server, and every suite.yaml. All modules below the paths are one set, as for the
// server. The error says why nothing could be run; it is of type Problems for what does not compile.
func Test(ctx context.Context, o TestOptions, paths ...string) (*TestReport, error) {
	o.Timeout = cmp.Or(o.Timeout, suitePatience)
	b, err := newBench(paths)
	if err != nil {
		return nil, err
	}
	if o.Coverage {
		b.cover = cover.New()
	}
	results, err := b.rego(ctx, o)
	if err != nil {
		return nil, err
	}
	report := &TestReport{}
	for _, dir := range b.dirs {
		d := TestDirectory{Directory: dir, Results: results[dir], Untested: !b.tested[dir] && !b.suites[dir]}
		if b.suites[dir] {
			cases, err := b.suite(ctx, dir, o)
			if err != nil {
				return nil, err
			}
			d.Results = append(d.Results, cases...)
		}
		d.count()
		report.Directories = append(report.Directories, d)
	}
	if b.cover != nil {
		report.Coverage = coverageOf(b.cover, b.policies())
	}
	return report, ctx.Err()
}

func (d *TestDirectory) count() {
	for _, r := range d.Results {
		switch {
		case r.Case:
			d.Cases++
		default:
			d.Tests++
		}
		switch {
		case r.Skipped:
			d.Skipped++
		case !r.Passed:
			d.Failed++
		}
		d.Seconds += r.Seconds
	}
}

// bench is what is tested: all that stands below the paths.
type bench struct {
	// dirs are the directories with policies or tests, sorted; tested have *_test.rego, suites suite.yaml.
	dirs           []string
	tested, suites map[string]bool
	// modules are parsed as they stand, tests and the inline Rego of EvictionPolicies included.
	modules []*ast.Module
	helpers []policies.File
	cover   *cover.Cover
	// compiled holds the modules without the tester's own changes, to ask for values; nil until a test fails.
	compiled *ast.Compiler
}

func newBench(paths []string) (*bench, error) {
	b := &bench{tested: map[string]bool{}, suites: map[string]bool{}}
	var problems policies.Problems
	seen := map[string]bool{}
	for _, root := range paths {
		files, err := testFiles(root)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			if seen[file] {
				continue
			}
			seen[file] = true
			more, err := b.add(file)
			if err != nil {
				return nil, err
			}
			problems = append(problems, more...)
		}
	}
	slices.Sort(b.dirs)
	b.dirs = slices.Compact(b.dirs)
	if len(problems) > 0 {
		return nil, problems
	}
	return b, nil
}

// testFiles lists the files below root that a test may read, root itself when it is one. Samples and
// hidden directories are left out.
func testFiles(root string) ([]string, error) {
	info, err := os.Stat(root)
	if err != nil {
		return nil, fmt.Errorf("read tests: %w", err)
	}
	if !info.IsDir() {
		return []string{filepath.Clean(root)}, nil
	}
	files, err := below(root)
	if err != nil {
		return nil, fmt.Errorf("read tests: %w", err)
	}
	return files, nil
}

func (b *bench) add(file string) (policies.Problems, error) {
	dir := filepath.Dir(file)
	switch filepath.Ext(file) {
	case ".rego":
	case ".yaml", ".yml":
		if filepath.Base(file) == source.SuiteFile {
			b.dirs, b.suites[dir] = append(b.dirs, dir), true
			return nil, nil
		}
		return nil, b.addInline(file)
	default:
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read tests: %w", err)
	}
	module, problems := policies.Language().Read(policies.File{Name: file, Data: data})
	if len(problems) > 0 {
		return problems, nil
	}
	if module == nil {
		return nil, nil
	}
	b.dirs, b.modules = append(b.dirs, dir), append(b.modules, module)
	if !source.IsTest(file) {
		policies.TypeParameters(module)
	}
	switch {
	case source.IsTest(file):
		b.tested[dir] = true
	case rego.IsHelper(module):
		b.helpers = append(b.helpers, policies.File{Name: file, Data: data})
	}
	return nil, nil
}

// addInline adds the Rego that stands in EvictionPolicies. Other YAML is none of a test's business, and
// what is wrong with an EvictionPolicy is told by its suite, and by policy check.
func (b *bench) addInline(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read tests: %w", err)
	}
	s, _ := source.Parse([]policies.File{{Name: file, Data: data}})
	for _, module := range s.Modules {
		policies.TypeParameters(module)
		b.modules = append(b.modules, module)
		b.dirs = append(b.dirs, filepath.Dir(file))
	}
	return nil
}

// policies are the modules that are tested: neither tests nor what is in no package of ours.
func (b *bench) policies() map[string]*ast.Module {
	list := map[string]*ast.Module{}
	for _, m := range b.modules {
		if !source.IsTest(rego.FileOf(m)) && (rego.PolicyID(m) != "" || rego.IsHelper(m)) {
			list[rego.FileOf(m)] = m
		}
	}
	return list
}

// rego runs the Rego tests, and gives their results by directory, in the order in which they stand.
func (b *bench) rego(ctx context.Context, o TestOptions) (map[string][]TestResult, error) {
	results := map[string][]TestResult{}
	selected := b.selected(o.Run)
	if len(selected) == 0 && (o.Run != nil || len(b.modules) == 0) {
		return results, nil
	}
	done, err := b.run(ctx, o, selected, false)
	if err != nil {
		return nil, err
	}
	traced, err := b.again(ctx, o, done)
	if err != nil {
		return nil, err
	}
	for _, r := range done {
		dir := filepath.Dir(r.Location.File)
		results[dir] = append(results[dir], b.results(ctx, r, traced[testName(r)], o)...)
	}
	return results, nil
}

// run runs the tests with these refs; a traced run tells the values of what fails, but not the coverage.
func (b *bench) run(ctx context.Context, o TestOptions, refs []ast.Ref, traced bool) ([]*tester.Result, error) {
	modules := map[string]*ast.Module{}
	for _, m := range b.modules {
		modules[rego.FileOf(m)] = m.Copy()
	}
	runner := tester.NewRunner().
		SetCompiler(policies.Language().Compiler().WithEnablePrintStatements(true)).
		SetDefaultRegoVersion(ast.RegoV1).
		SetModules(modules).
		SetPrefixMatchers(refs...).
		RaiseBuiltinErrors(true).
		CapturePrintOutput(true).
		SetTimeout(o.Timeout)
	switch {
	case traced:
		runner.EnableTracing(true)
	case b.cover != nil:
		runner.SetCoverageQueryTracer(b.cover).SetCoverageRuns(nil)
	}
	answers, err := runner.RunTests(ctx, nil)
	if err != nil {
		return nil, policies.Language().Problems(err, "")
	}
	var list []*tester.Result
	for r := range answers {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b *tester.Result) int { return a.Location.Compare(b.Location) })
	return list, ctx.Err()
}

// again runs the tests that failed with a tracer.
func (b *bench) again(ctx context.Context, o TestOptions, done []*tester.Result) (map[string]*tester.Result, error) {
	var failed []ast.Ref
	for _, r := range done {
		if r.Fail {
			failed = append(failed, ast.MustParseRef(testName(r)))
		}
	}
	if len(failed) == 0 {
		return nil, nil
	}
	list, err := b.run(ctx, o, failed, true)
	byName := map[string]*tester.Result{}
	for _, r := range list {
		byName[testName(r)] = r
	}
	return byName, err
}

func testName(r *tester.Result) string { return r.Package + "." + r.Name }

// selected lists the tests whose name fits; without a pattern it is empty, which means all of them.
func (b *bench) selected(pattern *regexp.Regexp) []ast.Ref {
	if pattern == nil {
		return nil
	}
	var refs []ast.Ref
	seen := map[string]int{}
	for _, m := range b.modules {
		for _, rule := range m.Rules {
			name, ok := rule.Head.Ref()[0].Value.(ast.Var)
			plain := strings.TrimPrefix(string(name), "todo_")
			if !ok || !strings.HasPrefix(plain, tester.TestPrefix) || !pattern.MatchString(string(name)) {
				continue
			}
			// The tester gives a name that stands twice a number.
			of := m.Package.Path.String() + "." + string(name)
			numbered := string(name)
			if n := seen[of]; n > 0 {
				numbered = fmt.Sprintf("%s#%02d", name, n)
			}
			seen[of]++
			refs = append(refs, m.Package.Path.Append(ast.StringTerm(numbered)))
		}
	}
	return refs
}

// results reads one answer of the tester: a test with several cases has a result for each.
func (b *bench) results(ctx context.Context, r, traced *tester.Result, o TestOptions) []TestResult {
	whole := TestResult{
		Name: r.Name, File: r.Location.File, Row: r.Location.Row, Passed: r.Pass(), Skipped: r.Skip,
		Output: string(r.Output), Seconds: r.Duration.Seconds(),
	}
	if len(r.SubResults) == 0 || r.Error != nil {
		if !whole.Passed && !whole.Skipped {
			whole.Differences = []Difference{b.difference(ctx, r, traced, nil, o)}
		}
		return []TestResult{whole}
	}
	var list []TestResult
	for names, sub := range r.SubResults.Iter {
		if len(sub.SubResults) > 0 {
			continue
		}
		one := whole
		one.Name, one.Passed = fmt.Sprintf("%s[%s]", r.Name, strings.Join(names, "][")), !sub.Fail
		if sub.Fail {
			one.Differences = []Difference{b.difference(ctx, r, traced, names, o)}
		}
		list = append(list, one)
		whole.Seconds, whole.Output = 0, "" // told once
	}
	return list
}

// difference says at which expression a test stopped, with the values of its sides.
func (b *bench) difference(ctx context.Context, r, traced *tester.Result, names []string, o TestOptions) Difference {
	at := place(r.Location)
	switch {
	case errors.Is(r.Error, context.DeadlineExceeded), topdown.IsCancel(r.Error):
		return Difference{Place: at, What: "the test", Expected: "done in time", Actual: fmt.Sprintf("not done after %s", o.Timeout)}
	case r.Error != nil:
		return Difference{Place: at, What: "the test", Expected: "no error", Actual: limits.Describe(r.Error).Error()}
	}
	events, from := traceOf(traced, names)
	x := &explainer{trace: &ruleTrace{events: events}, from: from, values: inquiry{ctx: ctx, modules: b.modules}}
	for _, event := range events {
		rule, ok := event.Node.(*ast.Rule)
		if ok && event.Op == topdown.EnterOp && rule.Location.Equal(r.Location) {
			x.values.compiler = b.compiler()
			if stop := x.stop(rule); stop != nil {
				return x.values.difference(newStopped(stop, rule))
			}
		}
	}
	return Difference{Place: at, What: "the test", Expected: "true", Actual: "undefined or false"}
}

func (b *bench) compiler() *ast.Compiler {
	if b.compiled == nil {
		b.compiled = policies.Language().Compiler()
		modules := map[string]*ast.Module{}
		for _, m := range b.modules {
			modules[rego.FileOf(m)] = m
		}
		b.compiled.Compile(modules)
	}
	return b.compiled
}

// traceOf gives the events of a test, or of the case with these names, and from which of them on the
// failures are the case's own.
func traceOf(r *tester.Result, names []string) (events []*topdown.Event, from int) {
	if r == nil {
		return nil, 0
	}
	events = r.Trace
	if len(names) > 0 {
		subs := r.SubResults
		for _, name := range names {
			sub := subs[name]
			if sub == nil {
				return nil, 0
			}
			events, subs = sub.Trace, sub.SubResults
		}
		for i, e := range events {
			if e.Op == topdown.TestCaseOp {
				from = i
			}
		}
	}
	return events, from
}

// suite runs the cases of a suite whose names fit.
func (b *bench) suite(ctx context.Context, dir string, o TestOptions) ([]TestResult, error) {
	s, err := Load(dir)
	if err != nil {
		return nil, err
	}
	if o.Run != nil {
		s.Cases = slices.DeleteFunc(s.Cases, func(c Case) bool { return !o.Run.MatchString(c.Name) })
	}
	s.helpers, s.patience = b.helpers, o.Timeout
	if b.cover != nil {
		s.tracer = b.cover
	}
	var list []TestResult
	for i, r := range s.Run(ctx, o.Gather) {
		result := TestResult{
			Name: r.Case, Case: true, File: filepath.Join(dir, source.SuiteFile), Row: s.Cases[i].row,
			Passed: r.Passed(), Differences: r.Differences, Seconds: r.Duration.Seconds(),
		}
		if !result.Passed {
			result.Decision = r.Decision
		}
		list = append(list, result)
	}
	return list, nil
}
