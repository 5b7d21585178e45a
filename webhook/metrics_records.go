package webhook

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/evictgate/evictgate/webhook/record"
)

// The metrics of the records, by output: stdout, and store and upload where they are on.
var (
	recordsWritten = prometheus.NewDesc("evictgate_records_written_total", "Decision records that an output has.", []string{"output"}, nil)
	recordsLost    = prometheus.NewDesc("evictgate_records_lost_total", "Decision records that an output will never have.", []string{"output"}, nil)
	recordsWaiting = prometheus.NewDesc("evictgate_records_waiting", "Decision records that wait for an output.", []string{"output"}, nil)
)

// recordCounts reads the counts when it is scraped.
type recordCounts struct{ records *record.Writer }

func (recordCounts) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{recordsWritten, recordsLost, recordsWaiting} {
		to <- d
	}
}

func (r recordCounts) Collect(to chan<- prometheus.Metric) {
	for _, c := range r.records.Counts() {
		to <- prometheus.MustNewConstMetric(recordsWritten, prometheus.CounterValue, float64(c.Written), c.Output)
		to <- prometheus.MustNewConstMetric(recordsLost, prometheus.CounterValue, float64(c.Lost), c.Output)
		to <- prometheus.MustNewConstMetric(recordsWaiting, prometheus.GaugeValue, float64(c.Waiting), c.Output)
	}
}
