package doctor

import (
	"testing"
	"time"
)

func TestAhead(t *testing.T) {
	at := func(s float64) time.Time {
		return time.Unix(1000, 0).Add(time.Duration(s * float64(time.Second)))
	}
	for name, c := range map[string]struct {
		said           time.Time
		resolution     time.Duration
		sent, received time.Time
		least          time.Duration
	}{
		"the same clock":                 {at(10), 0, at(9.9), at(10.1), 0},
		"a header of whole seconds":      {at(10), time.Second, at(10.8), at(10.9), 0},
		"three seconds ahead":            {at(13), 0, at(9.9), at(10), 3 * time.Second},
		"three seconds behind":           {at(7), 0, at(10), at(10.1), -3 * time.Second},
		"behind by a header":             {at(7), time.Second, at(10), at(10.1), -2 * time.Second},
		"a slow answer hides the offset": {at(13), 0, at(10), at(20), 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ahead(c.said, c.resolution, c.sent, c.received).least(); got != c.least {
				t.Errorf("least %s, want %s", got, c.least)
			}
		})
	}
}

func TestMeasurementsNarrowASpan(t *testing.T) {
	span := func(from, to time.Duration) Span { return Span{from, to, true} }
	for name, c := range map[string]struct{ first, then, want Span }{
		"nothing before":     {Span{}, span(1, 2), span(1, 2)},
		"they overlap":       {span(1, 5), span(3, 9), span(3, 5)},
		"a clock was set":    {span(1, 2), span(7, 9), span(7, 9)},
		"the same":           {span(1, 2), span(1, 2), span(1, 2)},
		"one in the other":   {span(1, 9), span(4, 5), span(4, 5)},
		"they meet in a dot": {span(1, 4), span(4, 5), span(4, 4)},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.first.and(c.then); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
	if got := span(3, 5).minus(span(1, 2)); got != span(1, 4) {
		t.Errorf("difference %+v", got)
	}
	if got := span(3, 5).minus(Span{}); got.Known {
		t.Errorf("difference from the unknown %+v", got)
	}
}
