package doctor

import (
	"context"
	"encoding/base64"
	"net"
	"testing"
	"time"

	"github.com/evictgate/evictgate/certs"
	"github.com/evictgate/evictgate/test/harness/kube"
	findings "github.com/evictgate/evictgate/webhook/install/doctor"
)

// otherCA is a CA that signed nothing here, as a caBundle has it.
func otherCA(t *testing.T) string {
	t.Helper()
	other, err := certs.Ephemeral(nil, []net.IP{net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(other.CAPEM())
}

// patience is how long a change may take to show.
const patience = 40 * time.Second

// until asks doctor until what it says is good, and returns what it said last. Between two questions it waits, since the
// API server must learn of the change meanwhile, on the processors that doctor and other tests want, too.
func until(ctx context.Context, t *testing.T, good func(report) bool, args ...string) (last report, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err = kube.Wait(ctx, "another report of doctor", func(context.Context) (bool, error) {
		last = ask(t, args...)
		if good(last) {
			return true, nil
		}
		time.Sleep(time.Second)
		return false, nil
	})
	return last, err
}

// settled asks until the finding is there, since the API server learns of a change a moment later, and gives up
// with what was said last.
func settled(t *testing.T, check string, status findings.Status, text string, args ...string) report {
	t.Helper()
	last, _ := until(t.Context(), t, func(r report) bool { return r.find(check, status, text) != nil }, args...)
	return last
}

// rename starts the replicas anew under the names of the pods as they are now.
func rename(t *testing.T) {
	t.Helper()
	pods, err := readyPods(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range replicas {
		r.stop()
		r.name = pods[i]
	}
	for _, r := range replicas {
		r.restart(t)
	}
}
