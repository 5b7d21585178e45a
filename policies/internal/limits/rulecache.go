package limits

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// RuleCache holds the values of rules during one evaluation: it is a topdown.VirtualCache. OPA's own is a
// tree of maps, a level for each part of a rule's name, which was a third of what an evaluation allocates;
// a policy asks for a handful of rules.
type RuleCache struct {
	// constants are values that other evaluations share; nil when there are none.
	constants *RuleValues
	// frames are the values, and those below each `with` modifier under way.
	frames []RuleValues
	// allowance bounds the values that are kept; nil for no bound.
	allowance *Allowance
}

// manyValues is from how many values on the tree finds them faster.
const manyValues = 16

// RuleValues are those of some rules.
type RuleValues struct {
	few  []ruleValue
	many topdown.VirtualCache // what few has no place for
}

// ruleValue is undefined when it has no term.
type ruleValue struct {
	ref  ast.Ref
	term *ast.Term
}

// NewRuleCache begins with values that other evaluations share, nil when there are none, and charges an allowance for
// what it keeps, nil for no bound.
func NewRuleCache(constants *RuleValues, a *Allowance) *RuleCache {
	return &RuleCache{constants: constants, frames: make([]RuleValues, 1, 2), allowance: a}
}

// Values are those that hold outside of every `with`.
func (c *RuleCache) Values() *RuleValues { return &c.frames[0] }

// Push begins a frame of its own: below a `with`, nothing that holds elsewhere need hold.
func (c *RuleCache) Push() { c.frames = append(c.frames, RuleValues{}) }

// Pop ends the last frame.
func (c *RuleCache) Pop() { c.frames = c.frames[:len(c.frames)-1] }

// Get is the value of a rule, or says that it is known to be undefined.
func (c *RuleCache) Get(ref ast.Ref) (term *ast.Term, undefined bool) {
	if c.constants != nil && len(c.frames) == 1 {
		if term, undefined = c.constants.get(ref); term != nil || undefined {
			return term, undefined
		}
	}
	return c.top().get(ref)
}

// Put keeps the value of a rule; nil when it is undefined.
func (c *RuleCache) Put(ref ast.Ref, term *ast.Term) {
	if c.allowance != nil && term != nil {
		c.allowance.value(term.Value)
	}
	c.top().put(ref, term)
}

// Keys lists the rules of the last frame that have a value.
func (c *RuleCache) Keys() []ast.Ref {
	var refs []ast.Ref
	for _, v := range c.top().few {
		if v.term != nil {
			refs = append(refs, v.ref)
		}
	}
	if many := c.top().many; many != nil {
		refs = append(refs, many.Keys()...)
	}
	return refs
}

func (c *RuleCache) top() *RuleValues { return &c.frames[len(c.frames)-1] }

func (v *RuleValues) get(ref ast.Ref) (term *ast.Term, undefined bool) {
	if i := v.find(ref); i >= 0 {
		return v.few[i].term, v.few[i].term == nil
	}
	if v.many != nil {
		return v.many.Get(ref)
	}
	return nil, false
}

func (v *RuleValues) put(ref ast.Ref, term *ast.Term) {
	switch i := v.find(ref); {
	case i >= 0:
		v.few[i].term = term
	case len(v.few) < manyValues:
		v.few = append(v.few, ruleValue{slices.Clone(ref), term}) // OPA goes on to use the ref
	default:
		if v.many == nil {
			v.many = topdown.NewVirtualCache()
		}
		v.many.Put(ref, term)
	}
}

// find compares from the end, since the beginnings are the same.
func (v *RuleValues) find(ref ast.Ref) int {
	return slices.IndexFunc(v.few, func(known ruleValue) bool {
		if len(known.ref) != len(ref) {
			return false
		}
		for i := len(ref) - 1; i >= 0; i-- {
			if !known.ref[i].Equal(ref[i]) {
				return false
			}
		}
		return true
	})
}
