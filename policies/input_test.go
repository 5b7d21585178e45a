package policies

import (
	"encoding/json"
	"maps"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/evictgate/evictgate/policies/internal/policytest"
)

// noon is the time of the decisions in these tests.
var noon = metav1.NewTime(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC))

func ptr[T any](v T) *T { return &v }

// inputFor is an eviction that no policy and no budget holds; the options change it.
func inputFor(options ...func(*Input)) *Input {
	in := &Input{
		Now: noon,
		Request: Request{
			UID: "r1", Namespace: "shop", Name: "web-0",
			User: User{Username: "admin", Groups: []string{"ops"}}, Evictor: "user",
		},
		Pod: &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-0", UID: "p0", Labels: map[string]string{"app": "web"}},
			Status:     corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
		},
		Namespace: &Namespace{Name: "shop", Labels: map[string]string{"tier": "prod"}},
	}
	for _, o := range options {
		o(in)
	}
	return in
}

// anyInput fills an Input with arbitrary values, nil and empty ones, too.
func anyInput() *rapid.Generator[*Input] { return policytest.Any[Input]() }

// total makes nil lists and maps empty where the key is always there, as the projection does.
func total(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			total(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			total(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Field(i)
			if !v.Type().Field(i).IsExported() {
				continue
			}
			tag := v.Type().Field(i).Tag.Get("json")
			if list := f.Kind() == reflect.Slice || f.Kind() == reflect.Map; list && f.IsNil() && !optionalTag(tag) && tag != "" {
				f.Set(emptyOf(f))
			}
			total(f)
		}
	}
}

func emptyOf(v reflect.Value) reflect.Value {
	if v.Kind() == reflect.Map {
		return reflect.MakeMap(v.Type())
	}
	return reflect.MakeSlice(v.Type(), 0, 0)
}

func optionalTag(tag string) bool {
	return len(tag) > 0 && (contains(tag, "omitempty") || contains(tag, "omitzero"))
}

func TestPodReady(t *testing.T) {
	condition := func(of corev1.PodConditionType, is corev1.ConditionStatus) corev1.PodCondition {
		return corev1.PodCondition{Type: of, Status: is}
	}
	for name, tt := range map[string]struct {
		conditions []corev1.PodCondition
		want       bool
	}{
		"a pod without conditions is not ready": {nil, false},
		"a ready pod is ready":                  {[]corev1.PodCondition{condition(corev1.PodScheduled, "True"), condition(corev1.PodReady, "True")}, true},
		"a pod that is not ready":               {[]corev1.PodCondition{condition(corev1.PodReady, "False")}, false},
		"a pod whose node is silent":            {[]corev1.PodCondition{condition(corev1.PodReady, "Unknown")}, false},
		"ready containers are not a ready pod":  {[]corev1.PodCondition{condition(corev1.ContainersReady, "True")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := PodReady(&corev1.Pod{Status: corev1.PodStatus{Conditions: tt.conditions}}); got != tt.want {
				t.Errorf("PodReady is %t, want %t", got, tt.want)
			}
		})
	}
}

func TestBudgetIgnored(t *testing.T) {
	for phase, want := range map[corev1.PodPhase]bool{
		corev1.PodPending: true, corev1.PodSucceeded: true, corev1.PodFailed: true,
		corev1.PodRunning: false, corev1.PodUnknown: false, "": false,
	} {
		pod := &corev1.Pod{Status: corev1.PodStatus{Phase: phase}}
		if got := BudgetIgnored(pod); got != want {
			t.Errorf("a pod in phase %q: ignored is %t, want %t", phase, got, want)
		}
		pod.DeletionTimestamp = &noon
		if !BudgetIgnored(pod) {
			t.Errorf("a terminating pod in phase %q is not ignored", phase)
		}
	}
}

// The shape of an Input is what policies rely on: every key of ours, whatever is not known.
func TestAnEmptyInputHasEveryKey(t *testing.T) {
	raw, err := appendProjection(&Input{Request: Request{DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: ptr(types.UID("u"))}}}})
	if err != nil {
		t.Fatal(err)
	}
	want := `{
		"now": null, "pod": null, "namespace": null, "node": null, "owner": null, "peers": [], "budgets": [],
		"disruption": null, "neighbours": [], "claims": [], "cluster": null, "history": null, "parameters": {},
		"request": {"uid": "", "namespace": "", "name": "", "user": {"username": "", "groups": []}, "evictor": "",
			"dry_run": false, "annotations": {}, "delete_options": {"preconditions": {"uid": "u"}}}
	}`
	if diff := cmp.Diff(parsed(t, []byte(want)), parsed(t, raw)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// parsed is the generic form of JSON, to be compared.
func parsed(t interface{ Fatalf(string, ...any) }, raw []byte) (value any) {
	if err := json.Unmarshal(raw, &value); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	return value
}

// Who adds a list to the history adds it to its names, too.
func TestHistoryListsAreThoseOfTheInput(t *testing.T) {
	var h History
	want := map[string]*[]metav1.Time{}
	for i, v := 0, reflect.ValueOf(&h).Elem(); i < v.NumField(); i++ {
		if times, ok := v.Field(i).Addr().Interface().(*[]metav1.Time); ok {
			want[v.Type().Field(i).Tag.Get("json")] = times
		}
	}
	got := map[string]*[]metav1.Time{}
	for _, name := range HistoryLists() {
		got[name] = h.List(name)
	}
	if !maps.Equal(got, want) {
		t.Errorf("lists %v, expected %v", got, want)
	}
}
