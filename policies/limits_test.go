package policies

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/evictgate/evictgate/policies/internal/limits"
	"github.com/evictgate/evictgate/policies/internal/rego"
	"github.com/evictgate/evictgate/test/harness/scale"
)

// doubled are rules s0 to sN, texts of which each is twice as long as the one before: the first has 40 letters.
func doubled(first string, n int) string {
	s := "s0 := concat(\"\", [" + first + ", \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"])\n"
	for i := 1; i <= n; i++ {
		s += fmt.Sprintf("s%d := concat(\"\", [s%d, s%d])\n", i, i-1, i-1)
	}
	return s
}

// nested are rules x0 to xN, lists of which each holds the one before twice.
func nested(n int) string {
	s := "x0 := [y | some y in [1, 2]]\n"
	for i := 1; i <= n; i++ {
		s += fmt.Sprintf("x%d := [y | some z in [1, 2]; y := [x%d, z]]\n", i, i-1)
	}
	return s
}

// bombs are rules x that would take no end of time or memory, and what is said of each.
var bombs = []struct{ name, rules, want string }{
	{"a text of texts", doubled(`input.pod.metadata.name`, 11) + `x := concat(s11, split(s11, ""))`, "concat would make a text of"},
	{"replacements", doubled(`input.pod.metadata.name`, 12) + `x := replace(s12, "a", s12)`, "replace would make a text of"},
	{"replacements by pattern", doubled(`input.pod.metadata.name`, 12) + `x := regex.replace(s12, "a", s12)`, "regex.replace would make a text of up to"},
	{"replacements by $0", doubled(`input.pod.metadata.name`, 12) + `x := regex.replace(s12, "a*", replace(s4, "a", "$0"))`, "regex.replace would make a text of up to"},
	{"many replacements", doubled(`input.pod.metadata.name`, 12) + `x := strings.replace_n({"a": s12}, s12)`, "strings.replace_n would make a text of up to"},
	{"a wide format", `x := sprintf("%1000000d%1000000d%1000000d%1000000d%1000000d%1000000d%1000000d%1000000d%1000000d", [1])`, "sprintf would make a text of up to 9 MiB"},
	{"a format with widths as operands", `x := sprintf("%*d%*d%*d%*d%*d", [999999, 1, 999999, 1, 999999, 1, 999999, 1, count(input.pod)])`, "sprintf would make a text of up to"},
	{"a format that repeats", doubled(`input.pod.metadata.name`, 12) + `x := sprintf(replace(s10, "a", "%[1]s"), [s12])`, "sprintf would make a text of up to"},
	{"a template string", doubled(`input.pod.metadata.name`, 14) + `x := $"{s14}{s14}{s14}"`, "a template string would make a text of"},
	{"a large shift", `x := format_int(bits.lsh(count(input.pod.metadata.name), 20000000), 10)`, "bits.lsh would make a number of 20000000 bits; at most 3321 are allowed"},
	{"a huge shift", `x := bits.lsh(1, 18446744073709551617)`, "bits.lsh would make a number of 18446744073709551617 bits"},
	{"squares", "y0 := to_number(input.pod.spec.containers[0].image)\nx := y0", ""},
	{"powers", "y0 := 10000000000 * count(input.pod.metadata.name)\n" + squares(12) + "x := y12", "* would make a value that has a number of"},
	{"a product", `x := product([y | some i in numbers.range(1, 50000); y := 1000000000])`, "product is given numbers of 500000 digits in sum"},
	{"a huge number by text", `x := to_number("1e-999999999") + 1`, "to_number would make a value that has a number with the exponent 999999999"},
	{"a huge number by JSON", `x := json.unmarshal("[1e999999999]")[0] + 1`, "json.unmarshal: invalid number"},
	{"a long range", `x := numbers.range(1, 1000000000)`, "numbers.range would make a list of 1000000000 members; at most 100000 are allowed"},
	{"a long range of steps", `x := numbers.range_step(1, 1000000000, 3)`, "numbers.range_step would make a list of 333333334 members"},
	{"a product of lists", "a := numbers.range(1, 40000)\nx := [[i, j] | some i in a; some j in a]", "stopped after 500000 steps"},
	{"a product of keys", "a := numbers.range(1, 40000)\nx := {$\"{i}-{j}\": i | some i in a; some j in a}", "stopped after 500000 steps"},
	{"addresses", `x := net.cidr_expand("10.0.0.0/8")`, "net.cidr_expand would make a set of 2^24 addresses; at most 65536 are allowed"},
	{"lists of lists", nested(30) + `x := x30`, "the value of a rule holds more than 100000 values"},
	{"lists of lists in JSON", "f(a) := [a, a]\nx := json.marshal(" + strings.Repeat("f(", 20) + "input.pod.metadata.name" + strings.Repeat(")", 20) + ")", "the value of a rule holds more than 100000 values"},
	{"lists of lists within a rule", "x if {\n\ty0 := [input.pod.metadata.name]\n" + locals(30) + "\tcount(json.marshal(y30)) > 0\n}", "json.marshal is given a value that holds more than 100000 values"},
	{"a list joined with itself", "y0 := numbers.range(1, 1000)\n" + joined(12) + "x := y12", "array.concat would make a list of 128000 members"},
	{"unions", "y0 := {i: input.pod.metadata | some i in numbers.range(1, 20000)}\nx := object.union(y0, {\"a\": 1})", "holds more than 100000 values"},
	{"copies by patches", `x := json.patch({"a": 1}, [p | some i in numbers.range(1, 40); p := {"op": "copy", "from": "", "path": sprintf("/b%d", [i])}])`, "json.patch copies a value 40 times within itself"},
	{"a pattern with repetitions", `x if regex.match("((a{100}){100}){100}", input.pod.metadata.name)`, ""},
	{"a long pattern", doubled(`input.pod.metadata.name`, 6) + `x if regex.match(s6, "a")`, "regex.match is given a pattern of"},
	{"a pattern that is long when written out", doubled(`input.pod.metadata.name`, 12) + `x if regex.match("(x+x+){500}y", s12)`, "regex.match would take"},
	{"a glob with many stars", doubled(`input.pod.metadata.name`, 6) + `x if glob.match("*a*a*a*a*a*a*a*b", [], s6)`, "glob.match would take"},
	{"a cut with many letters", doubled(`input.pod.metadata.name`, 12) + "x := trim(s12, s12)", "trim would compare"},
	{"a search beyond ASCII", doubled(`"ä"`, 12) + "x := indexof(s12, s12)", "indexof would compare"},
	{"YAML that refers to itself", `x := yaml.unmarshal("a: &a [1, 1]\nb: [*a, *a]")`, "yaml.unmarshal is given YAML with an anchor and an alias"},
	{"a long JSON text", doubled(`input.pod.metadata.name`, 13) + "x := json.unmarshal(s13)", "json.unmarshal is given a text of"},
	{"splits", doubled(`input.pod.metadata.name`, 12) + `x := split(s12, "")`, "split would make a list of"},
	{"many texts", doubled(`input.pod.metadata.name`, 12) + `x := [y | some i in numbers.range(1, 1000); y := concat("", [s12, $"{i}"])]`, "make more than 16 MiB in one evaluation"},
	{"hashes without end", doubled(`input.pod.metadata.name`, 13) + `x := [y | some i in numbers.range(1, 100000); y := crypto.sha256(s13)]`, "stopped after 500000 steps"},
	{"comparisons without end", doubled(`input.pod.metadata.name`, 13) + `x := [i | some i in numbers.range(1, 100000); contains(s13, "b")]`, "stopped after 500000 steps"},
	{"a walk over walks", nested(12) + "x := [p | some p, _ in walk(x12)]", ""},
}

