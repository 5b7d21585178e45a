package test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const metricsHead = "<!-- Generated from the code that makes the metrics; make generate rewrites it. -->\n" +
	"# Metrics\n\n" +
	"`/metrics` is served on `--metrics-listen` (`:8080`). Labels are bounded: never a pod or a user.\n" +
	"[Operate](operate.md#metrics-alerts-dashboard) says how to scrape, what the alerts look at, and how replicas are aggregated.\n\n" +
	"| metric | type | labels | what it is |\n|---|---|---|---|\n"

// labelValues are values of labels that the help does not name.
var labelValues = map[string]string{
	"evictgate_policy_answers_total":       "`from` is `evaluation` or `memory`.",
	"evictgate_budget_confirmations_total": "`result` is `confirmed`, `refuted` or `unreachable`.",
	"evictgate_refusals_total":             "`blocker` is `budget`, `misconfigured_budgets`, `policy` or `failure`.",
	"evictgate_records_written_total":      "`output` is `stdout`, `store` or `upload`.",
	"evictgate_connections_refused_total":  "`listener` is `webhook`, `metrics`, `health` or `page`.",
	"evictgate_reviews_shed_total":         "[The reasons](serving-limits.md#reviews).",
	"evictgate_counted_evictions_total":    "See [`input.history`](policies.md#what-a-policy-sees).",
}

// TestTheMetricsPage holds docs/metrics.md to the code. test/suites/monitoring holds it to what a running Evictgate has.
func TestTheMetricsPage(t *testing.T) {
	all := map[string]metric{}
	for _, dir := range packagesBelow(t, "../cmd", "../webhook", "../certs", "../policies") {
		maps.Copy(all, metricsOf(t, dir))
	}
	var b strings.Builder
	b.WriteString(metricsHead)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		m := all[name]
		if m.kind == "" || m.help == "" {
			t.Errorf("%s: the type (%q) or the help (%q) is not found in the code", name, m.kind, m.help)
		}
		labels := make([]string, len(m.labels))
		for i, l := range m.labels {
			labels[i] = "`" + l + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, m.kind, strings.Join(labels, ", "), strings.TrimSpace(m.help+" "+labelValues[name]))
	}
	for name := range labelValues {
		if _, ok := all[name]; !ok {
			t.Errorf("there is no metric %s to tell the labels of", name)
		}
	}
	holdPage(t, "../docs/metrics.md", b.String())
}

type metric struct {
	kind, help string
	labels     []string
}

// packagesBelow are the directories with Go files.
func packagesBelow(t *testing.T, roots ...string) (dirs []string) {
	t.Helper()
	for _, root := range roots {
		err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
			if err == nil && filepath.Ext(name) == ".go" && !slices.Contains(dirs, filepath.Dir(name)) {
				dirs = append(dirs, filepath.Dir(name))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return dirs
}

// metricsOf finds the metrics that a package makes, in the forms in which ours do: prometheus.XOpts, prometheus.NewDesc
// with its samples elsewhere in the package, and the counters of package webhook.
func metricsOf(t *testing.T, dir string) map[string]metric {
	t.Helper()
	found := map[string]metric{}
	described := map[string]string{} // names of metrics by the variable of their description
	kinds := map[string]string{}     // kinds of samples by the same
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				for i, v := range n.Values {
					if call, ok := v.(*ast.CallExpr); ok && called(call) == "NewDesc" {
						m := metric{help: text(call.Args[1]), labels: texts(call.Args[2])}
						found[text(call.Args[0])], described[n.Names[i].Name] = m, text(call.Args[0])
					}
				}
			case *ast.CallExpr:
				inCall(n, found, kinds)
			}
			return true
		})
	}
	for variable, name := range described {
		m := found[name]
		m.kind = kinds[variable]
		found[name] = m
	}
	delete(found, "")
	return found
}

func inCall(call *ast.CallExpr, found map[string]metric, kinds map[string]string) {
	name := called(call)
	switch {
	case name == "MustNewConstMetric":
		if variable, ok := call.Args[0].(*ast.Ident); ok {
			kinds[variable.Name] = strings.ToLower(strings.TrimSuffix(lastName(call.Args[1]), "Value"))
		}
	case (name == "counter" || name == "single") && len(call.Args) > 1:
		m := metric{kind: "counter", help: text(call.Args[1])}
		for _, label := range call.Args[2:] {
			m.labels = append(m.labels, text(label))
		}
		found["evictgate_"+text(call.Args[0])] = m
	case strings.HasPrefix(name, "New") && len(call.Args) > 0:
		options, ok := call.Args[0].(*ast.CompositeLit)
		if !ok || !strings.HasSuffix(lastName(options.Type), "Opts") {
			return
		}
		m := metric{kind: strings.ToLower(strings.TrimSuffix(lastName(options.Type), "Opts"))}
		own := ""
		for _, e := range options.Elts {
			pair := e.(*ast.KeyValueExpr)
			switch lastName(pair.Key) {
			case "Name":
				own = text(pair.Value)
			case "Help":
				m.help = text(pair.Value)
			}
		}
		if len(call.Args) > 1 {
			m.labels = texts(call.Args[1])
		}
		if strings.HasPrefix(own, "evictgate_") {
			found[own] = m
		}
	}
}

// called is the last name of what is called.
func called(call *ast.CallExpr) string { return lastName(call.Fun) }

func lastName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// text is the value of a literal; empty for all else.
func text(e ast.Expr) string {
	if literal, ok := e.(*ast.BasicLit); ok && literal.Kind == token.STRING {
		value, _ := strconv.Unquote(literal.Value)
		return value
	}
	return ""
}

func texts(e ast.Expr) (list []string) {
	if literal, ok := e.(*ast.CompositeLit); ok {
		for _, e := range literal.Elts {
			list = append(list, text(e))
		}
	}
	return list
}
