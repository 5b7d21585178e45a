package check

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"go.yaml.in/yaml/v3"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/internal/rego"
)

func keysOf(n *yaml.Node) []string {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	var keys []string
	for i := 0; i+1 < len(n.Content); i += 2 {
		keys = append(keys, n.Content[i].Value)
	}
	return keys
}

// values are what a field can be: exactly these, or, when open, others, too. Of an open list only what is
// near to one of the list is told, by case and plural or, when spelling counts, by any slip.
type values struct {
	open, spelling bool
	list           []string
}

var (
	phases     = values{list: []string{"Pending", "Running", "Succeeded", "Failed", "Unknown"}}
	conditions = values{list: []string{"True", "False", "Unknown"}}
	// An operator may have rules for evictors of another name.
	evictors = values{open: true, spelling: true, list: policies.EvictorNames()}
)

// knownValues are fields whose values are known, by their place in the input. OPA's type checker does not
// look at the values of strings.
var knownValues = map[string]values{
	"input.request.evictor":                          evictors,
	"input.pod.status.phase":                         phases,
	"input.peers[].phase":                            phases,
	"input.neighbours[].phase":                       phases,
	"input.pod.status.conditions[].status":           conditions,
	"input.pod.status.conditions[].type":             {open: true, list: []string{"Ready", "Initialized", "ContainersReady", "PodScheduled", "DisruptionTarget", "PodReadyToStartContainers"}},
	"input.pod.status.qosClass":                      {list: []string{"Guaranteed", "Burstable", "BestEffort"}},
	"input.pod.spec.restartPolicy":                   {list: []string{"Always", "OnFailure", "Never"}},
	"input.pod.spec.preemptionPolicy":                {list: []string{"PreemptLowerPriority", "Never"}},
	"input.node.taints[].effect":                     {list: []string{"NoSchedule", "PreferNoSchedule", "NoExecute"}},
	"input.owner.kind":                               {open: true, list: []string{"Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob", "ReplicationController", "Node"}},
	"input.budgets[].unhealthy_pod_eviction_policy":  {list: []string{"IfHealthyBudget", "AlwaysAllow"}},
	"input.disruption.code":                          {list: []string{"201", "403", "429", "500"}},
	"input.disruption.reason":                        {list: []string{"", "TooManyRequests", "Forbidden"}},
	"input.request.delete_options.propagationPolicy": {list: []string{"Orphan", "Background", "Foreground"}},
}

// impossible finds comparisons that can never be true, or never be false, in one module.
type impossible struct {
	module *ast.Module
	found  policies.Problems
}

func findImpossible(module *ast.Module, parameters *policies.Parameters) policies.Problems {
	i := &impossible{module: module}
	env := shapesOf(module, parameters)
	for _, rule := range module.Rules {
		for r := rule; r != nil; r = r.Else {
			i.body(r.Body, env.within())
			i.closures(r.Head, env.within())
		}
	}
	return i.found
}

// body looks at the expressions of a body, and of the bodies within it.
func (i *impossible) body(body ast.Body, env *shapes) {
	for _, e := range body {
		env.bind(e)
	}
	for _, e := range body {
		if every, ok := e.Terms.(*ast.Every); ok {
			i.every(every, env)
			continue
		}
		i.expr(e, env)
		i.closures(e, env)
	}
}

// every looks into `every x in xs { … }`, of which OPA checks no field.
func (i *impossible) every(every *ast.Every, env *shapes) {
	below := env.nested()
	if v, ok := every.Value.Value.(ast.Var); ok {
		domain := env.of(every.Domain)
		if items, ok := domain.schema["items"].(map[string]any); ok {
			below.assign(v, shape{items, v.String(), domain.pattern + "[]"})
		}
	}
	ast.WalkRefs(every.Body, func(ref ast.Ref) bool {
		for _, st := range below.steps(ref) {
			if st.unknown {
				i.tell(st.term.Location, "%s has no field %s%s", st.parent.path, rego.KeyOf(st.term), rego.Instead(rego.KeyOf(st.term), fieldNames(st.parent.schema)))
			}
		}
		return false
	})
	i.body(every.Body, below)
}