func squares(n int) (s string) {
	for i := 1; i <= n; i++ {
		s += fmt.Sprintf("y%d := y%d * y%d\n", i, i-1, i-1)
	}
	return s
}

func joined(n int) (s string) {
	for i := 1; i <= n; i++ {
		s += fmt.Sprintf("y%d := array.concat(y%d, y%d)\n", i, i-1, i-1)
	}
	return s
}

func locals(n int) (s string) {
	for i := 1; i <= n; i++ {
		s += fmt.Sprintf("\ty%d := [y%d | some _ in [1, 2]]\n", i, i-1)
	}
	return s
}

// mostMade is what one evaluation makes at most, dead values included.
const mostMade = 512 << 20

func TestBombsEndWithinTheirLimits(t *testing.T) {
	for _, tt := range bombs {
		t.Run(tt.name, func(t *testing.T) {
			set, err := compileFiles([]File{policy("bomb", tt.rules+"\ndeny contains {\"reason\": \"x\", \"detail\": {}} if x\n")})
			if err != nil {
				t.Skipf("refused: %v", err)
			}
			before := allocated()
			d := set.Evaluate(t.Context(), inputFor(), Options{})
			made := allocated() - before
			if t.Logf("made %d MiB", made>>20); made > mostMade {
				t.Error("that is too much")
			}
			if tt.want == "" {
				return
			}
			if len(d.Failures) != 1 || !strings.Contains(d.Failures[0].Error, tt.want) || !strings.HasPrefix(d.Failures[0].Error, "bomb.rego:") {
				t.Errorf("failures %v; want one at bomb.rego: that says %s", d.Failures, tt.want)
			}
		})
	}
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// OPA's sets take long for members whose hashes are near: every step of it takes longer than the one before.
// No count tells, so the review's time does.
func TestSetsOfAlikeMembersEndWithTheReview(t *testing.T) {
	for name, rules := range map[string]string{
		"a product of sets":            "x := {[i, j] | some i in a; some j in a}",
		"a product in a set of rules":  "y contains [i, j] if { some i in a; some j in a }\nx := y",
		"numbers between two integers": "x := {y | some i in a; y := i / 1000000}",
	} {
		t.Run(name, func(t *testing.T) {
			set := compiled(t, policy("a", "a := numbers.range(count(input.pod.metadata.name), 40000)\n"+rules+"\ndeny contains \"x\" if count(x) == 1"))
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if d := set.Evaluate(ctx, inputFor(), Options{}); len(d.Failures) != 1 || set.bound[0].lost.Load() != 0 && !strings.HasSuffix(d.Failures[0].Error, notBack) {
				t.Errorf("failures %v", d.Failures)
			}
		})
	}
}

func TestTheSameLimitIsMetAtAnyLoad(t *testing.T) {
	set := compiled(t, policy("a", endless))
	want := set.Evaluate(t.Context(), inputFor(), Options{}).Failures
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for range 2 {
		if diff := cmp.Diff(want, set.Evaluate(t.Context(), inputFor(), Options{}).Failures); diff != "" {
			t.Errorf("-before +now:\n%s", diff)
		}
	}
}

// A builtin at its limit, and one beyond it.
func TestLimitsOfBuiltins(t *testing.T) {
	for name, tt := range map[string]struct{ at, beyond string }{
		"numbers.range":      {`count(numbers.range(1, 100000)) == 100000`, `numbers.range(1, 100001)`},
		"numbers.range_step": {`count(numbers.range_step(0, 199998, 2)) == 100000`, `numbers.range_step(0, 200000, 2)`},
		"bits.lsh":           {`bits.lsh(1, 3321) > 1`, `bits.lsh(1, 3322) > 1`},
		"net.cidr_expand":    {`count(net.cidr_expand("10.0.0.0/16")) == 65536`, `net.cidr_expand("10.0.0.0/15")`},
		"concat":             {`count(concat("x", [y | some _ in numbers.range(1, 1024); y := "` + strings.Repeat("a", 1023) + `"])) == 1048575`, `concat("xx", [y | some _ in numbers.range(1, 1025); y := "` + strings.Repeat("a", 1023) + `"])`},
		"replace":            {`count(replace("` + strings.Repeat("a", 1000) + `", "a", "` + strings.Repeat("b", 1000) + `")) == 1000000`, `replace("` + strings.Repeat("a", 1100) + `", "a", "` + strings.Repeat("b", 1000) + `")`},
		"sprintf":            {`count(sprintf("%1000000d", [1])) == 1000000`, `sprintf("%1000000d%1000000d", [1, 1])`},
		"regex.match":        {`not regex.match("^(abcdefghijklmnopqrst){1,400}$", "aaa")`, `not regex.match("^(abcdefghijklmnopqrst){1,900}$", "aaa")`},
		"yaml.unmarshal":     {`yaml.unmarshal("a: &a 1") == {"a": 1}`, `yaml.unmarshal("a: &a 1\nb: *a")`},
	} {
		t.Run(name, func(t *testing.T) {
			for rule, fails := range map[string]bool{tt.at: false, tt.beyond: true} {
				set := compiled(t, policy("a", "deny contains \"held\" if {\n\tinput.pod.metadata.name\n\t"+rule+"\n}"))
				d := set.Evaluate(t.Context(), inputFor(), Options{})
				if len(d.Failures) == 1 != fails || !fails && len(d.Violations) != 1 {
					t.Errorf("%s: failures %v, violations %d", rego.Shorten(rule, 80), d.Failures, len(d.Violations))
				}
				if fails && len(d.Failures) == 1 && !strings.Contains(d.Failures[0].Error, name+" ") {
					t.Errorf("%s: %s does not name it", rego.Shorten(rule, 80), d.Failures[0].Error)
				}
			}
		})
	}
}

func TestAViolationThatIsTooLargeKeepsItsReason(t *testing.T) {
	set := compiled(t, policy("a", `deny contains {"reason": "busy", "detail": {"all": numbers.range(1, 5000)}}`), policy("b", `delay contains "later"`))
	d := set.Evaluate(t.Context(), inputFor(), Options{})
	if len(d.Violations) != 2 || d.Violations[0].Reason != "busy" || len(d.Violations[0].Detail) != 0 {
		t.Errorf("violations %v", d.Violations)
	}
	if len(d.Failures) != 1 || !strings.Contains(d.Failures[0].Error, "a.rego: a member of deny holds more than 2000 values") {
		t.Errorf("failures %v", d.Failures)
	}
}

func TestReasonsAreBounded(t *testing.T) {
	set := compiled(t, policy("a", `deny contains concat("", [x | some _ in numbers.range(1, 10000); x := "ä"])`))
	d := set.Evaluate(t.Context(), inputFor(), Options{})
	if len(d.Violations) != 1 || len(d.Violations[0].Reason) > limits.MaxReasonLength || !strings.HasSuffix(d.Violations[0].Reason, "…") {
		t.Errorf("violations %v", d.Violations)
	}
}

func TestWhatDoesNotComeBackHoldsNobody(t *testing.T) {
	set := compiled(t, policy("a", `deny contains "never" if trim_prefix(input.pod.metadata.name, "stuck") != input.pod.metadata.name`), policy("b", `delay contains "later"`))
	come, gone := make(chan struct{}), make(chan struct{})
	was := topdown.GetBuiltin(ast.TrimPrefix.Name)
	topdown.RegisterBuiltinFunc(ast.TrimPrefix.Name, func(bctx topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
		if s, ok := operands[0].Value.(ast.String); ok && strings.HasPrefix(string(s), "stuck") {
			<-come
			defer close(gone)
		}
		return was(bctx, operands, iter)
	})
	defer topdown.RegisterBuiltinFunc(ast.TrimPrefix.Name, was)

	in := inputFor(func(in *Input) { in.Pod.Name = "stuck-1" })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	d := set.Evaluate(ctx, in, Options{})
	want := []Failure{
		{Policy: "a", Enforcement: Enforce, Error: "a.rego: " + notBack},
		{Policy: "b", Enforcement: Enforce, Error: "b.rego: " + limits.NotInTime},
	}
	if diff := cmp.Diff(want, d.Failures); diff != "" || d.Outcome != Undecided {
		t.Errorf("outcome %s, failures -want +got:\n%s", d.Outcome, diff)
	}

	d = set.Evaluate(t.Context(), inputFor(), Options{})
	want = []Failure{{Policy: "a", Enforcement: Enforce, Error: "a.rego: " + notAsked}}
	if diff := cmp.Diff(want, d.Failures); diff != "" || len(d.Violations) != 1 {
		t.Errorf("violations %v, failures while it is away -want +got:\n%s", d.Violations, diff)
	}

	close(come)
	<-gone
	for set.bound[0].lost.Load() > 0 {
		runtime.Gosched()
	}
	if d = set.Evaluate(t.Context(), inputFor(), Options{}); len(d.Failures) > 0 {
		t.Errorf("failures after it came back: %v", d.Failures)
	}
}

func TestModulesBeyondTheLimitsAreRefused(t *testing.T) {
	nest := func(open, inner, close string, n int) string {
		return strings.Repeat(open, n) + inner + strings.Repeat(close, n)
	}
	for name, tt := range map[string]struct{ at, beyond, want string }{
		"brackets":            {nest("[", "1", "]", 24), nest("[", "1", "]", 25), "a.rego:3:30: brackets are nested 25 deep here; at most 24 are allowed"},
		"comprehensions":      {nest("[1|", "true", "]", 6), nest("[1|", "true", "]", 32), "nested 7 deep here; at most 6 are allowed"},
		"heads":               {nest("[", "1", "|true]", 6), nest("[", "1", "|true]", 7), "nested 7 deep here"},
		"sets":                {nest("{1|", "true", "}", 6), nest("{1|", "true", "}", 7), "nested 7 deep here"},
		"objects":             {nest("{1:2|", "true", "}", 6), nest("{1:2|", "true", "}", 7), "nested 7 deep here"},
		"template strings":    {nest(`$"{`, "1", `}"`, 4), nest(`$"{`, "1", `}"`, 18), "template strings are nested 5 deep here; at most 4 are allowed"},
		"templates and lists": {nest(`$"{[1|`, "true", `][0]}"`, 3), nest(`$"{[1|`, "true", `][0]}"`, 4), "comprehensions and template strings are nested 7 deep here"},
		"digits":              {strings.Repeat("1", 1000), strings.Repeat("1", 1003), "has a number of 1003 digits; at most 1000 are allowed"},
		"exponents":           {"1e1000", "1e999999999", "has a number with the exponent 999999999; at most 1000 is allowed"},
		"values written out":  {"[y, y] if y := [1, 2]", "y20 if {\n\ty0 := input.pod\n" + pairs(20) + "}", "a value of more than 50000 values"},
		"brackets in strings": {`"` + strings.Repeat("[", 99) + `"`, "`" + strings.Repeat("[", 99) + "` + " + nest("[", "1", "]", 30), "brackets are nested 25 deep"},
		"brackets in remarks": {"1 # " + strings.Repeat("[", 99), nest("[ # ]\n", "1", "]", 30), "brackets are nested 25 deep"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := compileFiles([]File{policy("a", "x := "+tt.at+"\ndeny contains \"x\" if x")}); err != nil {
				t.Errorf("at the limit: %v", err)
			}
			_, err := compileFiles([]File{policy("a", "x := "+tt.beyond+"\ndeny contains \"x\" if x")})
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "a.rego:") {
				t.Errorf("beyond it: %v; want %s", err, tt.want)
			}
		})
	}
}

