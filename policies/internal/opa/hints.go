package opa

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/types"

	"github.com/evictgate/evictgate/policies/internal/limits"
	"github.com/evictgate/evictgate/policies/internal/rego"
)

// hint is what we say instead of OPA's text, and where, when we know the place better.
type hint struct {
	message string
	at      *ast.Location
}

// hintFor is our text for an error of OPA's compiler; false when OPA's own must do.
func (l *Language) hintFor(e *ast.Error) (hint, bool) {
	switch d := e.Details.(type) {
	case *ast.RefErrInvalidDetail:
		return l.fieldHint(d), true
	case *ast.RefErrUnsupportedDetail:
		return unsupportedHint(e, d)
	case *ast.UnificationErrDetail:
		return hint{message: comparisonHint(e.Location, d)}, true
	case *ast.ArgErrDetail:
		return hint{message: argumentsHint(e.Message, d)}, true
	}
	return l.sentenceHint(e)
}

// fieldHint is about a field that is not there.
func (l *Language) fieldHint(d *ast.RefErrInvalidDetail) hint {
	h := hint{at: d.Ref[d.Pos].Location}
	parent, name := d.Ref[:d.Pos].String(), rego.KeyOf(d.Ref[d.Pos])
	if d.Pos == 1 && d.Ref[0].Equal(ast.DefaultRootDocument) {
		h.message = fmt.Sprintf("%s is not there; a policy has no data of its own beside input", d.Ref)
		return h
	}
	if len(d.OneOf) == 0 {
		h.message = fmt.Sprintf("%s has no field %s", parent, name)
		if types.Compare(d.Want, types.N) == 0 {
			h.message = fmt.Sprintf("%s is a list; take one member first: `some x in %s`, then x.%s", parent, parent, name)
		}
		return h
	}
	names := make([]string, len(d.OneOf))
	for i, v := range d.OneOf {
		names[i] = rego.KeyOf(ast.NewTerm(v))
	}
	slices.Sort(names)
	h.message = fmt.Sprintf("%s has no field %s%s", parent, name, l.insteadOf(d.Ref[:d.Pos], name, names))
	return h
}

// insteadOf finds what is meant by a field that is not there: one that is habitual elsewhere, one that is
// near, or one of that name in another place of the input.
func (l *Language) insteadOf(parent ast.Ref, name string, names []string) string {
	if other, ok := habits[parent.String()+"."+name]; ok {
		return "; here it is " + other
	}
	if !parent.HasPrefix(ast.InputRootRef) {
		return rego.Instead(name, names)
	}
	for _, n := range names {
		if rego.Plain(n) == rego.Plain(name) {
			return "; did you mean " + n + "?"
		}
	}
	if elsewhere := l.inputPaths(name); len(elsewhere) > 0 && rego.Nearest(name, names) == "" {
		return "; did you mean " + rego.Either(elsewhere) + "?"
	}
	return rego.Instead(name, names)
}

// habits are fields of other systems' input, as in an AdmissionReview or Gatekeeper's review.
var habits = map[string]string{
	"input.review":              "input.request, and the pod is input.pod",
	"input.object":              "input.pod",
	"input.request.object":      "input.pod",
	"input.request.oldObject":   "input.pod",
	"input.request.userInfo":    "input.request.user",
	"input.request.dryRun":      "input.request.dry_run",
	"input.request.user.name":   "input.request.user.username",
	"input.request.operation":   "always CREATE: only evictions are asked about",
	"input.request.username":    "input.request.user.username",
	"input.request.groups":      "input.request.user.groups",
	"input.pod.spec.node":       "input.pod.spec.nodeName, or input.node for the node itself",
	"input.pod.status.ready":    "a condition: `some c in input.pod.status.conditions; c.type == \"Ready\"; c.status == \"True\"`",
	"input.pod.ownerReferences": "input.owner, the top controller",
	"input.pdb":                 "input.budgets",
	"input.pdbs":                "input.budgets",
	"input.params":              "input.parameters",
}

// inputPaths are the places of the input, not below lists and at most three, that end in a field of that
// name: those that are least deep.
func (l *Language) inputPaths(name string) []string {
	found := map[int][]string{}
	var walk func(schema map[string]any, path string, depth int)
	walk = func(schema map[string]any, path string, depth int) {
		properties, _ := schema["properties"].(map[string]any)
		for _, key := range slices.Sorted(maps.Keys(properties)) {
			at := path + "." + key
			if rego.Plain(key) == rego.Plain(name) {
				found[depth] = append(found[depth], at)
			}
			if below, ok := properties[key].(map[string]any); ok && depth < 3 {
				walk(below, at, depth+1)
			}
		}
	}
	walk(l.known(), "input", 1)
	var paths []string
	for _, depth := range slices.Sorted(maps.Keys(found)) {
		paths = append(paths, found[depth]...)
	}
	return paths[:min(3, len(paths))]
}

