package limits

import (
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/evictgate/evictgate/policies/internal/rego"
)

// Limits of one module. OPA's compiler and type checker take twice as long with each level of some
// constructs, so that 300 bytes could keep them busy for ever.
const (
	// maxModule is the size of a module, in bytes.
	maxModule = 1 << 20
	// maxNested is how deep brackets may be nested, of any kind.
	maxNested = 24
	// maxClosures is how deep comprehensions and template strings may be nested, one in the other.
	maxClosures = 6
	// maxTemplates is how deep template strings may be nested.
	maxTemplates = 4
	// maxTokens is how many names, numbers, strings and signs a module may have.
	maxTokens = 200_000
	// maxRules is how many rules a module may have, each clause counted.
	maxRules = 10_000
	// maxWritten is how many values a module may write out as one, with the variables in it put in: by
	// lists of lists, x := [y, y], a short text means a value without end.
	maxWritten = 50_000
)

// CheckFile looks at a module before OPA does, and says which limit it is beyond.
func CheckFile(f rego.File) rego.Problems {
	if len(f.Data) > maxModule {
		return rego.Problems{{File: f.Name, Message: fmt.Sprintf("the module has %d bytes; at most %s are allowed", len(f.Data), rego.SizeText(maxModule))}}
	}
	s := &scanner{text: string(f.Data)}
	s.scan()
	if s.problem == "" {
		return nil
	}
	row, col := placeOf(s.text, s.wrong)
	return rego.Problems{{File: f.Name, Row: row, Col: col, Message: s.problem}}
}

// placeOf is the row and column of an offset, from 1.
func placeOf(text string, offset int) (row, col int) {
	before := text[:offset]
	return strings.Count(before, "\n") + 1, offset - strings.LastIndexByte(before, '\n')
}

// bracket is one that is open.
type bracket struct {
	close byte
	// at is its offset, closure whether it is a comprehension or an expression in a template string, and
	// template whether it is the latter.
	at                int
	closure, template bool
	// closures and templates are how deep those within it are nested.
	closures, templates int
	// quote is that of the template string it stands in.
	quote byte
}

// scanner counts what OPA's parser would take apart: it knows comments, strings and brackets. It ends at the
// first limit.
type scanner struct {
	text    string
	at      int
	open    []bracket
	tokens  int
	problem string
	wrong   int // the offset of the problem
}

func (s *scanner) refuse(at int, format string, args ...any) {
	if s.problem == "" {
		s.problem, s.wrong = fmt.Sprintf(format, args...), at
	}
}

func (s *scanner) scan() {
	for s.at < len(s.text) && s.problem == "" {
		c := s.text[s.at]
		switch {
		case c == '#':
			s.skipTo('\n')
			continue
		case c == '$' && s.at+1 < len(s.text) && (s.text[s.at+1] == '"' || s.text[s.at+1] == '`'):
			s.at += 2
			s.template(s.text[s.at-1])
		case c == '"' || c == '`':
			s.at++
			s.text1(c)
		case c == '[' || c == '(' || c == '{':
			s.enter(bracket{close: closing(c), at: s.at})
			s.at++
		case c == ']' || c == ')' || c == '}':
			s.at++
			s.leave(c)
		case c == '|':
			s.bar()
			s.at++
		case isLetter(c):
			s.word()
		default:
			s.at++
			if c == ' ' || c == '\t' || c == '\n' || c == '\r' {
				continue
			}
		}
		if s.tokens++; s.tokens > maxTokens {
			s.refuse(min(s.at, len(s.text)-1), "the module has more than %d words and signs, which is the limit; divide it, or give long lists as parameters", maxTokens)
		}
	}
}

func closing(open byte) byte {
	switch open {
	case '[':
		return ']'
	case '(':
		return ')'
	}
	return '}'
}

func isLetter(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c >= 0x80
}

func (s *scanner) skipTo(end byte) {
	i := strings.IndexByte(s.text[s.at:], end)
	if i < 0 {
		s.at = len(s.text)
		return
	}
	s.at += i + 1
}

// text1 skips a string that has begun; a quoted one ends with its line.
func (s *scanner) text1(quote byte) {
	for s.at < len(s.text) {
		c := s.text[s.at]
		s.at++
		switch {
		case c == quote, quote == '"' && c == '\n':
			return
		case c == '\\' && quote == '"':
			s.at++
		}
	}
}

