package attack

import (
	"fmt"
	"strings"
)

// bomb is Rego that costs more than its length says.
type bomb struct{ name, rego string }

// constantBombs need no input: whoever compiles them may already pay.
func constantBombs() []bomb {
	return []bomb{
		{"doubled strings joined", doubled("x := concat(s12, split(s12, \"\"))")},
		{"doubled strings replaced", doubled("x := replace(s12, \"a\", s12)")},
		{"doubled strings as JSON", doubled("x := json.marshal([s12 | some i in numbers.range(1, 20000)])")},
		{"doubled strings formatted", doubled("x := sprintf(concat(\"\", [\"%[1]s\" | some i in numbers.range(1, 20000)]), [s12])")},
		{"doubled strings in a template", doubled("x := strings.render_template(\"{{range .l}}{{$.s}}{{end}}\", {\"l\": numbers.range(1, 40000), \"s\": s12})")},
		{"doubled strings in base64", doubled("x := base64.encode(concat(\",\", [s12 | some i in numbers.range(1, 20000)]))")},
		{"a number of 40 million bits", "x := format_int(bits.lsh(1, 40000000), 10)"},
		{"a product of large numbers", "x := format_int(bits.lsh(1, 30000000) * bits.lsh(1, 30000000), 10)"},
		{"a range of all numbers", "x := numbers.range(1, 400000000)"},
		{"a product of two ranges", "a := numbers.range(1, 40000)\nx := [[i, j] | some i in a; some j in a]"},
		{"a padded string", "x := sprintf(\"%1000000000d\", [1])"},
		{"a set of subsets", "a := {i | some i in numbers.range(1, 3000)}\nx := {{i, j, k} | some i in a; some j in a; some k in a}"},
	}
}

// nestedBombs are short and take long to compile.
func nestedBombs() []bomb {
	return []bomb{
		{"nested arrays", "x := " + strings.Repeat("[1|", 32) + "true" + strings.Repeat("]", 32)},
		{"nested sets", "x := " + strings.Repeat("{1|", 30) + "true" + strings.Repeat("}", 30)},
		{"nested objects", "x := " + strings.Repeat("{1: 2|", 30) + "true" + strings.Repeat("}", 30)},
		{"nested templates", "x := " + strings.Repeat(`$"{`, 20) + "1" + strings.Repeat(`}"`, 20)},
		{"nested every", nestedEvery(24)},
	}
}

// inputBombs wait for an eviction.
func inputBombs() []bomb {
	return []bomb{
		{"strings of a pod's name", strings.Replace(doubled("x := concat(s12, split(s12, \"\"))"), `s0 := "`, `s0 := concat("", [input.pod.metadata.name, "`, 1)},
		{"a number of a pod's name", "x := format_int(bits.lsh(count(input.pod.metadata.name), 20000000), 10)"},
		{"a product of a pod's name", "a := numbers.range(1, count(input.pod.metadata.name) * 6000)\nx := [[i, j] | some i in a; some j in a]"},
	}
}

// doubled is a string of 160 KB, in a few lines, and what is made of it.
func doubled(last string) string {
	var b strings.Builder
	b.WriteString("s0 := \"" + strings.Repeat("a", 40) + "\"\n")
	for i := range 12 {
		fmt.Fprintf(&b, "s%d := concat(\"\", [s%d, s%d])\n", i+1, i, i)
	}
	return b.String() + last
}

func nestedEvery(depth int) string {
	var b strings.Builder
	b.WriteString("x if {\n")
	for i := range depth {
		fmt.Fprintf(&b, "every v%d in [1, 2] {\n", i)
	}
	b.WriteString("true\n" + strings.Repeat("}\n", depth) + "}")
	return b.String()
}

// module is a whole policy of this id; enforcement is METADATA's.
func (b bomb) module(id string) string {
	text := b.rego
	if strings.Contains(text, `[input.pod.metadata.name, "`) { // the list must be closed
		text = strings.Replace(text, "\"\ns1 ", "\"])\ns1 ", 1)
	}
	return fmt.Sprintf("# METADATA\n# title: t\n# description: d\n# custom:\n#   id: %s\n#   enforcement: enforce\npackage eviction.%s\n\n%s\n"+
		"deny contains {\"reason\": \"x\", \"detail\": {}} if count(x) == 1\n", id, id, text)
}
