package policies

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
)

// answersOf evaluates and says how many answers were remembered.
func answersOf(t testing.TB, set *Set, in *Input) (d *Decision, remembered int) {
	t.Helper()
	r := set.Read(in)
	d = r.Evaluate(t.Context(), patient)
	_, remembered = r.Answers()
	return d, remembered
}

// TestWhatIsRememberedIsWhatWouldBeAnswered is the property that the memo rests on. The inputs have few
// values, so that most of them were seen before by some of the policies.
func TestWhatIsRememberedIsWhatWouldBeAnswered(t *testing.T) {
	known := 0
	for _, set := range append(librarySets(t), boundInMany(t)) {
		fresh := forgetful(set)
		rapid.Check(t, func(t *rapid.T) {
			in := anyEvictable().Draw(t, "input")
			in.Now.Time = noon.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "hours"))*time.Hour + time.Duration(rapid.IntRange(0, 3).Draw(t, "quarters"))*time.Second/4)
			in.Request.UID = rapid.StringN(1, 3, 9).Draw(t, "uid")
			if rapid.Bool().Draw(t, "namespace unknown") {
				in.Namespace = nil
			}
			want := fresh.Evaluate(context.Background(), in, patient)
			for range 2 {
				r := set.Read(in)
				if diff := cmp.Diff(want, r.Evaluate(context.Background(), patient), decisionOnly); diff != "" {
					t.Fatalf("-evaluated +remembered:\n%s", diff)
				}
				_, remembered := r.Answers()
				known += remembered
			}
		})
	}
	if known < 1000 {
		t.Errorf("only %d answers were remembered", known)
	}
}

// boundInMany binds policies of the library that read the same differently.
func boundInMany(t testing.TB) *Set {
	t.Helper()
	return compiled(t,
		bind("a", "library: do_not_disrupt\nparameters: {effect: deny}"),
		bind("b", "library: do_not_disrupt\nmatch:\n  evictors: [{kind: karpenter}]"),
		bind("c", "library: protected_namespaces\nparameters: {namespace_labels: {team: shop}, min_priority: 1}"),
		bind("d", "library: protected_namespaces\nparameters: {namespaces: [shop]}\nenforcement: Warn"),
		bind("e", "library: freeze_window\nparameters: {windows: [{name: noon, from: \"12:00\", to: \"13:00\", namespaces: [kube-system]}]}"),
		bind("f", inline("f", "deny contains $\"{input.request.uid}\" if input.request.evictor == \"karpenter\"")),
		bind("g", inline("g", "deny contains \"no labels\" if not input.namespace.labels")),
		bind("h", inline("h", "delay contains {\"reason\": \"wait\", \"detail\": {\"budgets\": input.budgets}} if input.budgets[1]")))
}

func TestWhatIsRemembered(t *testing.T) {
	const clock = "deny contains $\"{_now}\" if true\n\n_now := time.now_ns()"
	same := func(*Input) {}
	after := func(d time.Duration) func(*Input) { return func(in *Input) { in.Now.Time = noon.Add(d) } }
	annotated := func(value string, more ...func(*Input)) func(*Input) {
		return func(in *Input) {
			in.Pod.Annotations, in.Pod.Status.StartTime = map[string]string{"evictgate.dev/do-not-disrupt": value}, &noon
			for _, change := range more {
				change(in)
			}
		}
	}
	for name, tt := range map[string]struct {
		file          File
		first, second func(*Input)
		want          bool
	}{
		"the same again": {policy("x", `deny contains $"{input.request.name}"`), same, same, true},
		"what the policy does not read may differ": {
			policy("x", `deny contains $"{input.request.namespace}"`),
			same, func(in *Input) {
				in.Request.UID, in.Now, in.Pod.Name, in.Request.Name = "r2", metav1.Now(), "other", "other"
			}, true,
		},
		"what it reads differs": {
			policy("x", `deny contains $"{input.request.name}"`),
			same, func(in *Input) { in.Request.Name = "other" }, false,
		},
		"two values that are one when joined": {
			policy("x", `deny contains $"{input.request.name} {input.request.namespace}"`),
			func(in *Input) { in.Request.Name, in.Request.Namespace = "a", "bc" }, func(in *Input) { in.Request.Name, in.Request.Namespace = "ab", "c" }, false,
		},
		"an empty map is not an absent one": {
			policy("x", `deny contains "x" if input.namespace.labels`),
			func(in *Input) { in.Namespace = nil }, func(in *Input) { in.Namespace = &Namespace{} }, false,
		},
		"an optional field that is absent is not a zero": {
			policy("x", `deny contains "x" if input.pod.spec.priority`),
			func(in *Input) { in.Pod.Spec.Priority = nil }, func(in *Input) { in.Pod.Spec.Priority = ptr[int32](0) }, false,
		},
		"the review's id":                 {policy("x", `deny contains $"{input.request.uid}"`), same, same, false},
		"the whole request":               {policy("x", `deny contains $"{input.request}"`), same, same, false},
		"now, in the same second":         {policy("x", `deny contains $"{input.now}"`), same, after(time.Second - 1), true},
		"now, in the next second":         {policy("x", `deny contains $"{input.now}"`), same, after(time.Second), false},
		"the time, in the same second":    {policy("x", clock), same, after(time.Second - 1), true},
		"the time, in the next second":    {policy("x", clock), same, after(time.Second), false},
		"the time, but it is not asked":   {bind("x", "library: do_not_disrupt"), annotated("true"), annotated("true", after(time.Hour)), true},
		"the time, and it is asked":       {bind("x", "library: do_not_disrupt"), annotated("4h"), annotated("4h", after(time.Hour)), false},
		"a failure":                       {policy("x", `deny contains "x" if to_number(input.request.name) > 1`), same, same, false},
		"a violation that cannot be read": {policy("x", `deny contains x if some x in [7]`), same, same, false},
	} {
		t.Run(name, func(t *testing.T) {
			set := compiled(t, tt.file)
			_, before := answersOf(t, set, inputFor(tt.first))
			in := inputFor(tt.second)
			got, remembered := answersOf(t, set, in)
			if before != 0 || (remembered == 1) != tt.want {
				t.Errorf("remembered %d, then %d", before, remembered)
			}
			if diff := cmp.Diff(forgetful(set).Evaluate(t.Context(), in, patient), got, decisionOnly); diff != "" {
				t.Errorf("-evaluated +answered:\n%s", diff)
			}
		})
	}
}

