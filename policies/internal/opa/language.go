package opa

import (
	"errors"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/evictgate/evictgate/policies/internal/limits"
	"github.com/evictgate/evictgate/policies/internal/rego"
)

// Language is Rego with the builtins that policies may use, over one input.
type Language struct {
	// known is the schema of the input. It is made once, since that takes long, and is only read: OPA reads a copy.
	known func() map[string]any
}

// NewLanguage is Rego over an input of that schema.
func NewLanguage(input func() map[string]any) *Language {
	return &Language{known: sync.OnceValue(input)}
}

// Parse parses a module that is within the limits, and holds it to the shape of a policy or of a helper. Of a module
// that was parsed, but has another shape, there are both.
func (l *Language) Parse(f rego.File) (*ast.Module, rego.Problems) {
	module, problems := l.Read(f)
	if len(problems) > 0 {
		return nil, problems
	}
	if module == nil {
		return nil, rego.Problems{{File: f.Name, Message: "the module is empty; expected a package eviction.<id>"}}
	}
	return module, rego.CheckPackage(module)
}

// Read parses a module of any shape that is within the limits; nil when it is empty.
func (l *Language) Read(f rego.File) (*ast.Module, rego.Problems) {
	if problems := limits.CheckFile(f); len(problems) > 0 {
		return nil, problems
	}
	module, err := ast.ParseModuleWithOpts(f.Name, string(f.Data), ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1})
	if err != nil {
		return nil, l.syntaxProblems(f, err)
	}
	if module != nil {
		if problems := limits.CheckModule(module); len(problems) > 0 {
			return nil, problems
		}
	}
	return module, nil
}

// Compiler is a compiler with the settings of the server.
func (l *Language) Compiler() *ast.Compiler {
	schemas := ast.NewSchemaSet()
	schemas.Put(ast.SchemaRootRef, l.known())
	return ast.NewCompiler().
		WithCapabilities(limits.Capabilities()).
		WithStrict(true).
		WithSchemas(schemas).
		WithUseTypeCheckAnnotations(true).
		WithDefaultRegoVersion(ast.RegoV1).
		SetErrorLimit(0)
}

// Compile compiles modules as one.
func (l *Language) Compile(modules []*ast.Module) (*ast.Compiler, rego.Problems) {
	compiler := l.Compiler()
	byName := map[string]*ast.Module{}
	for _, m := range modules {
		byName[rego.FileOf(m)] = m
	}
	if compiler.Compile(byName); compiler.Failed() {
		return nil, l.Problems(compiler.Errors, "")
	}
	return compiler, nil
}

// Problems turns OPA's errors into ours; file is used for errors that have no place.
func (l *Language) Problems(err error, file string) rego.Problems {
	var own rego.Problems
	if errors.As(err, &own) {
		return own
	}
	var list ast.Errors
	if errors.As(err, &list) {
		return l.problemsOf(list, file)
	}
	var one *ast.Error
	if errors.As(err, &one) {
		return rego.Problems{l.problemOf(one, file)}
	}
	return rego.Problems{{File: file, Message: err.Error()}}
}

// problemsOf puts the first errors of each file into words, and counts the others: there can be one for
// every few bytes.
func (l *Language) problemsOf(list ast.Errors, file string) rego.Problems {
	problems := make(rego.Problems, 0, min(len(list), rego.MaxProblems))
	told := map[string]int{}
	for _, e := range list {
		p := rego.Problem{File: file}
		if e.Location != nil && e.Location.File != "" {
			p.File = e.Location.File
		}
		if told[p.File]++; told[p.File] <= rego.MaxProblems {
			p = l.problemOf(e, file)
		}
		problems = append(problems, p)
	}
	return rego.AtMost(problems)
}

// problemOf says in our words what OPA says, where there are better ones, and keeps OPA's code and text
// where there are not.
func (l *Language) problemOf(e *ast.Error, file string) rego.Problem {
	p := rego.Problem{File: file}
	if e.Location != nil {
		p.Row, p.Col = e.Location.Row, e.Location.Col
		if e.Location.File != "" {
			p.File = e.Location.File
		}
	}
	if h, ok := l.hintFor(e); ok {
		p.Message = h.message
		if h.at != nil && h.at.Row > 0 && h.at.File == p.File {
			p.Row, p.Col = h.at.Row, h.at.Col
		}
		return p
	}
	p.Message = strings.TrimSpace(e.Code + ": " + e.Message)
	if e.Details != nil {
		for _, line := range e.Details.Lines() {
			if line = strings.TrimSpace(line); line != "" && strings.Trim(line, "^") != "" {
				p.Message += "; " + rego.CutLine(line)
			}
		}
	}
	return p
}
