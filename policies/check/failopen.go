package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/internal/rego"
)

// The fail-open trap: a violation is undefined, and its rule refuses nothing, when a part of its message
// is undefined, although every condition of the rule holds.
//
// The analysis tells an expression that asks (a condition) from one that only prepares the violation (it
// assigns a variable that no condition uses). What a condition reads is there when the violation is
// made. Anything else that the violation reads must be there always, be given a default, or stand in a
// template string. Rules and functions that the violation uses are followed; one that has several clauses
// is taken to cover every case, since whether it does cannot be decided.

// failOpen finds the trap in the rules of one module.
type failOpen struct {
	module *ast.Module
	found  policies.Problems
	told   map[string]bool
	depth  int
	// left bounds the work on a module whose rules call each other in many ways.
	left int
}

// known is what has been shown of paths: that they are defined, and that they are not null.
type known struct{ defined, notNull map[string]bool }

func newKnown() known { return known{map[string]bool{}, map[string]bool{}} }

func (k known) clone() known { return known{maps.Clone(k.defined), maps.Clone(k.notNull)} }

func (k known) add(o known) {
	maps.Copy(k.defined, o.defined)
	maps.Copy(k.notNull, o.notNull)
}

// both keeps what two ways have in common.
func (k known) both(o known) known {
	common := func(a, b map[string]bool) map[string]bool {
		c := maps.Clone(a)
		maps.DeleteFunc(c, func(path string, _ bool) bool { return !b[path] })
		return c
	}
	return known{common(k.defined, o.defined), common(k.notNull, o.notNull)}
}

// deepest bounds how far rules are followed.
const deepest = 12

func findFailOpen(module *ast.Module, parameters *policies.Parameters) policies.Problems {
	f := &failOpen{module: module, told: map[string]bool{}, left: 10000}
	env := shapesOf(module, parameters)
	for _, rule := range module.Rules {
		if name := rego.RuleName(rule); name == string(policies.Deny) || name == string(policies.Delay) {
			f.clause(rule, rule.Head.Key, env.within(), newKnown(), true)
		}
	}
	return f.found
}

// clause looks at one rule, or one clause of it, that makes the value. It is a tail when its conditions
// are conditions of the violation itself, and not of a part of it.
func (f *failOpen) clause(rule *ast.Rule, value *ast.Term, env *shapes, k known, tail bool) {
	f.depth++
	defer func() { f.depth-- }()
	if f.left--; f.depth > deepest || f.left < 0 {
		return
	}
	conditions, feeds := f.split(rule.Body, env)
	k = k.clone()
	for _, e := range conditions {
		k.add(f.shown(e, env, 0))
	}
	for _, e := range feeds {
		env.bind(e)
		_, fed, _ := rego.Assignment(e)
		f.value(fed, rule.Body, env, k, tail && isVarOf(value, e))
	}
	f.value(value, rule.Body, env, k, tail)
}

// isVarOf reports whether the value is just the variable that an expression assigns.
func isVarOf(value *ast.Term, e *ast.Expr) bool {
	name, _, ok := rego.Assignment(e)
	return ok && name.Equal(value)
}

// split tells conditions from what only prepares the value, and binds the variables of the conditions.
func (f *failOpen) split(body ast.Body, env *shapes) (conditions, feeds []*ast.Expr) {
	feeding := map[*ast.Expr]ast.Var{}
	for _, e := range body {
		if name, value, ok := rego.Assignment(e); ok {
			if v, isVar := name.Value.(ast.Var); isVar && !v.IsWildcard() && !looksUp(value, body) {
				feeding[e] = v
			}
		}
	}
	for again := true; again; {
		again = false
		for e, v := range feeding {
			if slices.ContainsFunc(body, func(o *ast.Expr) bool { _, feeds := feeding[o]; return !feeds && uses(o, v) }) {
				delete(feeding, e)
				again = true
			}
		}
	}
	if !slices.ContainsFunc(body, func(e *ast.Expr) bool { _, feeds := feeding[e]; return !feeds && !isTrue(e) }) {
		// No other condition: what is looked up is what the rule is about.
		maps.DeleteFunc(feeding, func(e *ast.Expr, _ ast.Var) bool {
			_, value, _ := rego.Assignment(e)
			_, isRef := value.Value.(ast.Ref)
			return isRef
		})
	}
	for _, e := range body {
		if _, ok := feeding[e]; ok {
			feeds = append(feeds, e)
			continue
		}
		conditions = append(conditions, e)
		env.bind(e)
	}
	return conditions, feeds
}

// looksUp reports whether a value is looked up by a key that the body goes through, as in
// `some key in keys; value := labels[key]`: that asks which keys are there.
func looksUp(value *ast.Term, body ast.Body) bool {
	ref := refOf(value)
	key, ok := ref[len(ref)-1].Value.(ast.Var)
	return ok && len(ref) > 1 && slices.ContainsFunc(body, func(e *ast.Expr) bool {
		_, isDecl := e.Terms.(*ast.SomeDecl)
		return isDecl && uses(e, key)
	})
}

