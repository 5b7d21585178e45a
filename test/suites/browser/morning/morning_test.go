package morning

import (
	"testing"
	"time"

	"github.com/evictgate/evictgate/policies"
)

func TestTheWeekHasEverything(t *testing.T) {
	week, err := Until(t.Context(), time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	outcomes := map[policies.Outcome]int{}
	for _, r := range week.Records {
		outcomes[r.Result.Outcome]++
	}
	t.Log(len(week.Records), outcomes, len(week.Answers), len(week.Sightings))
	for _, o := range []policies.Outcome{policies.Admitted, policies.Delayed, policies.Denied, policies.Undecided} {
		if outcomes[o] == 0 {
			t.Errorf("no decision is %s", o)
		}
	}
}
