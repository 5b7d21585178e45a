package webhook

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/fate"
)

// newEvents sends to a fake recorder and holds two waiting refusals.
func newEvents(dropped func()) (*Events, *events.FakeRecorder) {
	recorder := events.NewFakeRecorder(100)
	return &Events{
		recorder: recorder, queue: make(chan notice, 2), limit: rate.NewLimiter(rate.Inf, 1),
		dropped: dropped,
	}, recorder
}

var start = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func refused(after time.Duration, change func(*policies.Input, *policies.Decision)) (*policies.Input, *policies.Decision) {
	in := &policies.Input{
		Now:   metav1.NewTime(start.Add(after)),
		Pod:   &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1", UID: "u1"}},
		Owner: &policies.Owner{Kind: "Deployment", Name: "web", UID: "d1"},
	}
	d := &policies.Decision{Outcome: policies.Delayed, Code: 429, Message: "not now"}
	if change != nil {
		change(in, d)
	}
	return in, d
}

// tellNow tells of the first refusal of a pod.
func tellNow(e *Events, change func(*policies.Input, *policies.Decision)) {
	in, d := refused(0, change)
	e.Tell(in, d, in.Now.Time)
}

func sent(r *events.FakeRecorder) []string {
	var list []string
	for {
		select {
		case e := <-r.Events:
			list = append(list, e)
		default:
			return list
		}
	}
}

func TestAWorkloadIsToldOfRefusalsThatLast(t *testing.T) {
	e, recorder := newEvents(nil)
	pods := fate.New(fate.Options{Now: time.Now})
	for _, after := range []time.Duration{0, 30 * time.Second, 61 * time.Second, 20 * time.Minute} {
		in, d := refused(after, nil)
		e.Tell(in, d, pods.Note(in, d))
		e.tell(t.Context(), <-e.queue)
	}
	want := []string{
		"Warning EvictionDelayed not now",
		"Warning EvictionDelayed not now",
		"Warning EvictionDelayed not now",
		"Warning EvictionDelayed the eviction of pod web-1 is refused since 2026-11-23T12:00:00Z: not now",
		"Warning EvictionDelayed not now", // a new episode: nobody asked for long
	}
	if diff := cmp.Diff(want, sent(recorder)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestWhatHasNoEvent(t *testing.T) {
	for name, change := range map[string]func(*policies.Input, *policies.Decision){
		"an admitted eviction": func(_ *policies.Input, d *policies.Decision) { d.Outcome, d.Code = policies.Admitted, 200 },
		"a dry run":            func(in *policies.Input, _ *policies.Decision) { in.Request.DryRun = true },
		"a pod nobody knows":   func(in *policies.Input, _ *policies.Decision) { in.Pod = nil },
	} {
		t.Run(name, func(t *testing.T) {
			e, _ := newEvents(nil)
			tellNow(e, change)
			if len(e.queue) != 0 {
				t.Errorf("an Event is queued: %+v", <-e.queue)
			}
		})
	}
	var none *Events
	tellNow(none, nil) // without an API server there is nobody to tell
}

func TestEventsNeverBlockADecision(t *testing.T) {
	dropped := 0
	e, _ := newEvents(func() { dropped++ })
	for range 5 {
		tellNow(e, nil)
	}
	if dropped != 3 {
		t.Errorf("%d dropped of 5 with room for 2", dropped)
	}
}

func TestTheReasonSaysTheOutcome(t *testing.T) {
	for outcome, want := range map[policies.Outcome]string{
		policies.Delayed: "Warning EvictionDelayed why", policies.Denied: "Warning EvictionDenied why", policies.Undecided: "Warning EvictionUndecided why",
	} {
		e, recorder := newEvents(nil)
		tellNow(e, func(in *policies.Input, d *policies.Decision) {
			d.Outcome, d.Message, in.Owner = outcome, "why", nil
		})
		e.tell(t.Context(), <-e.queue)
		if diff := cmp.Diff([]string{want}, sent(recorder)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}

func TestAnOverrideIsToldEvenWhenABudgetRefuses(t *testing.T) {
	e, recorder := newEvents(nil)
	tellNow(e, func(in *policies.Input, d *policies.Decision) {
		in.Request.User.Username = "jane"
		d.Override = &policies.Override{Reason: "INC-1", Used: true, Policies: []string{"freeze", "quorum"}}
	})
	e.tell(t.Context(), <-e.queue)
	e.tell(t.Context(), <-e.queue)
	want := []string{
		"Warning EvictionOverridden jane overrode freeze, quorum to evict this pod: INC-1",
		"Warning EvictionDelayed not now",
	}
	if diff := cmp.Diff(want, sent(recorder)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestANoteFitsTheAPIServersBound(t *testing.T) {
	for _, text := range []string{"short", strings.Repeat("x", 5000), strings.Repeat("ä", 5000), strings.Repeat("x", maxNote)} {
		got := cut(text, maxNote)
		if len(got) > maxNote || !utf8.ValidString(got) {
			t.Errorf("%d bytes, valid %v", len(got), utf8.ValidString(got))
		}
		if len(text) <= maxNote && got != text || len(text) > maxNote && !strings.HasSuffix(got, "…") {
			t.Errorf("cut to %q", got)
		}
	}
}
