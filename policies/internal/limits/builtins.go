package limits

import (
	"context"
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"regexp/syntax"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/evictgate/evictgate/policies/internal/rego"
)

// bound is how one builtin is limited.
type bound struct {
	// charge refuses a call, or charges it, before it is made; nil charges the walk over its operands.
	charge func(*call) error
	// checked has the result looked at: it may be larger than what charge could tell.
	checked bool
	// says is the limit in words, for docs/limits.md; empty for a charge by size alone.
	says string
}

// call is one call of a builtin under the allowance of its evaluation.
type call struct {
	*Allowance
	name     string
	operands []*ast.Term
	// size is that of the operands, when they were walked.
	size Measure
}

// limitCode is the code of OPA's error for a limit.
const limitCode = "evictgate_limit"

// limitBuiltins puts the limits around OPA's builtins, for the whole process: OPA has one table of them.
var limitBuiltins = sync.OnceFunc(func() {
	for name, declared := range ast.BuiltinMap {
		f := topdown.GetBuiltin(name)
		if f == nil || LeftOut(declared) != "" || unlimited[name] {
			continue
		}
		own := *declared
		own.CanSkipBctx = false // the allowance is in it
		ast.BuiltinMap[name] = &own
		topdown.RegisterBuiltinFunc(name, limited(name, bounds[name], f))
	}
})

// limited is a builtin within its bound.
func limited(name string, of bound, f topdown.BuiltinFunc) topdown.BuiltinFunc {
	charge := of.charge
	if charge == nil {
		charge = (*call).walk
	}
	arity := ast.BuiltinMap[name].Decl.Arity()
	return func(bctx topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
		c := call{Allowance: allowanceOf(bctx), name: name, operands: operands}
		if len(operands) > arity {
			c.operands = operands[:arity] // the last one takes the result
		}
		c.at = bctx.Location
		if err := charge(&c); err != nil {
			return c.halt(err)
		}
		if !of.checked {
			return f(bctx, operands, iter)
		}
		return f(bctx, operands, func(result *ast.Term) error {
			if err := c.check(result.Value); err != nil {
				return c.halt(err)
			}
			return iter(result)
		})
	}
}

// allowanceOf is the allowance of the evaluation. OPA's tester has a Cancel of its own, so each call in a test
// has a whole one.
func allowanceOf(bctx topdown.BuiltinContext) *Allowance {
	if a, ok := bctx.Cancel.(*Allowance); ok {
		return a
	}
	return NewAllowance(context.Background(), DefaultPolicySteps, 1)
}

// halt ends the evaluation at once: a builtin's own error does not.
func (c *call) halt(err error) error {
	if c.Why == nil {
		c.Stop(fmt.Errorf("%s %w", publicName(c.name), err))
	}
	return topdown.Halt{Err: &topdown.Error{Code: limitCode, Message: c.Why.Error(), Location: c.at}}
}

// publicName is what an author knows a builtin as.
func publicName(name string) string {
	switch {
	case name == ast.InternalTemplateString.Name:
		return "a template string"
	case strings.HasPrefix(name, "internal.member_"):
		return "in"
	}
	if b := ast.BuiltinMap[name]; b != nil && b.Infix != "" {
		return b.Infix
	}
	return name
}

// walk charges the operands by their size.
func (c *call) walk() error {
	c.size = Measure{Most: MaxNodes}
	for _, operand := range c.operands {
		if err := c.size.Add(operand.Value); err != nil {
			return fmt.Errorf("is given a value that %w", err)
		}
	}
	if steps := c.size.steps(); steps > 0 {
		return c.spend(steps)
	}
	return nil
}

// check looks at a result: at the digits of its numbers, at the length of a text, and at how much it holds.
func (c *call) check(v ast.Value) error {
	if s, ok := v.(ast.String); ok {
		return c.text(len(s))
	}
	m := Measure{Most: MaxNodes}
	if err := m.Add(v); err != nil {
		return fmt.Errorf("would make a value that %w", err)
	}
	return c.make(m.Bytes + m.nodes*nodeBytes)
}

// text charges a text that is made; it may have so many bytes.
func (c *call) text(bytes int) error {
	if bytes > maxText {
		return fmt.Errorf("would make a text of %s; at most %s is allowed", rego.SizeText(bytes), rego.SizeText(maxText))
	}
	return c.make(bytes)
}

