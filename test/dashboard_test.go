package test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

const dashboardFile = "../config/dashboards/evictgate.json"

// dashboard is what is read of a Grafana dashboard.
type dashboard struct {
	UID, Title    string
	SchemaVersion int
	ID            *int
	Panels        []panel
	Templating    struct {
		List []struct{ Name, Type, Query, Definition string }
	}
}

type panel struct {
	ID                       int
	Type, Title, Description string
	GridPos                  struct{ X, Y, W, H int }
	Datasource               *datasource
	Targets                  []struct {
		Expr, RefID, LegendFormat string
		Datasource                *datasource
	}
}

type datasource struct{ Type, UID string }

// variables stand in the dashboard's expressions.
var variables = strings.NewReplacer("$__rate_interval", "5m", "$namespace", ".*", "$pod", ".*")

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	var d dashboard
	text := strings.ReplaceAll(readText(t, dashboardFile), `"query": {`, `"queryObject": {`) // text for one type of variable, an object for another
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatal(err)
	}
	if len(d.Panels) == 0 {
		t.Fatalf("%s has no panels", dashboardFile)
	}
	return d
}

func TestTheDashboardCanBeImportedAnywhere(t *testing.T) {
	d := readDashboard(t)
	if d.UID != "evictgate" || d.Title == "" || d.SchemaVersion < 36 || d.ID != nil {
		t.Errorf("uid %q, title %q, schema version %d, id %v; expected a uid, a title, a version with data sources as objects, and no id", d.UID, d.Title, d.SchemaVersion, d.ID)
	}
	var names []string
	for _, v := range d.Templating.List {
		names = append(names, v.Name)
	}
	if want := []string{"datasource", "namespace", "pod"}; !slices.Equal(names, want) || d.Templating.List[0].Type != "datasource" || d.Templating.List[0].Query != "prometheus" {
		t.Errorf("its variables are %v, expected %v, the first of them one for Prometheus", names, want)
	}
	own := datasource{"prometheus", "${datasource}"}
	for _, p := range d.Panels {
		if p.Type == "row" {
			continue
		}
		if p.Datasource == nil || *p.Datasource != own || len(p.Targets) == 0 || p.Description == "" {
			t.Errorf("panel %s: its data source is %v, it has %d targets and the description %q", p.Title, p.Datasource, len(p.Targets), p.Description)
		}
		var refs []string
		for _, q := range p.Targets {
			if q.Datasource == nil || *q.Datasource != own || q.Expr == "" || slices.Contains(refs, q.RefID) {
				t.Errorf("panel %s: target %q has the data source %v and the expression %q", p.Title, q.RefID, q.Datasource, q.Expr)
			}
			refs = append(refs, q.RefID)
		}
	}
}

func TestThePanelsHaveTheirOwnPlaces(t *testing.T) {
	panels := readDashboard(t).Panels
	for i, p := range panels {
		g := p.GridPos
		if g.W < 1 || g.H < 1 || g.X < 0 || g.Y < 0 || g.X+g.W > 24 {
			t.Errorf("panel %s does not fit into 24 columns: %+v", p.Title, g)
		}
		for _, q := range panels[:i] {
			o := q.GridPos
			if p.ID == q.ID || p.Title == q.Title {
				t.Errorf("panels %s and %s share the id or the title", p.Title, q.Title)
			}
			if g.X < o.X+o.W && o.X < g.X+g.W && g.Y < o.Y+o.H && o.Y < g.Y+g.H {
				t.Errorf("panels %s and %s overlap", p.Title, q.Title)
			}
		}
	}
}

// Replicas may know the same stuck pod, and their own metrics are chosen by the variables.
func TestTheDashboardCountsOverReplicasRightly(t *testing.T) {
	for _, p := range readDashboard(t).Panels {
		for _, q := range p.Targets {
			if strings.Contains(q.Expr, "evictgate_stuck_") && !strings.Contains(q.Expr, "max by (blocker) (evictgate_stuck_") && !strings.HasPrefix(q.Expr, "max(evictgate_stuck_") {
				t.Errorf("panel %s does not take the largest of the replicas: %s", p.Title, q.Expr)
			}
			chosen := strings.Count(q.Expr, `namespace=~"$namespace", pod=~"$pod"`)
			if own := strings.Count(q.Expr, "evictgate_") + strings.Count(q.Expr, "process_") + strings.Count(q.Expr, "go_"); chosen != own {
				t.Errorf("panel %s chooses by namespace and pod %d times for %d metrics: %s", p.Title, chosen, own, q.Expr)
			}
		}
	}
}
