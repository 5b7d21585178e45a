package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/cache"
	"pgregory.net/rapid"
)

func budgetNamed(namespace, name string, selector *metav1.LabelSelector) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: selector},
	}
}

func selecting(pairs map[string]string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: pairs}
}

var (
	anyKey   = rapid.SampledFrom([]string{"app", "tier", "zone"})
	anyValue = rapid.SampledFrom([]string{"", "a", "b", "c"})
	anyPair  = rapid.MapOfN(anyKey, anyValue, 0, 3)
)

// anySelector is nil, empty, or has labels and expressions of every kind, one that cannot be parsed,
// too.
func anySelector() *rapid.Generator[*metav1.LabelSelector] {
	return rapid.Custom(func(t *rapid.T) *metav1.LabelSelector {
		if rapid.IntRange(0, 9).Draw(t, "nil") == 0 {
			return nil
		}
		s := selecting(anyPair.Draw(t, "labels"))
		for range rapid.IntRange(0, 2).Draw(t, "expressions") {
			r := metav1.LabelSelectorRequirement{
				Key:      anyKey.Draw(t, "key"),
				Operator: rapid.SampledFrom([]metav1.LabelSelectorOperator{"In", "NotIn", "Exists", "DoesNotExist", "In", "Broken"}).Draw(t, "operator"),
			}
			if r.Operator == "In" || r.Operator == "NotIn" {
				r.Values = rapid.SliceOfNDistinct(anyValue, 1, 3, rapid.ID).Draw(t, "values")
			}
			s.MatchExpressions = append(s.MatchExpressions, r)
		}
		return s
	})
}

// scan is the brute force: every budget of the namespace is tested.
func scan(budgets map[string]*policyv1.PodDisruptionBudget, pod *corev1.Pod) []string {
	var names []string
	for _, b := range budgets {
		selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err == nil && b.Namespace == pod.Namespace && selector.Matches(labels.Set(pod.Labels)) {
			names = append(names, b.Name)
		}
	}
	return slices.Sorted(slices.Values(names))
}

func TestTheBudgetIndexFindsWhatAScanFinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := newBudgetIndex()
		handler := x.handler()
		budgets := map[string]*policyv1.PodDisruptionBudget{}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				b := budgetNamed(rapid.SampledFrom([]string{"shop", "bank"}).Draw(t, "namespace"), fmt.Sprint("b", rapid.IntRange(0, 7).Draw(t, "name")), anySelector().Draw(t, "selector"))
				key := b.Namespace + "/" + b.Name
				if old, ok := budgets[key]; ok {
					handler.OnUpdate(old, b)
				} else {
					handler.OnAdd(b, false)
				}
				budgets[key] = b
			},
			"delete": func(t *rapid.T) {
				if len(budgets) == 0 {
					t.Skip("no budget")
				}
				key := rapid.SampledFrom(slices.Sorted(maps.Keys(budgets))).Draw(t, "which")
				if rapid.Bool().Draw(t, "seen") {
					handler.OnDelete(budgets[key])
				} else {
					handler.OnDelete(cache.DeletedFinalStateUnknown{Key: key, Obj: budgets[key]})
				}
				delete(budgets, key)
			},
			"": func(t *rapid.T) {
				pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p", Labels: anyPair.Draw(t, "pod")}}
				var got []string
				for _, b := range x.matching(pod) {
					if b != budgets[b.Namespace+"/"+b.Name] {
						t.Fatalf("budget %s is an old one", b.Name)
					}
					got = append(got, b.Name)
				}
				if diff := gocmp.Diff(scan(budgets, pod), got); diff != "" {
					t.Fatalf("-scan +index:\n%s", diff)
				}
				if len(budgets) == 0 && len(x.namespaces) > 0 {
					t.Fatalf("namespaces are left without budgets: %v", x.namespaces)
				}
			},
		})
	})
}

// tested counts the budgets that a look-up for the labels would test.
func (ns *namespaceBudgets) tested(podLabels map[string]string) int {
	n := len(ns.files[fileKey{}])
	for label, value := range podLabels {
		n += len(ns.files[fileKey{label: label, value: value}]) + len(ns.files[fileKey{label: label, anyValue: true}])
	}
	return n
}

func TestALookUpTestsFewBudgets(t *testing.T) {
	expression := func(key string, o metav1.LabelSelectorOperator, values ...string) *metav1.LabelSelector {
		return &metav1.LabelSelector{
			MatchLabels:      map[string]string{"a-team": "shop"},
			MatchExpressions: []metav1.LabelSelectorRequirement{{Key: key, Operator: o, Values: values}},
		}
	}
	for name, selector := range map[string]func(i int) *metav1.LabelSelector{
		"all share a label whose name sorts first": func(i int) *metav1.LabelSelector {
			return selecting(map[string]string{"a-team": "shop", "app": fmt.Sprint("web-", i)})
		},
		"all share a label whose name sorts last": func(i int) *metav1.LabelSelector {
			return selecting(map[string]string{"z-team": "shop", "app": fmt.Sprint("web-", i)})
		},
		"all share a label, and differ by In": func(i int) *metav1.LabelSelector {
			return expression("app", metav1.LabelSelectorOpIn, fmt.Sprint("web-", i), fmt.Sprint("old-", i))
		},
		"all share a label, and differ by a key that exists": func(i int) *metav1.LabelSelector {
			return expression(fmt.Sprint("web-", i), metav1.LabelSelectorOpExists)
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := newBudgetIndex()
			for range 2 { // the second time, all are updated
				for i := range 1000 {
					x.put(budgetNamed("shop", fmt.Sprint("b", i), selector(i)))
				}
			}
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Labels: map[string]string{"a-team": "shop", "z-team": "shop", "app": "web-7", "web-7": ""}}}
			if got := x.matching(pod); len(got) != 1 || got[0].Name != "b7" {
				t.Errorf("found %d budgets", len(got))
			}
			if n := x.namespaces["shop"].tested(pod.Labels); n > 3 {
				t.Errorf("a look-up tests %d of 1000 budgets", n)
			}
		})
	}
}

func BenchmarkMatching(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x := newBudgetIndex()
			for i := range n {
				x.put(budgetNamed("shop", fmt.Sprint("b", i), selecting(map[string]string{"team": "shop", "app": fmt.Sprint("web-", i)})))
			}
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Labels: map[string]string{"team": "shop", "app": "web-0"}}}
			for b.Loop() {
				if len(x.matching(pod)) != 1 {
					b.Fatal("not found")
				}
			}
		})
	}
}

// sorted by name, whatever order they were filed in.
func TestMatchingIsSorted(t *testing.T) {
	x := newBudgetIndex()
	for _, name := range []string{"c", "a", "b"} {
		x.put(budgetNamed("shop", name, &metav1.LabelSelector{}))
	}
	got := x.matching(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}})
	if len(got) != 3 || !slices.IsSortedFunc(got, func(a, b *policyv1.PodDisruptionBudget) int { return cmp.Compare(a.Name, b.Name) }) {
		t.Errorf("%d budgets, not sorted", len(got))
	}
}
