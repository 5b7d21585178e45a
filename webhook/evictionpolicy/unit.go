package evictionpolicy

import (
	"encoding/json"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
	"github.com/evictgate/evictgate/policies/v1alpha1"
)

// UnitName is how the policy of that name is called as a unit.
func UnitName(policy string) string { return v1alpha1.Kind + "/" + policy }

// unitOf makes the unit of a policy: its object, with all that is not the author's left out, so
// that the same policy has the same content in every cluster. The object stays untyped: a field that this
// version does not know becomes a problem of this policy instead of being lost silently.
func unitOf(o *unstructured.Unstructured) source.Unit {
	data, err := json.Marshal(map[string]any{
		"apiVersion": o.GetAPIVersion(),
		"kind":       o.GetKind(),
		"metadata":   map[string]any{"name": o.GetName()},
		"spec":       o.Object["spec"],
	})
	if err != nil {
		data = nil // not possible for what came as JSON; an empty file has no policy
	}
	name := UnitName(o.GetName())
	return source.Unit{Name: name, Files: []policies.File{{Name: name, Data: data, Object: true}}}
}

// policyOf is what the status calls the policy: the library's id, or inline.
func policyOf(o *unstructured.Unstructured) string {
	if id, _, _ := unstructured.NestedString(o.Object, "spec", "library"); id != "" {
		return id
	}
	return v1alpha1.PolicyInline
}
