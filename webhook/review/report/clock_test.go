package report

import (
	"testing"
	"time"

	"github.com/evictgate/evictgate/webhook/review"
)

func TestClock(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	local, utc := clock{review.Clock{Now: now, Zone: berlin}}, clock{review.Clock{Now: now, Zone: time.UTC}}
	for name, c := range map[string]struct{ got, want string }{
		"local":                {local.at(now.Add(-time.Hour)), "03:00:00"},
		"UTC":                  {utc.at(now.Add(-time.Hour)), "02:00:00Z"},
		"another day":          {utc.at(now.Add(-4 * time.Hour)), "11-22 23:00:00Z"},
		"today in Berlin":      {local.at(now.Add(-4 * time.Hour)), "00:00:00"},
		"another year":         {utc.at(now.AddDate(-1, 0, 0)), "2025-11-23 03:00:00Z"},
		"not known":            {utc.at(time.Time{}), "-"},
		"ago":                  {utc.ago(now.Add(-90 * time.Minute)), "01:30:00Z (90m ago)"},
		"a clock that is late": {utc.age(now.Add(time.Minute)), "0s"},
		"an age not known":     {utc.age(time.Time{}), "-"},
		"one moment":           {utc.between(now, now), "at 03:00:00Z"},
		"a span":               {utc.between(now.Add(-time.Minute), now), "from 02:59:00Z to 03:00:00Z"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %s, want %s", name, c.got, c.want)
		}
	}
}
