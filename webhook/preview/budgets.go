package preview

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/evictgate/evictgate/webhook/budget"
	"github.com/evictgate/evictgate/webhook/cluster"
)

// ImpossibleBudget is a budget that can never let a drain finish, whatever becomes ready.
type ImpossibleBudget struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Pods is how many pods it holds.
	Pods int    `json:"pods"`
	Why  string `json:"why"`
}

// ImpossibleBudgets finds them, sorted by namespace and name.
func ImpossibleBudgets(store *cluster.Store) []ImpossibleBudget {
	list := []ImpossibleBudget{}
	gatherer := cluster.Gatherer{Store: store}
	for _, pdb := range store.Budgets() {
		pods := store.Selected(pdb)
		why := budget.Never(pdb, budget.Pods{Existing: len(pods), Wanted: gatherer.Wanted(pods)})
		if why == "" {
			why = shared(store, pdb.Name, pods)
		}
		if why != "" && len(pods) > 0 {
			list = append(list, ImpossibleBudget{Namespace: pdb.Namespace, Name: pdb.Name, Pods: len(pods), Why: why})
		}
	}
	return list
}

// shared says with which other budgets this one selects pods; the API server then refuses them all.
func shared(store *cluster.Store, name string, pods []*corev1.Pod) string {
	var others []string
	held := 0
	for _, pod := range pods {
		matching := store.MatchingBudgets(pod)
		if len(matching) > 1 {
			held++
		}
		for _, b := range matching {
			if b.Name != name && !slices.Contains(others, b.Name) {
				others = append(others, b.Name)
			}
		}
	}
	if held == 0 {
		return ""
	}
	slices.Sort(others)
	return fmt.Sprintf("%d of its pods are selected by %s, too, which the Eviction API does not support; change a selector", held, strings.Join(others, " and "))
}
