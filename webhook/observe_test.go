package webhook

import (
	"io"
	"testing"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/hooks"
)

func TestTheObserverIsToldOfEveryDecisionOnce(t *testing.T) {
	g := newGate(t, io.Discard)
	var told []string
	g.Observe = func(in *policies.Input, d *policies.Decision) {
		told = append(told, in.Request.Name+" "+string(d.Outcome))
	}
	got := answer(t, post(front(g), hooks.EvictionsPath, review("api-7d4b9c6f5-4c8tr", nil)))
	post(front(g), hooks.EvictionsPath, []byte(`{"kind":"Pod"}`))
	if want := "api-7d4b9c6f5-4c8tr delayed"; got.Allowed || len(told) != 1 || told[0] != want {
		t.Errorf("told %q, expected %q once", told, want)
	}
}
