package operations

import (
	"crypto/tls"
	"net/http"
	"testing"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
)

// Profiles are on their own listener, and on no other.
func TestProfilesAreOnNoOtherListener(t *testing.T) {
	address, err := kube.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	g, _ := start(t, gate.Options{Args: []string{"--pprof-listen", address}})
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for url, want := range map[string]int{
		"http://" + address + "/debug/pprof/heap":    http.StatusOK,
		"http://" + g.Metrics + "/debug/pprof/heap":  http.StatusNotFound,
		"http://" + g.Health + "/debug/pprof/heap":   http.StatusNotFound,
		"https://" + g.Listen + "/debug/pprof/heap":  http.StatusNotFound,
		"https://" + g.Listen + "/debug/pprof/trace": http.StatusNotFound,
	} {
		response, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%s answers %d, expected %d", url, response.StatusCode, want)
		}
	}
}