func uses(e *ast.Expr, v ast.Var) bool {
	found := false
	ast.WalkVars(e, func(x ast.Var) bool { found = found || x == v; return found })
	return found
}

// isTrue is the body of a rule that has none.
func isTrue(e *ast.Expr) bool {
	t, ok := e.Terms.(*ast.Term)
	return ok && t.Equal(ast.InternedTerm(true))
}

// shown is what holds when a condition does.
func (f *failOpen) shown(e *ast.Expr, env *shapes, depth int) known {
	k := newKnown()
	if f.left--; len(e.With) > 0 || depth > deepest || f.left < 0 {
		return k
	}
	if e.Negated {
		return f.shownByNot(e, env, depth)
	}
	switch terms := e.Terms.(type) {
	case *ast.Term:
		f.reads(terms, env, k)
		k.add(f.shownByRule(terms, nil, env, depth))
	case *ast.SomeDecl:
		for _, t := range terms.Symbols {
			f.reads(t, env, k)
		}
	case *ast.Every:
		f.reads(terms.Domain, env, k)
	case []*ast.Term:
		for _, t := range terms[1:] {
			f.reads(t, env, k)
		}
		f.shownByCall(terms, env, k)
		k.add(f.shownByRule(terms[0], terms[1:], env, depth))
	}
	return k
}

// typeTests are the builtins that are not true of null.
var typeTests = []string{"is_object", "is_string", "is_number", "is_array", "is_boolean", "is_set"}

// shownByCall adds that a value is not null: by a test of its type, or since it equals another value.
func (f *failOpen) shownByCall(terms []*ast.Term, env *shapes, k known) {
	switch name := terms[0].String(); {
	case slices.Contains(typeTests, name):
		k.notNull[env.of(terms[1]).path] = true
	case name == ast.Equal.Name || name == ast.Equality.Name || strings.HasPrefix(name, "internal.member_"):
		for i, t := range terms[1:] {
			other := terms[1+(i+1)%(len(terms)-1)]
			if kind := rego.LiteralKind(other); kind != "" && kind != "null" {
				k.notNull[env.of(t).path] = true
			}
		}
	case name == ast.NotEqual.Name:
		for i, t := range terms[1:] {
			if rego.LiteralKind(terms[1+(i+1)%2]) == "null" {
				k.notNull[env.of(t).path] = true
			}
		}
	}
}

// shownByNot is what `not is_null(x)` shows, or `not _bare` where that is the only condition of _bare.
func (f *failOpen) shownByNot(e *ast.Expr, env *shapes, depth int) known {
	k := newKnown()
	switch terms := e.Terms.(type) {
	case []*ast.Term:
		if terms[0].String() == "is_null" {
			k.notNull[env.of(terms[1]).path] = true
		}
	case *ast.Term:
		rules := rego.RulesNamed(f.module, terms.String())
		if len(rules) != 1 || rules[0].Else != nil || rules[0].Default || len(rules[0].Body) != 1 {
			return k
		}
		inner := rules[0].Body[0].Copy()
		inner.Negated = !inner.Negated
		return f.shown(inner, env.within(), depth+1)
	}
	return k
}

// shownByRule is what every clause of a rule or function of the module shows, when it is a condition.
func (f *failOpen) shownByRule(name *ast.Term, args []*ast.Term, env *shapes, depth int) known {
	var common *known
	for _, rule := range rego.RulesNamed(f.module, name.String()) {
		if rule.Default || rule.Head.RuleKind() != ast.SingleValue {
			continue
		}
		for r := rule; r != nil; r = r.Else {
			inner := env.within()
			f.pass(r, args, env, inner)
			k := newKnown()
			for _, e := range r.Body {
				inner.bind(e)
				k.add(f.shown(e, inner, depth+1))
			}
			if r.Head.Value != nil {
				f.reads(r.Head.Value, inner, k)
			}
			if common == nil {
				common = &k
				continue
			}
			k = common.both(k)
			common = &k
		}
	}
	if common == nil {
		return newKnown()
	}
	return *common
}

// pass gives a function the shapes of its arguments.
func (f *failOpen) pass(rule *ast.Rule, args []*ast.Term, from, to *shapes) {
	for i, arg := range rule.Head.Args {
		v, ok := arg.Value.(ast.Var)
		if !ok || i >= len(args) {
			continue
		}
		to.assign(v, from.of(args[i]))
	}
}

