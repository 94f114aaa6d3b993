package monitor

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tallywood/monitor/rule"
)

// Values of labels that are words of ours.
const (
	resultOK      = "ok"
	resultFailed  = "failed"
	quorumMet     = "met"
	quorumLost    = "lost"
	metricsPrefix = "monitor_"
	labelOrigin   = "origin"
	labelResult   = "result"
	labelSink     = "sink"
	labelWitness  = "witness"
	labelState    = "state"
)

// metrics are the figures of one Monitor. Labels are names of the configuration, the policies and the
// trust material, rules, and words of ours: nothing that an entry or a server says.
type metrics struct {
	consistency *prometheus.CounterVec
	scanned     *prometheus.CounterVec
	mismatches  *prometheus.CounterVec
	malformed   *prometheus.CounterVec
	matches     *prometheus.CounterVec
	alerts      *prometheus.CounterVec
	deliveries  *prometheus.CounterVec
	fetches     *prometheus.HistogramVec
}

func newMetrics() *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: metricsPrefix + name, Help: help}, labels)
	}
	return &metrics{
		consistency: counter("consistency_checks_total", "Checkpoints held against the last verified one.", labelOrigin, labelResult),
		scanned:     counter("entries_scanned_total", "Entries verified and matched.", labelOrigin),
		mismatches:  counter("bundle_mismatch_total", "Entry bundles that do not hash into the tree, each time they are met.", labelOrigin),
		malformed:   counter("malformed_total", "Entries that cannot be parsed.", labelOrigin),
		matches:     counter("matches_total", "Entries of a watched identity, explained or not.", "identity"),
		alerts:      counter("alerts_total", "Events raised.", "rule", "severity"),
		deliveries:  counter("notify_total", "Deliveries to a sink.", labelSink, labelResult),
		fetches: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: metricsPrefix + "fetch_seconds",
			Help:    "Time of a request to a log, until all was read.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}}, []string{labelOrigin, labelResult}),
	}
}

// vectors are all of m that count by themselves.
func (m *metrics) vectors() []prometheus.Collector {
	return []prometheus.Collector{m.consistency, m.scanned, m.mismatches, m.malformed, m.matches, m.alerts, m.deliveries, m.fetches}
}

func result(ok bool) string {
	if ok {
		return resultOK
	}
	return resultFailed
}

// fetched notes a request to the log.
func (t *tail) fetched(d time.Duration, err error) {
	t.metrics.fetches.WithLabelValues(t.cfg.Origin, result(err == nil)).Observe(d.Seconds())
}

// checkedConsistency notes that a checkpoint was held against the last one.
func (t *tail) checkedConsistency(ok bool) {
	t.metrics.consistency.WithLabelValues(t.cfg.Origin, result(ok)).Inc()
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(metricsPrefix+name, help, labels, nil)
}

// The figures that are read when they are asked for.
var (
	descSize       = desc("checkpoint_size", "Entries under the newest verified checkpoint.", labelOrigin)
	descScanned    = desc("scanned_size", "Entries verified and matched, from the first of the log on.", labelOrigin)
	descLag        = desc("lag_entries", "Entries under the newest verified checkpoint that are not matched yet.", labelOrigin)
	descAge        = desc("checkpoint_age_seconds", "Age of the newest cosignature of the newest verified checkpoint; absent without any.", labelOrigin)
	descCosigned   = desc("cosignature_age_seconds", "Age of a witness's cosignature of the newest verified checkpoint; absent if it has none.", labelOrigin, labelWitness)
	descQuorum     = desc("quorum", "1 for the state that is so: met if the checkpoint that was seen last satisfies the policy.", labelOrigin, labelState)
	descQueue      = desc("notify_queue", "Events that a sink has not taken.", labelSink)
	descSuccess    = desc("last_success_timestamp", "When the log was last found in order, all of it matched, in seconds since 1970; 0 if not since the start.", labelOrigin)
	descTrustRead  = desc("trust_success_timestamp", "When trust material was last read, in seconds since 1970; 0 if not since the start.", "name")
	descTrustExpry = desc("trust_expiry_timestamp", "When metadata of the trust material expires first, in seconds since 1970; absent if it does not.", "name")
)

// Describe implements prometheus.Collector.
func (m *Monitor) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range newMetrics().vectors() { // of any Monitor the same
		c.Describe(ch)
	}
	for _, d := range []*prometheus.Desc{descSize, descScanned, descLag, descAge, descCosigned, descQuorum, descQueue, descSuccess,
		descTrustRead, descTrustExpry} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Monitor) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.metrics.vectors() {
		c.Collect(ch)
	}
	put := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	now := time.Now()
	for _, t := range m.all() {
		t.collect(now, put)
	}
	for _, r := range m.rosters {
		put(descTrustRead, unixOrZero(r.trustStatus().Checked), r.cfg.Origin)
		if at := r.expiry(); !at.IsZero() {
			put(descTrustExpry, unixOrZero(at), r.cfg.Origin)
		}
	}
	waiting := map[string]int{}
	for name := range m.options.Routes {
		waiting[name] = 0
	}
	for _, t := range m.outboxes() {
		if st := t.journal.peek(); st != nil {
			st.waitingFor(waiting)
		}
	}
	for sink, n := range waiting {
		put(descQueue, float64(n), sink)
	}
}

// collect puts what is to be told of one log.
func (t *tail) collect(now time.Time, put func(d *prometheus.Desc, v float64, labels ...string)) {
	s := t.status()
	origin := t.cfg.Origin
	put(descSize, float64(s.Size), origin)
	put(descScanned, float64(s.Scanned), origin)
	put(descLag, float64(max(s.Size-s.Scanned, 0)), origin)
	put(descSuccess, unixOrZero(s.Checked), origin)
	t.mu.Lock()
	seen, lost := t.seen, t.lost
	t.mu.Unlock()
	if _, last := cosigned(seen); !last.IsZero() {
		put(descAge, now.Sub(last).Seconds(), origin)
	}
	for _, c := range seen.Cosignatures() {
		put(descCosigned, now.Sub(c.Time).Seconds(), origin, c.Witness)
	}
	if t.cfg.NoPolicy {
		return
	}
	truth := map[bool]float64{true: 1}
	put(descQuorum, truth[!lost && seen.Origin() != ""], origin, quorumMet)
	put(descQuorum, truth[lost], origin, quorumLost)
}

func unixOrZero(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

// sawQuorum notes whether the checkpoint seen last satisfies the policy.
func (t *tail) sawQuorum(found []*trouble) {
	lost := false
	for _, tr := range found {
		lost = lost || tr.rule == rule.QuorumLost
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lost = lost
}