// template goes on in a template string, up to its end or to an expression in it.
func (s *scanner) template(quote byte) {
	for s.at < len(s.text) {
		c := s.text[s.at]
		s.at++
		switch {
		case c == quote, quote == '"' && c == '\n':
			return
		case c == '\\':
			s.at++
		case c == '{':
			s.enter(bracket{close: '}', at: s.at - 1, closure: true, template: true, quote: quote})
			return
		}
	}
}

func (s *scanner) enter(b bracket) {
	s.open = append(s.open, b)
	if len(s.open) > maxNested {
		s.refuse(b.at, "brackets are nested %d deep here; at most %d are allowed; make rules of the inner parts", len(s.open), maxNested)
	}
	if b.template {
		s.tooDeep()
	}
}

// bar makes a comprehension of the bracket in which it stands. A set operation looks alike, and counts.
func (s *scanner) bar() {
	if n := len(s.open); n > 0 && s.open[n-1].close != ')' {
		s.open[n-1].closure = true
		s.tooDeep()
	}
}

// tooDeep refuses closures that are nested too deep: around the innermost bracket, and within it.
func (s *scanner) tooDeep() {
	closures, templates := 0, 0
	for _, b := range s.open {
		if b.closure {
			closures++
		}
		if b.template {
			templates++
		}
	}
	inner := s.open[len(s.open)-1]
	closures, templates = closures+inner.closures, templates+inner.templates
	switch {
	case templates > maxTemplates:
		s.refuse(inner.at, "template strings are nested %d deep here; at most %d are allowed; give the inner ones names", templates, maxTemplates)
	case closures > maxClosures:
		s.refuse(inner.at, "comprehensions and template strings are nested %d deep here; at most %d are allowed; give the inner ones names", closures, maxClosures)
	}
}

func (s *scanner) leave(c byte) {
	n := len(s.open)
	if n == 0 || s.open[n-1].close != c {
		return // OPA's parser says what is wrong
	}
	b := s.open[n-1]
	s.open = s.open[:n-1]
	if b.closure {
		b.closures++
	}
	if b.template {
		b.templates++
	}
	if n > 1 {
		outer := &s.open[n-2]
		outer.closures, outer.templates = max(outer.closures, b.closures), max(outer.templates, b.templates)
	}
	if b.template {
		s.template(b.quote)
	}
}

// word skips a name or a number, and looks at the number.
func (s *scanner) word() {
	begin := s.at
	for s.at < len(s.text) && (isLetter(s.text[s.at]) || s.inNumber(begin)) {
		s.at++
	}
	if word := s.text[begin:s.at]; word[0] >= '0' && word[0] <= '9' {
		if err := checkNumber(word); err != nil {
			s.refuse(begin, "the module %v", err)
		}
	}
}

// inNumber reports whether a dot or a sign belongs to the number that has begun.
func (s *scanner) inNumber(begin int) bool {
	first, c, before := s.text[begin], s.text[s.at], s.text[s.at-1]
	if first < '0' || first > '9' {
		return false
	}
	return c == '.' || (c == '+' || c == '-') && (before == 'e' || before == 'E')
}

// CheckModule looks at a module that was parsed, before it is compiled.
func CheckModule(module *ast.Module) rego.Problems {
	if n := len(module.Rules); n > maxRules {
		at := module.Rules[maxRules].Location
		return rego.Problems{rego.ProblemAt(at, "the module has %d rules; at most %d are allowed; write the members of a set into one rule, or give them as parameters", n, maxRules)}
	}
	w := &writtenOut{rules: map[ast.Var][]*ast.Rule{}, sizes: map[ast.Var]int{}}
	for _, rule := range module.Rules {
		if name, ok := rule.Head.Ref()[0].Value.(ast.Var); ok {
			w.rules[name] = append(w.rules[name], rule)
		}
	}
	for _, rule := range module.Rules {
		for r := rule; r != nil; r = r.Else {
			if w.rule(r, 0); w.found != nil {
				return rego.Problems{rego.ProblemAt(w.found, "this stands for a value of more than %d values when its variables are put in, which is the limit", maxWritten)}
			}
		}
	}
	return nil
}

