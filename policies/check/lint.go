package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/internal/opa"
	"github.com/evictgate/evictgate/policies/internal/rego"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/policies/v1alpha1"
)

// Files compiles what was read from some paths as the server would, and tells everything it finds:
// errors, and then the set is nil, or else warnings.
func Files(files []policies.File, paths ...string) (*policies.Set, policies.Problems) {
	s, problems := source.Parse(files)
	set, problems := s.Compile(problems)
	if len(problems) == 0 && len(set.Policies()) == 0 {
		problems = source.NoPolicy(strings.Join(paths, ", "))
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return set, lintSources(set.Compiler(), s)
}

// Lint finds what compiles, but hardly does what its author means, in the order of files and lines. Its
// problems are warnings; for sources that do not compile it has none, since Compile tells.
func Lint(files []policies.File) policies.Problems {
	s, problems := source.Parse(files)
	if len(problems) > 0 || len(s.Problems) > 0 {
		return nil
	}
	compiler, problems := policies.CompileModules(s.Modules)
	if len(problems) > 0 {
		return nil
	}
	return lintSources(compiler, s)
}

// Findings are what a trial finds.
type Findings struct {
	// Problems keep the unit from being used as it is offered.
	Problems policies.Problems `json:"problems,omitempty"`
	// Doubts are warnings about a unit without problems.
	Doubts policies.Problems `json:"doubts,omitempty"`
}

// Try runs a trial: it says what would be wrong with the offered unit, or with others because of it, and else what
// is doubtful about it.
func Try(t source.Trial) Findings {
	set, problems := t.Compile()
	if len(problems) > 0 || set == nil {
		return Findings{Problems: problems}
	}
	unit, _ := source.Parse(t.Offers[t.Offered].Unit.Files) // it is part of the set
	return Findings{Doubts: lintSources(set.Compiler(), unit)}
}

// lintSources looks at what was parsed, whose modules are compiled.
func lintSources(compiler *ast.Compiler, s *source.Parsed) policies.Problems {
	var problems policies.Problems
	l := linter{compiler: compiler, reads: opa.NewReads(compiler)}
	for _, module := range s.Modules {
		if rego.PolicyID(module) != "" {
			problems = append(problems, l.lint(module)...)
		}
	}
	for _, b := range s.Bindings {
		problems = append(problems, unknownEvictors(b)...)
	}
	for i := range problems {
		problems[i].Severity = policies.SeverityWarning
	}
	problems = s.Locate(problems)
	slices.SortStableFunc(problems, compareProblems)
	return rego.AtMost(problems)
}

// unknownEvictors finds misspelt kinds in spec.match: the scope would cover nothing.
func unknownEvictors(b policies.Binding) policies.Problems {
	if b.Match == nil {
		return nil
	}
	problems := unknownIn(b, b.Match.Scope, "spec.match")
	for i, excluded := range b.Match.Excludes {
		problems = append(problems, unknownIn(b, excluded, fmt.Sprintf("spec.match.excludes[%d]", i))...)
	}
	return problems
}

func unknownIn(b policies.Binding, s v1alpha1.Scope, field string) policies.Problems {
	var problems policies.Problems
	for i, e := range s.Evictors {
		if slices.Contains(evictors.list, e.Kind) || nearestValue(e.Kind, evictors) == "" {
			continue
		}
		path := fmt.Sprintf("%s.evictors[%d].kind", field, i)
		problems = append(problems, b.Problem(path, fmt.Sprintf("%s is %s, which no evictor is unless a rule says so%s", path, e.Kind, evictors.instead(e.Kind))))
	}
	return problems
}

func compareProblems(a, b policies.Problem) int {
	if c := strings.Compare(a.File, b.File); c != 0 {
		return c
	}
	if a.Row != b.Row {
		return a.Row - b.Row
	}
	return a.Col - b.Col
}

// linter looks at policies that are compiled.
type linter struct {
	compiler *ast.Compiler
	reads    *opa.Reads
}

// lint looks at one policy as it was written: OPA's compiler works on a copy.
func (l linter) lint(module *ast.Module) policies.Problems {
	meta, _ := policies.MetadataOf(l.compiler, module)
	problems := findFailOpen(module, meta.Parameters)
	problems = append(problems, l.lintMetadata(module, meta)...)
	problems = append(problems, findImpossible(module, meta.Parameters)...)
	problems = append(problems, findLostEffects(module)...)
	return append(problems, findIgnoredDetails(module)...)
}

// lintMetadata is about what a policy says of itself.
func (l linter) lintMetadata(module *ast.Module, meta policies.Metadata) policies.Problems {
	a := l.compiler.GetAnnotationSet().GetPackageScope(module.Package)
	if a == nil {
		return policies.Problems{rego.ProblemAt(module.Package.Location, "the policy has no METADATA; give it a title and a description, which lists and reports show")}
	}
	at := rego.NewBlock(a)
	var problems policies.Problems
	var lacks []string
	if meta.Title == "" {
		lacks = append(lacks, "title")
	}
	if meta.Description == "" {
		lacks = append(lacks, "description")
	}
	if len(lacks) > 0 {
		problems = append(problems, at.Problem("", "the policy has no %s; lists and reports show it", strings.Join(lacks, " and no ")))
	}
	problems = append(problems, unknownKeys(at)...)
	return append(problems, l.unreadParameters(meta, at)...)
}

// customKeys are the keys of METADATA custom that mean something here; other tools may have others.
var customKeys = []string{"id", "enforcement", "default", "parameters", "required", "neighbours_by", "history_depth"}

// metadataKeys are the keys of METADATA that OPA knows; it ignores others.
var metadataKeys = []string{"title", "description", "custom", "scope", "entrypoint", "authors", "organizations", "related_resources", "schemas", "compile"}

// unknownKeys finds keys that were probably meant to be another.
func unknownKeys(m rego.Block) policies.Problems {
	var problems policies.Problems
	for _, key := range keysOf(m.Fields.Root) {
		if !slices.Contains(metadataKeys, key) {
			problems = append(problems, m.Problem(key, "there is no key %s%s", key, rego.Instead(key, metadataKeys)))
		}
	}
	_, custom := rego.LookUp(m.Fields.Root, "custom")
	for _, key := range keysOf(custom) {
		if near := rego.Nearest(key, customKeys); near != "" && !slices.Contains(customKeys, key) {
			problems = append(problems, m.Problem("custom."+key, "custom.%s has no meaning here; did you mean %s?", key, near))
		}
	}
	return problems
}

// unreadParameters finds parameters that are declared and never read.
func (l linter) unreadParameters(meta policies.Metadata, at rego.Block) policies.Problems {
	if meta.Parameters == nil {
		return nil
	}
	needs := policies.NeedsOf(l.readBy(meta.ID))
	var problems policies.Problems
	for _, name := range meta.Parameters.Names() {
		if !needs.Reads("parameters", name) {
			problems = append(problems, at.Problem("custom.parameters."+name, "custom.parameters.%s is declared, but never read", name))
		}
	}
	return problems
}

// readBy lists what the rules of a policy read, functions only as far as rules call them.
func (l linter) readBy(id string) []ast.Ref {
	var refs []ast.Ref
	for _, rule := range l.compiler.GetRulesWithPrefix(ast.MustParseRef("data.eviction." + id)) {
		if len(rule.Head.Args) > 0 {
			continue
		}
		if read, err := l.reads.Base(ast.NewBody(ast.NewExpr(ast.NewTerm(rule.Ref().GroundPrefix())))); err == nil {
			refs = append(refs, read...)
		}
	}
	return refs
}

// findLostEffects finds rules that look like an effect by another name, and that nothing uses.
func findLostEffects(module *ast.Module) policies.Problems {
	used := map[string]bool{}
	for _, rule := range module.Rules {
		ast.WalkTerms(rule.Body, func(t *ast.Term) bool { used[refOf(t)[0].String()] = true; return false })
		if rule.Head.Key != nil {
			ast.WalkTerms(rule.Head.Key, func(t *ast.Term) bool { used[refOf(t)[0].String()] = true; return false })
		}
		if rule.Head.Value != nil {
			ast.WalkTerms(rule.Head.Value, func(t *ast.Term) bool { used[refOf(t)[0].String()] = true; return false })
		}
	}
	var problems policies.Problems
	for _, rule := range module.Rules {
		name := rego.RuleName(rule)
		if near := rego.LikelyEffect(rule); near != "" && !used[name] && !slices.Contains(rego.EffectNames, name) {
			used[name] = true // once
			problems = append(problems, rego.ProblemAt(rule.Location, "nothing uses %s, and only deny, delay and warn are asked for; did you mean %s?", name, near))
		}
	}
	return problems
}

// findIgnoredDetails finds what a violation says and nobody hears.
func findIgnoredDetails(module *ast.Module) policies.Problems {
	var problems policies.Problems
	for _, rule := range module.Rules {
		if !slices.Contains(rego.EffectNames, rego.RuleName(rule)) {
			continue
		}
		for _, value := range rego.ViolationsOf(rule) {
			problems = append(problems, ignoredDetails(value)...)
		}
	}
	return slices.CompactFunc(problems, func(a, b policies.Problem) bool { return a == b })
}

func ignoredDetails(violation *ast.Term) policies.Problems {
	object, ok := violation.Value.(ast.Object)
	if !ok {
		return nil
	}
	var problems policies.Problems
	object.Foreach(func(key, value *ast.Term) {
		switch name := rego.KeyOf(key); {
		case name == "detail":
			if kind := rego.LiteralKind(value); kind != "" && !strings.Contains(kind, "an object") {
				problems = append(problems, rego.ProblemAt(value.Location, "the detail of a violation is an object; %s is left out", kind))
			}
		case name != "reason":
			problems = append(problems, rego.ProblemAt(key.Location, "a violation has reason and detail; %s is left out; write it into detail", key))
		}
	})
	return problems
}
