package review

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/record"
	"github.com/evictgate/evictgate/webhook/review/store"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestReadTime(t *testing.T) {
	clock := Clock{Now: noon, Zone: time.FixedZone("CET", 3600)}
	for text, want := range map[string]time.Time{
		"": {}, "all": {},
		"90m": noon.Add(-90 * time.Minute), "0": noon, "7d": noon.AddDate(0, 0, -7), "0.5d": noon.Add(-12 * time.Hour), "36500d": noon.Add(-36500 * day),
		"2026-11-23T06:00:00Z": noon.Add(-6 * time.Hour), "2026-11-23T06:00:00.5+01:00": noon.Add(-7*time.Hour + time.Second/2),
		"2026-11-23 06:00:00": noon.Add(-7 * time.Hour), "2026-11-23T06:00:00": noon.Add(-7 * time.Hour),
		"2026-11-23 06:00": noon.Add(-7 * time.Hour), "2026-11-23T06:00": noon.Add(-7 * time.Hour), "2026-11-23": noon.Add(-13 * time.Hour),
	} {
		if got, err := clock.ReadTime(text); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"yesterday", "-5m", "-1d", "36501d", "9e9d", "NaNd", "Infd", "300000000h", "2026-13-01", "2026-11-23T25:00", "7 d", "d", " "} {
		if got, err := clock.ReadTime(text); err == nil || !strings.HasPrefix(err.Error(), "invalid time ") {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestAFilterHasWhatIsAsked(t *testing.T) {
	asked := Asked{
		"since": "7d", "until": "2026-11-23", "outcome": "denied", "fate": "blocked", "namespace": " shop ", "pod": "p", "workload": "w", "node": "n",
		"evictor": "kured", "user": "u", "policy": "q", "budget": "b", "episode": "e", "dry-runs": "true",
	}
	got, err := asked.Filter(Clock{noon, time.UTC}, strings.ToUpper)
	want := store.Filter{
		Since: noon.AddDate(0, 0, -7), Until: noon.Add(-12 * time.Hour), Outcome: policies.Denied, Fate: record.Blocked, Namespace: "shop", Pod: "p", Workload: "w",
		Node: "n", Evictor: "kured", User: "u", Policy: "q", Budget: "b", Episode: "e", DryRuns: true,
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
	if len(asked) != len(Fields) {
		t.Errorf("%d fields are asked of %d", len(asked), len(Fields))
	}
	if got, err := (Asked{"pod": " "}).Filter(Clock{noon, time.UTC}, strings.ToUpper); err != nil || got != (store.Filter{}) {
		t.Errorf("nothing is asked: %+v, %v", got, err)
	}
	for want, asked := range map[string]Asked{
		`SINCE: invalid time "x": expected an age`:                        {"since": "x"},
		`UNTIL is not after SINCE`:                                        {"since": "1h", "until": "2h"},
		`OUTCOME: invalid value "no": expected one of admitted, delayed,`: {"outcome": "no"},
		`FATE: invalid value "no": expected one of `:                      {"fate": "no"},
		`DRY-RUNS: invalid value "no": expected true or false`:            {"dry-runs": "no"},
	} {
		if _, err := asked.Filter(Clock{noon, time.UTC}, strings.ToUpper); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v: %v", asked, err)
		}
	}
}