func pairs(n int) (s string) {
	for i := 1; i <= n; i++ {
		s += fmt.Sprintf("\ty%d := [y%d, y%d]\n", i, i-1, i-1)
	}
	return s
}

func TestErrorsOfABadModuleAreFew(t *testing.T) {
	for name, rules := range map[string]string{
		"strings":          strings.Repeat(`p"\u0000"`, 2000),
		"functions":        "x if {\n" + strings.Repeat("\tfoo(1)\n", 2000) + "}",
		"fields":           strings.Repeat("x := input.pdo.metadata\n", 2000),
		"names":            "x := [" + strings.Repeat("foo, ", 2000) + "1]",
		"brackets of ends": strings.Repeat("x := ]\n", 2000),
	} {
		t.Run(name, func(t *testing.T) {
			before := allocated()
			_, err := compileFiles([]File{policy("a", rules)})
			var problems Problems
			if !errors.As(err, &problems) {
				t.Fatal(err)
			}
			if len(problems) > rego.MaxProblems {
				t.Errorf("%d problems", len(problems))
			}
			if made := allocated() - before; made > mostMade {
				t.Errorf("made %d MiB", made>>20)
			}
			if len(problems) == rego.MaxProblems && !strings.Contains(problems[rego.MaxProblems-1].Message, " more") {
				t.Errorf("the last is %v", problems[rego.MaxProblems-1])
			}
		})
	}
}

