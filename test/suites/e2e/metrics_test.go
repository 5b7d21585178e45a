package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/evictgate/evictgate/test/harness/gate"
	"github.com/evictgate/evictgate/test/harness/kube"
)

// metricName finds the metrics of ours in a text.
var metricName = regexp.MustCompile(`\bevictgate_[a-z_]+`)

// A process in which something of everything went wrong has every metric that the alerts read.
func TestTheAlertsReadWhatIsThere(t *testing.T) {
	dir := policyDir(t, "fails.rego", failsAtRunTime)
	g, namespace := start(t, gate.Options{Args: []string{"--policies", dir}})
	running(t, namespace, "web")
	status(t, evict(t.Context(), namespace, "web", nil)) // undecided
	write(t, filepath.Join(dir, "broken.rego"), "package eviction.broken\n\ndeny contains")
	sendGarbage(t, g)
	rules, err := os.ReadFile("../../../config/alerts/evictgate.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var missing []string
	err = kube.Wait(t.Context(), "every metric of the alerts", func(ctx context.Context) (bool, error) {
		text, err := g.MetricsText(ctx)
		if err != nil {
			return false, err
		}
		missing = slices.DeleteFunc(metricName.FindAllString(string(rules), -1), func(name string) bool {
			return strings.Contains(text, "\n# TYPE "+name+" ")
		})
		return len(missing) == 0 && strings.Contains(text, "\nevictgate_policy_last_reload_successful 0\n"), nil
	})
	if err != nil {
		t.Fatalf("%v; missing are %q", err, missing)
	}
	text, err := g.MetricsText(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	contains(t, text,
		`evictgate_decisions_total{dry_run="false",evictor="user",outcome="undecided"} 1`,
		`evictgate_policy_failures_total{policy="fails"} 1`,
		`evictgate_refusals_total{blocker="failure"} 1`,
		"\nevictgate_bad_requests_total 1\n",
	)
	for _, blocker := range []string{"budget", "misconfigured_budgets", "policy", "failure"} {
		contains(t, text, `evictgate_stuck_episodes{blocker="`+blocker+`"} 0`, `evictgate_stuck_episode_oldest_seconds{blocker="`+blocker+`"} 0`)
	}
}

// sendGarbage calls the webhook with what is not a review.
func sendGarbage(t *testing.T, g *gate.Gate) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	response, err := client.Post("https://"+g.Listen+"/validate-eviction", "application/json", bytes.NewReader([]byte("{}")))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
}
