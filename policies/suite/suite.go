package suite

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"sigs.k8s.io/yaml"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/internal/rego"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/policies/v1alpha1"
)

// Suite is a table of cases for one policy: evictions in a sample of a cluster, and what must come of
// them. It is run through the whole decision path, unlike a Rego test, which asks single rules.
type Suite struct {
	// Dir is where suite.yaml stands; paths in it are relative to it.
	Dir string `json:"-"`
	// Policy is the file of the policy under test, <folder>.rego by default. It may be the YAML of an
	// EvictionPolicy: then parameters, enforcement and match are those that stand there.
	Policy string `json:"policy,omitempty"`
	Cases  []Case `json:"cases"`

	// helpers are modules below lib that the policy may use.
	helpers []policies.File
	// tracer sees the evaluation; nil for none.
	tracer topdown.QueryTracer
	// patience is how long one case may take; suitePatience by default.
	patience time.Duration
}

// Case is one eviction of a suite.
type Case struct {
	Name string `json:"name"`
	// Samples are files with Kubernetes objects, as kubectl get -o yaml prints them.
	Samples []string `json:"samples"`
	// Evict is the pod, as namespace/name.
	Evict string `json:"evict"`
	// User and Groups are who evicts; "admin" by default.
	User   string   `json:"user,omitempty"`
	Groups []string `json:"groups,omitempty"`
	// Now is the time of the decision.
	Now metav1.Time `json:"now"`
	// Annotations and DeleteOptions are those of the Eviction.
	Annotations   map[string]string     `json:"annotations,omitempty"`
	DeleteOptions *metav1.DeleteOptions `json:"deleteOptions,omitempty"`
	// Parameters, Enforcement and Match are those of the binding under test.
	Parameters  map[string]any       `json:"parameters,omitempty"`
	Enforcement v1alpha1.Enforcement `json:"enforcement,omitempty"`
	Match       *v1alpha1.Match      `json:"match,omitempty"`
	MaxHold     *metav1.Duration     `json:"maxHold,omitempty"`
	// History is what has happened before; none by default.
	History *policies.History `json:"history,omitempty"`
	Expect  Expect            `json:"expect"`

	row int // in suite.yaml
}

