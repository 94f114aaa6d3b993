package stack

import (
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
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tallywood_http_requests_total", Help: "Requests answered, by part and status.",
		}, []string{"part", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tallywood_http_request_seconds", Help: "Time to the end of the answer, by part.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"part"}),
	}
	m.registry.MustRegister(m.requests, m.seconds, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
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
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}))
	for _, w := range s.witnesses {
		mux.Handle(w.path+"/metrics", w.witness.Metrics())
	}
	return mux
}

// logCollector reads the logs' figures when it is asked.
type logCollector struct{ logs func() []*logPart }

var (
	descSize  = prometheus.NewDesc("tallywood_log_published_size", "Entries under the newest published checkpoint.", []string{"log"}, nil)
	descReady = prometheus.NewDesc("tallywood_log_ready", "1 if the log takes entries, else 0.", []string{"log"}, nil)
	descLacks = prometheus.NewDesc("tallywood_log_index_lacks", "Entries that the duplicate index is about to take from the log, all of them while it is rebuilt.", []string{"log"}, nil)
)

// Describe implements prometheus.Collector.
func (c *logCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- descSize
	ch <- descReady
	ch <- descLacks
}

// Collect implements prometheus.Collector.
func (c *logCollector) Collect(ch chan<- prometheus.Metric) {
	for _, l := range c.logs() {
		ready := 0.0
		if l.log.Ready() == nil {
			ready = 1
		}
		ch <- prometheus.MustNewConstMetric(descReady, prometheus.GaugeValue, ready, l.cfg.Name)
		rebuild, _ := l.log.Rebuilding()
		ch <- prometheus.MustNewConstMetric(descLacks, prometheus.GaugeValue, float64(rebuild.Total-rebuild.Written), l.cfg.Name)
		if cp, ok := l.log.Published(); ok {
			ch <- prometheus.MustNewConstMetric(descSize, prometheus.GaugeValue, float64(cp.Size()), l.cfg.Name)
		}
	}
}