// items charges a list that is made.
func (c *call) items(n int) error {
	if n > MaxNodes {
		return fmt.Errorf("would make a list of %d members; at most %d are allowed", n, MaxNodes)
	}
	return c.make(n * nodeBytes)
}

// product charges work that grows with the product of two sizes.
func (c *call) product(a, b int) error {
	high, low := bits.Mul64(uint64(max(a, 1)), uint64(max(b, 1)))
	if high > 0 || low > maxMatching {
		return fmt.Errorf("would compare %d with %d; at most %d comparisons are allowed", a, b, maxMatching)
	}
	return c.spend(int(low) / comparisonsPerStep)
}

// str is an operand that is a text; another type is the builtin's own error.
func (c *call) str(i int) string {
	s, _ := c.operands[i].Value.(ast.String)
	return string(s)
}

// length is how many members an operand has, or bytes.
func (c *call) length(i int) int {
	if s, ok := c.operands[i].Value.(ast.String); ok {
		return len(s)
	}
	return Size(c.operands[i].Value)
}

// shallow charges by the number of members, without those of the members.
func (c *call) shallow() error {
	n := 0
	for i := range c.operands {
		n += c.length(i)
	}
	if n < nodesPerStep {
		return nil
	}
	return c.spend(n / nodesPerStep)
}

// grows charges a text that is at most so many times as long as the operands, with something for each value.
func grows(times, each int) func(*call) error {
	return func(c *call) error {
		if err := c.walk(); err != nil {
			return err
		}
		return c.upTo(times*c.size.Bytes + each*c.size.nodes)
	}
}

// upTo lets a text be made that may be too long, but not by far, so that the result can be looked at.
func (c *call) upTo(bytes int) error {
	if bytes > 8*maxText {
		return fmt.Errorf("would make a text of up to %s; at most %s is allowed", rego.SizeText(bytes), rego.SizeText(maxText))
	}
	return nil
}

// lists charges a value that is made of the operands, such as a union.
func lists(c *call) error {
	if err := c.walk(); err != nil {
		return err
	}
	return c.make(c.size.nodes * nodeBytes)
}

// joins charges a list of the operands' members.
func joins(c *call) error { return c.items(c.length(0) + c.length(1)) }

// comparesTwo charges two values that are compared.
func comparesTwo(c *call) error {
	for _, operand := range c.operands {
		if isScalar(operand.Value) {
			return c.spend(min(c.length(0), c.length(1)) / bytesPerStep)
		}
	}
	return c.walk()
}

// looksFor charges a value that is looked for among members.
func looksFor(c *call) error {
	in := c.operands[len(c.operands)-1]
	for _, sought := range c.operands[:len(c.operands)-1] {
		m := Measure{Most: MaxNodes}
		if err := m.Add(sought.Value); err != nil {
			return fmt.Errorf("is given a value that %w", err)
		}
		if err := c.product(Size(in.Value), m.nodes+m.Bytes/bytesPerStep); err != nil {
			return err
		}
	}
	return c.spend(Size(in.Value) / nodesPerStep)
}

// subsets charges object.subset, which comparesTwo lists member by member.
func subsets(c *call) error {
	var sizes [2]Measure
	for i, operand := range c.operands {
		sizes[i].Most = MaxNodes
		if err := sizes[i].Add(operand.Value); err != nil {
			return fmt.Errorf("is given a value that %w", err)
		}
	}
	return c.product(sizes[0].nodes, sizes[1].nodes)
}

// gets charges object.get by its key; the object is not walked.
func gets(c *call) error {
	m := Measure{Most: MaxNodes}
	if err := m.Add(c.operands[1].Value); err != nil {
		return fmt.Errorf("is given a key that %w", err)
	}
	return c.spend(m.steps())
}

