package policies

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Check compiles what was read from some paths as the server would, and tells everything it finds:
// errors, and then the set is nil, or else warnings.
func Check(files []File, paths ...string) (*Set, Problems) {
	set, err := compileSome(files, paths)
	if err != nil {
		return nil, problemsOf(err, strings.Join(paths, ", "))
	}
	return set, Lint(files)
}

// Lint finds what compiles, but hardly does what its author means, in the order of files and lines. Its
// problems are warnings; for sources that do not compile it has none, since Compile tells.
func Lint(files []File) Problems {
	s, problems := parseFiles(files)
	modules, more := parseModules(s.modules)
	if len(problems) > 0 || len(more) > 0 {
		return nil
	}
	compiler, problems := compileModules(modules)
	if len(problems) > 0 {
		return nil
	}
	set := &Set{compiler: compiler}
	for _, module := range modules {
		if policyID(module) != "" {
			problems = append(problems, set.lint(module)...)
		}
	}
	for _, b := range s.bindings {
		problems = append(problems, b.unknownEvictors()...)
	}
	for i := range problems {
		problems[i].Severity = SeverityWarning
	}
	problems = s.locate(problems)
	slices.SortStableFunc(problems, compareProblems)
	return problems
}

// unknownEvictors finds misspelt kinds in spec.match: the scope would cover nothing.
func (b *binding) unknownEvictors() Problems {
	problems := b.unknownIn(b.match.scope, "spec.match")
	for i, excluded := range b.match.excludes {
		problems = append(problems, b.unknownIn(excluded, fmt.Sprintf("spec.match.excludes[%d]", i))...)
	}
	return problems
}

func (b *binding) unknownIn(s scope, field string) Problems {
	var problems Problems
	for i, e := range s.evictors {
		if slices.Contains(evictors.list, e.Kind) || nearestValue(e.Kind, evictors) == "" {
			continue
		}
		path := fmt.Sprintf("%s.evictors[%d].kind", field, i)
		p := Problem{File: b.file, Path: path, Message: fmt.Sprintf("%s is %s, which no evictor is unless a rule says so%s", path, e.Kind, evictors.instead(e.Kind))}
		p.Row, p.Col = b.place.of(splitPath(path)...)
		problems = append(problems, p)
	}
	return problems
}

func compareProblems(a, b Problem) int {
	if c := strings.Compare(a.File, b.File); c != 0 {
		return c
	}
	if a.Row != b.Row {
		return a.Row - b.Row
	}
	return a.Col - b.Col
}

// lint looks at one policy of the set, as it was written: OPA's compiler works on a copy.
func (s *Set) lint(module *ast.Module) Problems {
	meta, _ := metadataOf(s.compiler, module)
	problems := findFailOpen(module, meta.Parameters)
	problems = append(problems, s.lintMetadata(module, meta)...)
	problems = append(problems, findImpossible(module, meta.Parameters)...)
	problems = append(problems, findLostEffects(module)...)
	return append(problems, findIgnoredDetails(module)...)
}

// lintMetadata is about what a policy says of itself.
func (s *Set) lintMetadata(module *ast.Module, meta Metadata) Problems {
	a := s.compiler.GetAnnotationSet().GetPackageScope(module.Package)
	if a == nil {
		return Problems{problemAt(module.Package.Location, "the policy has no METADATA; give it a title and a description, which lists and reports show")}
	}
	at := metadataPlaces(a)
	var problems Problems
	var lacks []string
	if meta.Title == "" {
		lacks = append(lacks, "title")
	}
	if meta.Description == "" {
		lacks = append(lacks, "description")
	}
	if len(lacks) > 0 {
		problems = append(problems, at.problem("", "the policy has no %s; lists and reports show it", strings.Join(lacks, " and no ")))
	}
	problems = append(problems, at.unknownKeys()...)
	return append(problems, s.unreadParameters(meta, at)...)
}

// customKeys are the keys of METADATA custom that mean something here; other tools may have others.
var customKeys = []string{"id", "enforcement", "default", "parameters", "required", "neighbours_by", "history_depth"}

// metadataKeys are the keys of METADATA that OPA knows; it ignores others.
var metadataKeys = []string{"title", "description", "custom", "scope", "entrypoint", "authors", "organizations", "related_resources", "schemas", "compile"}

// unknownKeys finds keys that were probably meant to be another.
func (m metadata) unknownKeys() Problems {
	var problems Problems
	for _, key := range keysOf(m.fields.root) {
		if !slices.Contains(metadataKeys, key) {
			problems = append(problems, m.problem(key, "there is no key %s%s", key, instead(key, metadataKeys)))
		}
	}
	_, custom := lookUp(m.fields.root, "custom")
	for _, key := range keysOf(custom) {
		if near := nearest(key, customKeys); near != "" && !slices.Contains(customKeys, key) {
			problems = append(problems, m.problem("custom."+key, "custom.%s has no meaning here; did you mean %s?", key, near))
		}
	}
	return problems
}

// unreadParameters finds parameters that are declared and never read.
func (s *Set) unreadParameters(meta Metadata, at metadata) Problems {
	if meta.Parameters == nil {
		return nil
	}
	needs := newNeeds(s.readBy(meta.ID))
	var problems Problems
	for _, name := range meta.Parameters.Names() {
		if !needs.Reads("parameters", name) {
			problems = append(problems, at.problem("custom.parameters."+name, "custom.parameters.%s is declared, but never read", name))
		}
	}
	return problems
}

// readBy lists what the rules of a policy read, functions only as far as rules call them.
func (s *Set) readBy(id string) []ast.Ref {
	var refs []ast.Ref
	for _, rule := range s.compiler.GetRulesWithPrefix(ast.MustParseRef("data.eviction." + id)) {
		if len(rule.Head.Args) > 0 {
			continue
		}
		if read, err := baseRefs(s.compiler, ast.NewBody(ast.NewExpr(ast.NewTerm(rule.Ref().GroundPrefix())))); err == nil {
			refs = append(refs, read...)
		}
	}
	return refs
}

// findLostEffects finds rules that look like an effect by another name, and that nothing uses.
func findLostEffects(module *ast.Module) Problems {
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
	var problems Problems
	for _, rule := range module.Rules {
		name := ruleName(rule)
		if near := likelyEffect(rule); near != "" && !used[name] && !slices.Contains(effectNames, name) {
			used[name] = true // once
			problems = append(problems, problemAt(rule.Location, "nothing uses %s, and only deny, delay and warn are asked for; did you mean %s?", name, near))
		}
	}
	return problems
}

// findIgnoredDetails finds what a violation says and nobody hears.
func findIgnoredDetails(module *ast.Module) Problems {
	var problems Problems
	for _, rule := range module.Rules {
		if !slices.Contains(effectNames, ruleName(rule)) {
			continue
		}
		for _, value := range violationsOf(rule) {
			problems = append(problems, ignoredDetails(value)...)
		}
	}
	return slices.CompactFunc(problems, func(a, b Problem) bool { return a == b })
}

func ignoredDetails(violation *ast.Term) Problems {
	object, ok := violation.Value.(ast.Object)
	if !ok {
		return nil
	}
	var problems Problems
	object.Foreach(func(key, value *ast.Term) {
		switch name := keyOf(key); {
		case name == "detail":
			if kind := literalKind(value); kind != "" && !strings.Contains(kind, "an object") {
				problems = append(problems, problemAt(value.Location, "the detail of a violation is an object; %s is left out", kind))
			}
		case name != "reason":
			problems = append(problems, problemAt(key.Location, "a violation has reason and detail; %s is left out; write it into detail", key))
		}
	})
	return problems
}