// unsupportedHint is about a field of something that has none, or a function that is not called.
func unsupportedHint(e *ast.Error, d *ast.RefErrUnsupportedDetail) (hint, bool) {
	if name, ok := strings.CutSuffix(strings.TrimPrefix(e.Message, "function "), " used as reference, not called"); ok {
		return hint{message: fmt.Sprintf("%s is a function; call it: %s(…)", shortRule(name), shortRule(name))}, true
	}
	if d.Have == nil || d.Pos+1 >= len(d.Ref) {
		return hint{}, false
	}
	// OPA counts up to the value that has no fields.
	return hint{
		message: fmt.Sprintf("%s is %s, which has no field %s", d.Ref[:d.Pos+1], rego.KindOf(d.Have), rego.KeyOf(d.Ref[d.Pos+1])),
		at:      d.Ref[d.Pos+1].Location,
	}, true
}

// comparisonHint is about two values that can never be equal.
func comparisonHint(at *ast.Location, d *ast.UnificationErrDetail) string {
	left, right := rego.KindOf(d.Left), rego.KindOf(d.Right)
	text := fmt.Sprintf("%s is never equal to %s", left, right)
	if at != nil && len(at.Text) > 0 && !strings.Contains(string(at.Text), "\n") {
		text = fmt.Sprintf("`%s` can never hold: %s is compared with %s", at.Text, left, right)
	}
	kinds := []string{left, right}
	has := func(kind string) bool { return slices.Contains(kinds, kind) }
	switch {
	case has("null"):
		return text + "; ask with is_null(…), or with not is_null(…)"
	case has("a string") && has("a boolean") && quotedConstant.MatchString(text):
		return text + "; write true or false without quotes"
	case has("a string") && has("a boolean"):
		return text + "; put the value in quotes"
	case has("a string") && has("a number") && quotedConstant.MatchString(text):
		return text + "; write the number without quotes"
	case has("a string") && has("a number"):
		return text + "; put the number in quotes, or turn the string into one with to_number(…)"
	case has("an object") && left != right:
		return text + fieldsToCompare(d)
	case has("a list") && left != right:
		return text + "; ask whether it is a member: … in …"
	}
	return text
}

var quotedConstant = regexp.MustCompile(`"(?:true|false|[0-9.]+)"`)

// fieldsToCompare names the fields of the object side.
func fieldsToCompare(d *ast.UnificationErrDetail) string {
	for _, t := range []types.Type{d.Left, d.Right} {
		object, ok := t.(*types.Object)
		if !ok || len(object.StaticProperties()) == 0 {
			continue
		}
		var names []string
		for _, p := range object.StaticProperties() {
			names = append(names, fmt.Sprint(p.Key))
		}
		slices.Sort(names)
		return "; compare one of its fields: " + rego.ShortList(names)
	}
	return "; compare one of its fields"
}

// argumentsHint is about a call with the wrong arguments.
func argumentsHint(message string, d *ast.ArgErrDetail) string {
	name, _, _ := strings.Cut(message, ": ")
	var wants, has []string
	for _, t := range d.Want.Args {
		wants = append(wants, argument(t))
	}
	if strings.Contains(message, "arity") {
		return fmt.Sprintf("%s takes %s (%s), but gets %d", shortRule(name), counted(len(wants), "argument"), strings.Join(wants, ", "), argumentsGiven(d.Have))
	}
	wants = wants[:min(len(wants), argumentsGiven(d.Have))]
	for _, t := range d.Have[:len(wants)] {
		has = append(has, rego.KindOf(t))
	}
	text := fmt.Sprintf("%s takes (%s), but gets (%s)", shortRule(name), strings.Join(wants, ", "), strings.Join(has, ", "))
	switch {
	case name == ast.Sprintf.Name:
		return text + `; put the values into a list, as in sprintf("%s", [x]), or write a template string, $"{x}"`
	case name == ast.Plus.Name && slices.Contains(has, "a string"):
		return text + `; join strings in a template string, $"{x} and {y}"`
	case name == ast.Minus.Name && slices.Contains(has, "a string"):
		return text + "; turn a time into a number with time.parse_rfc3339_ns(…)"
	}
	return text
}

// argumentsGiven counts the arguments that the call has; OPA adds one without a type for the result.
func argumentsGiven(have []types.Type) int {
	if n := len(have); n > 0 && have[n-1] == nil {
		return n - 1
	}
	return len(have)
}

