package webhook

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/hooks"
)

// explained is a review whose Eviction asks by that value who decides.
func explained(pod, value string) []byte {
	return review(pod, func(r *admissionv1.AdmissionReview) {
		r.Request.Object.Raw = bytes.Replace(r.Request.Object.Raw, []byte(`"metadata":{`), []byte(`"metadata":{"annotations":{"evictgate.dev/explain":"`+value+`"},`), 1)
	})
}

func TestAnEvictionThatAsksIsToldWhoDecides(t *testing.T) {
	for name, c := range map[string]struct {
		pod     string
		change  func(*Gate)
		outcome policies.Outcome
	}{
		"admitted":                   {"web-7d4b9c6f5-2xkqv", nil, policies.Admitted},
		"refused":                    {"api-7d4b9c6f5-4c8tr", nil, policies.Delayed},
		"a pod that does not exist":  {"evictgate-doctor", nil, policies.Admitted},
		"undecided, without a set":   {"web-7d4b9c6f5-2xkqv", func(g *Gate) { g.Policies = func() *policies.Set { return nil } }, policies.Undecided},
		"undecided, after a panic":   {"web-7d4b9c6f5-2xkqv", func(g *Gate) { g.Cluster = nil }, policies.Undecided},
		"undecided, though admitted": {"web-7d4b9c6f5-2xkqv", func(g *Gate) { g.Cluster, g.Options.OnError = nil, policies.OnErrorAdmit }, policies.Undecided},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, io.Discard)
			if c.change != nil {
				c.change(g)
			}
			plain := answer(t, post(front(g), hooks.EvictionsPath, review(c.pod, nil)))
			got := answer(t, post(front(g), hooks.EvictionsPath, explained(c.pod, "true")))
			e, found := ReadExplanation(got.Warnings)
			if !found {
				t.Fatalf("no explanation in %q", got.Warnings)
			}
			want := Explanation{Outcome: c.outcome, Revision: got.AuditAnnotations["revision"], Replica: "test", Now: time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)}
			if diff := cmp.Diff(want, e); diff != "" {
				t.Errorf("explanation differs (-want +got):\n%s", diff)
			}
			if e.Revision == "" {
				t.Error("no revision")
			}
			// It is the last of the warnings and one line; nothing else of the answer changes.
			last := len(got.Warnings) - 1
			if !strings.HasPrefix(got.Warnings[last], `evictgate: {"outcome":"`) || strings.ContainsAny(got.Warnings[last], "\n\r") {
				t.Errorf("last warning is %q", got.Warnings[last])
			}
			got.Warnings = slices.Delete(got.Warnings, last, last+1)
			if len(got.Warnings) == 0 {
				got.Warnings = nil
			}
			if diff := cmp.Diff(plain, got); diff != "" {
				t.Errorf("the answer itself differs (-without +with the annotation):\n%s", diff)
			}
		})
	}
}

func TestOnlyTheValueTrueAsksForAnExplanation(t *testing.T) {
	g := newGate(t, io.Discard)
	for _, value := range []string{"", "false", "TRUE", "yes", "1"} {
		got := answer(t, post(front(g), hooks.EvictionsPath, explained("web-7d4b9c6f5-2xkqv", value)))
		if e, found := ReadExplanation(got.Warnings); found {
			t.Errorf("value %q: %+v", value, e)
		}
	}
}

func TestTheExplanationAlwaysFits(t *testing.T) {
	d := &policies.Decision{Warnings: slices.Repeat([]string{strings.Repeat("ä", 300)}, 50)}
	before := slices.Clone(d.Warnings)
	explanation := `evictgate: {"outcome":"admitted","replica":"` + strings.Repeat("r", 253) + `"}`
	got := warnings(d, explanation)
	total := 0
	for _, w := range got {
		total += utf8.RuneCountInString(w)
	}
	if e, found := ReadExplanation(got); !found || len(e.Replica) != 253 || total > 4096 || len(got) < 10 {
		t.Errorf("%d warnings of %d runes, last %q", len(got), total, got[len(got)-1])
	}
	if !slices.Equal(d.Warnings, before) {
		t.Error("the decision's own warnings changed")
	}
	if got := warnings(d, ""); len(got) < 10 || strings.HasPrefix(got[len(got)-1], explainPrefix) {
		t.Errorf("without an explanation: %q", got)
	}
}

func TestReadingAnExplanation(t *testing.T) {
	for name, warnings := range map[string][]string{
		"none":                         nil,
		"another warning":              {"policies overridden"},
		"ours, but no JSON":            {"evictgate: out of order"},
		"JSON without an outcome":      {`evictgate: {"replica":"a"}`},
		"JSON of somebody else":        {`{"outcome":"admitted"}`},
		"JSON that is not a statement": {`evictgate: ["outcome"]`},
	} {
		t.Run(name, func(t *testing.T) {
			if e, found := ReadExplanation(warnings); found || e != (Explanation{}) {
				t.Errorf("read %+v", e)
			}
		})
	}
}
