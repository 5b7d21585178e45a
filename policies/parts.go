package policies

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/evictgate/evictgate/policies/internal/rego"
	"github.com/evictgate/evictgate/policies/v1alpha1"
)

// Parts are what a set is made of. The zero value is a set without policies.
type Parts struct {
	// Modules are Rego, as it was parsed.
	Modules []*ast.Module
	// Problems are those of modules that could not be parsed; they are told with what else is wrong.
	Problems Problems
	// Bindings say how policies are applied. One that none of them names is bound by itself.
	Bindings []Binding
	// Library lists the ids of the embedded library that belong to the set.
	Library []string
	// Bare says which of the policies that no binding names are bound by themselves; nil for all.
	Bare func(Metadata) bool
	// Examples gives a policy that is bound by itself the examples of its parameters.
	Examples bool
	// digest was fed with every source, in the order of names.
	digest hash.Hash
}

// Add adds a source. A Rego module is parsed; of any other file only the content is noted, for the revision.
func (p *Parts) Add(f File) {
	if p.digest == nil {
		p.digest = sha256.New()
	}
	fmt.Fprintf(p.digest, "%s %d\n", f.Ext(), len(f.Data))
	p.digest.Write(f.Data)
	if f.Ext() == ".rego" {
		p.Parse(f)
	}
}

// Parse adds a Rego module that is part of a source, or that the revision need not tell.
func (p *Parts) Parse(f File) {
	module, problems := language.Parse(f)
	p.Problems = append(p.Problems, problems...)
	if module != nil {
		p.Modules = append(p.Modules, module)
	}
}

// libraryIDs are those of Library, each once, sorted.
func (p *Parts) libraryIDs() []string { return slices.Compact(slices.Sorted(slices.Values(p.Library))) }

// revision identifies the parts by content, not by where they were read from: equal sources have equal
// revisions on every replica.
// It covers which policies are bound, since Default and Library hold the same sources.
func (p *Parts) revision(bound []Binding) string {
	digest := p.digest
	if digest == nil {
		digest = sha256.New()
	}
	for _, id := range p.libraryIDs() {
		digest.Write(LibraryFile(id).Data)
	}
	for _, b := range bound {
		fmt.Fprintf(digest, "%s %s\n", b.Name, b.Policy)
	}
	return hex.EncodeToString(digest.Sum(nil))[:12]
}

// bindings are those of the parts and those of the policies that are bound by themselves, sorted by name, with
// what every policy says of itself.
func (p *Parts) bindings(compiler *ast.Compiler, modules []*ast.Module) (bindings []Binding, metas map[string]Metadata, problems Problems) {
	named := map[string]bool{}
	for _, b := range p.Bindings {
		named[b.Policy] = true
	}
	bindings, metas = slices.Clone(p.Bindings), map[string]Metadata{}
	for _, module := range modules {
		meta, more := MetadataOf(compiler, module)
		problems = append(problems, more...)
		if meta.ID == "" {
			continue
		}
		metas[meta.ID] = meta
		if named[meta.ID] || p.Bare != nil && !p.Bare(meta) {
			continue
		}
		if i := slices.IndexFunc(bindings, func(b Binding) bool { return b.Name == meta.ID }); i >= 0 {
			problems = append(problems, bindings[i].nameProblem("EvictionPolicy %s has the name of the policy in %s, which it does not bind; give it another name", meta.ID, rego.FileOf(module)))
		}
		bare := Binding{Name: meta.ID, File: rego.FileOf(module), Policy: meta.ID}
		if p.Examples && meta.Parameters != nil {
			bare.Parameters = meta.Parameters.Examples()
		}
		bindings = append(bindings, bare)
	}
	slices.SortFunc(bindings, func(a, b Binding) int { return strings.Compare(a.Name, b.Name) })
	return bindings, metas, problems
}

// Binding says how one policy is applied: as an EvictionPolicy says, or by itself.
type Binding struct {
	// Name is what it is called, File where it stands, and Policy the id of the policy.
	Name, File, Policy string
	Parameters         map[string]any
	// Enforcement is empty for that of the policy itself.
	Enforcement Enforcement
	// Match is nil when every eviction matches.
	Match *v1alpha1.Match
	// MaxHold is 0 for no limit.
	MaxHold time.Duration
	// Places finds the binding's fields in the file. It knows none when Object says that it is an object of a cluster.
	Places rego.Places
	Object bool
}