// reads adds what a term needs to have a value.
func (f *failOpen) reads(t *ast.Term, env *shapes, k known) {
	walkStrict(t, func(t *ast.Term) {
		k.defined[t.String()] = true // for rules and calls
		for _, st := range env.steps(refOf(t)) {
			k.defined[st.at.path], k.notNull[st.parent.path] = true, true
		}
	})
}

func refOf(t *ast.Term) ast.Ref {
	if ref, ok := t.Value.(ast.Ref); ok {
		return ref
	}
	return ast.Ref{t}
}

// walkStrict visits the refs, variables and calls without whose value a term has none. Comprehensions and
// template strings have one anyway.
func walkStrict(t *ast.Term, visit func(*ast.Term)) {
	switch v := t.Value.(type) {
	case ast.Ref:
		visit(t)
		for _, key := range v[1:] {
			if _, isVar := key.Value.(ast.Var); !isVar {
				walkStrict(key, visit)
			}
		}
	case ast.Var:
		visit(t)
	case ast.Call:
		visit(t)
		for _, arg := range v[1:] {
			walkStrict(arg, visit)
		}
	case *ast.Array:
		v.Foreach(func(t *ast.Term) { walkStrict(t, visit) })
	case ast.Set:
		v.Foreach(func(t *ast.Term) { walkStrict(t, visit) })
	case ast.Object:
		v.Foreach(func(key, value *ast.Term) {
			walkStrict(key, visit)
			walkStrict(value, visit)
		})
	}
}

// value looks at what makes the violation or a part of it.
func (f *failOpen) value(t *ast.Term, body ast.Body, env *shapes, k known, tail bool) {
	if _, isVar := t.Value.(ast.Var); k.defined[t.String()] && (!isVar || !tail) {
		return
	}
	switch v := t.Value.(type) {
	case ast.Var:
		f.member(v, body, env, k, tail)
		if !env.bound[v] {
			f.rule(t, nil, env, k, tail)
		}
	case ast.Ref:
		f.ref(t, v, env, k)
	case ast.Call:
		f.call(t, v, body, env, k, tail)
	case *ast.Array:
		v.Foreach(func(t *ast.Term) { f.value(t, body, env, k, false) })
	case ast.Set:
		v.Foreach(func(t *ast.Term) { f.value(t, body, env, k, false) })
	case ast.Object:
		v.Foreach(func(key, value *ast.Term) {
			f.value(key, body, env, k, false)
			f.value(value, body, env, k, false)
		})
	}
}

// member follows `some violation in _set`, where the set's members are the violations: its rules are
// rules of the effect.
func (f *failOpen) member(v ast.Var, body ast.Body, env *shapes, k known, tail bool) {
	if !tail {
		return
	}
	for _, e := range body {
		decl, ok := e.Terms.(*ast.SomeDecl)
		if !ok || len(decl.Symbols) != 1 {
			continue
		}
		call, ok := decl.Symbols[0].Value.(ast.Call)
		if !ok || len(call) != 3 || call[1].Value.Compare(v) != 0 {
			continue
		}
		for _, rule := range rego.RulesNamed(f.module, call[2].String()) {
			if rule.Head.RuleKind() == ast.MultiValue && rule.Head.Key != nil {
				f.clause(rule, rule.Head.Key, env.within(), k, true)
			}
		}
	}
}

// ref looks at each step of a ref that leads into the input.
func (f *failOpen) ref(t *ast.Term, ref ast.Ref, env *shapes, k known) {
	for _, st := range env.steps(ref) {
		if st.parentMayBeNull && !k.notNull[st.parent.path] {
			f.tell(t, fmt.Sprintf("%s can be undefined, since %s may be null", ref, st.parent.path))
			return
		}
		if st.mayMiss && !k.defined[st.at.path] {
			f.tell(t, fmt.Sprintf("%s can be undefined, since %s may be missing", ref, st.at.path))
			return
		}
	}
}

func (f *failOpen) call(t *ast.Term, call ast.Call, body ast.Body, env *shapes, k known, tail bool) {
	for _, arg := range call[1:] {
		f.value(arg, body, env, k, false)
	}
	name := call[0].String()
	if name == ast.ObjectGet.Name {
		if at := env.of(call[1]); isNullable(at) && !k.notNull[at.path] {
			f.tell(t, fmt.Sprintf("object.get fails when %s is null, and then the eviction is undecided", at.path))
		}
		return
	}
	if ast.BuiltinMap[name] == nil {
		f.rule(call[0], call[1:], env, k, tail)
		return
	}
	f.builtin(t, name, call[1:], body)
}

