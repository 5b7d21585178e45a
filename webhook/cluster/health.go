package cluster

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/evictgate/evictgate/policies"
)

// restOn lists the kinds that decisions rest on when policies read what needs says.
func restOn(needs *policies.Needs) []string {
	var names []string
	for _, k := range kinds {
		if k.rests(needs) {
			names = append(names, k.name)
		}
	}
	return names
}

// troubleWith says why the cache of a kind cannot be relied on; empty when it can, and for what is not watched.
func (s *Store) troubleWith(kind string) string {
	p := s.pulses[kind]
	if p == nil {
		return ""
	}
	h, watched := p.health()
	if !watched {
		return ""
	}
	return h.trouble()
}

// PodsCurrent reports whether the cache of the pods can be relied on.
func (s *Store) PodsCurrent() bool { return s.troubleWith("Pod") == "" }

// Health lists how the watches are, by kind; a kind that is not watched is not there.
func (s *Store) Health() []Health {
	var list []Health
	for _, k := range kinds {
		if p := s.pulses[k.name]; p != nil {
			if h, watched := p.health(); watched {
				list = append(list, h)
			}
		}
	}
	return list
}

// Refused is an error when the API server has refused for long to list or watch what decisions rest on: the
// rights of the service account were taken away. It is a readiness check.
func (w *Informed) Refused(*http.Request) error {
	needs := w.needs.Load()
	if needs == nil {
		return nil
	}
	names := restOn(needs)
	for _, h := range w.Health() {
		if slices.Contains(names, h.Kind) && h.refused() {
			return fmt.Errorf("the API server refuses for more than %s to list and watch kind %s, so that what is known of them is old: %w; see whether the ClusterRole of the service account is bound", refusedAfter, h.Kind, h.Err)
		}
	}
	return nil
}

var (
	cacheAge     = prometheus.NewDesc("evictgate_cache_age_seconds", "Time since the watch of a kind gave the last sign of life; a healthy one gives one each 75 seconds.", []string{"kind"}, nil)
	cacheFailing = prometheus.NewDesc("evictgate_cache_failing", "1 while a kind cannot be listed or watched, 0 while it can.", []string{"kind"}, nil)
)

// Describe makes Informed a prometheus.Collector.
func (*Informed) Describe(to chan<- *prometheus.Desc) { to <- cacheAge; to <- cacheFailing }

// Collect tells how old the caches are.
func (w *Informed) Collect(to chan<- prometheus.Metric) {
	for _, h := range w.Health() {
		failing := 0.0
		if h.Failing > 0 {
			failing = 1
		}
		to <- prometheus.MustNewConstMetric(cacheAge, prometheus.GaugeValue, h.Age.Seconds(), h.Kind)
		to <- prometheus.MustNewConstMetric(cacheFailing, prometheus.GaugeValue, failing, h.Kind)
	}
}
