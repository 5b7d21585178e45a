package webhook

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/evictgate/evictgate/webhook/memory"
)

// boundMetrics are those of what is refused so that the server stays within its bounds.
type boundMetrics struct {
	shed        *prometheus.CounterVec
	inFlight    prometheus.Gauge
	connections *prometheus.CounterVec
}

// shedReasons are all reasons of a rejection.
func shedReasons() []string {
	return []string{
		noRoom.reason, noTime.reason, shortOfMemory.reason, tooLarge.reason, tooManyValues.reason, reasonLate, reasonCut, gone.reason,
	}
}

func newBoundMetrics() *boundMetrics {
	m := &boundMetrics{
		shed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "evictgate_reviews_shed_total",
			Help: "Reviews that were not decided, by reason: number, waited, memory, size, values, late, cut, or gone when nobody waited any more.",
		}, []string{"reason"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "evictgate_reviews_in_flight", Help: "Reviews that are being decided.",
		}),
		connections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "evictgate_connections_refused_total",
			Help: "Connections that found no place, or lost it to another, by listener.",
		}, []string{"listener"}),
	}
	for _, reason := range shedReasons() { // a counter that is there from the start has its first increase seen
		m.shed.WithLabelValues(reason)
	}
	return m
}

func (m *boundMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.shed, m.inFlight, m.connections}
}

// ConnectionRefused gives a function that counts connections which a listener refuses.
func (m *Metrics) ConnectionRefused(listener string) func() {
	return m.bounds.connections.WithLabelValues(listener).Inc
}

// MemoryLevel is the metric of how much memory is left.
func MemoryLevel(g *memory.Guard) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "evictgate_memory_level", Help: "How much memory is left: 0 enough, 1 tight, 2 so little that reviews are answered 429.",
	}, func() float64 { return float64(g.Level()) })
}
