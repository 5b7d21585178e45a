package record

import (
	"math"

	"github.com/evictgate/evictgate/policies"
)

// Basis is what a decision rests on beside the input that the policies read. A replay needs it.
type Basis struct {
	// Budgets says who refuses when a budget blocks: answer (we do) or advise (the API server does).
	Budgets policies.BudgetMode `json:"budgets"`
	// OnError says what an undecided review is answered: delay, deny or admit.
	OnError policies.OnError `json:"on_error"`
	// Phase is the pod's: policies are not asked about one that is Pending, Succeeded or Failed. Empty when
	// the pod is not known.
	Phase string `json:"phase"`
	// Terminating is true for a pod that is being deleted: policies are not asked about it.
	Terminating bool `json:"terminating"`
	// HistoryDepth says how many of the newest times each list of the history holds at most, where the
	// policies bound it. Absent when they bound none.
	HistoryDepth map[string]int `json:"history_depth,omitempty"`
	// Neighbours says which of them the input holds; absent when the policies read none.
	Neighbours *policies.NeighbourLabels `json:"neighbours,omitempty"`
	// Confirmed names what was read from the API server for this decision, since the cache was behind or could not
	// be relied on: namespace, node, owner, pod. Absent when the cache decided.
	Confirmed []string `json:"confirmed,omitempty"`
}

// newBasis is nil for a reading that was not evaluated; needs is what was gathered.
func newBasis(in *policies.Input, reading *policies.Reading, needs *policies.Needs) *Basis {
	o := reading.Options()
	if o.Budgets == "" {
		return nil
	}
	b := &Basis{Budgets: o.Budgets, OnError: o.OnError, Confirmed: in.Confirmed}
	if in.Pod != nil {
		b.Phase, b.Terminating = string(in.Pod.Status.Phase), in.Pod.DeletionTimestamp != nil
	}
	for _, list := range policies.HistoryLists() {
		depth := needs.HistoryDepth(list, math.MaxInt)
		if needs.Reads("history", list) && depth < math.MaxInt {
			if b.HistoryDepth == nil {
				b.HistoryDepth = map[string]int{}
			}
			b.HistoryDepth[list] = depth
		}
	}
	if needs.Reads("neighbours") {
		by := needs.Neighbours()
		b.Neighbours = &by
	}
	return b
}
