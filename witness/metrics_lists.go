package witness

import (
	"context"
	"fmt"
	"strings"
)

// writeListMetrics writes what is known of the log lists. A file of the operator's is read when it
// changes, so that it has no time at which it should have been read.
func (w *Witness) writeListMetrics(b *strings.Builder) {
	lists := w.lists.all()
	series := func(name, kind, text string, value func(listStatus) (int64, bool)) {
		help(b, name, kind, text)
		for _, s := range lists {
			if v, ok := value(s); ok {
				fmt.Fprintf(b, "tallywood_witness_%s{list=%s} %d\n", name, quote(s.Source), v)
			}
		}
	}
	series("list_read_timestamp_seconds", "gauge", "When a log list at a URL was last read; 0: never.", func(s listStatus) (int64, bool) {
		if s.Read == nil {
			return 0, !isFile(s.Source)
		}
		return s.Read.Unix(), !isFile(s.Source)
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
}

// writeHealthMetrics writes whether anything is signed, and what the operator has to look at.
func (w *Witness) writeHealthMetrics(ctx context.Context, b *strings.Builder) {
	signing, evidence := 0, 0
	if len(w.NotSigning()) == 0 {
		signing = 1
	}
	for _, n := range w.evidenceCounts(ctx) {
		evidence += n.forks
	}
	for _, m := range []struct {
		name, text string
		value      int
	}{
		{"signing", "0 if nothing is signed for any log.", signing},
		{"key_alarms", "Keys that lists name for logs known under others, and that nobody has acknowledged.", len(w.raised(ctx))},
		{"evidence", "Pairs of trees that a log has signed and that contradict each other, kept as evidence.", evidence},
	} {
		help(b, m.name, "gauge", m.text)
		fmt.Fprintf(b, "tallywood_witness_%s %d\n", m.name, m.value)
	}
}
