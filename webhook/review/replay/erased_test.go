package replay

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
)

// What a record has of the request is what a replay restores: kept is the only way back.
func TestEveryPartOfTheRequestIsRestored(t *testing.T) {
	of := reflect.TypeFor[record.Request]()
	for i := range of.NumField() {
		at := path("request." + of.Field(i).Tag.Get("json"))
		if !slices.ContainsFunc(kept, func(k keptPart) bool { return slices.Equal(k.at, at) && slices.Equal(k.path, at) }) {
			t.Errorf("a replay does not restore %s", strings.Join(at, "."))
		}
	}
}

// TestWhatWasCutIsNotJudged records an eviction whose annotation is too long to be kept, and asks policies that did not
// decide it: one that reads what was cut cannot be judged, one that reads what is whole can.
func TestWhatWasCutIsNotJudged(t *testing.T) {
	decided := compile(t, bind("decided", inline("decided", "deny contains \"held\" if input.request.annotations.long == \"x\"")))
	in := &policies.Input{
		Now: metav1.NewTime(noon), Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web-0", UID: "u1"}, Status: corev1.PodStatus{Phase: corev1.PodRunning}},
		Request: policies.Request{
			UID: "d1", Namespace: "shop", Name: "web-0", Evictor: "user",
			User:        policies.User{Username: "ana", Groups: strings.Split(strings.Repeat("g,", 200)+"ops", ",")},
			Annotations: map[string]string{"long": strings.Repeat("x", 5000), "ticket": "T-1"},
		},
	}
	reading := decided.Read(in)
	record, err := record.New(in, reading, reading.Evaluate(t.Context(), policies.Options{}), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(record.Erased) == 0 {
		t.Fatal("nothing was cut")
	}
	for rule, want := range map[string]string{
		`deny contains "x" if input.request.annotations.long == "y"`:     "erased input.request.annotations.long",
		`deny contains "x" if "ops" in input.request.user.groups`:        "reads_beyond input.request.user.groups",
		`deny contains "x" if input.request.annotations.ticket == "T-1"`: "denied",
		`deny contains "x" if input.request.annotations.other`:           "the same",
		`deny contains "x" if input.request.user.username == "ana"`:      "denied",
	} {
		j := &judge{ctx: t.Context(), set: compile(t, bind("tried", inline("tried", rule)))}
		found := j.judge(offered{record: record})
		got := "the same"
		switch {
		case len(found.obstacles) > 0:
			got = fmt.Sprintf("%s %s", found.obstacles[0].Reason, found.obstacles[0].Ref)
		case found.change != nil:
			got = string(found.change.After.Outcome)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", rule, got, want)
		}
	}
}
