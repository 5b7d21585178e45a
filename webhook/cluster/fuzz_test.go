package cluster

import (
	"os"
	"testing"
)

// FuzzSnapshot reads what kubectl prints, and what should be that: nothing panics, and what is counted is there.
func FuzzSnapshot(f *testing.F) {
	raw, err := os.ReadFile("../../config/samples/cluster.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"b"}},null,{"kind":"X"}]}`))
	f.Add([]byte("apiVersion: policy/v1\nkind: PodDisruptionBudgetList\nitems:\n- metadata: {name: a}\n  spec: {minAvailable: -1%, selector: {matchExpressions: [{key: '', operator: In}]}}\n---\nnull\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 64<<10 {
			return
		}
		s := newSnapshot()
		if err := s.add(raw); err == nil && s.Objects < 0 {
			t.Errorf("%d objects", s.Objects)
		}
	})
}
