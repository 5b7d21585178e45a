package suite

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/internal/limits"
	"github.com/evictgate/evictgate/policies/internal/opa"
	"github.com/evictgate/evictgate/policies/internal/rego"
)

// inquiry evaluates parts of an expression that stopped, with the values its variables had.
type inquiry struct {
	ctx      context.Context
	compiler *ast.Compiler
	// modules are as they were parsed: the compiler drops their imports.
	modules []*ast.Module
	input   *ast.Term
	now     time.Time
}

// stopped is an expression that did not hold: its source, and the values of its variables.
type stopped struct {
	location *ast.Location
	pkg      *ast.Package
	locals   map[ast.Var]ast.Value
}

// newStopped reads the event of a failure. The compiler may have made several expressions of one; the
// source's is meant.
func newStopped(event *topdown.Event, rule *ast.Rule) stopped {
	s := stopped{location: event.Node.(*ast.Expr).BaseCogeneratedExpr().Location, locals: map[ast.Var]ast.Value{}}
	if s.location == nil {
		s.location = cmp.Or(event.Location, &ast.Location{})
	}
	if rule != nil && rule.Module != nil {
		s.pkg = rule.Module.Package
	}
	event.Locals.Iter(func(k, v ast.Value) bool {
		name, ok := k.(ast.Var)
		if meta, renamed := event.LocalMetadata[name]; renamed {
			name = meta.Name
		}
		if ok && v.IsGround() {
			s.locals[name] = v
		}
		return false
	})
	return s
}

