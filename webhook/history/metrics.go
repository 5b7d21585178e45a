package history

import "github.com/prometheus/client_golang/prometheus"

var counted = prometheus.NewDesc("evictgate_counted_evictions_total",
	"Evictions by what became of them: confirmed were admitted here and happened, given_back were admitted here and did not, foreseen were admitted here though the API server was known to refuse them, seen happened though this replica did not admit them.",
	[]string{"result"}, nil)

// Describe makes Ledger a prometheus.Collector.
func (*Ledger) Describe(to chan<- *prometheus.Desc) { to <- counted }

// Collect tells what became of evictions. What is over is settled first: nobody else may ask for long.
func (l *Ledger) Collect(to chan<- prometheus.Metric) {
	if l.watch != nil {
		l.mu.Lock()
		l.settle(l.watch.Now())
		l.mu.Unlock()
	}
	c := l.Counts()
	for result, n := range map[string]int64{"confirmed": c.Confirmed, "given_back": c.GivenBack, "foreseen": c.Foreseen, "seen": c.Seen} {
		to <- prometheus.MustNewConstMetric(counted, prometheus.CounterValue, float64(n), result)
	}
}
