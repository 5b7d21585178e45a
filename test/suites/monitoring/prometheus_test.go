package monitoring

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/teststorage"
)

// everyPanelShowsSomething scrapes both texts into Prometheus' own storage, and lets its own engine evaluate
// each expression of the dashboard: joins and groups that find nothing are seen here.
func everyPanelShowsSomething(t *testing.T, own, apiServer string) {
	t.Helper()
	store := teststorage.New(t)
	at := time.Now()
	for _, ago := range []time.Duration{2 * time.Minute, time.Minute, 0} {
		scrape(t, store, own, at.Add(-ago), "job", "evictgate/evictgate", "instance", "10.0.0.1:8080", "namespace", "evictgate", "pod", "evictgate-0")
		scrape(t, store, own, at.Add(-ago), "job", "evictgate/evictgate", "instance", "10.0.0.2:8080", "namespace", "evictgate", "pod", "evictgate-1")
		scrape(t, store, apiServer, at.Add(-ago), "job", "apiserver", "instance", "10.0.0.9:6443")
	}
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e7, Timeout: time.Minute, LookbackDelta: 5 * time.Minute, Parser: parser.NewParser(parser.Options{})})
	t.Cleanup(func() { _ = engine.Close() })
	for _, s := range ofDashboard(t) {
		query, err := engine.NewInstantQuery(t.Context(), store, nil, s.expression, at)
		if err != nil {
			t.Errorf("%s: %v", s.place, err)
			continue
		}
		result := query.Exec(t.Context())
		vector, err := result.Vector()
		if err != nil || len(vector) == 0 {
			t.Errorf("%s shows nothing: %v: %s", s.place, err, s.expression)
		}
		query.Close()
	}
}

// scrape stores a text as Prometheus does, with the labels of its target.
func scrape(t *testing.T, store *teststorage.TestStorage, text string, at time.Time, target ...string) {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	samples, err := expfmt.ExtractSamples(&expfmt.DecodeOptions{Timestamp: model.TimeFromUnixNano(at.UnixNano())}, slices.Collect(maps.Values(families))...)
	if err != nil {
		t.Fatal(err)
	}
	appender := store.Appender(t.Context())
	for _, sample := range samples {
		builder := labels.NewBuilder(labels.FromStrings(target...))
		for name, value := range sample.Metric {
			builder.Set(string(name), string(value))
		}
		if _, err := appender.Append(0, builder.Labels(), at.UnixMilli(), float64(sample.Value)); err != nil {
			t.Fatal(err)
		}
	}
	if err := appender.Commit(); err != nil {
		t.Fatal(err)
	}
}
