package test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/evictgate/evictgate/test/harness/kube"
)

const (
	alertRules = "../config/alerts/evictgate.yaml"
	alertTests = "suites/alerts/evictgate_test.yaml"
)

// promtool runs the real promtool.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	kube.Need(t, "promtool")
	program, _ := kube.Program("promtool")
	track(t, "../config/alerts")
	track(t, "suites/alerts")
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestPrometheusTakesTheAlertRules(t *testing.T) {
	promtool(t, "check", "rules", "--lint=all", "--lint-fatal", alertRules)
}

func TestTheAlertsFireWhenTheyShould(t *testing.T) {
	promtool(t, "test", "rules", alertTests)
}

// alert is one rule.
type alert struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

func alerts(t *testing.T) []alert {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []alert `json:"rules"`
		} `json:"groups"`
	}
	if err := yaml.Unmarshal([]byte(readText(t, alertRules)), &file); err != nil {
		t.Fatal(err)
	}
	var list []alert
	for _, g := range file.Groups {
		list = append(list, g.Rules...)
	}
	if len(list) == 0 {
		t.Fatalf("%s has no rules", alertRules)
	}
	return list
}

func readText(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestEveryAlertSaysWhatToDoAndIsTested(t *testing.T) {
	tests := readText(t, alertTests)
	for _, a := range alerts(t) {
		t.Run(a.Alert, func(t *testing.T) {
			for _, key := range []string{"summary", "description", "runbook"} {
				if a.Annotations[key] == "" {
					t.Errorf("it has no %s", key)
				}
			}
			if !slices.Contains([]string{"warning", "critical"}, a.Labels["severity"]) {
				t.Errorf("its severity is %q", a.Labels["severity"])
			}
			section, command, _ := strings.Cut(a.Annotations["runbook"], "; ")
			if err := follow("../README.md", section); err != nil || !strings.HasPrefix(section, "docs/") || command == "" {
				t.Errorf("the runbook %q does not begin with a section of docs/, and a command after it: %v", a.Annotations["runbook"], err)
			}
			if !strings.Contains(tests, `{alertname="`+a.Alert+`", alertstate="firing"`) {
				t.Errorf("no test in %s lets it fire", alertTests)
			}
		})
	}
}
