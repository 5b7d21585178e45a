package webhook

import (
	"bytes"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/evictgate/evictgate/webhook/hooks"
)

// FuzzTimeout reads ?timeout=, which every caller may choose: a review is given time to be answered, and no more than the
// API server may state.
func FuzzTimeout(f *testing.F) {
	for _, s := range []string{"timeout=5s", "timeout=-1s", "timeout=1e9h", "timeout=9223372036854775807ns", "timeout=%zz", "timeout=1ns&timeout=3s", "timeout=µs"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, query string) {
		request := httptest.NewRequest("POST", "/", nil)
		request.URL = &url.URL{Path: hooks.EvictionsPath, RawQuery: query}
		if d := patience(request); d <= 0 || d > maxTimeout {
			t.Errorf("%q gives a review %s", query, d)
		}
	})
}

// FuzzEviction reads what a review holds: a request that is taken names a pod, whatever else is in it.
func FuzzEviction(f *testing.F) {
	f.Add(review("web-7d4b9c6f5-2xkqv", nil))
	f.Add([]byte(`{"request":{"uid":"\u0000","object":{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"a","annotations":{"a":1}},"deleteOptions":{"gracePeriodSeconds":1e99}}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > 64<<10 {
			return
		}
		in, err := decode(bytes.NewReader(body), int64(len(body)))
		if err != nil {
			return
		}
		if r, err := in.request(); err == nil && in.checkTarget() == nil && (r.Name == "" || r.Namespace == "") {
			t.Errorf("the pod is %q in namespace %q", r.Name, r.Namespace)
		}
	})
}
