package record

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/policies/source"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// set denies pods of web.
func set(t *testing.T) *policies.Set {
	t.Helper()
	s, err := source.Compile([]policies.File{{Name: "x.rego", Data: []byte(`package eviction.x

deny contains {"reason": "held", "detail": {"app": "web"}} if input.pod.metadata.labels.app == "web"
`)}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A record has all of the request that its own fields do not say, under the keys of the input.
func TestARecordHasTheWholeRequest(t *testing.T) {
	request := policies.Request{
		UID: "review-1", Namespace: "shop", Name: "web-0", User: policies.User{Username: "admin", Groups: []string{"ops"}},
		Evictor: "user", DryRun: true, Annotations: map[string]string{"reason": "r"}, DeleteOptions: &metav1.DeleteOptions{},
	}
	keys := func(value any) (m map[string]any) {
		raw, err := json.Marshal(value)
		if err == nil {
			err = json.Unmarshal(raw, &m)
		}
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	want := keys(request)
	for key, value := range want {
		if value == nil || reflect.ValueOf(value).IsZero() {
			t.Errorf("the test leaves %s out", key)
		}
	}
	delete(want, "uid")            // the decision's id
	delete(want, "delete_options") // of the input
	if diff := cmp.Diff(want, keys(requestOf(&request))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestNewRecord(t *testing.T) {
	s := set(t)
	request := policies.Request{
		UID: "review-1", Namespace: "shop", Name: "web-0", User: policies.User{Username: "admin", Groups: []string{"ops"}},
		Evictor: "user", DryRun: true, Annotations: map[string]string{"reason": "r"},
	}
	in := &policies.Input{Now: metav1.NewTime(noon), Request: request}
	want := Record{
		Version: 1, DecisionID: "review-1", Timestamp: noon, Labels: map[string]string{"id": "replica-1"}, Path: "eviction",
		RequestedBy: "admin", Revision: s.Revision(),
		Request: Request{Namespace: "shop", Name: "web-0", User: request.User, Evictor: "user", DryRun: true, Annotations: request.Annotations},
		Input:   json.RawMessage(`{"pod":null}`), InputRefs: []string{"input.pod.metadata.labels.app"},
		Result:  &policies.Decision{Outcome: policies.Admitted, Code: 200, Revision: s.Revision()},
		Basis:   &Basis{Budgets: policies.AnswerBudgets, OnError: policies.OnErrorDelay},
		Metrics: map[string]int64{"timer_rego_query_eval_ns": 5},
	}
	check := func(name string) {
		t.Helper()
		reading := s.Read(in)
		d := reading.Evaluate(t.Context(), policies.Options{})
		d.Duration = 5
		got, err := New(in, reading, d, want.Labels)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(policies.Decision{}, "Duration")); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
	check("a pod that is not known")

	in.Pod = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web-0", UID: "u", Labels: map[string]string{"app": "web", "b": "c"}}, Spec: corev1.PodSpec{NodeName: "n1"}, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
	in.Owner = &policies.Owner{Kind: "Deployment", Name: "web", UID: "o"}
	want.Basis = &Basis{Budgets: policies.AnswerBudgets, OnError: policies.OnErrorDelay, Phase: "Running"}
	want.Pod, want.Owner = &Object{Kind: "Pod", Name: "web-0", UID: "u", Node: "n1"}, &Object{Kind: "Deployment", Name: "web", UID: "o"}
	want.Input = json.RawMessage(`{"pod":{"metadata":{"labels":{"app":"web"}}}}`)
	want.Result = &policies.Decision{
		Outcome: policies.Denied, Code: 403, Reason: "Forbidden", Message: "held (policy x)", Revision: s.Revision(),
		Violations: []policies.Violation{{Policy: "x", Effect: policies.Deny, Enforcement: policies.Enforce, Reason: "held", Detail: map[string]any{"app": "web"}}},
		Causes:     []policies.Cause{{Type: policies.PolicyCause, Field: "x", Message: "held"}},
	}
	check("a pod of a Deployment")
}

// What reads OPA's decision log finds its keys.
func TestARecordHasTheKeysOfOPAsDecisionLog(t *testing.T) {
	raw, err := json.Marshal(Record{Input: json.RawMessage("{}")})
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	for _, key := range strings.Fields("decision_id labels timestamp path input result requested_by metrics revision record_version request pod owner input_refs") {
		if _, ok := got[key]; !ok {
			t.Errorf("no key %s", key)
		}
		delete(got, key)
	}
	if len(got) > 0 {
		t.Errorf("keys that are not known: %v", got)
	}
}

func TestALineIsTheJSONOfItsRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyRecord().Draw(t, "record")
		if rapid.IntRange(0, 3).Draw(t, "no input") == 0 {
			r.Input = nil
		}
		want, err := json.Marshal(r)
		if err != nil {
			t.Fatalf("marshal: %v", err)
		}
		got, err := r.AppendJSON([]byte("before "))
		if diff := cmp.Diff("before "+string(want), string(got)); err != nil || diff != "" {
			t.Fatalf("%v: -want +got:\n%s", err, diff)
		}
	})
}

// anyRecord is a record as it can be read back: times in UTC, JSON's own types in details.
func anyRecord() *rapid.Generator[Record] {
	text := rapid.String()
	texts := rapid.SliceOfN(text, 1, 3)
	pairs := rapid.MapOfN(text, text, 1, 3)
	object := rapid.Custom(func(t *rapid.T) *Object {
		if rapid.Bool().Draw(t, "nil") {
			return nil
		}
		return &Object{Kind: text.Draw(t, "kind"), Name: text.Draw(t, "name"), UID: text.Draw(t, "uid"), Node: text.Draw(t, "node")}
	})
	return rapid.Custom(func(t *rapid.T) Record {
		since := metav1.NewTime(noon)
		return Record{
			Version: Version, DecisionID: text.Draw(t, "id"), Labels: pairs.Draw(t, "labels"), Path: "eviction",
			Timestamp:   time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "seconds"), rapid.Int64Range(0, 999999999).Draw(t, "nanoseconds")).UTC(),
			RequestedBy: text.Draw(t, "by"), Revision: text.Draw(t, "revision"),
			Request: Request{
				Namespace: text.Draw(t, "namespace"), Name: text.Draw(t, "name"), Evictor: text.Draw(t, "evictor"), DryRun: rapid.Bool().Draw(t, "dry run"),
				User: policies.User{Username: text.Draw(t, "user"), Groups: texts.Draw(t, "groups")}, Annotations: pairs.Draw(t, "annotations"),
			},
			Pod: object.Draw(t, "pod"), Owner: object.Draw(t, "owner"),
			Basis: rapid.SampledFrom([]*Basis{nil, {Budgets: policies.AdviseBudgets, OnError: policies.OnErrorDeny, Phase: "Running", Terminating: true, HistoryDepth: map[string]int{"owner": 1}, Neighbours: &policies.NeighbourLabels{Labels: []string{"a"}}}}).Draw(t, "basis"),
			Input: rapid.SampledFrom([]json.RawMessage{json.RawMessage(`{"pod":null}`), json.RawMessage("null")}).Draw(t, "input"), InputRefs: texts.Draw(t, "refs"), Metrics: map[string]int64{"n": rapid.Int64().Draw(t, "n")},
			Result: &policies.Decision{
				Outcome: policies.Delayed, Code: rapid.Int32().Draw(t, "code"), Reason: text.Draw(t, "reason"), Message: text.Draw(t, "message"),
				Violations: []policies.Violation{{Policy: text.Draw(t, "policy"), Effect: policies.Delay, Enforcement: policies.Warn, Reason: text.Draw(t, "why"), Detail: map[string]any{"n": 1.5, "list": []any{nil, true, text.Draw(t, "detail")}}}},
				Failures:   []policies.Failure{{Policy: text.Draw(t, "policy"), Enforcement: policies.Audit, Error: text.Draw(t, "error")}},
				Disruption: &policies.Disruption{Code: 429, Detail: text.Draw(t, "explained"), Budgets: texts.Draw(t, "budgets"), Blockers: []policies.Blocker{{Name: text.Draw(t, "blocker"), Since: &since}, {Why: text.Draw(t, "why")}}},
				Causes:     []policies.Cause{{Type: policies.PolicyCause, Message: text.Draw(t, "cause"), Field: text.Draw(t, "field")}},
				Warnings:   texts.Draw(t, "warnings"), Revision: text.Draw(t, "revision"),
			},
		}
	})
}

func TestARecordReadsBackAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyRecord().Draw(t, "record")
		var line strings.Builder
		b := batch{out: &line}
		if err := b.add(func() (Record, error) { return want, nil }); err != nil {
			t.Fatalf("add: %v", err)
		}
		if lost, err := b.flush(); lost != 0 || err != nil {
			t.Fatalf("flush: %d lost, %v", lost, err)
		}
		if strings.Count(line.String(), "\n") != 1 || !strings.HasSuffix(line.String(), "\n") {
			t.Fatalf("not one line: %q", line.String())
		}
		var got Record
		if err := json.Unmarshal([]byte(line.String()), &got); err != nil {
			t.Fatalf("read: %v", err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("-written +read:\n%s", diff)
		}
	})
}

func TestWhyARecordIsLost(t *testing.T) {
	for want, make := range map[string]func() (Record, error){
		"make record: no input":     func() (Record, error) { return Record{}, errors.New("no input") },
		"make record: panic: a bug": func() (Record, error) { panic("a bug") },
		"encode record: json: unsupported value: NaN": func() (Record, error) {
			return Record{Result: &policies.Decision{Violations: []policies.Violation{{Detail: map[string]any{"n": math.NaN()}}}}}, nil
		},
	} {
		var b batch
		if err := b.add(make); err == nil || err.Error() != want || len(b.lines) > 0 {
			t.Errorf("error %v, want %s; lines %q", err, want, b.lines)
		}
	}
}