func TestSchemasOfParametersDoNotReferToThemselves(t *testing.T) {
	module := "# METADATA\n# custom:\n#   parameters:\n#     a: {allOf: [{$ref: \"#/properties/a\"}], default: 1}\npackage eviction.a\n\ndeny contains \"x\" if input.parameters.a == 1\n"
	_, err := compileFiles([]File{{Name: "a.rego", Data: []byte(module)}})
	if err == nil || !strings.Contains(err.Error(), "custom.parameters.a has $ref, which is not followed here") {
		t.Error(err)
	}
}

// Large sets of policies are honest; they load.
func TestLargePoliciesLoad(t *testing.T) {
	lines := func(n int, line string) string {
		var s strings.Builder
		for i := range n {
			fmt.Fprintf(&s, line, i)
		}
		return s.String()
	}
	library := func() (files []File) {
		for _, id := range LibraryIDs() {
			for i := range scale.Of(2, 20) {
				name := fmt.Sprintf("%s_%d", id, i)
				f := LibraryFile(id)
				text := strings.ReplaceAll(string(f.Data), "package eviction."+id, "package eviction."+name)
				text = strings.ReplaceAll(text, "id: "+id, "id: "+name)
				files = append(files, File{Name: name + ".rego", Data: []byte(text)})
			}
		}
		return files
	}
	rules := scale.Of(500, 5000)
	for name, files := range map[string][]File{
		"many names":             {policy("a", "_names := {\n"+lines(scale.Of(2000, 20_000), "\t\"name-%d\",\n")+"}\n\ndeny contains \"x\" if input.pod.metadata.name in _names")},
		"many rules":             {policy("a", lines(rules, "_held_%d if input.pod.metadata.name == \"a\"\n")+"\ndeny contains \"x\" if _held_"+strconv.Itoa(rules-1))},
		"the library many times": library(),
	} {
		t.Run(name, func(t *testing.T) {
			begun, before := time.Now(), allocated()
			parts := Parts{Examples: true}
			for _, f := range files {
				parts.Add(f)
			}
			set, problems := New(parts)
			if len(problems) > 0 {
				t.Fatalf("%d problems, the first: %v", len(problems), problems[0])
			}
			t.Logf("compiled in %s, allocated %d MiB", time.Since(begun).Round(time.Millisecond), (allocated()-before)>>20)
			if d := set.Evaluate(t.Context(), inputFor(), Options{}); len(d.Failures) > 0 && name != "the library many times" {
				t.Error(d.Failures)
			}
		})
	}
}