// why says with values why an expression did not hold; empty when it cannot be told.
func (q *inquiry) why(s stopped) string {
	body, err := ast.ParseBodyWithOpts(string(s.location.Text), ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil || len(body) != 1 {
		return ""
	}
	expr := body[0]
	switch terms := expr.Terms.(type) {
	case *ast.SomeDecl:
		return q.noMember(terms, s, expr.With)
	case *ast.Every:
		return "it does not hold for every member"
	case *ast.Term:
		return q.whyTerm(terms, s, expr)
	}
	filled := string(s.location.Text)
	if len(expr.With) > 0 {
		filled = filled[:withOffset(filled, expr)]
	}
	operands := operandsOf(expr)
	for _, operand := range slices.Backward(operands) {
		value, known := q.value(operand, s, expr.With)
		switch {
		case !known:
			return ""
		case value == nil:
			return q.undefined(operand, s, expr.With)
		}
		at := operand.Location.Offset
		filled = filled[:at] + rego.Shorten(value.String(), maxValue) + filled[at+len(operand.Location.Text):]
	}
	switch {
	case expr.Negated:
		return rego.Shorten(strings.TrimPrefix(filled, "not"), rego.MaxSource) + " is true"
	case ast.BuiltinMap[expr.Operator().String()] == nil:
		return rego.Shorten(filled, rego.MaxSource) + " is undefined or false"
	case len(operands) == 0:
		return ""
	}
	return rego.Shorten(filled, rego.MaxSource) + " is false"
}

// difference says of an expression in a test what its sides are; of any other why it does not hold.
func (q *inquiry) difference(s stopped) Difference {
	d := Difference{Place: place(s.location), What: rego.Shorten(rego.OneLine(string(s.location.Text)), rego.MaxSource), Expected: "true", Actual: q.why(s)}
	body, err := ast.ParseBodyWithOpts(string(s.location.Text), ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err == nil && len(body) == 1 && compares(body[0]) {
		actual, expected := body[0].Operand(0), body[0].Operand(1)
		if isLookedUp(expected) && !isLookedUp(actual) {
			actual, expected = expected, actual
		}
		d.Actual, d.Expected = q.told(actual, s, body[0].With), q.told(expected, s, body[0].With)
	}
	if d.Actual == "" {
		d.Actual = "false or undefined"
	}
	return d
}

// compares reports whether an expression asks two sides to be equal.
func compares(expr *ast.Expr) bool {
	if !expr.IsCall() || expr.Negated || len(expr.Operands()) != 2 {
		return false
	}
	operator := expr.Operator()
	return operator.Equal(ast.Equal.Ref()) || operator.Equal(ast.Equality.Ref())
}

// isLookedUp reports whether a term is the result of a policy rather than a value that is written down.
func isLookedUp(t *ast.Term) bool {
	switch t.Value.(type) {
	case ast.Ref, ast.Call:
		return true
	}
	return false
}

func (q *inquiry) told(t *ast.Term, s stopped, with []*ast.With) string {
	value, known := q.value(t, s, with)
	switch {
	case !known:
		return textOf(t)
	case value == nil:
		return q.undefined(t, s, with)
	}
	return value.String()
}

// withOffset is where the modifiers of an expression begin in its source.
func withOffset(text string, expr *ast.Expr) int {
	at := len(text)
	if l := expr.With[0].Location; l != nil && l.Offset > 0 && l.Offset < at {
		at = l.Offset
	}
	return at
}

// noMember is about `some x in collection`.
func (q *inquiry) noMember(some *ast.SomeDecl, s stopped, with []*ast.With) string {
	call, ok := some.Symbols[0].Value.(ast.Call)
	if !ok {
		return ""
	}
	collection := call[len(call)-1]
	value, known := q.value(collection, s, with)
	switch {
	case !known:
		return ""
	case value == nil:
		return q.undefined(collection, s, with)
	case limits.Size(value) == 0:
		return textOf(collection) + " has no member"
	}
	return "no member fits"
}

// whyTerm is about an expression that is a single term.
func (q *inquiry) whyTerm(term *ast.Term, s stopped, expr *ast.Expr) string {
	value, known := q.value(term, s, expr.With)
	switch {
	case !known:
		return ""
	case value == nil:
		return q.undefined(term, s, expr.With)
	}
	if _, constant := term.Value.(ast.Boolean); constant {
		return "it is " + value.String()
	}
	return fmt.Sprintf("%s is %s", textOf(term), rego.Shorten(value.String(), maxValue))
}

// undefined says what is undefined: the shortest part of a ref, and that what it is looked up in is null.
func (q *inquiry) undefined(term *ast.Term, s stopped, with []*ast.With) string {
	ref, ok := term.Value.(ast.Ref)
	if !ok {
		return textOf(term) + " is undefined"
	}
	for n := 2; n < len(ref); n++ {
		value, known := q.value(ast.NewTerm(ref[:n]), s, with)
		if !known {
			break
		}
		if _, null := value.(ast.Null); null {
			return ref[:n].String() + " is null"
		}
		if value == nil {
			return ref[:n].String() + " is undefined"
		}
	}
	return textOf(term) + " is undefined"
}

func textOf(t *ast.Term) string { return rego.Shorten(string(t.Location.Text), rego.MaxSource) }

// operandsOf lists what has a value of its own in a call, but for constants, in the order of the source.
func operandsOf(expr *ast.Expr) []*ast.Term {
	var list []*ast.Term
	for _, operand := range expr.Operands() {
		switch operand.Value.(type) {
		case ast.Var, ast.Ref, ast.Call, *ast.TemplateString, *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension:
			if operand.Location != nil && len(operand.Location.Text) > 0 {
				list = append(list, operand)
			}
		}
	}
	slices.SortFunc(list, func(a, b *ast.Term) int { return a.Location.Offset - b.Location.Offset })
	return list
}

// value evaluates a term of the source where it stands: nil when it is undefined, and false when that
// cannot be known.
func (q *inquiry) value(term *ast.Term, s stopped, with []*ast.With) (value ast.Value, known bool) {
	if name, ok := term.Value.(ast.Var); ok && s.locals[name] != nil {
		m := limits.Measure{Most: limits.MaxMember}
		return s.locals[name], m.Add(s.locals[name]) == nil
	}
	const result = ast.Var("evictgate_value")
	var body ast.Body
	asked := ast.Equality.Expr(ast.NewTerm(result), term.Copy())
	for _, w := range with {
		asked.With = append(asked.With, w.Copy())
	}
	for name := range ast.NewBody(asked).Vars(ast.VarVisitorParams{}) {
		if v := s.locals[name]; v != nil {
			body.Append(ast.Assign.Expr(ast.NewTerm(name), ast.NewTerm(v)))
		}
	}
	body.Append(asked)
	query, err := opa.Query(q.compiler, body, q.context(s.pkg))
	if err != nil {
		return nil, false
	}
	if q.input != nil {
		query.WithInput(q.input)
	}
	if !q.now.IsZero() {
		query.WithTime(q.now)
	}
	allowance := limits.NewAllowance(q.ctx, policies.DefaultPolicySteps, 1)
	query.WithCancel(allowance).WithVirtualCache(limits.NewRuleCache(nil, allowance))
	err = query.Iter(q.ctx, func(answer topdown.QueryResult) error {
		value = answer[result].Value
		return nil
	})
	if m := (limits.Measure{Most: limits.MaxMember}); err != nil || value != nil && m.Add(value) != nil {
		return nil, false
	}
	return value, true
}

// context lets a query use the rules and the imports of a package.
func (q *inquiry) context(pkg *ast.Package) *ast.QueryContext {
	if pkg == nil {
		return nil
	}
	c := ast.NewQueryContext().WithPackage(pkg)
	for _, m := range q.modules {
		if m.Package.Location != nil && pkg.Location != nil && m.Package.Location.File == pkg.Location.File {
			c = c.WithImports(m.Imports)
		}
	}
	return c
}

// maxValue is how much is shown of a value, in runes.
const maxValue = 80

// place is file:row:col.
func place(l *ast.Location) string {
	if l == nil {
		return ""
	}
	return fmt.Sprintf("%s:%d:%d", l.File, l.Row, l.Col)
}
