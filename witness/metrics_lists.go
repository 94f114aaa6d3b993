package witness

import (
	"context"
	"fmt"
	"strings"
)

// writeListMetrics writes what is known of the log lists, and the alarms that they have raised.
func (w *Witness) writeListMetrics(ctx context.Context, b *strings.Builder) {
	lists := w.lists.all()
	series := func(name, kind, text string, value func(listStatus) (int64, bool)) {
		help(b, name, kind, text)
		for _, s := range lists {
			if v, ok := value(s); ok {
				fmt.Fprintf(b, "tallywood_witness_%s{list=%s} %d\n", name, quote(s.Source), v)
			}
		}
	}
	series("list_read_timestamp_seconds", "gauge", "When a log list was last read.", func(s listStatus) (int64, bool) {
		if s.Read == nil {
			return 0, true
		}
		return s.Read.Unix(), true
	})
	series("list_changed_timestamp_seconds", "gauge", "When a log list was last seen to have changed.", func(s listStatus) (int64, bool) {
		if s.Changed == nil {
			return 0, false
		}
		return s.Changed.Unix(), true
	})
	series("list_logs", "gauge", "Logs that a list has ever named, and that are known.",
		func(s listStatus) (int64, bool) { return int64(s.Logs), true })
	series("list_failures_total", "counter", "Attempts to read a list that failed.",
		func(s listStatus) (int64, bool) { return s.failed, true })
	help(b, "key_alarms", "gauge", "Keys that lists name for logs known under others, and that nobody has acknowledged.")
	fmt.Fprintf(b, "tallywood_witness_key_alarms %d\n", len(w.raised(ctx)))
	n := 0
	for _, c := range w.evidenceCounts(ctx) {
		n += c
	}
	help(b, "evidence", "gauge", "Objects of evidence that are kept.")
	fmt.Fprintf(b, "tallywood_witness_evidence %d\n", n)
}
