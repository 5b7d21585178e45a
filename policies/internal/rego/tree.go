package rego

import (
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"
)

// PolicyID is the <id> of a package eviction.<id>; empty for any other package.
func PolicyID(module *ast.Module) string {
	path := module.Package.Path
	if len(path) != 3 || !path[1].Equal(ast.StringTerm("eviction")) {
		return ""
	}
	id, ok := path[2].Value.(ast.String)
	if !ok || !IsIdentifier(string(id)) {
		return ""
	}
	return string(id)
}

// FileOf is the file of a module.
func FileOf(module *ast.Module) string { return module.Package.Location.File }

// IsHelper reports whether a module is below lib, so that policies may use it.
func IsHelper(module *ast.Module) bool {
	path := module.Package.Path
	return len(path) > 1 && path[1].Equal(ast.StringTerm("lib"))
}

// RuleName is the first part of a rule's name.
func RuleName(rule *ast.Rule) string { return rule.Head.Ref()[0].String() }

// KeyOf is an element of a ref as a person would name it.
func KeyOf(t *ast.Term) string {
	if s, ok := t.Value.(ast.String); ok {
		if IsIdentifier(string(s)) {
			return string(s)
		}
		return strconv.Quote(string(s))
	}
	return t.String()
}

// Assignment takes `x := value` or `x = value` apart.
func Assignment(e *ast.Expr) (name, value *ast.Term, ok bool) {
	if e.Negated || len(e.With) > 0 || (!e.IsAssignment() && !e.IsEquality()) || len(e.Operands()) != 2 {
		return nil, nil, false
	}
	name, value = e.Operand(0), e.Operand(1)
	return name, value, true
}

// RulesNamed lists the rules of that name.
func RulesNamed(module *ast.Module, name string) []*ast.Rule {
	var rules []*ast.Rule
	for _, rule := range module.Rules {
		if rule.Head.Ref().String() == name {
			rules = append(rules, rule)
		}
	}
	return rules
}

// LiteralKind is what a term is, as far as it shows by itself; empty when it does not.
func LiteralKind(t *ast.Term) string {
	switch v := t.Value.(type) {
	case ast.Null:
		return "null"
	case ast.Boolean:
		return "a boolean"
	case ast.Number:
		return "a number"
	case ast.String, *ast.TemplateString:
		return "a string"
	case *ast.Array, *ast.ArrayComprehension:
		return "a list"
	case ast.Set, *ast.SetComprehension:
		return "a set"
	case ast.Object, *ast.ObjectComprehension:
		return "an object"
	case ast.Call:
		if b := ast.BuiltinMap[v[0].String()]; b != nil && b.Decl.Result() != nil {
			if kind := KindOf(b.Decl.Result()); types.Compare(b.Decl.Result(), types.A) != 0 {
				return kind
			}
		}
	}
	return ""
}

// KindOf is a type in plain words.
func KindOf(t types.Type) string {
	switch t := t.(type) {
	case types.String:
		return "a string"
	case types.Number:
		return "a number"
	case types.Boolean:
		return "a boolean"
	case types.Null:
		return "null"
	case *types.Array:
		return "a list"
	case *types.Set:
		return "a set"
	case *types.Object:
		return "an object"
	case types.Any:
		return oneOfKinds(t)
	case *types.NamedType:
		return KindOf(t.Type)
	case nil:
		return "a value"
	}
	return t.String()
}

func oneOfKinds(t types.Any) string {
	if len(t) == 0 {
		return "any value"
	}
	kinds := make([]string, len(t))
	for i, member := range t {
		kinds[i] = KindOf(member)
	}
	return Either(kinds)
}
