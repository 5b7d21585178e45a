package budget

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Pods are those that a budget selects.
type Pods struct {
	// Existing is how many there are, Wanted how many their controllers want.
	Existing, Wanted int
}

// expected is how many pods the budget will count once all that are wanted exist. With a minAvailable
// number the API counts only those that exist, so that a missing pod looks like one nobody wants.
func (p Pods) expected(pdb *policyv1.PodDisruptionBudget) int {
	if m := pdb.Spec.MinAvailable; m != nil && m.Type == intstr.Int {
		return max(int(pdb.Status.ExpectedPods), p.Wanted)
	}
	return int(pdb.Status.ExpectedPods)
}

// Never says why a budget can never allow a disruption, whatever becomes ready, with the arithmetic and
// the cure; empty when it can.
func Never(pdb *policyv1.PodDisruptionBudget, pods Pods) string {
	s := &pdb.Status
	switch {
	case failedSync(pdb) != nil:
		return fmt.Sprintf("it failed to sync (%s); fix the budget", failedSync(pdb).Message)
	case s.ObservedGeneration < pdb.Generation:
		return ""
	case s.ExpectedPods == 0 && pods.Existing > 0:
		return limit(pdb) + " counts pods by their controller's scale, and these have none, so it expects 0 and allows none; use a minAvailable number below the number of pods"
	case s.ExpectedPods > 0 && int(s.DesiredHealthy) >= pods.expected(pdb):
		return arithmetic(pdb) + "; " + cureOf(pdb)
	}
	return ""
}

// arithmetic shows how the limit of the spec comes to need every expected pod.
func arithmetic(pdb *policyv1.PodDisruptionBudget) string {
	expected := int(pdb.Status.ExpectedPods)
	if share, of, ok := percentage(pdb, expected); ok && share != math.Trunc(share) {
		return fmt.Sprintf("%s of %d pods is %s, rounded up to %d, which is all of them", of, expected, strconv.FormatFloat(share, 'f', -1, 64), int(math.Ceil(share)))
	}
	if expected == 1 {
		return fmt.Sprintf("with %s the only pod must stay healthy", limit(pdb))
	}
	return fmt.Sprintf("with %s all %d pods must stay healthy", limit(pdb), expected)
}

// percentage is a minAvailable percentage of the expected pods before it is rounded.
func percentage(pdb *policyv1.PodDisruptionBudget, expected int) (share float64, of string, ok bool) {
	m := pdb.Spec.MinAvailable
	if m == nil || m.Type != intstr.String {
		return 0, "", false
	}
	percent, err := strconv.Atoi(strings.TrimSuffix(m.StrVal, "%"))
	if err != nil {
		return 0, "", false
	}
	return float64(percent*expected) / 100, limit(pdb), true
}
