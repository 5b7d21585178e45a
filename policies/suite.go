package policies

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/evictgate/evictgate/policies/v1alpha1"
)

// suiteFile is the name of a suite beside its policy.
const suiteFile = "suite.yaml"

// Suite is a table of cases for one policy: evictions in a sample of a cluster, and what must come of
// them. It is run through the whole decision path, unlike a Rego test, which asks single rules.
type Suite struct {
	// Dir is where suite.yaml stands; paths in it are relative to it.
	Dir string `json:"-"`
	// Policy is the file of the policy under test, <folder>.rego by default.
	Policy string `json:"policy,omitempty"`
	Cases  []Case `json:"cases"`
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
	History *History `json:"history,omitempty"`
	Expect  Expect   `json:"expect"`
}

// Expect is what must come of a case; what is not given is not looked at.
type Expect struct {
	Outcome Outcome `json:"outcome,omitempty"`
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
	// Failures says in which ways the decision differs; empty when the case passed.
	Failures []string      `json:"failures"`
	Decision *Decision     `json:"decision"`
	Duration time.Duration `json:"duration"`
}

// Passed reports whether the decision was as expected.
func (r CaseResult) Passed() bool { return len(r.Failures) == 0 }

// GatherFunc makes the Input of a case from sample files; needs says what will be read.
type GatherFunc func(samples []string, c Case, needs *Needs) (*Input, error)

// LoadSuite reads suite.yaml in dir and checks that its cases are complete.
func LoadSuite(dir string) (*Suite, error) {
	file := filepath.Join(dir, suiteFile)
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read suite: %w", err)
	}
	s := &Suite{Dir: dir}
	if err := yaml.UnmarshalStrict(data, s); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(s.Cases) == 0 {
		return nil, fmt.Errorf("%s: no cases", file)
	}
	for i := range s.Cases {
		if err := s.Cases[i].validate(); err != nil {
			return nil, fmt.Errorf("%s: cases[%d] %q: %w", file, i, s.Cases[i].Name, err)
		}
	}
	return s, nil
}

func (c *Case) validate() error {
	known := []Outcome{Admitted, Delayed, Denied, Undecided}
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
		results[i] = CaseResult{Suite: filepath.Base(s.Dir), Case: c.Name}
		d, err := s.decide(ctx, c, gather)
		results[i].Decision, results[i].Failures = d, c.Expect.judge(d, err)
		results[i].Duration = time.Since(start)
	}
	return results
}

func (s *Suite) decide(ctx context.Context, c Case, gather GatherFunc) (*Decision, error) {
	set, err := s.compile(c)
	if err != nil {
		return nil, err
	}
	samples := make([]string, len(c.Samples))
	for i, name := range c.Samples {
		samples[i] = filepath.Join(s.Dir, name)
	}
	in, err := gather(samples, c, set.Needs())
	if err != nil {
		return nil, err
	}
	return set.Evaluate(ctx, in, Options{PolicyTimeout: suitePatience}), nil
}

// suitePatience is the limit of one policy in a suite: a busy machine must not fail a case.
const suitePatience = 10 * time.Second

// compile binds the policy under test with the case's parameters.
func (s *Suite) compile(c Case) (*Set, error) {
	name := s.Policy
	if name == "" {
		name = filepath.Base(s.Dir) + ".rego"
	}
	file := filepath.Join(s.Dir, name)
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the policy under test: %w", err)
	}
	bound := v1alpha1.EvictionPolicy{Spec: v1alpha1.EvictionPolicySpec{
		Rego: string(data), Enforcement: c.Enforcement, Match: c.Match, MaxHold: c.MaxHold,
	}}
	if c.Parameters != nil {
		raw, err := json.Marshal(c.Parameters)
		if err != nil {
			return nil, err
		}
		bound.Spec.Parameters = &runtime.RawExtension{Raw: raw}
	}
	bound.APIVersion, bound.Kind = v1alpha1.APIVersion, v1alpha1.Kind
	bound.Name = strings.TrimSuffix(filepath.Base(name), ".rego")
	doc, err := yaml.Marshal(bound)
	if err != nil {
		return nil, err
	}
	return Compile([]File{{Name: file + ".yaml", Data: doc}})
}

// judge compares what came of the case: a decision, or the error of a binding that cannot be used.
func (e Expect) judge(d *Decision, err error) []string {
	var problems Problems
	switch {
	case e.Problem == "" && err != nil:
		return []string{err.Error()}
	case e.Problem == "":
		return e.compare(d)
	case !errors.As(err, &problems):
		return []string{fmt.Sprintf("the binding is accepted, expected the problem %q", e.Problem)}
	case !strings.Contains(err.Error(), e.Problem):
		return []string{fmt.Sprintf("problems %q do not contain %q", err, e.Problem)}
	}
	return nil
}

func (e Expect) compare(d *Decision) []string {
	var diffs []string
	differ := func(format string, args ...any) { diffs = append(diffs, fmt.Sprintf(format, args...)) }
	if d.Outcome != e.Outcome {
		differ("outcome is %s, expected %s; message: %q; failures: %v", d.Outcome, e.Outcome, d.Message, d.Failures)
	}
	if e.Code != 0 && d.Code != e.Code {
		differ("code is %d, expected %d", d.Code, e.Code)
	}
	if !strings.Contains(d.Message, e.Message) {
		differ("message %q does not contain %q", d.Message, e.Message)
	}
	for _, want := range e.Warnings {
		if !slices.ContainsFunc(d.Warnings, func(got string) bool { return strings.Contains(got, want) }) {
			differ("no warning contains %q; there are %q", want, d.Warnings)
		}
	}
	if e.Violations != nil && len(d.Violations) != *e.Violations {
		differ("%d violations, expected %d: %v", len(d.Violations), *e.Violations, d.Violations)
	}
	return diffs
}
