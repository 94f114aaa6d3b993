package witness

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// metrics are the witness's counters. Their labels come from closed sets: the endpoints, the
// statuses we answer, and the origins that are configured.
type metrics struct {
	stateErrors atomic.Int64 // reads and writes of the state that failed
	swaps       durations    // writes of the state
	added       durations    // requests to add-checkpoint that were answered 200
	swapsLost   atomic.Int64
	clockErrors atomic.Int64
	keyErrors   atomic.Int64
	evidence    atomic.Int64
	signErrors  atomic.Int64
	leaseErrors atomic.Int64

	mu       sync.Mutex
	requests map[request]int64
}

type request struct {
	endpoint string
	status   int
}

func (m *metrics) request(endpoint string, status int, d time.Duration) {
	if endpoint == "add-checkpoint" && status == http.StatusOK {
		m.added.observe(d)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.requests == nil {
		m.requests = map[request]int64{}
	}
	m.requests[request{endpoint, status}]++
}

// Metrics serves the witness's metrics in the text format of Prometheus. It belongs on a listener
// of its own, not on the public one.
func (w *Witness) Metrics() http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		w.writeMetrics(r.Context(), rw)
	})
}

func (w *Witness) writeMetrics(ctx context.Context, out io.Writer) {
	var b strings.Builder
	m := &w.metrics
	m.mu.Lock()
	help(&b, "requests_total", "counter", "Requests answered.")
	var lines []string
	for r, n := range m.requests {
		lines = append(lines, fmt.Sprintf("tallywood_witness_requests_total{endpoint=%q,code=\"%d\"} %d\n", r.endpoint, r.status, n))
	}
	m.mu.Unlock()
	slices.Sort(lines)
	b.WriteString(strings.Join(lines, ""))
	for _, c := range []struct {
		name, text string
		n          int64
	}{
		{"state_errors_total", "Reads and writes of the state that failed.", m.stateErrors.Load()},
		{"state_swaps_lost_total", "Writes of the state that another process forestalled.", m.swapsLost.Load()},
		{"clock_errors_total", "Requests refused because the clock was behind.", m.clockErrors.Load()},
		{"key_errors_total", "Requests refused because no key was valid.", m.keyErrors.Load()},
		{"evidence_total", "Objects of evidence kept since the start, of logs that contradict themselves and of own state that was lost.", m.evidence.Load()},
		{"sign_errors_total", "Requests refused because the Ed25519 key could not be used.", m.signErrors.Load()},
	} {
		help(&b, c.name, "counter", c.text)
		fmt.Fprintf(&b, "tallywood_witness_%s %d\n", c.name, c.n)
	}
	help(&b, "state_swap_seconds", "histogram", "Durations of the writes of the state.")
	m.swaps.write(&b, "state_swap_seconds", "")
	help(&b, "add_checkpoint_seconds", "histogram", "How long cosigning took, of requests that were answered 200.")
	m.added.write(&b, "add_checkpoint_seconds", "")
	w.writeHealthMetrics(ctx, &b)
	w.writeListMetrics(&b)
	w.writeExportMetrics(&b)
	w.lookAgain(ctx)
	w.writeLogMetrics(&b)
	_, _ = io.WriteString(out, b.String()) // the scraper is gone; nobody to tell
}

// maxSeries bounds the logs that have series of their own, the first by their origins. The numbers
// that alerts are for count all logs.
const maxSeries = 5000

func (w *Witness) writeLogMetrics(b *strings.Builder) {
	entries, now := w.entries(), w.now()
	frozen, last := 0, int64(0)
	for _, e := range entries {
		s := e.snap()
		last = max(last, s.timestamp)
		if s.frozen {
			frozen++
		}
	}
	help(b, "logs", "gauge", "Logs known.")
	fmt.Fprintf(b, "tallywood_witness_logs %d\n", len(entries))
	help(b, "logs_disabled", "gauge", "Origins that are disabled.")
	fmt.Fprintf(b, "tallywood_witness_logs_disabled %d\n", len(w.Disabled()))
	series := func(name, text string, value func(*entry, snapshot) (float64, bool)) {
		help(b, name, "gauge", text)
		for _, e := range entries {
			if v, ok := value(e, e.snap()); ok {
				fmt.Fprintf(b, "tallywood_witness_%s{origin=%s} %s\n", name, quote(e.origin), strconv.FormatFloat(v, 'f', -1, 64))
			}
		}
	}
	help(b, "logs_frozen", "gauge", "Logs that are frozen because state of them was lost.")
	fmt.Fprintf(b, "tallywood_witness_logs_frozen %d\n", frozen)
	help(b, "cosigned_timestamp_seconds", "gauge", "When anything was last cosigned, as far as this process has seen.")
	fmt.Fprintf(b, "tallywood_witness_cosigned_timestamp_seconds %d\n", last)
	if len(entries) > maxSeries {
		entries = entries[:maxSeries]
	}
	series("log_size", "Size of the last cosigned tree.",
		func(_ *entry, s snapshot) (float64, bool) { return float64(s.size), s.loaded })
	series("log_cosigned_timestamp_seconds", "When the log was last cosigned.",
		func(_ *entry, s snapshot) (float64, bool) { return float64(s.timestamp), s.timestamp != 0 })
	series("log_seen_timestamp_seconds", "When the log last sent a checkpoint it had signed.",
		func(_ *entry, s snapshot) (float64, bool) { return float64(s.lastSeen.Unix()), !s.lastSeen.IsZero() })
	series("log_frozen", "1 if the log is frozen because state of it was lost.",
		func(_ *entry, s snapshot) (float64, bool) { return map[bool]float64{true: 1}[s.frozen], s.loaded })
	series("log_quota_left", "Requests the log may still make at once.",
		func(e *entry, _ snapshot) (float64, bool) {
			left, perDay := e.quota.left(now)
			return float64(left), perDay != 0
		})
}

func help(b *strings.Builder, name, kind, text string) {
	fmt.Fprintf(b, "# HELP tallywood_witness_%s %s\n# TYPE tallywood_witness_%s %s\n", name, text, name, kind)
}

// quote quotes a label value as the text format wants it.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}