// argument is a parameter of a builtin: its name, where it has one, and its kind.
func argument(t types.Type) string {
	if named, ok := t.(*types.NamedType); ok {
		return named.Name + ": " + rego.KindOf(named.Type)
	}
	return rego.KindOf(t)
}

func counted(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// shortRule is a rule's name without the path of its package.
func shortRule(name string) string { return ruleOfPolicy.ReplaceAllString(name, "") }

var ruleOfPolicy = regexp.MustCompile(`data\.eviction\.[A-Za-z0-9_]+\.`)

// sentenceHint is about errors that are told by their text only. The texts are the compiler's of OPA 1.22.
func (l *Language) sentenceHint(e *ast.Error) (hint, bool) {
	for _, s := range sentences {
		if m := s.opa.FindStringSubmatch(e.Message); m != nil {
			return hint{message: s.ours(l, m[1:])}, true
		}
	}
	return hint{}, false
}

var sentences = []struct {
	opa  *regexp.Regexp
	ours func(l *Language, found []string) string
}{
	{regexp.MustCompile(`^undefined function (.*)$`), func(_ *Language, found []string) string { return undefinedFunction(found[0]) }},
	{regexp.MustCompile(`^function (.*) has arity (\d+), got (\d+) arguments?$`), func(_ *Language, found []string) string {
		takes, _ := strconv.Atoi(found[1])
		return fmt.Sprintf("%s takes %s, but gets %s", shortRule(found[0]), counted(takes, "argument"), found[2])
	}},
	{regexp.MustCompile(`^var (\S+) is unsafe$`), func(l *Language, found []string) string { return l.unsafeVariable(found[0]) }},
	{regexp.MustCompile(`^rule (\S+) is recursive: (.*)$`), func(_ *Language, found []string) string {
		return fmt.Sprintf("rule %s depends on itself: %s", shortRule(found[0]), shortRule(found[1]))
	}},
	{regexp.MustCompile(`^(?:assigned|declared) var (\S+) unused$`), func(_ *Language, found []string) string {
		return fmt.Sprintf("variable %s is never used; use it, or leave it out", found[0])
	}},
	{regexp.MustCompile(`^unused argument (\S+)\.`), func(_ *Language, found []string) string {
		return fmt.Sprintf("argument %s is never used; call it _", found[0])
	}},
	{regexp.MustCompile(`^import (\S+) unused$`), func(_ *Language, found []string) string {
		return fmt.Sprintf("import %s is never used; leave it out", found[0])
	}},
	{regexp.MustCompile(`^var (\S+) (?:assigned|declared|referenced) above$`), func(_ *Language, found []string) string {
		return fmt.Sprintf("variable %s has a value already; compare with ==, or use another name", found[0])
	}},
	{regexp.MustCompile(`^variables must not shadow (\S+) \(`), func(_ *Language, found []string) string {
		return fmt.Sprintf("%s cannot be assigned; use another name for the variable", found[0])
	}},
	{regexp.MustCompile(`^rules must not shadow (\S+) \(`), func(_ *Language, found []string) string {
		return fmt.Sprintf("%s cannot be the name of a rule; use another one", found[0])
	}},
}

// functionNames are the builtins that a policy can write, sorted.
var functionNames = sync.OnceValue(func() []string {
	var names []string
	for _, b := range limits.Capabilities().Builtins {
		if b.Infix == "" && !strings.HasPrefix(b.Name, "internal.") && !b.IsDeprecated() {
			names = append(names, b.Name)
		}
	}
	slices.Sort(names)
	return names
})

func undefinedFunction(name string) string {
	if b := ast.BuiltinMap[name]; b != nil {
		return fmt.Sprintf("function %s is left out here, since %s", name, limits.LeftOut(b))
	}
	if near := rego.Nearest(name, functionNames()); near != "" {
		return fmt.Sprintf("there is no function %s; did you mean %s?", shortRule(name), near)
	}
	return fmt.Sprintf("there is no function %s", shortRule(name))
}

// unsafeVariable is about a name that has no value: one that was never assigned, or a part of the input
// without its path.
func (l *Language) unsafeVariable(name string) string {
	if name == "reason" || name == "detail" {
		return fmt.Sprintf("%s has no value; assign it in the body, or write %q in quotes when the key is meant", name, name)
	}
	if properties, _ := l.known()["properties"].(map[string]any); properties[name] != nil {
		return fmt.Sprintf("%s has no value; assign it in the body, or did you mean input.%s?", name, name)
	}
	return fmt.Sprintf("%s has no value; assign it in the body, or correct its name", name)
}
