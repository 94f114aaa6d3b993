package stack

import (
	"crypto/x509"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are the figures of one stack, on a registry of its own.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec

	adds          *prometheus.CounterVec
	addSeconds    *prometheus.HistogramVec
	stageSeconds  *prometheus.HistogramVec
	stageFailures *prometheus.CounterVec
	answers       *prometheus.CounterVec
	answerSeconds *prometheus.HistogramVec
	hedges        *prometheus.CounterVec

	operations       *prometheus.CounterVec
	operationSeconds *prometheus.HistogramVec

	expiry  *prometheus.GaugeVec
	reloads *prometheus.CounterVec
}

// latencies are the buckets of durations, in seconds: from what a local disk takes to what no client
// waits for any more.
var latencies = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// reloadEndings are what comes of a reload.
var reloadEndings = []string{"done", "refused"}

// newMetrics returns the metrics of a program of the given version.
func newMetrics(b Build) *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tallywood_" + name, Help: help}, labels)
		m.registry.MustRegister(c)
		return c
	}
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "tallywood_" + name, Help: help, Buckets: latencies}, labels)
		m.registry.MustRegister(h)
		return h
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "tallywood_" + name, Help: help}, labels)
		m.registry.MustRegister(g)
		return g
	}
	m.requests = counter("http_requests_total", "Requests answered, by part and status.", "part", "code")
	m.seconds = histogram("http_request_seconds", "Time to the end of the answer, by part.", "part")
	m.adds = counter("log_adds_total", "Adds answered by this process, by how they ended.", "log", "outcome")
	m.addSeconds = histogram("log_add_seconds", "Time to the answer of adds that ended well.", "log")
	m.stageSeconds = histogram("log_stage_seconds", "Time of each stage from a batch to the checkpoint in the bucket.", "log", "stage")
	m.stageFailures = counter("log_stage_failures_total", "Stages that failed, and are tried again.", "log", "stage")
	m.answers = counter("log_witness_requests_total", "Requests for cosignatures, by what came of them.", "log", "witness", "answer")
	m.answerSeconds = histogram("log_witness_request_seconds", "Time of the requests for cosignatures.", "log", "witness")
	m.hedges = counter("log_witness_hedges_total", "Requests for cosignatures that were sent because another one was overdue.", "log", "witness")
	m.operations = counter("storage_operations_total", "Operations of the bucket, by the kind of object and what came of them.", "operation", "object", "outcome")
	m.operationSeconds = histogram("storage_operation_seconds", "Time of the operations of the bucket.", "operation", "object")
	m.expiry = gauge("certificate_expiry_timestamp_seconds", "When a certificate of this process expires.", "part")
	m.reloads = counter("reloads_total", "Reloads of the configuration, refused if any part of it was.", "outcome")
	for _, e := range reloadEndings {
		m.reloads.WithLabelValues(e)
	}
	gauge("build_info", "1, with the program's version and what it was built with.", "version", "revision", "goversion").
		WithLabelValues(b.Version, b.Revision, b.Go).Set(1)
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// A Build says which program this is.
type Build struct{ Version, Revision, Go string }

// expires notes until when the chain of a part of this process is valid.
func (m *metrics) expires(part string, chain []*x509.Certificate) {
	if m == nil {
		return // the configuration is only checked
	}
	until := chain[0].NotAfter
	for _, c := range chain {
		if c.NotAfter.Before(until) {
			until = c.NotAfter
		}
	}
	m.expiry.WithLabelValues(part).Set(float64(until.Unix()))
}

// parts maps the beginning of a path to the label of the part that serves it. The set is closed:
// a path that a client makes up is "other".
var parts = []struct{ prefix, part string }{
	{"/api/v2/log/", "rekor"}, {"/api/v2/checkpoint", "read"}, {"/api/v2/tile/", "read"},
	{"/checkpoint", "read"}, {"/tile/", "read"}, {"/add", "tlog"},
	{"/api/v2/", "ca"}, {"/api/v1/signingCert", "ca"}, {"/api/v1/rootCert", "ca"},
	{"/api/v1/timestamp", "tsa"}, {"/ct/", "ct"}, {"/logs/", "log"}, {"/witness/", "witness"},
	{"/dev/", "dev_oidc"}, {"/healthz", "probe"}, {"/readyz", "probe"},
}

func partOf(path string) string {
	for _, p := range parts {
		if strings.HasPrefix(path, p.prefix) {
			return p.part
		}
	}
	if path == "/" {
		return "page"
	}
	return "other"
}

// instrument counts the requests to h.
func (m *metrics) instrument(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		part, start := partOf(r.URL.Path), now()
		rec := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
		h.ServeHTTP(rec, r)
		m.requests.WithLabelValues(part, strconv.Itoa(rec.status)).Inc()
		m.seconds.WithLabelValues(part).Observe(time.Since(start).Seconds())
	})
}

// statusRecorder remembers the status of an answer.
type statusRecorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (r *statusRecorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the original.
func (r *statusRecorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// metricsHandler serves the figures of the stack and of its witnesses.
func (s *Stack) metricsHandler() http.Handler {
	s.metrics.registry.MustRegister(&logCollector{s.parts})
	if s.cfg.Monitor != nil {
		s.metrics.registry.MustRegister(&monitorCollector{s.monitor.Load})
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}))
	for _, w := range s.witnesses {
		mux.Handle(w.path+"/metrics", w.witness.Metrics())
	}
	return mux
}
