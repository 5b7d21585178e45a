package policies

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/evictgate/evictgate/policies/internal/limits"
	"github.com/evictgate/evictgate/policies/internal/opa"
	"github.com/evictgate/evictgate/policies/internal/rego"
)

// Set is a compiled, immutable set of bound policies: one revision. It is safe for concurrent use.
type Set struct {
	revision string
	bound    []*boundPolicy
	needs    *Needs
	refs     []string
	project  projector // of an Input, for what it needs
	compiler *ast.Compiler
	modules  []*ast.Module // as they were parsed
	// reads is there while the set is made, and not needed later.
	reads *opa.Reads
}

// boundPolicy is a policy with its binding.
type boundPolicy struct {
	Binding
	match          matcher
	meta           Metadata
	parametersTerm *ast.Term
	effects        []Effect
	// query is complete but for what changes with each review, and copied then. It goes around package
	// rego, which costs as much again as a small policy.
	query *topdown.Query
	// constants are the values of the rules that depend on the parameters alone; nil when one failed.
	constants *limits.RuleValues
	// needs is what the policy reads, and reads the paths of it and of maxHold.
	needs *Needs
	reads [][]string
	// memo holds answers by what the policy reads, which is in these leaves; nil when none can come again.
	memo   *memo
	leaves []int
	// timed says that the policy may ask the time.
	timed bool
	// weight is what a step of it counts: see Weight.
	weight int
	// lost counts its evaluations that were given up and have not come back.
	lost *atomic.Int32
}

// Metadata is what the METADATA block above a policy's package says.
type Metadata struct {
	ID               string
	Title            string
	Description      string
	RelatedResources []string
	Enforcement      Enforcement
	// Parameters describes what the policy can be given; nil when it does not say.
	Parameters *Parameters
	// NeighboursBy names the parameter with the labels that neighbours must share with the pod to be of
	// interest; empty when all are.
	NeighboursBy string
	// HistoryDepth bounds how far the policy looks back in the lists of the history: see depth.
	HistoryDepth any
	// Default puts the policy into the set that serves when none is given.
	Default bool
}

// BoundPolicy describes one bound policy of a set.
type BoundPolicy struct {
	Name        string      `json:"name"`
	Policy      string      `json:"policy"`
	Title       string      `json:"title"`
	Enforcement Enforcement `json:"enforcement"`
	// Default says that the policy belongs to the set that serves when none is given.
	Default bool   `json:"default"`
	File    string `json:"file"`
	// Effects are those of deny, delay and warn that it has.
	Effects []Effect `json:"-"`
	// Metadata is what the policy says of itself.
	Metadata Metadata `json:"-"`
}

// New builds a set of parts, and tells all that is wrong with them.
func New(parts Parts) (*Set, Problems) {
	own, problems := slices.Clone(parts.Modules), slices.Clone(parts.Problems)
	for _, id := range parts.libraryIDs() {
		module, more := language.Parse(LibraryFile(id))
		problems = append(problems, more...)
		if len(more) == 0 {
			own = append(own, module)
		}
	}
	problems = append(problems, duplicates(own, parts.Bindings)...)
	if len(problems) > 0 {
		return nil, problems
	}
	compiler, problems := CompileModules(own)
	if len(problems) > 0 {
		return nil, problems
	}
	bindings, metas, problems := parts.bindings(compiler, own)
	if len(problems) > 0 {
		return nil, problems
	}
	set := &Set{compiler: compiler, modules: own, reads: opa.NewReads(compiler), revision: parts.revision(bindings)}
	return set.bind(bindings, metas)
}

