package check

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/internal/rego"
)

// shape is what is known of a value from where it comes: a part of the input.
type shape struct {
	// schema is nil when nothing is known.
	schema map[string]any
	// path names the value within one rule, as input.owner.name or peer.node for a variable peer; pattern
	// names its place in the schema, as input.peers[].node.
	path, pattern string
}

// step is one element of a ref below the input.
type step struct {
	parent, at shape
	term       *ast.Term
	// mayMiss: the key may be absent. parentMayBeNull: there may be nothing to look into.
	mayMiss, parentMayBeNull bool
	// unknown: the schema has no such field.
	unknown bool
}

// neverNull are the parts that are there whenever policies are asked: without the pod no policy is, and
// budgets and nodes are always looked at.
var neverNull = []string{"input.pod", "input.disruption", "input.cluster"}

// alwaysThere are fields of a pod that the API types call optional, but that every pod has which policies
// are asked about: it is on a node, and the API server has filled in its defaults.
var alwaysThere = []string{
	"input.pod.metadata.name", "input.pod.metadata.namespace", "input.pod.metadata.uid",
	"input.pod.metadata.creationTimestamp", "input.pod.metadata.resourceVersion",
	"input.pod.spec.nodeName", "input.pod.spec.restartPolicy", "input.pod.spec.serviceAccountName",
	"input.pod.spec.dnsPolicy", "input.pod.spec.schedulerName", "input.pod.spec.terminationGracePeriodSeconds",
	"input.pod.spec.containers[].image", "input.pod.status.phase", "input.pod.status.qosClass",
}

// shapes knows what variables of a rule are.
type shapes struct {
	input   map[string]any
	imports map[ast.Var]ast.Ref
	vars    map[ast.Var]shape
	// bound are variables that have one value, known or not: looking something up by them is not an iteration.
	bound map[ast.Var]bool
}

// shapesOf is what a module's rules begin with: the input with the policy's parameters, and the imports.
func shapesOf(module *ast.Module, parameters *policies.Parameters) *shapes {
	s := &shapes{input: policies.InputSchema(), imports: map[ast.Var]ast.Ref{}, vars: map[ast.Var]shape{}, bound: map[ast.Var]bool{}}
	if parameters != nil {
		s.input["properties"].(map[string]any)["parameters"] = totalSchema(parameters)
	}
	for _, i := range module.Imports {
		if ref, ok := i.Path.Value.(ast.Ref); ok && ref.HasPrefix(ast.InputRootRef) {
			s.imports[i.Name()] = ref
		}
	}
	return s
}

// totalSchema is the schema of the parameters as policies are given them: those with a default are there, too.
func totalSchema(p *policies.Parameters) map[string]any {
	schema := p.Schema()
	var required []any
	for _, name := range p.Names() {
		if slices.Contains(p.Required, name) || p.Default(name) != nil {
			required = append(required, name)
		}
	}
	schema["required"] = required
	return schema
}

// within is a copy for another rule: it shares what is known of the input.
func (s *shapes) within() *shapes {
	return &shapes{input: s.input, imports: s.imports, vars: map[ast.Var]shape{}, bound: map[ast.Var]bool{}}
}

// of is the shape of a term; the zero shape when it is not part of the input.
func (s *shapes) of(t *ast.Term) shape {
	switch v := t.Value.(type) {
	case ast.Var:
		if ref, ok := s.imports[v]; ok {
			return s.of(ast.NewTerm(ref))
		}
		return s.vars[v]
	case ast.Ref:
		if steps := s.steps(v); len(steps) > 0 {
			return steps[len(steps)-1].at
		}
		if len(v) == 1 {
			return s.of(v[0])
		}
	}
	return shape{}
}

// steps takes a ref apart; nil when it does not lead into the input, or as far as it is known to.
func (s *shapes) steps(ref ast.Ref) []step {
	if v, ok := ref[0].Value.(ast.Var); ok && s.imports[v] != nil {
		ref = s.imports[v].Concat(ref[1:])
	}
	var at shape
	switch v := ref[0].Value.(type) {
	case ast.Var:
		if ref[0].Equal(ast.InputRootDocument) {
			at = shape{s.input, "input", "input"}
		} else {
			at = s.vars[v]
		}
	default:
		return nil
	}
	var steps []step
	for _, term := range ref[1:] {
		if at.schema == nil {
			return steps
		}
		next := s.step(at, term)
		steps = append(steps, next)
		at = next.at
	}
	return steps
}

func (s *shapes) step(parent shape, term *ast.Term) step {
	st := step{parent: parent, term: term, parentMayBeNull: isNullable(parent)}
	name := "[" + term.String() + "]"
	if key, ok := term.Value.(ast.String); ok {
		name = "." + string(key)
		if !rego.IsIdentifier(string(key)) {
			name = "[" + term.String() + "]"
		}
	}
	st.at = shape{path: parent.path + name, pattern: parent.pattern + "[]"}
	if items, ok := parent.schema["items"].(map[string]any); ok {
		st.at.schema = items
		_, isNumber := term.Value.(ast.Number)
		st.mayMiss = isNumber
		return st
	}
	key, isString := term.Value.(ast.String)
	properties, _ := parent.schema["properties"].(map[string]any)
	if property, ok := properties[string(key)].(map[string]any); ok && isString {
		st.at.schema, st.at.pattern = property, parent.pattern+"."+string(key)
		required, _ := parent.schema["required"].([]any)
		st.mayMiss = !slices.Contains(required, any(string(key))) && !slices.Contains(alwaysThere, st.at.pattern) && !isStruct(property)
		return st
	}
	st.unknown = isString && properties != nil && parent.schema["additionalProperties"] == false
	st.at.schema, _ = parent.schema["additionalProperties"].(map[string]any)
	st.mayMiss = isString || s.isBound(term)
	return st
}

// isStruct reports whether a schema is that of a Go struct, which omitempty never leaves out.
func isStruct(schema map[string]any) bool {
	return schema["type"] == "object" && schema["properties"] != nil
}

// isBound reports whether a key is one value, not any.
func (s *shapes) isBound(t *ast.Term) bool {
	v, ok := t.Value.(ast.Var)
	return !ok || s.bound[v]
}

func isNullable(s shape) bool {
	types, _ := s.schema["type"].([]any)
	return slices.Contains(types, any("null")) && !slices.Contains(neverNull, s.path)
}

// bind tells what an expression makes of its variables.
func (s *shapes) bind(e *ast.Expr) {
	if e.Negated {
		return
	}
	if name, value, ok := rego.Assignment(e); ok {
		if v, isVar := name.Value.(ast.Var); isVar {
			s.assign(v, s.of(value))
		}
		return
	}
	decl, ok := e.Terms.(*ast.SomeDecl)
	if !ok || len(decl.Symbols) != 1 {
		return
	}
	call, ok := decl.Symbols[0].Value.(ast.Call)
	if !ok {
		return
	}
	member, collection := call[len(call)-2], s.of(call[len(call)-1])
	for _, t := range call[1 : len(call)-1] {
		ast.WalkVars(t, func(v ast.Var) bool { s.bound[v] = true; return false })
	}
	v, isVar := member.Value.(ast.Var)
	if !isVar {
		return
	}
	below, _ := collection.schema["items"].(map[string]any)
	if below == nil {
		below, _ = collection.schema["additionalProperties"].(map[string]any)
	}
	s.assign(v, shape{below, strings.Trim(v.String(), "$"), collection.pattern + "[]"})
}

func (s *shapes) assign(v ast.Var, what shape) {
	s.bound[v] = true
	if what.schema != nil {
		s.vars[v] = what
	}
}
