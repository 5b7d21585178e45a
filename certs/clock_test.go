package certs

import (
	"errors"
	"net/http"
	"testing"
	"time"
)

func TestClock(t *testing.T) {
	for name, c := range map[string]struct {
		date     func() string
		err      error
		min, max time.Duration
	}{
		"the same clock":         {date: dated(0)},
		"the API server is late": {dated(-40 * time.Second), nil, 38 * time.Second, 41 * time.Second},
		"less than is seen":      {date: dated(-500 * time.Millisecond), max: time.Second},
		"the API server is early, which harms no certificate": {date: dated(time.Hour)},
		"no date":     {date: func() string { return "" }},
		"not a date":  {date: func() string { return "soon" }},
		"no response": {date: dated(0), err: errors.New("refused")},
	} {
		t.Run(name, func(t *testing.T) {
			k := new(clock)
			_, err := k.observe(roundTripper(func(*http.Request) (*http.Response, error) {
				return &http.Response{Header: http.Header{"Date": {c.date()}}}, c.err
			})).RoundTrip(nil)
			if !errors.Is(err, c.err) {
				t.Errorf("error %v, want %v", err, c.err)
			}
			if got := k.lead(); got < c.min || got > c.max {
				t.Errorf("lead %s, want %s to %s", got, c.min, c.max)
			}
		})
	}
}

func dated(offset time.Duration) func() string {
	return func() string { return time.Now().Add(offset).UTC().Format(http.TimeFormat) }
}

func TestClockForgetsALeadThatIsGone(t *testing.T) {
	k := new(clock)
	for _, offset := range []time.Duration{-time.Minute, 0} {
		_, _ = k.observe(roundTripper(func(*http.Request) (*http.Response, error) {
			return &http.Response{Header: http.Header{"Date": {dated(offset)()}}}, nil
		})).RoundTrip(nil)
	}
	if k.lead() != 0 {
		t.Errorf("lead %s after an answer without one", k.lead())
	}
}