// searches charges a search for a text, which is slow beyond ASCII.
func searches(c *call) error {
	text, sought := c.str(0), c.str(1)
	if isASCII(text) && isASCII(sought) {
		return c.shallow()
	}
	return c.product(len(text), len(sought))
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func searchesAll(c *call) error {
	if err := searches(c); err != nil {
		return err
	}
	return c.items(strings.Count(c.str(0), c.str(1)))
}

// cuts charges trim and its kin, which look every letter up.
func cuts(c *call) error { return c.product(c.length(0), c.length(1)) }

// concatenates knows the length of the text before it is made.
func concatenates(c *call) error {
	if err := c.walk(); err != nil {
		return err
	}
	n, of := c.length(0), Size(c.operands[1].Value)
	return c.text(c.size.Bytes - n + saturated(n, max(0, of-1)))
}

func saturated(a, b int) int {
	high, low := bits.Mul64(uint64(a), uint64(b))
	if high > 0 || low > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(low)
}

func replaces(c *call) error {
	text, old, with := c.str(0), c.str(1), c.str(2)
	if err := c.spend(len(text) / bytesPerStep); err != nil {
		return err
	}
	return c.text(len(text) + saturated(strings.Count(text, old), len(with)))
}

// replacesAll is about strings.replace_n: each place may take the longest replacement.
func replacesAll(c *call) error {
	if err := c.walk(); err != nil {
		return err
	}
	longest, shortest := 0, math.MaxInt
	if patterns, ok := c.operands[0].Value.(ast.Object); ok {
		patterns.Foreach(func(key, value *ast.Term) {
			old, _ := key.Value.(ast.String)
			with, _ := value.Value.(ast.String)
			longest, shortest = max(longest, len(with)), min(shortest, len(old))
		})
	}
	text := c.length(1)
	return c.upTo(text + saturated(text/max(1, shortest)+1, longest))
}

func splits(c *call) error {
	pieces := utf8.RuneCountInString(c.str(0))
	if separator := c.str(1); separator != "" {
		pieces = strings.Count(c.str(0), separator) + 1
	}
	if err := c.spend(c.length(0) / bytesPerStep); err != nil {
		return err
	}
	return c.items(pieces)
}

// formats bounds what sprintf makes: every verb may take the longest operand, a width and a precision.
func formats(c *call) error {
	if err := c.walk(); err != nil {
		return err
	}
	longest := 64
	if list, ok := c.operands[1].Value.(*ast.Array); ok {
		for i := range list.Len() {
			m := Measure{Most: MaxNodes}
			if err := m.Add(list.Elem(i).Value); err != nil {
				return err
			}
			longest = max(longest, m.Bytes+4*m.nodes)
		}
	}
	return c.upTo(formatted(c.str(0), longest))
}

// formatted is how long a format can become at most.
func formatted(format string, longest int) int {
	total := len(format)
	for {
		_, rest, ok := strings.Cut(format, "%")
		if !ok || total > math.MaxInt32 {
			return total
		}
		width, verb := formatWidth(rest)
		times := 1
		if strings.ContainsAny(verb, "qxXUv") {
			times = 6
		}
		total += width + times*longest + 320
		format = rest[len(rest)-len(strings.TrimPrefix(rest, "%")):]
	}
}

// formatWidth is what a verb asks for in letters, by all its numbers, and the verb.
func formatWidth(directive string) (width int, verb string) {
	end := strings.IndexFunc(directive, func(r rune) bool { return !strings.ContainsRune("0123456789.+-# []*", r) })
	if end < 0 {
		end = len(directive)
	}
	for number := range strings.FieldsFuncSeq(directive[:end], func(r rune) bool { return r < '0' || r > '9' }) {
		n, err := strconv.Atoi(number)
		if err != nil {
			n = math.MaxInt32
		}
		width += min(n, math.MaxInt32)
	}
	if strings.Contains(directive[:end], "*") {
		width += 2_000_000 // what fmt takes at most, for both
	}
	if end < len(directive) {
		verb = directive[end : end+1]
	}
	return width, verb
}

// numbers charges arithmetic: its operands have few digits, so the result can be looked at.
func numbers(c *call) error {
	for _, operand := range c.operands {
		n, ok := operand.Value.(ast.Number)
		if !ok {
			return c.walk()
		}
		if err := checkNumber(string(n)); err != nil {
			return fmt.Errorf("is given a value that %w", err)
		}
	}
	return nil
}

// multiplies is about product, which could double the digits with each member.
func multiplies(c *call) error {
	if err := c.walk(); err != nil {
		return err
	}
	if c.size.Bytes > 10*MaxDigits {
		return fmt.Errorf("is given numbers of %d digits in sum; at most %d are allowed", c.size.Bytes, 10*MaxDigits)
	}
	return c.spend(c.size.nodes)
}

// shifts bounds bits.lsh.
func shifts(c *call) error {
	if err := numbers(c); err != nil {
		return err
	}
	by, _ := c.operands[1].Value.(ast.Number)
	if n, ok := by.Int64(); !ok && !strings.HasPrefix(string(by), "-") || n > maxBits {
		return fmt.Errorf("would make a number of %s bits; at most %d are allowed", rego.Shorten(string(by), 24), maxBits)
	}
	return nil
}

// maxBits is how many bits a number of MaxDigits digits has.
const maxBits = 3321

// ranges bounds numbers.range and numbers.range_step by the number of members.
func ranges(c *call) error {
	if err := numbers(c); err != nil {
		return err
	}
	from, to := float(c.operands[0]), float(c.operands[1])
	step := 1.0
	if len(c.operands) > 2 {
		step = max(1, math.Abs(float(c.operands[2])))
	}
	n := math.Abs(to-from)/step + 1
	if !(n <= MaxNodes) {
		return fmt.Errorf("would make a list of %.0f members; at most %d are allowed", n, MaxNodes)
	}
	return c.items(int(n))
}

func float(t *ast.Term) float64 {
	n, _ := t.Value.(ast.Number)
	f, err := strconv.ParseFloat(string(n), 64)
	if err != nil && !math.IsInf(f, 0) {
		return 0
	}
	return f
}

// reads charges a text that becomes a number; it must not be a long one.
func readsNumber(c *call) error {
	s, ok := c.operands[0].Value.(ast.String)
	if !ok {
		return nil
	}
	if len(s) > MaxDigits {
		return fmt.Errorf("is given a text of %d letters; at most %d are allowed", len(s), MaxDigits)
	}
	return nil
}

// parses charges a text that becomes a value, which takes far more memory.
func parses(c *call) error {
	if n := c.length(0); n > maxParsed {
		return fmt.Errorf("is given a text of %s; at most %s is allowed", rego.SizeText(n), rego.SizeText(maxParsed))
	}
	return c.make(16 * c.length(0))
}

// parsesYAML refuses aliases, too: a short text with them is a large value.
func parsesYAML(c *call) error {
	if text := c.str(0); strings.ContainsRune(text, '&') && strings.ContainsRune(text, '*') {
		return fmt.Errorf("is given YAML with an anchor and an alias (& and *), which are not read here")
	}
	return parses(c)
}

// marshals bounds a YAML or indented JSON text: each value has a line of its own, and its indentation.
func marshals(c *call) error {
	if err := c.walk(); err != nil {
		return err
	}
	indent := 4
	if c.name == ast.JSONMarshalWithOptions.Name {
		m := Measure{Most: MaxNodes}
		if err := m.Add(c.operands[1].Value); err != nil {
			return err
		}
		indent += m.Bytes
	}
	return c.upTo(6*c.size.Bytes + saturated(c.size.nodes, 4+indent*(c.size.depth+1)))
}

// patches bounds json.patch: what is copied can be copied again.
func patches(c *call) error {
	if err := c.walk(); err != nil {
		return err
	}
	copies := 0
	if list, ok := c.operands[1].Value.(*ast.Array); ok {
		list.Foreach(func(t *ast.Term) {
			if patch, ok := t.Value.(ast.Object); ok {
				if op := patch.Get(ast.InternedTerm("op")); op != nil && op.Equal(ast.InternedTerm("copy")) {
					copies++
				}
			}
		})
		if err := c.product(list.Len(), c.size.nodes); err != nil {
			return err
		}
	}
	if copies > 16 || c.size.nodes<<copies > MaxNodes {
		return fmt.Errorf("copies a value %d times within itself, which could hold more than %d values", copies, MaxNodes)
	}
	return c.make(c.size.nodes << copies * nodeBytes)
}

// walks charges walk: it makes a path for each value.
func walks(c *call) error {
	m := Measure{Most: MaxNodes}
	if err := m.Add(c.operands[0].Value); err != nil {
		return fmt.Errorf("is given a value that %w", err)
	}
	return c.spend(m.nodes * (m.depth + 1) / nodesPerStep)
}

// matches charges a regular expression or glob by its size and that of the text.
func matches(pattern, text int) func(*call) error {
	return func(c *call) error {
		p := c.str(pattern)
		if len(p) > maxPattern {
			return fmt.Errorf("is given a pattern of %d bytes; at most %d are allowed", len(p), maxPattern)
		}
		program := programs.size(p)
		if program > maxProgram {
			return fmt.Errorf("is given a pattern that is %d long when its repetitions are written out; at most %d is allowed", program, maxProgram)
		}
		if text < 0 {
			return c.spend(program / nodesPerStep)
		}
		return c.matching(saturated(program, c.length(text)+1))
	}
}

// matching charges a pattern's work.
func (c *call) matching(work int) error {
	if work > maxMatching {
		return fmt.Errorf("would take %d comparisons for this pattern and this text; at most %d are allowed", work, maxMatching)
	}
	return c.spend(work / comparisonsPerStep)
}

// finds bounds what a regular expression finds.
func finds(pattern, text int) func(*call) error {
	match := matches(pattern, text)
	return func(c *call) error {
		if err := match(c); err != nil {
			return err
		}
		return c.items(saturated(c.length(text)+1, strings.Count(c.str(pattern), "(")+1))
	}
}

// substitutes bounds regex.replace: each place may take the template, and each $ of it what was found.
func substitutes(c *call) error {
	if err := matches(1, 0)(c); err != nil {
		return err
	}
	text, with := c.length(0), c.str(2)
	return c.upTo(text + saturated(text+1, len(with)) + saturated(text, strings.Count(with, "$")))
}

// globMatches charges glob.match: it tries each * at each place, within one another.
func globMatches(c *call) error {
	pattern := c.str(0)
	if len(pattern) > maxPattern {
		return fmt.Errorf("is given a pattern of %d bytes; at most %d are allowed", len(pattern), maxPattern)
	}
	open := strings.Count(pattern, "*") + strings.Count(pattern, "?") + strings.Count(pattern, "[") + strings.Count(pattern, ",")
	work := len(pattern) + 1
	for range bits.Len(uint(open)) {
		work = saturated(work, c.length(2)+1)
	}
	return c.matching(work)
}

// crosses bounds what print and net.cidr_contains_matches combine.
func crosses(c *call) error {
	if err := c.walk(); err != nil {
		return err
	}
	if len(c.operands) == 2 {
		return c.items(saturated(max(1, Size(c.operands[0].Value)), max(1, Size(c.operands[1].Value))))
	}
	combined := 1
	if list, ok := c.operands[0].Value.(*ast.Array); ok {
		list.Foreach(func(t *ast.Term) {
			if set, ok := t.Value.(ast.Set); ok {
				combined = saturated(combined, max(1, set.Len()))
			}
		})
	}
	return c.items(combined)
}

// expands bounds net.cidr_expand by the number of addresses.
func expands(c *call) error {
	prefix, err := netip.ParsePrefix(c.str(0))
	if err != nil {
		return nil //nolint:nilerr // the builtin itself says so
	}
	if free := prefix.Addr().BitLen() - prefix.Bits(); free > 16 {
		return fmt.Errorf("would make a set of 2^%d addresses; at most 65536 are allowed", free)
	}
	return c.items(1 << (prefix.Addr().BitLen() - prefix.Bits()))
}

// programs knows the sizes of patterns.
var programs = &patternSizes{}

// patternSizes remembers the sizes of the patterns that were asked last. It is safe for concurrent use.
type patternSizes struct {
	mu    sync.Mutex
	known map[string]int
}

func (p *patternSizes) size(pattern string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n, ok := p.known[pattern]; ok {
		return n
	}
	n := len(pattern) + 1
	if re, err := syntax.Parse(pattern, syntax.Perl); err == nil {
		n = programSize(re)
	}
	if p.known == nil || len(p.known) >= 128 {
		p.known = map[string]int{}
	}
	p.known[pattern] = n
	return n
}

// programSize is how long a regular expression is when its repetitions are written out.
func programSize(re *syntax.Regexp) int {
	n := 1 + len(re.Rune)
	for _, sub := range re.Sub {
		n += programSize(sub)
	}
	if re.Op == syntax.OpRepeat {
		n = saturated(n, max(1, re.Min, re.Max))
	}
	return min(n, math.MaxInt32)
}