// rule follows a rule or a function of the module.
func (f *failOpen) rule(name *ast.Term, args []*ast.Term, env *shapes, k known, tail bool) {
	rules := rego.RulesNamed(f.module, name.String())
	if len(rules) == 0 || slices.ContainsFunc(rules, func(r *ast.Rule) bool { return r.Default }) {
		return
	}
	for _, rule := range rules {
		if rule.Head.RuleKind() != ast.SingleValue || len(rule.Head.Ref()) != 1 || rule.Head.Value == nil {
			return
		}
		for r := rule; r != nil; r = r.Else {
			inner := env.within()
			f.pass(r, args, env, inner)
			if !tail && len(rules) == 1 && r.Else == nil && r == rule && !f.always(r, inner, k) {
				f.tell(name, fmt.Sprintf("%s can be undefined, since its only rule has a condition", name))
				return
			}
			f.clause(r, r.Head.Value, inner, k, tail)
		}
	}
}

// always reports whether the conditions of a clause are known to hold. A clause that takes constants as
// arguments is one of several cases.
func (f *failOpen) always(rule *ast.Rule, env *shapes, k known) bool {
	conditions, _ := f.split(rule.Body, env)
	for _, e := range conditions {
		if isTrue(e) {
			continue
		}
		shown := f.shown(e, env, 0)
		t, isTerm := e.Terms.(*ast.Term)
		_, _, assigns := rego.Assignment(e)
		if e.Negated || !isTerm && !assigns || isTerm && env.of(t).schema == nil {
			return false
		}
		for path := range shown.defined {
			if !k.defined[path] {
				return false
			}
		}
	}
	return true
}

// fallible are builtins that fail on some values of the right type: then the policy fails, and the
// eviction is undecided. The word says of what.
var fallible = map[string]string{
	"to_number": "text that is not a number", "time.parse_ns": "text that is not a time in that layout",
	"time.parse_rfc3339_ns": "text that is not a time", "time.parse_duration_ns": "text that is not a duration",
	"json.unmarshal": "text that is not JSON", "yaml.unmarshal": "text that is not YAML",
	"base64.decode": "text that is not base64", "base64url.decode": "text that is not base64", "hex.decode": "text that is not hexadecimal",
	"units.parse": "text that is not a quantity", "units.parse_bytes": "text that is not a quantity",
	"semver.compare": "text that is not a version", "net.cidr_contains": "text that is not an address",
	"div": "a divisor of zero", "rem": "a divisor of zero",
}

// builtin finds calls that can fail, unless a condition of the rule looks at what they are given.
func (f *failOpen) builtin(t *ast.Term, name string, args []*ast.Term, body ast.Body) {
	what, ok := fallible[name]
	if name == ast.Max.Name || name == ast.Min.Name {
		if _, isArray := args[0].Value.(*ast.Array); !isArray && !f.asked(args[0], body) {
			f.tell(t, fmt.Sprintf("%s can be undefined, since there is no %s of an empty list", short(t), name))
		}
		return
	}
	if !ok {
		return
	}
	if name == ast.Divide.Name || name == ast.Rem.Name {
		args = args[1:]
	}
	for _, arg := range args {
		if _, isCall := arg.Value.(ast.Call); (isCall || rego.LiteralKind(arg) == "") && !f.asked(arg, body) {
			f.tell(t, fmt.Sprintf("%s fails on %s, and then the eviction is undecided", short(t), what))
			return
		}
	}
}

// asked reports whether an expression of the body gives the term to a function, and so looks at what it
// is, not only whether it is there.
func (f *failOpen) asked(arg *ast.Term, body ast.Body) bool {
	for _, e := range body {
		terms, isCall := e.Terms.([]*ast.Term)
		if _, _, assigns := rego.Assignment(e); !isCall || assigns || !e.Negated && slices.Contains(equalities, terms[0].String()) {
			continue
		}
		found := false
		ast.WalkTerms(e, func(t *ast.Term) bool { found = found || t.Equal(arg); return found })
		if found {
			return true
		}
	}
	return false
}

// equalities are the builtins that do not look at what a value is.
var equalities = []string{ast.Equality.Name, ast.Equal.Name, ast.NotEqual.Name}

// short is a term's text, cut to what a line takes.
func short(t *ast.Term) string {
	if t.Location != nil && len(t.Location.Text) > 0 && len(t.Location.Text) <= 60 && !strings.Contains(string(t.Location.Text), "\n") {
		return string(t.Location.Text)
	}
	return t.String()
}

// tell adds a finding, once for each place.
func (f *failOpen) tell(t *ast.Term, what string) {
	l := t.Location
	if l == nil {
		return
	}
	at := fmt.Sprintf("%d:%d", l.Row, l.Col)
	if f.told[at] {
		return
	}
	f.told[at] = true
	p := rego.ProblemAt(l, "%s; %s", what, failOpenCure(what))
	p.Severity = policies.SeverityWarning
	f.found = append(f.found, p)
}

func failOpenCure(what string) string {
	if strings.Contains(what, "undecided") {
		return "ask for it in a condition first"
	}
	return "the rule holds nothing then: write it in a template string, $\"… {x} …\", give it a default by object.get, or make it a condition"
}
