package certs

import (
	"net/http"
	"sync/atomic"
	"time"
)

// clock compares this machine's clock with the API server's, by the Date
// header of its answers. cert-manager dates a certificate from the moment it
// is made, so an API server whose clock is behind ours refuses a new one for
// that long.
type clock struct {
	ahead atomic.Int64
}

// now is the time at the API server at the latest, if its last answer is to be
// believed: Date counts whole seconds, so a lead of less than one is not seen.
func (c *clock) now() time.Time { return time.Now().Add(-c.lead()) }

// lead is by how much, at least, our clock is ahead of the API server's.
func (c *clock) lead() time.Duration { return time.Duration(c.ahead.Load()) }

// observe is for rest.Config.Wrap.
func (c *clock) observe(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		sent := time.Now()
		resp, err := next.RoundTrip(req)
		if err != nil {
			return resp, err
		}
		if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
			// Date was written after sent and lost up to a second, so this
			// can only be too small.
			c.ahead.Store(int64(max(0, sent.Sub(date)-time.Second)))
		}
		return resp, nil
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
