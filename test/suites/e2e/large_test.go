package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/evictgate/evictgate/test/harness/gate"
)

// The API server takes objects up to 3 MiB, of which JSON may make six times as much. All of them are answered as reviews: a call that fails would let an
// eviction pass under failurePolicy Ignore.
func TestLargeEvictionsAreAnsweredByTheGate(t *testing.T) {
	_, namespace := start(t, gate.Options{Args: closed(t)})
	running(t, namespace, "web")
	for name, c := range map[string]struct {
		note string
		code int32
		text string
	}{
		"as much as the policies are given": {strings.Repeat("x", 262_000), http.StatusForbidden, "the gate is closed"},
		"as large as a review may be":       {strings.Repeat("x", 1_000_000), http.StatusBadRequest, "the Eviction has 1000004 bytes of annotations; at most 262144 are taken"},
		"larger once JSON escapes it":       {strings.Repeat("<", 200_000), http.StatusRequestEntityTooLarge, "the review has more than 1 MiB"},
		"as large as the API server takes":  {strings.Repeat("x", 3_100_000), http.StatusRequestEntityTooLarge, "the review has more than 1 MiB"},
		"six times as large":                {strings.Repeat("<", 3_100_000), http.StatusRequestEntityTooLarge, "the review has more than 1 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			body := fmt.Appendf(nil, `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"web","namespace":%q,"annotations":{"note":"%s"}}}`, namespace, c.note)
			err := post(t, namespace, body)
			for tries := 1; tries < 4 && strings.Contains(fmt.Sprint(err), "context deadline exceeded"); tries++ {
				err = post(t, namespace, body) // a slow machine did not get 18 MiB through in the call's 10 s
			}
			if s := status(t, err); s.Code != c.code || !strings.Contains(s.Message, c.text) {
				t.Errorf("answered %d %.300s", s.Code, s.Message)
			}
		})
	}
	if gone(t, namespace, "web") {
		t.Error("the pod was evicted")
	}
}

func post(t *testing.T, namespace string, eviction []byte) error {
	return shared.Client.CoreV1().RESTClient().Post().Namespace(namespace).Resource("pods").Name("web").SubResource("eviction").
		SetHeader("Content-Type", "application/json").Body(eviction).Do(t.Context()).Error()
}
