//go:build linux

package attack

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// regoKind is a kind of Rego that may cost more than its length says. Sizes are drawn, so that some are small
// enough to be compiled.
type regoKind struct {
	name string
	rego func(*rand.Rand) string
}

// regoViolation is a rule that asks for x.
const regoViolation = "\n\ndeny contains {\"reason\": \"x\", \"detail\": {}} if x == 1"

// regoNested nests a construct between two texts.
func regoNested(name, open, inner, end string, most int) regoKind {
	return regoKind{name, func(r *rand.Rand) string {
		n := 8 + r.IntN(most-8)
		return "x := " + strings.Repeat(open, n) + inner + strings.Repeat(end, n) + regoViolation
	}}
}

// regoDoubled doubles a string in rules and gives the largest to an expression.
func regoDoubled(name, expression string) regoKind {
	return regoKind{name, func(r *rand.Rand) string {
		var b strings.Builder
		fmt.Fprintf(&b, "s0 := %q\n", strings.Repeat("a", 1+r.IntN(60)))
		n := 8 + r.IntN(20)
		for i := range n {
			fmt.Fprintf(&b, "s%d := concat(\"\", [s%d, s%d])\n", i+1, i, i)
		}
		fmt.Fprintf(&b, "s := s%d\nx := %s", n, expression)
		return b.String() + regoViolation
	}}
}

// regoLarge draws a number and puts it into an expression.
func regoLarge(name, expression string, least, most int) regoKind {
	return regoKind{name, func(r *rand.Rand) string {
		return "x := " + strings.ReplaceAll(expression, "N", fmt.Sprint(least+r.IntN(most-least))) + regoViolation
	}}
}

// regoRepeated repeats a line, with its number for N and the next one for M.
func regoRepeated(name, before, line string, least, most int) regoKind {
	return regoKind{name, func(r *rand.Rand) string {
		var b strings.Builder
		b.WriteString(before + "\n")
		for i := range least + r.IntN(most-least) {
			b.WriteString(strings.NewReplacer("N", fmt.Sprint(i), "M", fmt.Sprint(i+1)).Replace(line) + "\n")
		}
		return b.String() + "x := 1" + regoViolation
	}}
}

// regoProduct multiplies some lists.
func regoProduct(name, each, result string) regoKind {
	return regoKind{name, func(r *rand.Rand) string {
		var names, parts []string
		for i := range 2 + r.IntN(4) {
			names = append(names, fmt.Sprintf("v%d", i))
			parts = append(parts, strings.ReplaceAll(each, "V", names[i]))
		}
		body := strings.Join(parts, "; ")
		return fmt.Sprintf("a := numbers.range(1, %d)\nx := ", 10+r.IntN(20_000)) +
			strings.NewReplacer("NAMES", strings.Join(names, ", "), "BODY", body).Replace(result) + regoViolation
	}}
}

