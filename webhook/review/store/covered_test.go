package store

import (
	"testing"
	"time"

	"github.com/evictgate/evictgate/webhook/record"
)

func TestCoveredIsFromTheFirstToTheLast(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(testing.TB, Options) *Store) {
		s := open(t, Options{})
		covered := func(wantDecisions, wantAnswers Span) {
			t.Helper()
			decisions, answers, err := s.Covered(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "decisions", wantDecisions, decisions)
			equal(t, "answers", wantAnswers, answers)
		}
		covered(Span{}, Span{})
		add(t, s, records(made{at: time.Minute}, made{at: -time.Hour}, made{at: 0, dryRun: true})...)
		covered(Span{From: after(-time.Hour), Until: after(time.Minute)}, Span{})
		if _, err := s.AddAnswers(t.Context(), []record.Answer{{ID: "a", At: after(0), Verb: record.VerbDelete, Namespace: "shop", Pod: "web-0", Code: 200}}); err != nil {
			t.Fatal(err)
		}
		covered(Span{From: after(-time.Hour), Until: after(time.Minute)}, Span{From: after(0), Until: after(0)})
	})
}

func TestSpansAddUp(t *testing.T) {
	early, late := Span{From: after(0), Until: after(time.Hour)}, Span{From: after(time.Minute), Until: after(2 * time.Hour)}
	both := Span{From: early.From, Until: late.Until}
	equal(t, "early and late", both, early.And(late))
	equal(t, "late and early", both, late.And(early))
	equal(t, "nothing and late", late, Span{}.And(late))
	equal(t, "late and nothing", late, late.And(Span{}))
}