// writtenOut finds values that are larger than their text, by variables that stand for lists with variables.
type writtenOut struct {
	rules map[ast.Var][]*ast.Rule
	sizes map[ast.Var]int // of rules
	found *ast.Location
}

// rule is how large the value of a rule can be, as far as it is written out.
func (w *writtenOut) rule(r *ast.Rule, depth int) int {
	locals := map[ast.Var]int{}
	for _, arg := range r.Head.Args {
		ast.WalkVars(arg, func(v ast.Var) bool { locals[v] = 1; return false })
	}
	w.body(r.Body, locals, depth)
	largest := 1
	for _, t := range []*ast.Term{r.Head.Key, r.Head.Value} {
		if t != nil {
			largest = max(largest, w.term(t, locals, depth))
		}
	}
	return largest
}

// body learns what the variables of a body stand for.
func (w *writtenOut) body(body ast.Body, locals map[ast.Var]int, depth int) {
	for _, e := range body {
		if name, value, ok := rego.Assignment(e); ok {
			if v, isVar := name.Value.(ast.Var); isVar {
				locals[v] = w.term(value, locals, depth)
				continue
			}
		}
		if terms, ok := e.Terms.([]*ast.Term); ok {
			for _, t := range terms[1:] {
				w.term(t, locals, depth)
			}
		}
	}
}

// term is how many values a term stands for.
func (w *writtenOut) term(t *ast.Term, locals map[ast.Var]int, depth int) int {
	n := 1
	add := func(t *ast.Term) { n = min(n+w.term(t, locals, depth), 2*maxWritten) }
	switch v := t.Value.(type) {
	case ast.Var:
		if known, ok := locals[v]; ok {
			return known
		}
		return w.named(v, depth)
	case *ast.Array:
		v.Foreach(add)
	case ast.Set:
		v.Foreach(add)
	case ast.Object:
		v.Foreach(func(key, value *ast.Term) { add(key); add(value) })
	case *ast.ArrayComprehension:
		w.body(v.Body, locals, depth)
		add(v.Term)
	case *ast.SetComprehension:
		w.body(v.Body, locals, depth)
		add(v.Term)
	case *ast.ObjectComprehension:
		w.body(v.Body, locals, depth)
		add(v.Key)
		add(v.Value)
	case ast.Call:
		for _, arg := range v[1:] {
			w.term(arg, locals, depth)
		}
	}
	if n > maxWritten && w.found == nil {
		w.found = t.Location
	}
	return n
}

// named is the size of a rule of that name. A rule that needs itself is OPA's to refuse.
func (w *writtenOut) named(v ast.Var, depth int) int {
	if n, ok := w.sizes[v]; ok {
		return n
	}
	if depth > MaxDepth {
		return 1
	}
	w.sizes[v] = 1
	largest := 1
	for _, rule := range w.rules[v] {
		if len(rule.Head.Args) == 0 {
			largest = max(largest, w.rule(rule, depth+1))
		}
	}
	w.sizes[v] = largest
	return largest
}

// Weight is what a step of a policy with these effects counts. A step can make one value of those that its rules
// write out with variables in them; more than a few terms count as several steps, so that steps bound memory.
func Weight(compiler *ast.Compiler, effects []ast.Ref) int {
	largest := 0
	seen := map[*ast.Rule]bool{}
	for _, effect := range effects {
		for _, rule := range compiler.GetRulesExact(effect) {
			largest = max(largest, written(compiler, rule, seen))
		}
	}
	return 1 + largest/termsPerStep
}

// written is the most terms that a comprehension or the head of a rule makes, or of one that it needs.
func written(compiler *ast.Compiler, rule *ast.Rule, seen map[*ast.Rule]bool) int {
	if seen[rule] {
		return 0
	}
	seen[rule] = true
	largest := 0
	ast.WalkTerms(rule, func(t *ast.Term) bool {
		switch t.Value.(type) {
		case *ast.Array, ast.Set, ast.Object:
			if !t.IsGround() {
				largest = max(largest, termsIn(t))
				return true
			}
		}
		return false
	})
	for needed := range compiler.Graph.Dependencies(rule) {
		largest = max(largest, written(compiler, needed.(*ast.Rule), seen))
	}
	return largest
}

func termsIn(t *ast.Term) int {
	n := 0
	ast.WalkTerms(t, func(*ast.Term) bool { n++; return false })
	return n
}
