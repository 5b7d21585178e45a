package fate

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/evictgate/evictgate/webhook/record"
)

func TestWhatIsStuck(t *testing.T) {
	refusals := func(p *Pods, seconds ...int) {
		for _, s := range seconds {
			p.Note(decided(s, refusedBy(record.ByPolicy)))
		}
	}
	for name, tt := range map[string]struct {
		do   func(*Pods)
		now  int
		want Stuck
	}{
		"refused for five minutes":           {func(p *Pods) { refusals(p, 0, 200) }, 300, Stuck{1, 5 * time.Minute}},
		"refused for less":                   {func(p *Pods) { refusals(p, 0, 200) }, 299, Stuck{}},
		"tried again fifteen minutes ago":    {func(p *Pods) { refusals(p, 0, 400) }, 1300, Stuck{1, 1300 * time.Second}},
		"tried again longer ago":             {func(p *Pods) { refusals(p, 0, 400) }, 1301, Stuck{}},
		"refused once, and nobody came back": {func(p *Pods) { refusals(p, 0) }, 901, Stuck{}},
		"admitted at last":                   {func(p *Pods) { refusals(p, 0, 400); p.Note(decided(500, refusedBy(admitted))) }, 600, Stuck{}},
		"terminating":                        {func(p *Pods) { refusals(p, 0, 400); p.Changed(podWith(deleted(500, 30))) }, 600, Stuck{}},
		"finished":                           {func(p *Pods) { refusals(p, 0, 400); p.Changed(podWith(phase(corev1.PodFailed))) }, 600, Stuck{}},
		"gone":                               {func(p *Pods) { refusals(p, 0, 400); p.Removed(podWith(), false) }, 600, Stuck{}},
		"gone, as only the API server says":  {func(p *Pods) { refusals(p, 0, 400); p.missing(blocked()) }, 600, Stuck{}},
		"changed, but still there":           {func(p *Pods) { refusals(p, 0, 400); p.Changed(podWith(evicted(1))) }, 600, Stuck{1, 10 * time.Minute}},
		"terminating, and refused once more": {func(p *Pods) {
			p.Note(decided(0, refusedBy(record.ByPolicy)))
			p.Changed(podWith(deleted(1, 30)))
			refusals(p, 9, 400)
		}, 600, Stuck{}},
		"another pod under the name is deleted":  {func(p *Pods) { refusals(p, 0, 400); p.Removed(podWith(named("u2")), true) }, 600, Stuck{1, 10 * time.Minute}},
		"refused, silent, and refused once more": {func(p *Pods) { refusals(p, 0, 5000) }, 5100, Stuck{}},
	} {
		t.Run(name, func(t *testing.T) {
			now := at(tt.now)
			p := quietly(&now)
			tt.do(p)
			if diff := cmp.Diff(tt.want, p.Stuck()[record.ByPolicy]); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestTheStuckMetricsHaveEveryBlocker(t *testing.T) {
	now := at(1000)
	p := quietly(&now)
	for uid, by := range map[types.UID]record.BlockerKind{"a": record.ByBudget, "b": record.ByBudget, "c": record.ByFailure} {
		for _, second := range []int{0, 300} {
			in, d := decided(second, refusedBy(by))
			in.Pod = podWith(named(uid))
			p.Note(in, d)
		}
	}
	nobody, d := decided(0, refusedBy(record.ByFailure))
	nobody.Pod = nil
	p.Note(nobody, d)
	want := `
# HELP evictgate_refusals_total Refused evictions by what refused, dry runs left out.
# TYPE evictgate_refusals_total counter
evictgate_refusals_total{blocker="budget"} 4
evictgate_refusals_total{blocker="failure"} 3
evictgate_refusals_total{blocker="misconfigured_budgets"} 0
evictgate_refusals_total{blocker="policy"} 0
# HELP evictgate_stuck_episode_oldest_seconds For how long the eviction of the pod that is stuck longest is refused; 0 when none is stuck. Aggregate replicas with max.
# TYPE evictgate_stuck_episode_oldest_seconds gauge
evictgate_stuck_episode_oldest_seconds{blocker="budget"} 1000
evictgate_stuck_episode_oldest_seconds{blocker="failure"} 1000
evictgate_stuck_episode_oldest_seconds{blocker="misconfigured_budgets"} 0
evictgate_stuck_episode_oldest_seconds{blocker="policy"} 0
# HELP evictgate_stuck_episodes Pods whose eviction is refused for more than 5 minutes and was tried again in the last 15, as far as this replica was asked. Replicas may count the same pod: aggregate with max, not sum.
# TYPE evictgate_stuck_episodes gauge
evictgate_stuck_episodes{blocker="budget"} 2
evictgate_stuck_episodes{blocker="failure"} 1
evictgate_stuck_episodes{blocker="misconfigured_budgets"} 0
evictgate_stuck_episodes{blocker="policy"} 0
`
	if err := testutil.CollectAndCompare(p, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}
