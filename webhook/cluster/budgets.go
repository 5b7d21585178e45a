package cluster

import (
	"cmp"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// budgetIndex finds the budgets that select a pod without looking at the others of its namespace.
// Each budget is filed under one requirement of its selector that the labels of a pod must meet; of
// several, under the one that fewest other budgets share. A look-up then tests only the budgets filed
// under the pod's own labels.
type budgetIndex struct {
	mu         sync.RWMutex
	namespaces map[string]*namespaceBudgets
}

type namespaceBudgets struct {
	entries map[string]*budgetEntry
	files   map[fileKey]map[string]*budgetEntry
}

type budgetEntry struct {
	pdb      *policyv1.PodDisruptionBudget
	selector labels.Selector
	filed    []fileKey
}

// fileKey is a label that a pod must have. With anyValue, the value does not matter; the zero key
// holds the budgets whose selector names no such label.
type fileKey struct {
	label, value string
	anyValue     bool
}

func newBudgetIndex() *budgetIndex {
	return &budgetIndex{namespaces: map[string]*namespaceBudgets{}}
}

// put files a budget, or files it anew.
func (x *budgetIndex) put(pdb *policyv1.PodDisruptionBudget) {
	x.mu.Lock()
	defer x.mu.Unlock()
	ns, ok := x.namespaces[pdb.Namespace]
	if !ok {
		ns = &namespaceBudgets{entries: map[string]*budgetEntry{}, files: map[fileKey]map[string]*budgetEntry{}}
		x.namespaces[pdb.Namespace] = ns
	}
	ns.remove(pdb.Name)
	// A nil or unparsable selector selects nothing, as for the API server.
	selector, err := metav1.LabelSelectorAsSelector(pdb.Spec.Selector)
	if err != nil || pdb.Spec.Selector == nil {
		return
	}
	entry := &budgetEntry{pdb: pdb, selector: selector, filed: ns.choose(selector)}
	ns.entries[pdb.Name] = entry
	for _, key := range entry.filed {
		if ns.files[key] == nil {
			ns.files[key] = map[string]*budgetEntry{}
		}
		ns.files[key][pdb.Name] = entry
	}
}

func (x *budgetIndex) delete(namespace, name string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if ns, ok := x.namespaces[namespace]; ok {
		ns.remove(name)
		if len(ns.entries) == 0 {
			delete(x.namespaces, namespace)
		}
	}
}

func (ns *namespaceBudgets) remove(name string) {
	entry, ok := ns.entries[name]
	if !ok {
		return
	}
	delete(ns.entries, name)
	for _, key := range entry.filed {
		if delete(ns.files[key], name); len(ns.files[key]) == 0 {
			delete(ns.files, key)
		}
	}
}

// choose picks the requirement whose files hold the fewest budgets.
func (ns *namespaceBudgets) choose(selector labels.Selector) []fileKey {
	requirements, selectable := selector.Requirements()
	if !selectable {
		return nil
	}
	best, bestSize := []fileKey{{}}, -1
	for _, r := range requirements {
		keys := keysOf(r)
		if keys == nil {
			continue
		}
		size := 0
		for _, key := range keys {
			size += len(ns.files[key])
		}
		if bestSize < 0 || size < bestSize {
			best, bestSize = keys, size
		}
	}
	return best
}

// keysOf lists the labels of which a pod must have one to meet the requirement; nil when the
// requirement can be met without a label.
func keysOf(r labels.Requirement) []fileKey {
	switch r.Operator() {
	case selection.Equals, selection.DoubleEquals, selection.In:
		var keys []fileKey
		for value := range r.Values() {
			keys = append(keys, fileKey{label: r.Key(), value: value})
		}
		return keys
	case selection.Exists:
		return []fileKey{{label: r.Key(), anyValue: true}}
	}
	return nil
}

// matching lists the budgets that select the pod, sorted by name.
func (x *budgetIndex) matching(pod *corev1.Pod) []*policyv1.PodDisruptionBudget {
	x.mu.RLock()
	defer x.mu.RUnlock()
	ns, ok := x.namespaces[pod.Namespace]
	if !ok {
		return nil
	}
	var found []*policyv1.PodDisruptionBudget
	look := func(key fileKey) {
		for _, entry := range ns.files[key] {
			if entry.selector.Matches(labels.Set(pod.Labels)) {
				found = append(found, entry.pdb)
			}
		}
	}
	look(fileKey{})
	for label, value := range pod.Labels {
		look(fileKey{label: label, value: value})
		look(fileKey{label: label, anyValue: true})
	}
	slices.SortFunc(found, func(a, b *policyv1.PodDisruptionBudget) int { return cmp.Compare(a.Name, b.Name) })
	return found
}

// all lists the budgets that can select pods, sorted by namespace and name.
func (x *budgetIndex) all() []*policyv1.PodDisruptionBudget {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var list []*policyv1.PodDisruptionBudget
	for _, ns := range x.namespaces {
		for _, entry := range ns.entries {
			list = append(list, entry.pdb)
		}
	}
	slices.SortFunc(list, func(a, b *policyv1.PodDisruptionBudget) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return list
}
