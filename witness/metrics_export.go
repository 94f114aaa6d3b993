package witness

import (
	"fmt"
	"strings"
)

// writeExportMetrics writes nothing without an export.
func (w *Witness) writeExportMetrics(b *strings.Builder) {
	x := w.exporter
	if x.bucket == nil {
		return
	}
	s := x.status()
	held := 1
	if w.leaseError() != nil {
		held = 0
	}
	for _, m := range []struct {
		name, kind, text string
		value            any
	}{
		{"exports_total", "counter", "Checkpoints exported.", x.done.Load()},
		{"export_errors_total", "counter", "Exports and comparisons with what is exported that failed.", x.failed.Load()},
		{"export_behind", "gauge", "Logs whose last update is not exported yet.", s.Behind},
		{"export_lag_seconds", "gauge", "How long the oldest update waits to be exported.", s.Oldest},
		{"lease_held", "gauge", "0 if nothing is signed because another instance may sign with other state.", held},
		{"lease_errors_total", "counter", "Renewals of the lease that failed while it was held.", w.metrics.leaseErrors.Load()},
	} {
		help(b, m.name, m.kind, m.text)
		fmt.Fprintf(b, "tallywood_witness_%s %v\n", m.name, m.value)
	}
}
