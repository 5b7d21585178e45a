package monitoring

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// shipped is an expression of the alerts or of the dashboard, with the place where it stands and the labels
// that the texts beside it name.
type shipped struct {
	place, expression string
	texts             []string
}

// variables stand in Grafana's expressions.
var variables = strings.NewReplacer("$__rate_interval", "5m", "$namespace", ".*", "$pod", ".*")

func expressions(t *testing.T) []shipped {
	t.Helper()
	return append(ofAlerts(t), ofDashboard(t)...)
}

func ofAlerts(t *testing.T) []shipped {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(read(t, "../../../config/alerts/evictgate.yaml"), &file); err != nil {
		t.Fatal(err)
	}
	var found []shipped
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			s := shipped{place: "alert " + r.Alert, expression: r.Expr}
			for _, text := range r.Annotations {
				s.texts = append(s.texts, text)
			}
			found = append(found, s)
		}
	}
	return found
}

func ofDashboard(t *testing.T) []shipped {
	t.Helper()
	type target struct{ Expr, LegendFormat string }
	var file struct {
		Panels []struct {
			Title   string
			Targets []target
		}
		Annotations struct{ List []target }
		Templating  struct {
			List []struct{ Name, Definition string }
		}
	}
	if err := json.Unmarshal(read(t, "../../../config/dashboards/evictgate.json"), &file); err != nil {
		t.Fatal(err)
	}
	var found []shipped
	for _, p := range file.Panels {
		for _, q := range p.Targets {
			found = append(found, shipped{place: "panel " + p.Title, expression: variables.Replace(q.Expr), texts: []string{q.LegendFormat}})
		}
	}
	for _, v := range file.Templating.List {
		if inner := labelValues.FindStringSubmatch(v.Definition); inner != nil {
			found = append(found, shipped{place: "variable " + v.Name, expression: variables.Replace(inner[1]), texts: []string{"{{" + inner[2] + "}}"}})
		}
	}
	return found
}

// labelValues is the query of a variable.
var labelValues = regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)

// named finds the labels in legends and in the texts of alerts.
var named = regexp.MustCompile(`\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}`)

// labelsNamed are the labels that the texts beside an expression show.
func (s *shipped) labelsNamed() []string {
	var names []string
	for _, text := range s.texts {
		for _, m := range named.FindAllStringSubmatch(text, -1) {
			names = append(names, m[1])
		}
	}
	return names
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
