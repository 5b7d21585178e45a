package faults

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"

	"github.com/evictgate/evictgate/test/harness/gate"
)

// Of a process that gets SIGTERM while its pod is not deleted, new connections learn by the readiness probe
// alone.
func TestTheShutdownDelayOutlastsTheProbe(t *testing.T) {
	k := gate.AsInstalled()
	if noticed := time.Duration(k.Failures)*k.Period + k.Timeout + k.Propagation; noticed >= shutdownDelay {
		t.Errorf("a replica that is not ready leaves the rotation after %s, and answers for %s", noticed, shutdownDelay)
	}
	reference, err := os.ReadFile("../../../docs/commands.md")
	must(t, err)
	if row := fmt.Sprintf("| `--shutdown-delay` | `%s` |", shutdownDelay); !strings.Contains(string(reference), row) {
		t.Errorf("docs/commands.md lacks %q: the fault runs are not those of the default", row)
	}
}

// The webhook is registered as in the manifests; the page tells of it.
func TestTheWebhookIsCalledAsThePageSays(t *testing.T) {
	o := gate.Options{Name: "evictgate"}
	c, err := o.Configuration("127.0.0.1:9443")
	must(t, err)
	evictions := c.Webhooks[0]
	says := fmt.Sprintf("failurePolicy is %s and timeoutSeconds %d.", *evictions.FailurePolicy, *evictions.TimeoutSeconds)
	if got := time.Duration(*evictions.TimeoutSeconds) * time.Second; got != callTimeout || !strings.Contains(preface, says) {
		t.Errorf("calls end after %s, expected %s; the page does not say %q", got, callTimeout, says)
	}
}

// The fault runs hold for the manifests as far as these say the same.
func TestReplicasAreProbedAsInTheManifests(t *testing.T) {
	raw, err := os.ReadFile("../../../config/manager/deployment.yaml")
	must(t, err)
	var d appsv1.Deployment
	must(t, yaml.UnmarshalStrict(raw, &d))
	c := d.Spec.Template.Spec.Containers[0]
	seconds := func(n int32) time.Duration { return time.Duration(n) * time.Second }
	got := gate.AsInstalled()
	got.Period, got.Timeout = seconds(c.ReadinessProbe.PeriodSeconds), seconds(max(1, c.ReadinessProbe.TimeoutSeconds))
	got.Failures = int(c.ReadinessProbe.FailureThreshold)
	got.PreStop = time.Duration(c.Lifecycle.PreStop.Sleep.Seconds) * time.Second
	if diff := cmp.Diff(gate.AsInstalled(), got); diff != "" {
		t.Errorf("the manifests differ from the fault runs (-runs +manifests):\n%s", diff)
	}
	if *d.Spec.Replicas != replicas || d.Spec.Strategy.RollingUpdate.MaxUnavailable.IntValue() != 0 {
		t.Errorf("%d replicas with %v", *d.Spec.Replicas, d.Spec.Strategy.RollingUpdate)
	}
}
