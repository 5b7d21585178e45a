package evictionpolicy

import (
	"encoding/json"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// FuzzUnit reads an EvictionPolicy as it is stored, whatever its fields hold: its content is JSON, and the same again.
func FuzzUnit(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"evictgate.dev/v1alpha1","kind":"EvictionPolicy","metadata":{"name":"a"},"spec":{"library":"rate_limit","parameters":{"a":1}}}`))
	f.Add([]byte(`{"kind":1,"metadata":[],"spec":"\ud800"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		o := &unstructured.Unstructured{}
		if json.Unmarshal(raw, &o.Object) != nil || o.Object == nil {
			return
		}
		unit := unitOf(o)
		if !json.Valid(unit.Files[0].Data) || string(unitOf(o).Files[0].Data) != string(unit.Files[0].Data) || policyOf(o) == "" {
			t.Errorf("%s is unit %s", raw, unit.Files[0].Data)
		}
	})
}