// NewBinding reads what an EvictionPolicy says, and tells all that is wrong with it.
func NewBinding(file string, p *v1alpha1.EvictionPolicy) (b Binding, errs []error) {
	wrong := func(field, format string, args ...any) {
		errs = append(errs, rego.FieldErrorf(field, format, args...))
	}
	switch {
	case p.Name == "":
		wrong("metadata.name", "metadata.name is missing")
	case p.Spec.Library != "" && p.Spec.Rego != "":
		wrong("spec.library", "spec.library and spec.rego are both set; leave one of them out")
	case p.Spec.Library == "" && p.Spec.Rego == "":
		wrong("spec", "spec has neither library, the id of a shipped policy, nor rego, a policy of your own; set one of them")
	case p.Spec.Library != "" && !slices.Contains(LibraryIDs(), p.Spec.Library):
		wrong("spec.library", "the library has no policy %s%s", p.Spec.Library, rego.Instead(p.Spec.Library, LibraryIDs()))
	}
	enforcement, err := parseEnforcement(string(p.Spec.Enforcement))
	if err != nil {
		wrong("spec.enforcement", "spec.enforcement is %s; it must be Enforce, Warn or Audit", p.Spec.Enforcement)
	}
	if _, err := newMatcher(p.Spec.Match); err != nil {
		errs = append(errs, err)
	}
	parameters, err := parametersGiven(p.Spec.Parameters)
	if err != nil {
		wrong("spec.parameters", "spec.parameters: %w", err)
	}
	b = Binding{Name: p.Name, File: file, Policy: p.Spec.Library, Parameters: parameters, Enforcement: cmp.Or(enforcement, Enforce), Match: p.Spec.Match}
	if p.Spec.MaxHold != nil {
		if b.MaxHold = p.Spec.MaxHold.Duration; b.MaxHold <= 0 {
			wrong("spec.maxHold", "spec.maxHold is %s; give a time such as 24h, or leave it out for no limit", b.MaxHold)
		}
	}
	return b, errs
}

// parametersGiven reads spec.parameters. Numbers stay as they are written.
func parametersGiven(raw *runtime.RawExtension) (map[string]any, error) {
	if raw == nil || len(raw.Raw) == 0 {
		return nil, nil
	}
	given, ok := rego.PlainJSON(json.RawMessage(raw.Raw)).(map[string]any)
	if !ok && string(raw.Raw) != "null" {
		return nil, errors.New("expected a map from parameters to values")
	}
	return given, nil
}

func parseEnforcement(s string) (Enforcement, error) {
	switch e := Enforcement(strings.ToLower(s)); e {
	case "", Enforce, Warn, Audit:
		return e, nil
	}
	return "", fmt.Errorf("invalid enforcement %q: expected enforce, warn or audit", s)
}

// fill checks the binding's parameters against the policy's description, and adds the defaults.
func (b *Binding) fill(meta Metadata) Problems {
	if meta.Parameters == nil {
		return nil
	}
	var problems Problems
	for _, wrong := range meta.Parameters.check(b.Parameters) {
		problems = append(problems, b.parameterProblem(wrong.name, wrong.message))
	}
	b.Parameters = meta.Parameters.complete(b.Parameters)
	return problems
}

// parameterProblem is a finding about the binding's parameter of that name, or about all of them.
func (b *Binding) parameterProblem(parameter, message string) Problem {
	path := []string{"spec", "parameters"}
	if parameter != "" {
		path = append(path, parameter)
	}
	if !b.Object && strings.HasSuffix(b.File, ".rego") { // bound by itself
		return Problem{File: b.File, Message: message + "; bind the policy by an EvictionPolicy that gives it parameters"}
	}
	return b.problemAt(strings.Join(path, "."), path, message)
}

// nameProblem is a finding about the binding's name.
func (b *Binding) nameProblem(format string, args ...any) Problem {
	return b.Problem("metadata.name", fmt.Sprintf(format, args...))
}

// Problem is a finding about a field of the EvictionPolicy, named by its dotted path.
func (b *Binding) Problem(field, message string) Problem {
	return b.problemAt(field, rego.SplitPath(field), message)
}

func (b *Binding) problemAt(field string, path []string, message string) Problem {
	p := Problem{File: b.File, Path: field, Message: message}
	p.Row, p.Col = b.Places.At(path...)
	return p
}
