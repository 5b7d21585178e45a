package webhook

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/evictgate/evictgate/policies"
	"github.com/evictgate/evictgate/webhook/cluster"
	"github.com/evictgate/evictgate/webhook/record"
)

// Metrics are the evictgate_* metrics. Their labels are bounded: never a pod, a user or a text.
type Metrics struct {
	decisions     *prometheus.CounterVec
	duration      *prometheus.HistogramVec
	violations    *prometheus.CounterVec
	failures      *prometheus.CounterVec
	answers       *prometheus.CounterVec
	confirmations *prometheus.CounterVec
	badRequests   prometheus.Counter
	panics        prometheus.Counter
	eventsDropped prometheus.Counter
	handshakes    prometheus.Counter

	unknownCallers *prometheus.CounterVec

	overrides *prometheus.CounterVec
	reloads   *prometheus.CounterVec
	reloaded  prometheus.Gauge
	revision  *prometheus.GaugeVec
	bounds    *boundMetrics
}

// NewMetrics registers the metrics, those of the records included.
func NewMetrics(registry prometheus.Registerer, records *record.Writer) (*Metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "evictgate_" + name, Help: help}, labels)
	}
	single := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "evictgate_" + name, Help: help})
	}
	m := &Metrics{
		decisions: counter("decisions_total", "Decided reviews by outcome.", "outcome", "evictor", "dry_run"),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "evictgate_decision_duration_seconds", Help: "Time from the parsed review to the decision.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .05, .1, .5, 1, 5},
		}, []string{"outcome"}),
		violations:     counter("violations_total", "Violations by policy, effect and enforcement.", "policy", "effect", "enforcement"),
		failures:       counter("policy_failures_total", "Policies that could not be evaluated.", "policy"),
		answers:        counter("policy_answers_total", "Answers of policies, by whether they were evaluated or remembered.", "from"),
		confirmations:  counter("budget_confirmations_total", "Refusals by a cached budget that were read live, by result.", "result"),
		badRequests:    single("bad_requests_total", "Reviews that were not about an eviction."),
		panics:         single("panics_total", "Panics while deciding; the review was left undecided."),
		eventsDropped:  single("events_dropped_total", "Kubernetes Events left out because too many were waiting."),
		handshakes:     single("tls_handshake_failures_total", "Connections to the webhook or /metrics that ended before TLS was agreed on."),
		overrides:      counter("overrides_total", "Evictions that asked to override policies, by result: used, unneeded or ignored.", "result"),
		unknownCallers: counter("unknown_callers_total", "Reviews by callers that are not known to be the API server, by webhook: evictions or policies. Nothing came of them but their answer.", "webhook"),

		reloads: counter("policy_reloads_total", "Changes of the policies by result; failed when some could not be used.", "result"),
		reloaded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "evictgate_policy_last_reload_successful", Help: "Whether all policies serve as they were offered last; 0 when some could not be used.",
		}),
		revision: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "evictgate_policy_revision_info", Help: "The policy revision that serves; always 1.",
		}, []string{"revision"}),
		bounds: newBoundMetrics(),
	}
	for _, hook := range []string{hookEvictions, hookPolicies} {
		m.unknownCallers.WithLabelValues(hook)
	}
	for _, c := range append([]prometheus.Collector{
		m.decisions, m.duration, m.violations, m.failures, m.answers, m.confirmations,
		m.badRequests, m.panics, m.eventsDropped, m.handshakes, m.unknownCallers, m.overrides, m.reloads, m.reloaded, m.revision, recordCounts{records},
	}, m.bounds.collectors()...) {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Metrics) observe(r *policies.Request, d *policies.Decision, took time.Duration) {
	dryRun := "false"
	if r.DryRun {
		dryRun = "true"
	}
	m.decisions.WithLabelValues(string(d.Outcome), r.Evictor, dryRun).Inc()
	m.duration.WithLabelValues(string(d.Outcome)).Observe(took.Seconds())
	for _, v := range d.Violations {
		m.violations.WithLabelValues(v.Policy, string(v.Effect), string(v.Enforcement)).Inc()
	}
	for _, f := range d.Failures {
		m.failures.WithLabelValues(f.Policy).Inc()
	}
	if o := d.Override; o != nil {
		m.overrides.WithLabelValues(overrideResult(o)).Inc()
	}
}

func overrideResult(o *policies.Override) string {
	switch {
	case o.Ignored != "":
		return "ignored"
	case o.Used:
		return "used"
	}
	return "unneeded"
}

// answered counts what the policies were asked.
func (m *Metrics) answered(r *policies.Reading) {
	asked, remembered := r.Answers()
	m.answers.WithLabelValues("memory").Add(float64(remembered))
	m.answers.WithLabelValues("evaluation").Add(float64(asked - remembered))
}

func (m *Metrics) confirmed(c cluster.Confirmation) {
	if c != cluster.NotAsked {
		m.confirmations.WithLabelValues(string(c)).Inc()
	}
}

// EventDropped counts a Kubernetes Event that was left out.
func (m *Metrics) EventDropped() { m.eventsDropped.Inc() }

// HandshakeFailed counts a connection that TLS could not be agreed on with.
func (m *Metrics) HandshakeFailed() { m.handshakes.Inc() }

// Reloaded counts a look at the policies that found something new, and says which revision serves now;
// failed is when not all of them could be used as they are.
func (m *Metrics) Reloaded(revision string, failed bool) {
	result, successful := "ok", 1.0
	if failed {
		result, successful = "failed", 0
	}
	m.reloads.WithLabelValues(result).Inc()
	m.reloaded.Set(successful)
	m.revision.Reset()
	m.revision.WithLabelValues(revision).Set(1)
}
