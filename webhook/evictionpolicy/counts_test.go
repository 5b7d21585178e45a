package evictionpolicy

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evictgate/evictgate/policies"
)

func violation(policy string, effect policies.Effect, enforcement policies.Enforcement) policies.Violation {
	return policies.Violation{Policy: policy, Effect: effect, Enforcement: enforcement}
}

func TestAReviewCountsOnceInEachNumber(t *testing.T) {
	d := &policies.Decision{
		Violations: []policies.Violation{
			violation("a", policies.Deny, policies.Enforce), violation("a", policies.Delay, policies.Enforce),
			violation("a", policies.Warning, policies.Enforce), violation("b", policies.Deny, policies.Warn),
			violation("b", policies.Warning, policies.Warn), violation("c", policies.Deny, policies.Audit),
		},
		Failures: []policies.Failure{{Policy: "a"}, {Policy: "d"}, {Policy: "d"}},
	}
	want := map[string]*tally{
		"a": {refused: 1, warned: 1, failed: 1, last: noon},
		"b": {warned: 1, last: noon},
		"c": {audited: 1, last: noon},
		"d": {failed: 1},
	}
	if diff := cmp.Diff(want, talliesOf(d, noon), cmp.AllowUnexported(tally{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhatIsOverriddenRefusedNothing(t *testing.T) {
	d := &policies.Decision{
		Violations: []policies.Violation{violation("a", policies.Deny, policies.Enforce), violation("b", policies.Deny, policies.Audit)},
		Override:   &policies.Override{Used: true, Policies: []string{"a"}},
	}
	want := map[string]*tally{"a": {warned: 1, last: noon}, "b": {audited: 1, last: noon}}
	if diff := cmp.Diff(want, talliesOf(d, noon), cmp.AllowUnexported(tally{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// counting is a Status that serves the policy a, without a cluster.
func counting() *Status {
	s := NewStatus(&Watch{}, slog.New(slog.DiscardHandler))
	s.serving.Store(&map[string]types.UID{"a": "u"})
	return s
}

func TestOnlyWhatServesIsCounted(t *testing.T) {
	s := counting()
	in, dry := &policies.Input{}, &policies.Input{Request: policies.Request{DryRun: true}}
	in.Now.Time, dry.Now.Time = noon, noon
	d := &policies.Decision{Violations: []policies.Violation{violation("a", policies.Deny, policies.Enforce), violation("of a directory", policies.Deny, policies.Enforce)}}
	s.Observe(in, d)
	s.Observe(in, d)
	s.Observe(dry, d)
	s.Observe(in, &policies.Decision{})
	want := map[counted]tally{{"a", "u"}: {refused: 2, last: noon}}
	if diff := cmp.Diff(want, s.take(), cmp.AllowUnexported(counted{}, tally{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if again := s.take(); len(again) != 0 {
		t.Errorf("taken twice: %v", again)
	}
}

func TestDecisionsAreCountedBesideEachOther(t *testing.T) {
	const at, each = 8, 500
	s := counting()
	d := &policies.Decision{Violations: []policies.Violation{violation("a", policies.Deny, policies.Enforce)}}
	var sum tally
	var deciding sync.WaitGroup
	for range at {
		deciding.Go(func() {
			for range each {
				s.Observe(&policies.Input{}, d)
			}
		})
	}
	done := make(chan struct{})
	go func() { deciding.Wait(); close(done) }()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		for _, t := range s.take() {
			sum.add(t)
		}
	}
	if sum.refused != at*each {
		t.Errorf("%d counted of %d", sum.refused, at*each)
	}
}

// BenchmarkObserve is what a decision pays: nothing when no policy spoke.
func BenchmarkObserve(b *testing.B) {
	s, in := counting(), &policies.Input{}
	for name, d := range map[string]*policies.Decision{
		"silent": {},
		"spoke":  {Violations: []policies.Violation{violation("a", policies.Deny, policies.Enforce)}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Observe(in, d)
			}
		})
	}
}

// Start ends with the server's other parts, before the last decisions are made.
func TestWhatIsCountedWaitsForTheLastFlush(t *testing.T) {
	s := counting()
	s.count(counted{"a", "u"}, tally{refused: 1})
	ended, end := context.WithCancel(t.Context())
	end()
	if err := s.Start(ended); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(map[counted]tally{{"a", "u"}: {refused: 1}}, s.take(), cmp.AllowUnexported(counted{}, tally{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
