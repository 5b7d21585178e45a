package opa

import (
	"errors"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/dependencies"
)

// Reads tells what rules read. It looks at each rule once: dependencies.Base compares rules with each other,
// and begins anew with each question.
type Reads struct {
	compiler *ast.Compiler
	known    map[*ast.Rule]*ruleReads
}

// ruleReads are the refs and the rules that something needs itself.
type ruleReads struct {
	refs  []ast.Ref
	rules []*ast.Rule
}

// NewReads tells what the rules of a compiler read.
func NewReads(compiler *ast.Compiler) *Reads {
	return &Reads{compiler: compiler, known: map[*ast.Rule]*ruleReads{}}
}

// Base lists what a body reads, through all rules, sorted. OPA panics where something is looked up in a
// literal string or number (`some x in "text"`): a policy that is applied must not end the process.
func (r *Reads) Base(body ast.Body) (refs []ast.Ref, err error) {
	defer func() {
		if recover() != nil {
			refs, err = nil, errors.New("it looks something up in a value that has no members, as `x in \"text\"` does")
		}
	}()
	found, err := r.direct(body)
	if err != nil {
		return nil, err
	}
	refs = slices.Clone(found.refs)
	todo, seen := slices.Clone(found.rules), map[*ast.Rule]bool{}
	for len(todo) > 0 {
		rule := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[rule] {
			continue
		}
		seen[rule] = true
		if found, err = r.of(rule); err != nil {
			return nil, err
		}
		refs, todo = append(refs, found.refs...), append(todo, found.rules...)
	}
	slices.SortFunc(refs, ast.RefCompare)
	return slices.CompactFunc(refs, ast.RefEqual), nil
}

// of is what a rule needs itself.
func (r *Reads) of(rule *ast.Rule) (*ruleReads, error) {
	if found, ok := r.known[rule]; ok {
		return found, nil
	}
	found, err := r.direct(rule)
	if err == nil {
		r.known[rule] = found
	}
	return found, err
}

// direct is what a body or a rule needs itself.
func (r *Reads) direct(x any) (*ruleReads, error) {
	refs, err := dependencies.Minimal(x)
	if err != nil {
		return nil, err
	}
	found := &ruleReads{}
	for _, ref := range refs {
		ref = ref.ConstantPrefix()
		if rules := r.compiler.GetRules(ref); len(rules) > 0 {
			found.rules = append(found.rules, rules...)
		} else {
			found.refs = append(found.refs, ref)
		}
	}
	return found, nil
}