func TestATimeoutIsNotRemembered(t *testing.T) {
	set := compiled(t, policy("a", endless))
	for range 2 {
		r := set.Read(inputFor())
		d := r.Evaluate(t.Context(), Options{PolicySteps: 1000})
		if _, remembered := r.Answers(); remembered > 0 || len(d.Failures) != 1 {
			t.Errorf("remembered %d, failures %v", remembered, d.Failures)
		}
	}
}

// Whether a policy matches is asked in every review, also when its answer is known.
func TestMatchIsNotRemembered(t *testing.T) {
	set := compiled(t, bind("x", "match:\n  evictors: [{kind: user}]\n"+inline("x", `deny contains "never"`)))
	for evictor, want := range map[string]Outcome{"user": Denied, "karpenter": Admitted} {
		for range 2 {
			d, _ := answersOf(t, set, inputFor(func(in *Input) { in.Request.Evictor = evictor }))
			if d.Outcome != want {
				t.Errorf("%s: %s, want %s", evictor, d.Outcome, want)
			}
		}
	}
}

func TestWhatIsHandedOutIsNobodyElses(t *testing.T) {
	set := compiled(t, policy("x", `deny contains {"reason": "no", "detail": {"list": [{"a": 1}], "map": {"b": 2}}}`))
	want, _ := answersOf(t, forgetful(set), inputFor())
	for i := range 3 {
		got, remembered := answersOf(t, set, inputFor())
		if diff := cmp.Diff(want, got, decisionOnly); diff != "" || remembered != min(i, 1) {
			t.Fatalf("time %d, remembered %d: -want +got:\n%s", i, remembered, diff)
		}
		v := &got.Violations[0]
		v.Enforcement, v.Reason = Audit, "changed"
		v.Detail["list"].([]any)[0].(map[string]any)["a"] = "changed"
		v.Detail["map"].(map[string]any)["b"] = "changed"
		v.Detail["new"] = "changed"
	}
}

func TestAMemoIsBounded(t *testing.T) {
	key := func(i int) []byte { return fmt.Appendf(nil, "%04d", i) }
	count := func(m *memo, n int) (known, last int) {
		for i := range n {
			if _, ok := m.get(key(i)); ok {
				known++
			}
		}
		return known, len(m.recent) + len(m.older)
	}
	t.Run("by entries", func(t *testing.T) {
		m := &memo{}
		for i := range 10 * memoEntries {
			m.put(key(i), nil)
		}
		for i := 9 * memoEntries; i < 10*memoEntries; i++ {
			if _, ok := m.get(key(i)); !ok {
				t.Fatalf("entry %d is forgotten, though it is among the last %d", i, memoEntries)
			}
		}
		if _, held := count(m, 0); held > 2*memoEntries {
			t.Errorf("%d entries are held", held)
		}
	})
	t.Run("by bytes", func(t *testing.T) {
		m := &memo{}
		long := strings.Repeat("x", memoLargest/2)
		for i := range 10 * memoEntries {
			m.put(append(key(i), long...), nil)
		}
		if held := (len(m.recent) + len(m.older)) * len(long); held > 2*memoBytes {
			t.Errorf("%d bytes are held", held)
		}
	})
	t.Run("nothing large", func(t *testing.T) {
		m := &memo{}
		m.put(make([]byte, memoLargest), nil)
		m.put([]byte("k"), []Violation{{Reason: strings.Repeat("x", memoLargest)}})
		if len(m.recent) > 0 {
			t.Error("a large answer is held")
		}
	})
	t.Run("what is asked for stays", func(t *testing.T) {
		m := &memo{}
		m.put([]byte("wanted"), []Violation{{Reason: "no"}})
		for i := range 10 * memoEntries {
			m.put(key(i), nil)
			if got, ok := m.get([]byte("wanted")); !ok || got[0].Reason != "no" {
				t.Fatalf("forgotten after %d others", i)
			}
		}
	})
}
