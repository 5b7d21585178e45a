package policies

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"
)

// effectNames are the rules that a policy is asked for.
var effectNames = []string{string(Deny), string(Delay), string(Warning)}

// problemAt is a finding at a place in a Rego file.
func problemAt(l *ast.Location, format string, args ...any) Problem {
	return Problem{File: l.File, Row: l.Row, Col: l.Col, Message: fmt.Sprintf(format, args...)}
}

// checkPackage holds a module to the shape of a policy, or of a helper below lib.
func checkPackage(module *ast.Module) Problems {
	path := module.Package.Path
	if isHelper(module) {
		return nil
	}
	if policyID(module) == "" {
		return Problems{problemAt(module.Package.Location, "%s is neither a policy, eviction.<id>, nor a helper below lib; write package eviction.%s",
			strings.Replace(path.String(), "data.", "package ", 1), likelyID(path))}
	}
	var problems Problems
	effects := 0
	for _, rule := range module.Rules {
		if slices.Contains(effectNames, ruleName(rule)) {
			effects++
			problems = append(problems, checkEffect(rule)...)
		}
	}
	if effects == 0 {
		problems = append(problems, noEffect(module))
	}
	return problems
}

// likelyID makes an id of a package that is none.
func likelyID(path ast.Ref) string {
	var parts []string
	for _, term := range path[1:] {
		part := strings.Trim(strings.Map(identifierRune, keyOf(term)), "_")
		if part != "eviction" && part != "evictions" && part != "policies" && part != "" {
			parts = append(parts, part)
		}
	}
	id := strings.Join(parts, "_")
	switch {
	case id == "":
		return "<id>"
	case !isIdentifier(id):
		return "_" + id
	}
	return id
}

// identifierRune is a letter or digit of an identifier, else an underscore.
func identifierRune(r rune) rune {
	if isIdentifier("_" + string(r)) {
		return r
	}
	return '_'
}

// ruleName is the first part of a rule's name.
func ruleName(rule *ast.Rule) string { return rule.Head.Ref()[0].String() }

// noEffect says that the policy can never hold anything, and which rule was probably meant to.
func noEffect(module *ast.Module) Problem {
	for _, rule := range module.Rules {
		if near := likelyEffect(rule); near != "" {
			return problemAt(rule.Location, "the policy has none of the rules deny, delay, warn; did you mean %s instead of %s?", near, ruleName(rule))
		}
	}
	return problemAt(module.Package.Location, "the policy has none of the rules deny, delay, warn: it can never hold an eviction")
}

// likelyEffect is the effect that a rule of another name was probably meant to be; empty when it is
// hardly one.
func likelyEffect(rule *ast.Rule) string {
	name := ruleName(rule)
	if rule.Head.RuleKind() != ast.MultiValue || len(rule.Head.Ref()) != 1 {
		return ""
	}
	switch plain(name) {
	case "violation", "violations", "block", "reject", "refuse", "forbid", "prevent", "disallow", "denies", "denied", "denial", "denials":
		return string(Deny)
	case "retry", "wait", "hold", "postpone", "defer":
		return string(Delay)
	case "inform", "notify", "tell":
		return string(Warning)
	}
	for _, effect := range effectNames {
		if p := plain(name); p != effect && (apart(name, effect) <= 1 || strings.HasPrefix(p, effect) && len(p) <= len(effect)+3) || plain(name) == effect && name != effect {
			return effect
		}
	}
	return ""
}

// checkEffect holds one rule of deny, delay or warn to a set of violations.
func checkEffect(rule *ast.Rule) Problems {
	name := ruleName(rule)
	switch {
	case rule.Default:
		return Problems{problemAt(rule.Location, "%s needs no default: it is a set of violations, empty when no rule adds one; leave this line out", name)}
	case rule.Head.RuleKind() != ast.MultiValue || len(rule.Head.Ref()) != 1:
		return Problems{problemAt(rule.Location, "%s must be a set of violations%s: write `%s contains {\"reason\": …, \"detail\": …} if { … }`", name, butIs(rule), name)}
	}
	var problems Problems
	for _, value := range violationsOf(rule) {
		problems = append(problems, checkViolation(name, value)...)
	}
	return problems
}