// regoKinds are taken in turn.
var regoKinds = []regoKind{
	// Constructs in each other.
	regoNested("nested array comprehensions", "[1|", "true", "]", 64),
	regoNested("nested set comprehensions", "{1|", "true", "}", 64),
	regoNested("nested object comprehensions", "{1: 1|", "true", "}", 64),
	regoNested("comprehensions in heads", "[", "1", "|true]", 64),
	regoNested("comprehensions of assignments", "[v|v := ", "1", "]", 48),
	regoNested("nested template strings", "$\"{", "1", "}\"", 32),
	regoNested("nested calls", "abs(", "1", ")", 3000),
	regoNested("nested unions", "({1}|", "{1}", ")", 3000),
	regoNested("nested arrays", "[", "1", "]", 20_000),
	regoNested("nested objects", "{\"a\": ", "1", "}", 20_000),
	regoNested("nested sets", "{", "1", "}", 20_000),
	regoNested("nested parentheses", "(", "1", ")", 20_000),
	regoNested("nested references", "a[", "0", "]", 3000),
	regoNested("sums", "1+", "1", "", 5000),
	regoNested("negated signs", "-", "1", "", 200),
	regoNested("arrays that never end", "[", "", "", 50_000),
	regoNested("braces that never end", "{", "", "", 50_000),
	regoNested("comprehensions that never end", "[1|", "", "", 64),
	regoNested("templates that never end", "$\"{", "", "", 64),
	{"nested every", func(r *rand.Rand) string {
		n := 2 + r.IntN(40)
		return "y if {\n" + strings.Repeat("every v in [1, 2] {\n", n) + "v == 1\n" + strings.Repeat("}\n", n) + "}\nx := 1" + regoViolation
	}},
	{"every over calls of every", func(r *rand.Rand) string {
		n := 2 + r.IntN(24)
		return "y if {\n" + strings.Repeat("every v in [1 | every w in [1] { w == 1 }] {\n", n) + "v == 1\n" + strings.Repeat("}\n", n) + "}\nx := 1" + regoViolation
	}},
	{"with on with", func(r *rand.Rand) string {
		return "y := 1 if input.pod.metadata.name == \"a\"" + strings.Repeat(" with input.pod.metadata.name as [1 | true]", 1+r.IntN(300)) + "\nx := 1" + regoViolation
	}},
	{"else chains", func(r *rand.Rand) string {
		return "y := 1 if input.pod.metadata.name == \"a\"" + strings.Repeat(" else := 2 if input.pod.metadata.name == \"b\"", 1+r.IntN(3000)) + "\nx := 1" + regoViolation
	}},
	{"comprehensions beside each other in each other", func(r *rand.Rand) string {
		text := "1"
		for range 2 + r.IntN(12) {
			text = "[v | some v in [" + text + ", " + text + "]]"
		}
		return "x := " + text + regoViolation
	}},
	{"objects whose keys are objects", func(r *rand.Rand) string {
		n := 2 + r.IntN(300)
		return "x := " + strings.Repeat("{{", n) + "1" + strings.Repeat(": 1}: 1}", n) + regoViolation
	}},
	// Builtins that multiply.
	regoDoubled("concat of itself", `concat(s, split(s, ""))`),
	regoDoubled("replace by itself", `replace(s, "a", s)`),
	regoDoubled("JSON of itself", `count(json.marshal([s | some i in numbers.range(1, 2000)]))`),
	regoDoubled("YAML of itself", `count(yaml.marshal([s | some i in numbers.range(1, 2000)]))`),
	regoDoubled("sprintf of itself", `sprintf("%s%s%s%s%s%s%s%s", [s, s, s, s, s, s, s, s])`),
	regoDoubled("sprintf with a width", `sprintf("%*d", [count(s) * 1000, 1])`),
	regoDoubled("a template of itself", `strings.render_template("{{range .l}}{{$.s}}{{end}}", {"l": split(s, ""), "s": s})`),
	regoDoubled("hex of hex", `hex.encode(hex.encode(hex.encode(hex.encode(s))))`),
	regoDoubled("base64 of base64", `base64.encode(base64.encode(base64.encode(s)))`),
	regoDoubled("URL of URL", `urlquery.encode(urlquery.encode(urlquery.encode(s)))`),
	regoDoubled("substrings of all", `count(indexof_n(s, "a"))`),
	regoDoubled("a number of a string", `to_number(concat("", ["1", replace(s, "a", "0")]))`),
	regoDoubled("regular expression", `regex.replace(s, "a*", s)`),
	regoDoubled("trimmed and upper", `count(upper(concat("", [s, s, s, s])))`),
	regoDoubled("globs", `glob.match(s, [], s)`),
	regoDoubled("reversed", `strings.reverse(strings.reverse(concat("", [s, s])))`),
	// Numbers.
	regoLarge("shifted to the left", "format_int(bits.lsh(1, N), 10)", 1000, 60_000_000),
	regoLarge("shifted without text", "bits.lsh(1, N)", 1000, 2_000_000_000),
	regoLarge("a range", "count(numbers.range(1, N))", 1000, 2_000_000_000),
	regoLarge("a range with steps", "count(numbers.range_step(1, N, 2))", 1000, 2_000_000_000),
	regoLarge("an exponent", "1eN", 10, 3_000_000),
	regoLarge("an exponent in arithmetic", "1eN * 1eN + 1", 10, 3_000_000),
	regoLarge("an exponent rounded", "ceil(1eN)", 10, 3_000_000),
	regoLarge("an exponent as a string", "to_number(\"1eN\") % 7", 10, 3_000_000),
	regoLarge("a width", "sprintf(\"%Nd\", [1])", 10, 2_000_000_000),
	regoLarge("a precision", "sprintf(\"%.Nf\", [1.5])", 10, 2_000_000_000),
	regoLarge("a repetition", "regex.match(\"((a{1,N}){1,N}){1,N}\", \"a\")", 2, 1000),
	regoLarge("addresses", "count(net.cidr_expand(\"10.0.0.0/1\")) + N", 1, 9),
	{"a long number", func(r *rand.Rand) string {
		digits := strings.Repeat("9", 100+r.IntN(200_000))
		return "x := " + digits + " * " + digits + regoViolation
	}},
	{"squares of squares", func(r *rand.Rand) string {
		var b strings.Builder
		b.WriteString("n0 := 99999999999999999999\n")
		n := 4 + r.IntN(28)
		for i := range n {
			fmt.Fprintf(&b, "n%d := n%d * n%d\n", i+1, i, i)
		}
		return b.String() + fmt.Sprintf("x := n%d", n) + regoViolation
	}},
	// Products.
	regoProduct("an array of a product", "some V in a", "[[NAMES] | BODY]"),
	regoProduct("a set of a product", "some V in a", "{[NAMES] | BODY}"),
	regoProduct("an object of a product", "some V in a", "{[NAMES]: 1 | BODY}"),
	regoProduct("a sum of a product", "V := a[_]", "sum([v0 | BODY])"),
	{"graphs", func(r *rand.Rand) string {
		n := 10 + r.IntN(3000)
		return fmt.Sprintf("x := count(graph.reachable_paths({i: [j | some j in numbers.range(1, %d)] | some i in numbers.range(1, %d)}, {1}))", n, n) + regoViolation
	}},
	{"walks", func(r *rand.Rand) string {
		return fmt.Sprintf("a := numbers.range(1, %d)\nb := [a | some i in a]\nx := count([1 | walk([b, b, b], w); walk([b, b], v)])", 10+r.IntN(3000)) + regoViolation
	}},
	// Rules that double.
	{"rules that are arrays of rules", func(r *rand.Rand) string {
		var b strings.Builder
		b.WriteString("r0 := [input.parameters]\n")
		n := 4 + r.IntN(30)
		for i := range n {
			fmt.Fprintf(&b, "r%d := [r%d, r%d]\n", i+1, i, i)
		}
		return b.String() + fmt.Sprintf("x := count(json.marshal(r%d))", n) + regoViolation
	}},
	{"rules that are types of rules", func(r *rand.Rand) string {
		var b strings.Builder
		b.WriteString("r0 := {\"a\": 1}\n")
		n := 4 + r.IntN(30)
		for i := range n {
			fmt.Fprintf(&b, "r%d := {\"a\": r%d, \"b\": r%d}\n", i+1, i, i)
		}
		return b.String() + fmt.Sprintf("x := r%d", n) + regoViolation
	}},
	{"functions that call functions", func(r *rand.Rand) string {
		var b strings.Builder
		b.WriteString("f0(v) := v\n")
		n := 4 + r.IntN(40)
		for i := range n {
			fmt.Fprintf(&b, "f%d(v) := f%d(v) + f%d(v + 1)\n", i+1, i, i)
		}
		return b.String() + fmt.Sprintf("x := f%d(1)", n) + regoViolation
	}},
	regoRepeated("a chain of rules", "r0 := 1", "rM := rN + 1", 100, 4000),
	regoRepeated("rules of one name", "", "y contains N if input.pod.metadata.name == \"aN\"", 50, 1500),
	regoRepeated("functions of one name", "", "f(\"N\") := N", 50, 3000),
	regoRepeated("complete rules of one name", "", "y := N if input.pod.metadata.name == \"aN\"", 50, 1500),
	regoRepeated("references of one rule", "", "y.a.bN.c := N", 50, 3000),
	regoRepeated("imports", "", "import data.lib.aN", 50, 3000),
	// Texts.
	regoRepeated("undefined functions", "", "yN := nopeN(1)", 100, 5000),
	regoRepeated("unsafe variables", "", "yN := wN", 100, 5000),
	regoRepeated("unknown fields", "", "yN := input.pod.metadata.namM", 100, 3000),
	regoRepeated("syntax errors", "", "yN := )", 100, 5000),
	regoRepeated("types that do not fit", "", "yN := input.pod.metadata.name + N", 100, 3000),
	{"broken strings", func(r *rand.Rand) string { return "p" + strings.Repeat("\"\\u0000\"", 100+r.IntN(8000)) }},
	{"broken escapes", func(r *rand.Rand) string { return "x := \"" + strings.Repeat("\\q", 100+r.IntN(30_000)) + "\"" }},
	{"bytes of nothing", func(r *rand.Rand) string { return strings.Repeat("\x00", 100+r.IntN(60_000)) }},
	{"a long name", func(r *rand.Rand) string {
		name := strings.Repeat("n", 1000+r.IntN(500_000))
		return name + " := 1\nx := " + name + regoViolation
	}},
	{"a long path", func(r *rand.Rand) string {
		return "x := input" + strings.Repeat(".pod", 100+r.IntN(5000)) + regoViolation
	}},
	{"a long string", func(r *rand.Rand) string {
		return fmt.Sprintf("x := count(split(%q, \"\"))", strings.Repeat("ä", 1000+r.IntN(500_000))) + regoViolation
	}},
	{"a long array", func(r *rand.Rand) string {
		return "x := [" + strings.Repeat("[1, {\"a\": 2}], ", 1000+r.IntN(20_000)) + "1]" + regoViolation
	}},
	{"a long body", func(r *rand.Rand) string {
		return "x := 1 if {\n" + strings.Repeat("\tinput.pod.metadata.name == input.pod.metadata.namespace\n", 100+r.IntN(5000)) + "}" + regoViolation
	}},
	{"variables of one another", func(r *rand.Rand) string {
		var b strings.Builder
		n := 10 + r.IntN(1500)
		for i := range n {
			fmt.Fprintf(&b, "\tw%d = w%d\n", i, i+1)
		}
		return "x := 1 if {\n" + b.String() + fmt.Sprintf("\tw%d = 1\n}", n) + regoViolation
	}},
	{"much METADATA", func(r *rand.Rand) string {
		return strings.Repeat("# METADATA\n# title: t\n# description: d\ny if true\n\n", 50+r.IntN(1000)) + "x := 1" + regoViolation
	}},
}
