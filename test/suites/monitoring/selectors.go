// Package monitoring tests what is shipped for Prometheus and Grafana against what the real programs measure.
package monitoring

import (
	"fmt"
	"maps"
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
)

// use is a metric in an expression, with the labels that the expression relies on: those it selects by, and
// those by which it is grouped or joined above.
type use struct {
	metric string
	labels []string
}

// uses finds the metrics of an expression. It refuses what makes labels of its own, since it would not know them.
func uses(text string) ([]use, error) {
	expression, err := parser.NewParser(parser.Options{}).ParseExpr(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", text, err)
	}
	var found []use
	parser.Inspect(expression, func(node parser.Node, path []parser.Node) error {
		switch n := node.(type) {
		case *parser.Call:
			if n.Func.Name == "label_replace" || n.Func.Name == "label_join" {
				err = fmt.Errorf("%s: %s is not understood here", text, n.Func.Name)
			}
		case *parser.VectorSelector:
			found = append(found, use{n.Name, reliedOn(n, path)})
		}
		return nil
	})
	return found, err
}

func reliedOn(selector *parser.VectorSelector, path []parser.Node) []string {
	names := map[string]bool{}
	for _, m := range selector.LabelMatchers {
		names[m.Name] = true
	}
	for _, node := range path {
		switch n := node.(type) {
		case *parser.AggregateExpr:
			for _, name := range n.Grouping {
				names[name] = true
			}
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				for _, name := range n.VectorMatching.MatchingLabels {
					names[name] = true
				}
			}
		case *parser.Call:
			if n.Func.Name == "histogram_quantile" {
				names["le"] = true
			}
		}
	}
	delete(names, model.MetricNameLabel)
	return slices.Sorted(maps.Keys(names))
}
