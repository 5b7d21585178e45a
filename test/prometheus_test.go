package test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "make what is derived anew: the PrometheusRule, the failure table, generated pages of docs/")

const (
	prometheusRule = "../config/prometheus/prometheus_rule.yaml"
	ruleHead       = `# Made from config/alerts/evictgate.yaml by go test ./test -run TestThePrometheusRule -update; change that.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: evictgate
  namespace: evictgate
  labels:
    app.kubernetes.io/name: evictgate
    app.kubernetes.io/part-of: evictgate
spec:
`
)

// The operator's form of the alerts is the plain one, moved in.
func TestThePrometheusRuleHasTheAlerts(t *testing.T) {
	_, groups, found := strings.Cut(readText(t, alertRules), "\ngroups:\n")
	if !found {
		t.Fatalf("%s has no groups", alertRules)
	}
	want := ruleHead + "  groups:\n"
	for line := range strings.Lines(groups) {
		want += "  " + line
	}
	if *update {
		if err := os.WriteFile(prometheusRule, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, readText(t, prometheusRule)); diff != "" {
		t.Errorf("%s is not made from %s (-want +got); go test ./test -run TestThePrometheusRule -update:\n%s", prometheusRule, alertRules, diff)
	}
	var plain, rule map[string]any
	for text, into := range map[string]*map[string]any{readText(t, alertRules): &plain, readText(t, prometheusRule): &rule} {
		if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(plain["groups"], rule["spec"].(map[string]any)["groups"]); diff != "" {
		t.Errorf("the groups differ:\n%s", diff)
	}
}

// The dashboard's expressions are checked as if they were recorded.
func TestPrometheusTakesTheDashboardsExpressions(t *testing.T) {
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	var rules []rule
	for _, p := range readDashboard(t).Panels {
		for _, q := range p.Targets {
			rules = append(rules, rule{"dashboard:panel:" + strings.ToLower(q.RefID), variables.Replace(q.Expr)})
		}
	}
	raw, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dashboard.yaml")
	if err := os.WriteFile(file, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", "--lint=none", file)
}
