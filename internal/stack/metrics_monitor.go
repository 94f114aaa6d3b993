package stack

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"tallywood/internal/httpx"
	"tallywood/monitor"
)

// A monitorCollector collects the figures of the monitor that runs now: a reload replaces it.
type monitorCollector struct{ now func() *monitor.Monitor }

// Describe implements prometheus.Collector.
func (c *monitorCollector) Describe(ch chan<- *prometheus.Desc) {
	if m := c.now(); m != nil {
		m.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (c *monitorCollector) Collect(ch chan<- prometheus.Metric) {
	if m := c.now(); m != nil {
		m.Collect(ch)
	}
}

// ServeMonitorMetrics serves the figures of a monitor, and of this process, at address until ctx ends.
func ServeMonitorMetrics(ctx context.Context, m *monitor.Monitor, address string, logger *slog.Logger) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listening for metrics: %w", err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(m, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return httpx.Serve(ctx, ln, mux, httpx.ServeOptions{Log: logger})
}
