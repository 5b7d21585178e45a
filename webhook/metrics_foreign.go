package webhook

import "github.com/prometheus/client_golang/prometheus"

// Foreigners counts what the webhook configuration holds that is not Evictgate's.
type Foreigners interface{ Foreign() int }

// ForeignWebhooks is a gauge of that.
func ForeignWebhooks(f Foreigners) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "evictgate_foreign_webhooks",
		Help: "Webhooks, rules and calls in the webhook configuration that are not Evictgate's, as last seen; the log names them.",
	}, func() float64 { return float64(f.Foreign()) })
}

// APIServerKnown is a gauge of whether the API server is told from others who call.
func APIServerKnown(t Trust) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "evictgate_api_server_known", Help: "Whether the API server is told from others who call, by its path or certificate; while it is not, nothing is counted, held, overridden or told.",
	}, func() float64 {
		if t.Established() {
			return 1
		}
		return 0
	})
}