// Expect is what must come of a case; what is not given is not looked at.
type Expect struct {
	Outcome policies.Outcome `json:"outcome,omitempty"`
	// Problem must be contained in what is wrong with the binding, which is refused before it decides
	// anything. It takes the place of Outcome.
	Problem string `json:"problem,omitempty"`
	Code    int32  `json:"code,omitempty"`
	// Message and each of Warnings must be contained in the decision's.
	Message  string   `json:"message,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
	// Violations is the number of violations, of every effect.
	Violations *int `json:"violations,omitempty"`
}

// CaseResult is what came of one case.
type CaseResult struct {
	Suite string `json:"suite"`
	Case  string `json:"case"`
	// Differences says in which ways the decision differs; empty when the case passed.
	Differences []Difference       `json:"differences"`
	Decision    *policies.Decision `json:"decision"`
	Duration    time.Duration      `json:"duration"`
}

// Passed reports whether the decision was as expected.
func (r CaseResult) Passed() bool { return len(r.Differences) == 0 }

// Difference is one way in which a result is not as expected.
type Difference struct {
	// Place is where it was found, as file:row:col; empty when that is the whole test.
	Place string `json:"place"`
	// What differs: a field of the decision, or an expression of a Rego test.
	What     string `json:"what"`
	Expected string `json:"expected"`
	Actual   string `json:"actual"`
}

// String is one line.
func (d Difference) String() string {
	return fmt.Sprintf("%s is %s, expected %s", d.What, d.Actual, d.Expected)
}

// GatherFunc makes the Input of an eviction from sample files, as of a time; needs says what will be read.
type GatherFunc func(samples []string, r policies.Request, at time.Time, needs *policies.Needs) (*policies.Input, error)

// Load reads suite.yaml in dir and checks that its cases are complete.
func Load(dir string) (*Suite, error) {
	data, err := os.ReadFile(filepath.Join(dir, source.SuiteFile))
	if err != nil {
		return nil, fmt.Errorf("read suite: %w", err)
	}
	return parse(dir, data)
}

// parse reads a suite.yaml that stands in dir.
func parse(dir string, data []byte) (*Suite, error) {
	file := filepath.Join(dir, source.SuiteFile)
	s := &Suite{Dir: dir}
	if err := yaml.UnmarshalStrict(data, s); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(s.Cases) == 0 {
		return nil, fmt.Errorf("%s: no cases", file)
	}
	rows := caseRows(data)
	for i := range s.Cases {
		c := &s.Cases[i]
		if i < len(rows) {
			c.row = rows[i]
		}
		if err := cmp.Or(c.validate(), s.validate(c)); err != nil {
			return nil, fmt.Errorf("%s: cases[%d] %q: %w", file, i, c.Name, err)
		}
	}
	return s, nil
}

// caseRows are the rows in which the cases of a suite.yaml begin.
func caseRows(data []byte) []int {
	var rows []int
	_, cases := rego.LookUp(rego.NewPlaces(string(data), 1).Root, "cases")
	if cases != nil {
		for _, c := range cases.Content {
			rows = append(rows, c.Line)
		}
	}
	return rows
}

// validate refuses a case that says what the EvictionPolicy under test says itself.
func (s *Suite) validate(c *Case) error {
	if !s.bound() || (c.Parameters == nil && c.Enforcement == "" && c.Match == nil && c.MaxHold == nil) {
		return nil
	}
	return fmt.Errorf("parameters, enforcement, match and maxHold stand in %s, which is tested as it is; leave them out", s.Policy)
}

// bound reports whether an EvictionPolicy is tested, and not a .rego file.
func (s *Suite) bound() bool { return s.Policy != "" && filepath.Ext(s.Policy) != ".rego" }

func (c *Case) validate() error {
	known := []policies.Outcome{policies.Admitted, policies.Delayed, policies.Denied, policies.Undecided}
	switch {
	case c.Name == "":
		return errors.New("name is missing")
	case len(c.Samples) == 0:
		return errors.New("samples is missing: name the files with the cluster's objects")
	case strings.Count(c.Evict, "/") != 1:
		return fmt.Errorf("evict is %q; expected namespace/name of a pod", c.Evict)
	case c.Now.IsZero():
		return errors.New("now is missing: a decision must not depend on the day of the test")
	case c.Expect.Problem == "" && !slices.Contains(known, c.Expect.Outcome):
		return fmt.Errorf("expect.outcome is %q; expected one of admitted, delayed, denied, undecided", c.Expect.Outcome)
	}
	return nil
}

// Run decides every case as the server would, and compares.
func (s *Suite) Run(ctx context.Context, gather GatherFunc) []CaseResult {
	results := make([]CaseResult, len(s.Cases))
	for i, c := range s.Cases {
		start := time.Now()
		results[i] = CaseResult{Suite: s.folder(), Case: c.Name}
		d, err := s.decide(ctx, c, gather)
		results[i].Decision, results[i].Differences = d, c.Expect.judge(d, err)
		results[i].Duration = time.Since(start)
	}
	return results
}

// folder is the name of the directory, of which Dir may be a path such as ".".
func (s *Suite) folder() string {
	if whole, err := filepath.Abs(s.Dir); err == nil {
		return filepath.Base(whole)
	}
	return filepath.Base(s.Dir)
}

func (s *Suite) decide(ctx context.Context, c Case, gather GatherFunc) (*policies.Decision, error) {
	set, err := s.compile(c)
	if err != nil {
		return nil, err
	}
	samples := make([]string, len(c.Samples))
	for i, name := range c.Samples {
		samples[i] = filepath.Join(s.Dir, name)
	}
	in, err := gather(samples, c.request(), c.Now.Time, set.Needs())
	if err != nil {
		return nil, err
	}
	in.History = c.History
	reading := set.Read(in)
	reading.Trace(s.tracer)
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(s.patience, suitePatience))
	defer cancel()
	return reading.Evaluate(ctx, policies.Options{}), nil
}

// request is the eviction that the case is about.
func (c *Case) request() policies.Request {
	namespace, name, _ := strings.Cut(c.Evict, "/")
	return policies.Request{
		UID: "suite", Namespace: namespace, Name: name,
		User:        policies.User{Username: cmp.Or(c.User, "admin"), Groups: c.Groups},
		Annotations: c.Annotations, DeleteOptions: c.DeleteOptions,
	}
}

// suitePatience is how long a case may take: its policies have the steps that the server gives them, and a busy
// machine must not fail a case.
const suitePatience = 10 * time.Second

// compile binds the policy under test with the case's parameters.
func (s *Suite) compile(c Case) (*policies.Set, error) {
	file := filepath.Join(s.Dir, cmp.Or(s.Policy, s.folder()+".rego"))
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the policy under test: %w", err)
	}
	if s.bound() {
		return s.compileBound(policies.File{Name: file, Data: data})
	}
	b, err := c.binding(file, string(data))
	if err != nil {
		return nil, err
	}
	module, problems := policies.Language().Parse(policies.File{Name: file, Data: data})
	if len(problems) > 0 {
		return nil, problems
	}
	b.Policy = rego.PolicyID(module)
	parts := policies.Parts{Modules: []*ast.Module{module}, Bindings: []policies.Binding{b}, Bare: func(policies.Metadata) bool { return false }}
	for _, helper := range s.helpers {
		parts.Parse(helper)
	}
	set, problems := policies.New(parts)
	if len(problems) > 0 {
		return nil, problems
	}
	return set, nil
}

// compileBound compiles the EvictionPolicies of a file as they are applied.
func (s *Suite) compileBound(f policies.File) (*policies.Set, error) {
	set, err := source.Compile(append([]policies.File{f}, s.helpers...))
	if err == nil && len(set.Policies()) == 0 {
		return nil, fmt.Errorf("%s holds no %s", f.Name, v1alpha1.Kind)
	}
	return set, err
}

// binding binds the module of a .rego file as the case says.
func (c *Case) binding(file, module string) (policies.Binding, error) {
	bound := v1alpha1.EvictionPolicy{Spec: v1alpha1.EvictionPolicySpec{
		Rego: module, Enforcement: c.Enforcement, Match: c.Match, MaxHold: c.MaxHold,
	}}
	bound.APIVersion, bound.Kind = v1alpha1.APIVersion, v1alpha1.Kind
	bound.Name = strings.TrimSuffix(filepath.Base(file), ".rego")
	if c.Parameters != nil {
		raw, err := json.Marshal(c.Parameters)
		if err != nil {
			return policies.Binding{}, err
		}
		bound.Spec.Parameters = &runtime.RawExtension{Raw: raw}
	}
	b, wrong := policies.NewBinding(file, &bound)
	if len(wrong) == 0 {
		return b, nil
	}
	var problems policies.Problems
	for _, err := range wrong {
		problems = append(problems, policies.Problem{File: file, Message: err.Error()})
	}
	return b, problems
}

// judge compares what came of the case: a decision, or the error of a binding that cannot be used.
func (e Expect) judge(d *policies.Decision, err error) []Difference {
	var problems policies.Problems
	switch {
	case e.Problem == "" && err != nil:
		return []Difference{{What: "the case", Expected: "a decision", Actual: "not decided: " + err.Error()}}
	case e.Problem == "":
		return e.compare(d)
	case err == nil:
		return []Difference{{What: "the binding", Expected: fmt.Sprintf("refused with a problem that contains %q", e.Problem), Actual: "accepted"}}
	case !errors.As(err, &problems) || !strings.Contains(err.Error(), e.Problem):
		return []Difference{{What: "the problem", Expected: fmt.Sprintf("one that contains %q", e.Problem), Actual: fmt.Sprintf("%q", err)}}
	}
	return nil
}

func (e Expect) compare(d *policies.Decision) []Difference {
	var found []Difference
	differ := func(what, expected, actual string) {
		found = append(found, Difference{What: what, Expected: expected, Actual: actual})
	}
	if d.Outcome != e.Outcome {
		differ("outcome", string(e.Outcome), outcomeText(d))
	}
	if e.Code != 0 && d.Code != e.Code {
		differ("code", fmt.Sprint(e.Code), fmt.Sprint(d.Code))
	}
	if !strings.Contains(d.Message, e.Message) {
		differ("message", fmt.Sprintf("one that contains %q", e.Message), fmt.Sprintf("%q", d.Message))
	}
	for _, want := range e.Warnings {
		if !slices.ContainsFunc(d.Warnings, func(got string) bool { return strings.Contains(got, want) }) {
			differ("warnings", fmt.Sprintf("one that contains %q", want), fmt.Sprintf("%q", d.Warnings))
		}
	}
	if e.Violations != nil && len(d.Violations) != *e.Violations {
		differ("number of violations", fmt.Sprint(*e.Violations), violationsText(d.Violations))
	}
	return found
}

// outcomeText is the outcome with what led to it.
func outcomeText(d *policies.Decision) string {
	text := string(d.Outcome)
	if d.Message != "" {
		text += ": " + d.Message
	}
	for _, f := range d.Failures {
		text += fmt.Sprintf("; policy %s failed: %s", f.Policy, f.Error)
	}
	return text
}

func violationsText(list []policies.Violation) string {
	text := fmt.Sprint(len(list))
	for _, v := range list {
		text += fmt.Sprintf("; %s: %s", v.Effect, v.Text())
	}
	return text
}
