package rego

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// The rules that a policy is asked for.
const (
	Deny  = "deny"
	Delay = "delay"
	Warn  = "warn"
)

// EffectNames are those rules.
var EffectNames = []string{Deny, Delay, Warn}

// EffectRef is where the violations of a policy stand.
func EffectRef[E ~string](id string, effect E) ast.Ref {
	return ast.MustParseRef(fmt.Sprintf("data.eviction.%s.%s", id, effect))
}

// CheckPackage holds a module to the shape of a policy, or of a helper below lib.
func CheckPackage(module *ast.Module) Problems {
	path := module.Package.Path
	if IsHelper(module) {
		return nil
	}
	if PolicyID(module) == "" {
		return Problems{ProblemAt(module.Package.Location, "%s is neither a policy, eviction.<id>, nor a helper below lib; write package eviction.%s",
			strings.Replace(path.String(), "data.", "package ", 1), likelyID(path))}
	}
	var problems Problems
	effects := 0
	for _, rule := range module.Rules {
		if slices.Contains(EffectNames, RuleName(rule)) {
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
		part := strings.Trim(strings.Map(identifierRune, KeyOf(term)), "_")
		if part != "eviction" && part != "evictions" && part != "policies" && part != "" {
			parts = append(parts, part)
		}
	}
	id := strings.Join(parts, "_")
	switch {
	case id == "":
		return "<id>"
	case !IsIdentifier(id):
		return "_" + id
	}
	return id
}

// identifierRune is a letter or digit of an identifier, else an underscore.
func identifierRune(r rune) rune {
	if IsIdentifier("_" + string(r)) {
		return r
	}
	return '_'
}

// noEffect says that the policy can never hold anything, and which rule was probably meant to.
func noEffect(module *ast.Module) Problem {
	for _, rule := range module.Rules {
		if near := LikelyEffect(rule); near != "" {
			return ProblemAt(rule.Location, "the policy has none of the rules deny, delay, warn; did you mean %s instead of %s?", near, RuleName(rule))
		}
	}
	return ProblemAt(module.Package.Location, "the policy has none of the rules deny, delay, warn: it can never hold an eviction")
}

// LikelyEffect is the effect that a rule of another name was probably meant to be; empty when it is
// hardly one.
func LikelyEffect(rule *ast.Rule) string {
	name := RuleName(rule)
	if rule.Head.RuleKind() != ast.MultiValue || len(rule.Head.Ref()) != 1 {
		return ""
	}
	switch Plain(name) {
	case "violation", "violations", "block", "reject", "refuse", "forbid", "prevent", "disallow", "denies", "denied", "denial", "denials":
		return Deny
	case "retry", "wait", "hold", "postpone", "defer":
		return Delay
	case "inform", "notify", "tell":
		return Warn
	}
	for _, effect := range EffectNames {
		if p := Plain(name); p != effect && (apart(name, effect) <= 1 || strings.HasPrefix(p, effect) && len(p) <= len(effect)+3) || Plain(name) == effect && name != effect {
			return effect
		}
	}
	return ""
}

// checkEffect holds one rule of deny, delay or warn to a set of violations.
func checkEffect(rule *ast.Rule) Problems {
	name := RuleName(rule)
	switch {
	case rule.Default:
		return Problems{ProblemAt(rule.Location, "%s needs no default: it is a set of violations, empty when no rule adds one; leave this line out", name)}
	case rule.Head.RuleKind() != ast.MultiValue || len(rule.Head.Ref()) != 1:
		return Problems{ProblemAt(rule.Location, "%s must be a set of violations%s: write `%s contains {\"reason\": …, \"detail\": …} if { … }`", name, butIs(rule), name)}
	}
	var problems Problems
	for _, value := range ViolationsOf(rule) {
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
		if kind := LiteralKind(rule.Head.Value); kind != "" && kind != "a set" {
			return ", not " + kind
		}
	}
	return ""
}

// ViolationsOf are the members that a rule of an effect is known to add, as they are written: in its head,
// in the assignment of a variable, or in a function of the module.
func ViolationsOf(rule *ast.Rule) []*ast.Term {
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
		rules := RulesNamed(l.module, v[0].String())
		for _, rule := range rules {
			for r := rule; r != nil; r = r.Else {
				if r.Head.Value != nil && !r.Default {
					l.add(r.Head.Value, r.Body)
				}
			}
		}
		if len(rules) == 0 && LiteralKind(t) != "" {
			l.found = append(l.found, t)
		}
	default:
		l.found = append(l.found, t)
	}
}

// assignedIn is what a body assigns to a variable by :=.
func assignedIn(body ast.Body, v ast.Var) *ast.Term {
	for _, e := range body {
		if name, value, ok := Assignment(e); ok && name.Value.Compare(v) == 0 {
			return value
		}
	}
	return nil
}

// checkViolation holds a member of an effect to {"reason": …, "detail": {…}}, or a plain string.
func checkViolation(effect string, t *ast.Term) Problems {
	object, ok := t.Value.(ast.Object)
	if !ok {
		if kind := LiteralKind(t); kind != "" && !strings.Contains(kind, "a string") && !strings.Contains(kind, "an object") {
			return Problems{ProblemAt(t.Location, "a member of %s must be an object {\"reason\": …, \"detail\": …} or a string, not %s", effect, kind)}
		}
		return nil
	}
	reason := object.Get(ast.StringTerm("reason"))
	if reason == nil {
		return Problems{noReason(effect, t, object)}
	}
	if kind := LiteralKind(reason); kind != "" && !strings.Contains(kind, "a string") {
		return Problems{ProblemAt(reason.Location, "the reason of a violation must be a string, not %s", kind)}
	}
	return nil
}

func noReason(effect string, t *ast.Term, object ast.Object) Problem {
	var near *ast.Term
	opaque := false
	object.Foreach(func(key, _ *ast.Term) {
		name, ok := key.Value.(ast.String)
		opaque = opaque || !ok
		if ok && slices.Contains([]string{"msg", "message", "text", "why", "cause"}, Plain(string(name))) || ok && near == nil && Nearest(string(name), []string{"reason"}) != "" {
			near = key
		}
	})
	if near != nil {
		return ProblemAt(near.Location, "a violation says why by its key reason; write \"reason\" instead of %s", near)
	}
	return ProblemAt(t.Location, "a member of %s has no reason; write {\"reason\": \"…\", \"detail\": {…}}", effect)
}