func (s *Set) bind(bindings []Binding, metas map[string]Metadata) (*Set, Problems) {
	var refs []ast.Ref
	var problems Problems
	var reads [][]ast.Ref
	for _, b := range bindings {
		meta := metas[b.Policy]
		if b.Enforcement == "" {
			b.Enforcement = meta.Enforcement
		}
		if more := b.fill(meta); len(more) > 0 {
			problems = append(problems, more...)
			continue
		}
		p, read, err := s.prepare(b, meta)
		if err != nil {
			problems = append(problems, language.Problems(err, b.File)...)
			continue
		}
		s.bound = append(s.bound, p)
		reads = append(reads, read)
		refs = append(refs, read...)
		refs = append(refs, p.matched()...)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	s.needs = NeedsOf(refs)
	s.needs.neighbours, s.needs.depths = s.neighbours(), s.depths()
	s.refs = s.needs.Refs()
	s.project = s.needs.projector(reflect.TypeFor[Input]())
	for i, p := range s.bound {
		s.remember(p, reads[i])
	}
	s.reads = nil
	return s, nil
}

// neighbours says which neighbours the bound policies read. One whose METADATA names a parameter with labels
// is given those that share one of them.
func (s *Set) neighbours() NeighbourLabels {
	var n NeighbourLabels
	for _, p := range s.bound {
		if !p.needs.Reads("neighbours") {
			continue
		}
		labels, ok := p.Parameters[p.meta.NeighboursBy].([]any)
		n.All = n.All || !ok
		for _, label := range labels {
			if name, ok := label.(string); ok && !slices.Contains(n.Labels, name) {
				n.Labels = append(n.Labels, name)
			}
		}
	}
	return n
}

// depths says how far the bound policies look back in each list of the history, as far as their METADATA
// bounds it.
func (s *Set) depths() map[string]int {
	depths := map[string]int{}
	for _, scope := range HistoryLists() {
		deepest, known := 0, true
		for _, p := range s.bound {
			if p.needs.Reads("history", scope) {
				depth, ok := p.depth(scope)
				deepest, known = max(deepest, depth), known && ok
			}
		}
		if known {
			depths[scope] = deepest
		}
	}
	return depths
}

// depth is how many times of a list the policy reads: METADATA custom.history_depth is a number, or the
// name of a parameter with a list of limits, each of them with per (the list) and max (how many).
func (p *boundPolicy) depth(scope string) (depth int, ok bool) {
	switch said := p.meta.HistoryDepth.(type) {
	case json.Number:
		n, err := said.Int64()
		return int(n), err == nil
	case string:
		limits, ok := p.Parameters[said].([]any)
		for _, l := range limits {
			limit, _ := l.(map[string]any)
			if n, isNumber := limit["max"].(json.Number); isNumber && limit["per"] == scope {
				most, err := n.Int64()
				depth, ok = max(depth, int(most)), ok && err == nil
			}
		}
		return depth, ok
	}
	return 0, false
}

// prepare compiles the one query of a policy: its effect sets by name, never the package as a
// whole, which would evaluate every helper, too.
func (s *Set) prepare(b Binding, meta Metadata) (*boundPolicy, []ast.Ref, error) {
	match, err := newMatcher(b.Match)
	if err != nil {
		return nil, nil, err
	}
	p := &boundPolicy{Binding: b, match: match, meta: meta, lost: &atomic.Int32{}}
	var terms []string
	var effects []ast.Ref
	for _, effect := range []Effect{Deny, Delay, Warning} {
		ref := rego.EffectRef(b.Policy, effect)
		if len(s.compiler.GetRulesExact(ref)) > 0 {
			p.effects, effects = append(p.effects, effect), append(effects, ref)
			terms = append(terms, fmt.Sprintf("%s = %s", effect, ref))
		}
	}
	body := ast.MustParseBody(strings.Join(terms, "; "))
	refs, err := s.base(body)
	if err != nil {
		return nil, nil, fmt.Errorf("it cannot be told what policy %s reads: %w", b.Policy, err)
	}
	p.needs = NeedsOf(refs)
	p.reads = leafPaths(p.needs)
	if b.MaxHold > 0 {
		p.reads = append(p.reads, []string{"history", "holds"})
	}
	params := b.Parameters
	if params == nil {
		params = map[string]any{}
	}
	// By way of JSON: OPA would write a float64 of 1000000, which YAML gives, as 1e+06.
	raw, err := json.Marshal(params)
	if err != nil {
		return nil, nil, fmt.Errorf("parameters of %s: %w", b.Name, err)
	}
	value, err := ast.ValueFromReader(bytes.NewReader(raw))
	if err != nil {
		return nil, nil, fmt.Errorf("parameters of %s: %w", b.Name, err)
	}
	if m := (limits.Measure{Most: limits.MaxNodes}); m.Add(value) != nil {
		return nil, nil, Problems{b.parameterProblem("", fmt.Sprintf("the parameters of %s hold more than %d values, a number of more than %d digits or exponent, or are nested more than %d deep", b.Name, limits.MaxNodes, limits.MaxDigits, limits.MaxDepth))}
	}
	p.parametersTerm = ast.NewTerm(value)
	if p.query, err = s.query(body); err != nil {
		return nil, nil, fmt.Errorf("prepare policy %s: %w", b.Policy, err)
	}
	p.weight = limits.Weight(s.compiler, effects)
	p.constants = s.constants(p)
	return p, refs, s.acceptParameters(p)
}

// matched is what the binding itself reads, beside its policy.
func (p *boundPolicy) matched() []ast.Ref {
	var refs []ast.Ref
	for _, path := range p.match.reads() {
		refs = append(refs, ast.MustParseRef(path))
	}
	if p.MaxHold > 0 {
		refs = append(refs, ast.MustParseRef("input.history.holds"))
	}
	return refs
}

// acceptParameters asks the policy itself about its parameters: its rule invalid_parameters, if it has
// one, is a set of sentences about what a schema cannot say.
func (s *Set) acceptParameters(p *boundPolicy) error {
	ref := ast.MustParseRef("data.eviction." + p.Policy + "." + invalidParameters)
	if len(s.compiler.GetRulesExact(ref)) == 0 {
		return nil
	}
	query, err := s.query(ast.NewBody(ast.Equality.Expr(ast.VarTerm("x"), ast.NewTerm(ref))))
	if err != nil {
		return err
	}
	allowance := limits.NewAllowance(context.Background(), DefaultPolicySteps, p.weight)
	query.WithInput(ast.ObjectTerm([2]*ast.Term{parametersKey, p.parametersTerm})).WithCancel(allowance).WithVirtualCache(limits.NewRuleCache(nil, allowance))
	var problems Problems
	err = query.Iter(allowance.Ctx, func(answer topdown.QueryResult) error {
		set, ok := answer[ast.Var("x")].Value.(ast.Set)
		if !ok {
			return fmt.Errorf("%s must be a set of sentences", invalidParameters)
		}
		return set.Iter(func(sentence *ast.Term) error {
			problems = append(problems, p.parameterProblem("", reasonOf(sentenceText(sentence))))
			return nil
		})
	})
	switch {
	case err != nil && (allowance.Why != nil || topdown.IsCancel(err)):
		return p.overLimit(allowance.Explained(p.File, err))
	case err == nil && len(problems) > 0:
		return rego.AtMost(problems)
	}
	return err
}

// overLimit is a limit met while the policy looked at its parameters.
func (p *boundPolicy) overLimit(err error) error {
	return Problems{p.parameterProblem("", fmt.Sprintf("%s could not be evaluated: %v", invalidParameters, err))}
}

// sentenceText is what a policy says of its parameters.
func sentenceText(t *ast.Term) string {
	if s, ok := t.Value.(ast.String); ok {
		return string(s)
	}
	if m := (limits.Measure{Most: limits.MaxMember}); m.Add(t.Value) != nil {
		return "a value that is too large to be told"
	}
	text, _ := ast.JSON(t.Value)
	return fmt.Sprint(text)
}

// invalidParameters is the rule by which a policy refuses its parameters.
const invalidParameters = "invalid_parameters"

// base lists what a body reads.
func (s *Set) base(body ast.Body) ([]ast.Ref, error) {
	if s.reads == nil {
		return opa.NewReads(s.compiler).Base(body)
	}
	return s.reads.Base(body)
}

// query prepares a query over the set's modules; beside them there is no data.
func (s *Set) query(body ast.Body) (*topdown.Query, error) {
	return opa.Query(s.compiler, body, nil)
}

// Revision identifies the set by its content: equal sources have equal revisions everywhere.
func (s *Set) Revision() string { return s.revision }

// Needs is what the set's policies read of the Input.
func (s *Set) Needs() *Needs { return s.needs }

// Policies describes the bound policies, sorted by name.
func (s *Set) Policies() []BoundPolicy {
	list := make([]BoundPolicy, len(s.bound))
	for i, p := range s.bound {
		list[i] = BoundPolicy{Name: p.Name, Policy: p.Policy, Title: p.meta.Title, Enforcement: p.Enforcement, Default: p.meta.Default, File: p.File, Effects: p.effects, Metadata: p.meta}
	}
	return list
}

// Compiler holds the compiled modules of the set.
func (s *Set) Compiler() *ast.Compiler { return s.compiler }

// Modules are the modules of the set as they were parsed: the compiler works on copies.
func (s *Set) Modules() []*ast.Module { return s.modules }

// Refs lists the input paths that the set reads, sorted.
func (s *Set) Refs() []string { return slices.Clone(s.refs) }

// duplicates reports policy ids and binding names that stand twice.
func duplicates(modules []*ast.Module, bindings []Binding) Problems {
	var problems Problems
	seen := map[string]string{}
	for _, m := range modules {
		id := rego.PolicyID(m)
		if id == "" {
			continue
		}
		if other, ok := seen[id]; ok {
			l := m.Package.Location
			problems = append(problems, Problem{File: l.File, Row: l.Row, Col: l.Col, Message: fmt.Sprintf("policy eviction.%s is defined in %s, too; give one of them another id", id, other)})
			continue
		}
		seen[id] = rego.FileOf(m)
	}
	names := map[string]string{}
	for _, b := range bindings {
		if other, ok := names[b.Name]; ok {
			problems = append(problems, b.nameProblem("EvictionPolicy %s stands in %s, too", b.Name, other))
			continue
		}
		names[b.Name] = b.File
	}
	return problems
}

// language is Rego over the Input.
var language = opa.NewLanguage(InputSchema)

// Language is Rego as policies are written in it.
func Language() *opa.Language { return language }

// CompileModules compiles modules with the parameters that they declare.
func CompileModules(modules []*ast.Module) (*ast.Compiler, Problems) {
	for _, m := range modules {
		TypeParameters(m)
	}
	return language.Compile(modules)
}

// None is a set without policies.
func None() *Set {
	set, problems := New(Parts{})
	if len(problems) > 0 {
		panic(problems) // nothing cannot be wrong; a test holds it
	}
	return set
}