func fieldNames(schema map[string]any) []string {
	properties, _ := schema["properties"].(map[string]any)
	var names []string
	for name := range properties {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// nested is a copy for a body within the rule: it knows the rule's variables.
func (s *shapes) nested() *shapes {
	n := s.within()
	for v, what := range s.vars {
		n.vars[v] = what
	}
	for v := range s.bound {
		n.bound[v] = true
	}
	return n
}

// closures looks into the comprehensions of a node.
func (i *impossible) closures(node any, env *shapes) {
	ast.WalkClosures(node, func(x any) bool {
		switch c := x.(type) {
		case *ast.ArrayComprehension:
			i.body(c.Body, env.nested())
		case *ast.SetComprehension:
			i.body(c.Body, env.nested())
		case *ast.ObjectComprehension:
			i.body(c.Body, env.nested())
		}
		return true
	})
}

func (i *impossible) expr(e *ast.Expr, env *shapes) {
	terms, ok := e.Terms.([]*ast.Term)
	if !ok {
		return
	}
	name := terms[0].String()
	switch {
	case len(terms) != 3:
	case name == ast.Equal.Name || name == ast.Equality.Name:
		i.compare(terms[1], terms[2], env, e.Negated)
		i.compare(terms[2], terms[1], env, e.Negated)
	case name == ast.NotEqual.Name:
		i.compare(terms[1], terms[2], env, !e.Negated)
		i.compare(terms[2], terms[1], env, !e.Negated)
	case strings.HasPrefix(name, "internal.member_") && kindOfTerm(terms[2], env) != "":
		i.tell(e.Location, "%s is %s, which has no members, so `in` never holds; ask with contains(…) for a part of a string", short(terms[2]), kindOfTerm(terms[2], env))
	case strings.HasPrefix(name, "internal.member_"):
		eachOf(terms[2], func(t *ast.Term) { i.compare(terms[1], t, env, e.Negated) })
	case slices.Contains([]string{"lt", "lte", "gt", "gte"}, name):
		i.order(e, terms[1], terms[2], env)
	}
}

// eachOf visits the members of a set or list that is written out.
func eachOf(t *ast.Term, visit func(*ast.Term)) {
	switch v := t.Value.(type) {
	case ast.Set:
		v.Foreach(visit)
	case *ast.Array:
		v.Foreach(visit)
	}
}

// compare looks at a field beside a constant.
func (i *impossible) compare(field, constant *ast.Term, env *shapes, negated bool) {
	known, ok := knownValues[env.of(field).pattern]
	text, isScalar := scalarText(constant)
	if !ok || !isScalar || slices.Contains(known.list, text) {
		return
	}
	near := nearestValue(text, known)
	if known.open && near == "" {
		return
	}
	never := "which it never is"
	if known.spelling {
		never = "which no evictor is unless a rule says so"
	}
	if negated {
		never += ", so this always holds"
	}
	i.tell(constant.Location, "%s is compared with %s, %s%s", short(field), constant, never, known.instead(text))
}

// instead is what follows when a field is never of some value.
func (v values) instead(text string) string {
	if near := nearestValue(text, v); near != "" {
		return "; did you mean " + near + "?"
	}
	return "; it is " + rego.Either(slices.DeleteFunc(slices.Clone(v.list), func(s string) bool { return s == "" }))
}

// nearestValue is the value that was probably meant. It must differ in case or in a plural s only, unless
// no other value is possible or likely.
func nearestValue(text string, known values) string {
	for _, v := range known.list {
		if v != "" && (strings.EqualFold(rego.Plain(v), rego.Plain(text)) || strings.EqualFold(rego.Plain(v)+"s", rego.Plain(text))) {
			return v
		}
	}
	if known.open && !known.spelling {
		return ""
	}
	if meant := evictorHabits[strings.ToLower(text)]; slices.Contains(known.list, meant) {
		return meant
	}
	return rego.Nearest(text, known.list)
}

// evictorHabits are names that people give to evictors.
var evictorHabits = map[string]string{
	"kubectl": "user", "human": "user", "admin": "user", "person": "user",
	"kubelet": "node", "serviceaccount": "service-account", "controller": "service-account",
	"autoscaler": "cluster-autoscaler", "ca": "cluster-autoscaler", "vpa": "vpa-updater",
	"capi": "cluster-api",
}

func scalarText(t *ast.Term) (string, bool) {
	switch v := t.Value.(type) {
	case ast.String:
		return string(v), true
	case ast.Number:
		return v.String(), true
	}
	return "", false
}

// order looks at < and > between values of different types, which OPA orders by type.
func (i *impossible) order(e *ast.Expr, left, right *ast.Term, env *shapes) {
	a, b := kindOfTerm(left, env), kindOfTerm(right, env)
	if a == "" || b == "" || a == b {
		return
	}
	i.tell(e.Location, "`%s` compares %s with %s, so it always has the same answer; compare values of one kind", strings.TrimSpace(string(e.Location.Text)), a, b)
}

// kindOfTerm is a string or a number, where it is known to be one.
func kindOfTerm(t *ast.Term, env *shapes) string {
	if kind := rego.LiteralKind(t); kind == "a string" || kind == "a number" {
		return kind
	}
	name, _ := env.of(t).schema["type"].(string)
	if list, ok := env.of(t).schema["type"].([]any); ok && len(list) == 2 {
		name, _ = list[0].(string)
	}
	switch name {
	case "string":
		return "a string"
	case "integer", "number":
		return "a number"
	}
	return ""
}

func (i *impossible) tell(l *ast.Location, format string, args ...any) {
	if len(i.found) > rego.MaxProblems {
		return // AtMost says that there are more
	}
	if p := rego.ProblemAt(l, format, args...); !slices.Contains(i.found, p) {
		i.found = append(i.found, p)
	}
}