// butIs says what a rule is instead of a set.
func butIs(rule *ast.Rule) string {
	switch {
	case len(rule.Head.Args) > 0:
		return ", not a function"
	case len(rule.Head.Ref()) > 1 && rule.Head.RuleKind() == ast.SingleValue:
		return ", not an object"
	case rule.Head.Value != nil && rule.Head.RuleKind() == ast.SingleValue:
		if kind := literalKind(rule.Head.Value); kind != "" && kind != "a set" {
			return ", not " + kind
		}
	}
	return ""
}

// violationsOf are the members that a rule of an effect is known to add, as they are written: in its head,
// in the assignment of a variable, or in a function of the module.
func violationsOf(rule *ast.Rule) []*ast.Term {
	l := literals{module: rule.Module, left: 1000}
	l.add(rule.Head.Key, rule.Body)
	return l.found
}

// literals collects the values that a term is known to be. The module is not compiled yet, so that rules
// may be recursive: after so many steps it is enough.
type literals struct {
	module *ast.Module
	left   int
	found  []*ast.Term
}

func (l *literals) add(t *ast.Term, body ast.Body) {
	if l.left--; l.left < 0 {
		return
	}
	switch v := t.Value.(type) {
	case ast.Var:
		if assigned := assignedIn(body, v); assigned != nil {
			l.add(assigned, body)
		}
	case ast.Call:
		rules := rulesNamed(l.module, v[0].String())
		for _, rule := range rules {
			for r := rule; r != nil; r = r.Else {
				if r.Head.Value != nil && !r.Default {
					l.add(r.Head.Value, r.Body)
				}
			}
		}
		if len(rules) == 0 && literalKind(t) != "" {
			l.found = append(l.found, t)
		}
	default:
		l.found = append(l.found, t)
	}
}

// assignedIn is what a body assigns to a variable by :=.
func assignedIn(body ast.Body, v ast.Var) *ast.Term {
	for _, e := range body {
		if name, value, ok := assignment(e); ok && name.Value.Compare(v) == 0 {
			return value
		}
	}
	return nil
}

// assignment takes `x := value` or `x = value` apart.
func assignment(e *ast.Expr) (name, value *ast.Term, ok bool) {
	if e.Negated || len(e.With) > 0 || (!e.IsAssignment() && !e.IsEquality()) || len(e.Operands()) != 2 {
		return nil, nil, false
	}
	name, value = e.Operand(0), e.Operand(1)
	return name, value, true
}

func rulesNamed(module *ast.Module, name string) []*ast.Rule {
	var rules []*ast.Rule
	for _, rule := range module.Rules {
		if rule.Head.Ref().String() == name {
			rules = append(rules, rule)
		}
	}
	return rules
}

// literalKind is what a term is, as far as it shows by itself; empty when it does not.
func literalKind(t *ast.Term) string {
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
			if kind := kindOf(b.Decl.Result()); types.Compare(b.Decl.Result(), types.A) != 0 {
				return kind
			}
		}
	}
	return ""
}

// checkViolation holds a member of an effect to {"reason": …, "detail": {…}}, or a plain string.
func checkViolation(effect string, t *ast.Term) Problems {
	object, ok := t.Value.(ast.Object)
	if !ok {
		if kind := literalKind(t); kind != "" && !strings.Contains(kind, "a string") && !strings.Contains(kind, "an object") {
			return Problems{problemAt(t.Location, "a member of %s must be an object {\"reason\": …, \"detail\": …} or a string, not %s", effect, kind)}
		}
		return nil
	}
	reason := object.Get(ast.StringTerm("reason"))
	if reason == nil {
		return Problems{noReason(effect, t, object)}
	}
	if kind := literalKind(reason); kind != "" && !strings.Contains(kind, "a string") {
		return Problems{problemAt(reason.Location, "the reason of a violation must be a string, not %s", kind)}
	}
	return nil
}

func noReason(effect string, t *ast.Term, object ast.Object) Problem {
	var near *ast.Term
	opaque := false
	object.Foreach(func(key, _ *ast.Term) {
		name, ok := key.Value.(ast.String)
		opaque = opaque || !ok
		if ok && slices.Contains([]string{"msg", "message", "text", "why", "cause"}, plain(string(name))) || ok && near == nil && nearest(string(name), []string{"reason"}) != "" {
			near = key
		}
	})
	if near != nil {
		return problemAt(near.Location, "a violation says why by its key reason; write \"reason\" instead of %s", near)
	}
	return problemAt(t.Location, "a member of %s has no reason; write {\"reason\": \"…\", \"detail\": {…}}", effect)
}
