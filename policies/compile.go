package policies

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown"
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
}

// boundPolicy is a policy with its binding.
type boundPolicy struct {
	binding
	meta           Metadata
	parametersTerm *ast.Term
	effects        []Effect
	// query is complete but for what changes with each review, and copied then. It goes around package
	// rego, which costs as much again as a small policy.
	query *topdown.Query
	// constants are the values of the rules that depend on the parameters alone; nil when one failed.
	constants *ruleValues
	// needs is what the policy reads, and reads the paths of it and of maxHold.
	needs *Needs
	reads [][]string
	// memo holds answers by what the policy reads, which is in these leaves; nil when none can come again.
	memo   *memo
	leaves []int
	// timed says that the policy may ask the time.
	timed bool
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
	// Metadata is what the policy says of itself.
	Metadata Metadata `json:"-"`
}

// Load compiles the policies of directories or files as one set. The error is of type Problems when the
// sources were read but cannot be used; a set without a policy is an error, too.
func Load(paths ...string) (*Set, error) {
	files, err := ReadPaths(paths...)
	if err != nil {
		return nil, err
	}
	return compileSome(files, paths)
}

// ReadPaths reads the policy sources of directories or files: see ReadDir.
func ReadPaths(paths ...string) ([]File, error) {
	var files []File
	for _, path := range paths {
		more, err := ReadDir(path)
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	return files, nil
}

// compileSome compiles what was read from some paths; it must hold a policy.
func compileSome(files []File, paths []string) (*Set, error) {
	set, err := Compile(files)
	if err != nil {
		return nil, err
	}
	if len(set.bound) == 0 {
		return nil, noPolicy(strings.Join(paths, ", "))
	}
	return set, nil
}

// Compile compiles Rego modules and EvictionPolicies into a set. Its error is of type Problems.
func Compile(files []File) (*Set, error) {
	return compileAll(parseFiles(files))
}

// compileAll binds every policy of the sources, unless problems were found already.
func compileAll(s sources, problems Problems) (*Set, error) {
	if len(problems) > 0 {
		// The modules are still looked at, so that one run shows everything.
		_, more := parseModules(s.modules)
		return nil, append(problems, s.locate(more)...)
	}
	set, problems := compile(s, func(Metadata) bool { return true })
	if len(problems) > 0 {
		return nil, s.locate(problems)
	}
	return set, nil
}

// compile builds the set. A policy that no binding names is bound by itself when bindBare says so.
func compile(s sources, bindBare func(Metadata) bool) (*Set, Problems) {
	named := map[string]bool{}
	for _, b := range s.bindings {
		named[b.policy] = true
	}
	own, problems := parseModules(s.modules)
	slices.Sort(s.library)
	for _, id := range slices.Compact(s.library) {
		module, more := parseModule(libraryFile(id))
		problems = append(problems, more...)
		if len(more) == 0 {
			own = append(own, module)
		}
	}
	problems = append(problems, duplicates(own, s.bindings)...)
	if len(problems) > 0 {
		return nil, problems
	}
	compiler, problems := compileModules(own)
	if len(problems) > 0 {
		return nil, problems
	}
	set := &Set{compiler: compiler, modules: own}
	bindings := s.bindings
	metas := map[string]Metadata{}
	for _, module := range own {
		meta, more := metadataOf(compiler, module)
		problems = append(problems, more...)
		if meta.ID == "" {
			continue
		}
		metas[meta.ID] = meta
		if !named[meta.ID] && bindBare(meta) {
			if i := slices.IndexFunc(bindings, func(b binding) bool { return b.name == meta.ID }); i >= 0 {
				problems = append(problems, bindings[i].at("EvictionPolicy %s has the name of the policy in %s, which it does not bind; give it another name", meta.ID, fileOf(module)))
			}
			bare := binding{name: meta.ID, file: fileOf(module), policy: meta.ID}
			if s.examples && meta.Parameters != nil {
				bare.parameters = meta.Parameters.Examples()
			}
			bindings = append(bindings, bare)
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	slices.SortFunc(bindings, func(a, b binding) int { return strings.Compare(a.name, b.name) })
	set.revision = s.revision(bindings)
	return set.bind(bindings, metas)
}

func (s *Set) bind(bindings []binding, metas map[string]Metadata) (*Set, Problems) {
	var refs []ast.Ref
	var problems Problems
	var reads [][]ast.Ref
	for _, b := range bindings {
		meta := metas[b.policy]
		if b.enforcement == "" {
			b.enforcement = meta.Enforcement
		}
		if more := b.fill(meta); len(more) > 0 {
			problems = append(problems, more...)
			continue
		}
		p, read, err := s.prepare(b, meta)
		if err != nil {
			problems = append(problems, problemsOf(err, b.file)...)
			continue
		}
		s.bound = append(s.bound, p)
		reads = append(reads, read)
		refs = append(refs, read...)
		refs = append(refs, b.reads()...)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	s.needs = newNeeds(refs)
	s.needs.neighbours, s.needs.depths = s.neighbours(), s.depths()
	s.refs = s.needs.Refs()
	s.project = s.needs.projector(reflect.TypeFor[Input]())
	for i, p := range s.bound {
		s.remember(p, reads[i])
	}
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
		labels, ok := p.parameters[p.meta.NeighboursBy].([]any)
		n.All = n.All || !ok
		for _, label := range labels {
			if name, ok := label.(string); ok && !slices.Contains(n.Labels, name) {
				n.Labels = append(n.Labels, name)
			}
		}
	}
	return n
}

// historyScopes are the lists of the history.
var historyScopes = []string{"owner", "node", "namespace", "zone", "cluster"}

// depths says how far the bound policies look back in each list of the history, as far as their METADATA
// bounds it.
func (s *Set) depths() map[string]int {
	depths := map[string]int{}
	for _, scope := range historyScopes {
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
		limits, ok := p.parameters[said].([]any)
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
func (s *Set) prepare(b binding, meta Metadata) (*boundPolicy, []ast.Ref, error) {
	p := &boundPolicy{binding: b, meta: meta}
	var terms []string
	for _, effect := range []Effect{Deny, Delay, Warning} {
		ref := effectRef(b.policy, effect)
		if len(s.compiler.GetRulesExact(ref)) > 0 {
			p.effects = append(p.effects, effect)
			terms = append(terms, fmt.Sprintf("%s = %s", effect, ref))
		}
	}
	body := ast.MustParseBody(strings.Join(terms, "; "))
	refs, err := baseRefs(s.compiler, body)
	if err != nil {
		return nil, nil, fmt.Errorf("it cannot be told what policy %s reads: %w", b.policy, err)
	}
	p.needs = newNeeds(refs)
	p.reads = leafPaths(p.needs)
	if b.maxHold > 0 {
		p.reads = append(p.reads, []string{"history", "holds"})
	}
	params := b.parameters
	if params == nil {
		params = map[string]any{}
	}
	// By way of JSON: OPA would write a float64 of 1000000, which YAML gives, as 1e+06.
	raw, err := json.Marshal(params)
	if err != nil {
		return nil, nil, fmt.Errorf("parameters of %s: %w", b.name, err)
	}
	value, err := ast.ValueFromReader(bytes.NewReader(raw))
	if err != nil {
		return nil, nil, fmt.Errorf("parameters of %s: %w", b.name, err)
	}
	p.parametersTerm = ast.NewTerm(value)
	if p.query, err = s.query(body); err != nil {
		return nil, nil, fmt.Errorf("prepare policy %s: %w", b.policy, err)
	}
	p.constants = s.constants(p)
	return p, refs, s.acceptParameters(p)
}

// reads is what the binding itself reads, beside its policy.
func (b *binding) reads() []ast.Ref {
	var refs []ast.Ref
	for _, path := range b.match.reads() {
		refs = append(refs, ast.MustParseRef(path))
	}
	if b.maxHold > 0 {
		refs = append(refs, ast.MustParseRef("input.history.holds"))
	}
	return refs
}

// fill checks the binding's parameters against the policy's description, and adds the defaults.
func (b *binding) fill(meta Metadata) Problems {
	if meta.Parameters == nil {
		return nil
	}
	var problems Problems
	for _, wrong := range meta.Parameters.check(b.parameters) {
		problems = append(problems, b.problem(wrong.name, wrong.message))
	}
	b.parameters = meta.Parameters.complete(b.parameters)
	return problems
}

// problem is a finding about the binding's parameter of that name, or about all of them.
func (b *binding) problem(parameter, message string) Problem {
	path := []string{"spec", "parameters"}
	if parameter != "" {
		path = append(path, parameter)
	}
	if strings.HasSuffix(b.file, ".rego") { // bound by itself
		return Problem{File: b.file, Message: message + "; bind the policy by an EvictionPolicy that gives it parameters"}
	}
	p := Problem{File: b.file, Path: strings.Join(path, "."), Message: message}
	p.Row, p.Col = b.place.of(path...)
	return p
}

// at is a finding about the binding's name.
func (b *binding) at(format string, args ...any) Problem {
	p := Problem{File: b.file, Path: "metadata.name", Message: fmt.Sprintf(format, args...)}
	p.Row, p.Col = b.place.of("metadata", "name")
	return p
}

// acceptParameters asks the policy itself about its parameters: its rule invalid_parameters, if it has
// one, is a set of sentences about what a schema cannot say.
func (s *Set) acceptParameters(p *boundPolicy) error {
	ref := ast.MustParseRef("data.eviction." + p.policy + "." + invalidParameters)
	if len(s.compiler.GetRulesExact(ref)) == 0 {
		return nil
	}
	query, err := s.query(ast.NewBody(ast.Equality.Expr(ast.VarTerm("x"), ast.NewTerm(ref))))
	if err != nil {
		return err
	}
	ctx := context.Background()
	query.WithInput(ast.ObjectTerm([2]*ast.Term{parametersKey, p.parametersTerm})).
		WithCancel(&deadline{ctx: ctx, end: time.Now().Add(DefaultPolicyTimeout)})
	var problems Problems
	err = query.Iter(ctx, func(answer topdown.QueryResult) error {
		set, ok := answer[ast.Var("x")].Value.(ast.Set)
		if !ok {
			return fmt.Errorf("%s must be a set of sentences", invalidParameters)
		}
		return set.Iter(func(sentence *ast.Term) error {
			text, _ := ast.JSON(sentence.Value)
			problems = append(problems, p.problem("", oneLine(fmt.Sprint(text))))
			return nil
		})
	})
	if err == nil && len(problems) > 0 {
		return problems
	}
	return err
}

// invalidParameters is the rule by which a policy refuses its parameters.
const invalidParameters = "invalid_parameters"

// effectRef is where the violations of a policy stand.
func effectRef(id string, effect Effect) ast.Ref {
	return ast.MustParseRef(fmt.Sprintf("data.eviction.%s.%s", id, effect))
}

// query prepares a query over the set's modules; beside them there is no data.
func (s *Set) query(body ast.Body) (*topdown.Query, error) {
	return newQuery(s.compiler, body, nil)
}

// newQuery prepares a query over the modules of a compiler, as if it stood in a context.
func newQuery(modules *ast.Compiler, body ast.Body, within *ast.QueryContext) (*topdown.Query, error) {
	ctx := context.Background()
	store := inmem.NewFromObjectWithOpts(map[string]any{}, inmem.OptRoundTripOnWrite(false), inmem.OptReturnASTValuesOnRead(true))
	transaction, err := store.NewTransaction(ctx)
	if err != nil {
		return nil, err
	}
	compiler := modules.QueryCompiler().WithContext(within)
	compiled, err := compiler.Compile(body)
	if err != nil {
		return nil, err
	}
	return topdown.NewQuery(compiled).WithQueryCompiler(compiler).WithCompiler(modules).
		WithStore(store).WithTransaction(transaction).
		WithMetrics(metrics.NoOp()).WithStrictBuiltinErrors(true), nil
}

// Revision identifies the set by its content: equal sources have equal revisions everywhere.
func (s *Set) Revision() string { return s.revision }

// Needs is what the set's policies read of the Input.
func (s *Set) Needs() *Needs { return s.needs }

// Policies describes the bound policies, sorted by name.
func (s *Set) Policies() []BoundPolicy {
	list := make([]BoundPolicy, len(s.bound))
	for i, p := range s.bound {
		list[i] = BoundPolicy{Name: p.name, Policy: p.policy, Title: p.meta.Title, Enforcement: p.enforcement, Default: p.meta.Default, File: p.file, Metadata: p.meta}
	}
	return list
}

// Refs lists the input paths that the set reads, sorted.
func (s *Set) Refs() []string { return slices.Clone(s.refs) }

func parseModules(files []File) ([]*ast.Module, Problems) {
	var modules []*ast.Module
	var problems Problems
	for _, f := range files {
		module, more := parseModule(f)
		problems = append(problems, more...)
		if module != nil {
			modules = append(modules, module)
		}
	}
	return modules, problems
}

func parseModule(f File) (*ast.Module, Problems) {
	module, err := ast.ParseModuleWithOpts(f.Name, string(f.Data), ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1})
	if err != nil {
		return nil, syntaxProblems(f, err)
	}
	if module == nil {
		return nil, Problems{{File: f.Name, Message: "the module is empty; expected a package eviction.<id>"}}
	}
	return module, checkPackage(module)
}

// policyID is the <id> of a package eviction.<id>; empty for any other package.
func policyID(module *ast.Module) string {
	path := module.Package.Path
	if len(path) != 3 || !path[1].Equal(ast.StringTerm("eviction")) {
		return ""
	}
	id, ok := path[2].Value.(ast.String)
	if !ok || !isIdentifier(string(id)) {
		return ""
	}
	return string(id)
}

func fileOf(module *ast.Module) string { return module.Package.Location.File }

// duplicates reports policy ids and binding names that stand twice.
func duplicates(modules []*ast.Module, bindings []binding) Problems {
	var problems Problems
	seen := map[string]string{}
	for _, m := range modules {
		id := policyID(m)
		if id == "" {
			continue
		}
		if other, ok := seen[id]; ok {
			l := m.Package.Location
			problems = append(problems, Problem{File: l.File, Row: l.Row, Col: l.Col, Message: fmt.Sprintf("policy eviction.%s is defined in %s, too; give one of them another id", id, other)})
			continue
		}
		seen[id] = fileOf(m)
	}
	names := map[string]string{}
	for _, b := range bindings {
		if other, ok := names[b.name]; ok {
			problems = append(problems, b.at("EvictionPolicy %s stands in %s, too", b.name, other))
			continue
		}
		names[b.name] = b.file
	}
	return problems
}

// newCompiler is a compiler with the settings of the server.
func newCompiler() *ast.Compiler {
	schemas := ast.NewSchemaSet()
	schemas.Put(ast.SchemaRootRef, InputSchema())
	return ast.NewCompiler().
		WithCapabilities(Capabilities()).
		WithStrict(true).
		WithSchemas(schemas).
		WithUseTypeCheckAnnotations(true).
		WithDefaultRegoVersion(ast.RegoV1).
		SetErrorLimit(0)
}

func compileModules(modules []*ast.Module) (*ast.Compiler, Problems) {
	for _, m := range modules {
		typeParameters(m)
	}
	compiler := newCompiler()
	byName := map[string]*ast.Module{}
	for _, m := range modules {
		byName[fileOf(m)] = m
	}
	if compiler.Compile(byName); compiler.Failed() {
		return nil, problemsOf(compiler.Errors, "")
	}
	return compiler, nil
}

// metadataOf reads the METADATA of a policy; a helper module gives a zero Metadata.
func metadataOf(compiler *ast.Compiler, module *ast.Module) (Metadata, Problems) {
	meta := Metadata{ID: policyID(module), Enforcement: Enforce}
	if meta.ID == "" {
		return Metadata{}, nil
	}
	a := compiler.GetAnnotationSet().GetPackageScope(module.Package)
	if a == nil {
		return meta, nil
	}
	meta.Title, meta.Description = a.Title, strings.TrimSpace(a.Description)
	for _, r := range a.RelatedResources {
		meta.RelatedResources = append(meta.RelatedResources, r.Ref.String())
	}
	at := metadataPlaces(a)
	var problems Problems
	if id, ok := a.Custom["id"]; ok && id != meta.ID {
		problems = append(problems, at.problem("custom.id", "custom.id is %v, but the package is eviction.%s", id, meta.ID))
	}
	if raw, ok := a.Custom["enforcement"]; ok {
		e, err := parseEnforcement(fmt.Sprint(raw))
		if err != nil {
			problems = append(problems, at.problem("custom.enforcement", "custom.enforcement: %v", err))
		} else if e != "" {
			meta.Enforcement = e
		}
	}
	parameters, err := parametersOf(a)
	if err != nil {
		problems = append(problems, at.problem(fieldOfError(err), "%v", err))
	}
	meta.Parameters = parameters
	meta.HistoryDepth = viaPlainJSON(a.Custom["history_depth"])
	meta.NeighboursBy, _ = a.Custom["neighbours_by"].(string)
	meta.Default = a.Custom["default"] == true
	return meta, problems
}

// None is a set without policies.
func None() *Set {
	set, err := Compile(nil)
	if err != nil {
		panic(err) // nothing cannot be wrong; a test holds it
	}
	return set
}
