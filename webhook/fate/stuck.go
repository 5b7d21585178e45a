package fate

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/evictgate/evictgate/webhook/record"
)

// stuckAfter is for how long the eviction of a pod must be refused until it is stuck.
const stuckAfter = 5 * time.Minute

// Stuck is what one kind of blocker holds.
type Stuck struct {
	// Episodes are the pods whose eviction is refused for more than five minutes and was tried again in the
	// last fifteen.
	Episodes int
	// Oldest is for how long the first of them is refused; zero when there is none.
	Oldest time.Duration
}

// Stuck says what is stuck, by what blocks it. Every kind is there: each has its metrics, also when it blocks nothing.
func (p *Pods) Stuck() map[record.BlockerKind]Stuck {
	now := p.now()
	found := make(map[record.BlockerKind]Stuck, len(record.BlockerKinds))
	for _, kind := range record.BlockerKinds {
		found[kind] = Stuck{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.pods {
		if f.stuck(now) {
			s := found[f.blocker]
			found[f.blocker] = Stuck{Episodes: s.Episodes + 1, Oldest: max(s.Oldest, now.Sub(f.refused))}
		}
	}
	return found
}

func (p *Pods) refused(by record.BlockerKind) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refusals[by]
}

func (f *followed) stuck(now time.Time) bool {
	return !f.refused.IsZero() && !f.over() && now.Sub(f.refused) >= stuckAfter && now.Sub(f.tried) <= silence
}

var (
	refusals = prometheus.NewDesc("evictgate_refusals_total",
		"Refused evictions by what refused, dry runs left out.", []string{"blocker"}, nil)
	stuckEpisodes = prometheus.NewDesc("evictgate_stuck_episodes",
		"Pods whose eviction is refused for more than 5 minutes and was tried again in the last 15, as far as this replica was asked. Replicas may count the same pod: aggregate with max, not sum.",
		[]string{"blocker"}, nil)
	stuckOldest = prometheus.NewDesc("evictgate_stuck_episode_oldest_seconds",
		"For how long the eviction of the pod that is stuck longest is refused; 0 when none is stuck. Aggregate replicas with max.",
		[]string{"blocker"}, nil)
)

// Describe makes Pods a prometheus.Collector.
func (p *Pods) Describe(ch chan<- *prometheus.Desc) {
	ch <- refusals
	ch <- stuckEpisodes
	ch <- stuckOldest
}

// Collect tells what refused, and what is stuck.
func (p *Pods) Collect(ch chan<- prometheus.Metric) {
	for kind, s := range p.Stuck() {
		ch <- prometheus.MustNewConstMetric(refusals, prometheus.CounterValue, float64(p.refused(kind)), string(kind))
		ch <- prometheus.MustNewConstMetric(stuckEpisodes, prometheus.GaugeValue, float64(s.Episodes), string(kind))
		ch <- prometheus.MustNewConstMetric(stuckOldest, prometheus.GaugeValue, s.Oldest.Seconds(), string(kind))
	}
}
