package witness

import (
	"fmt"
	"io"
	"net/http"
	"slices"
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
	swapsLost   atomic.Int64
	clockErrors atomic.Int64
	keyErrors   atomic.Int64
	evidence    atomic.Int64
	signErrors  atomic.Int64

	mu       sync.Mutex
	requests map[request]int64
	lists    map[string]time.Time // by URL: when a list was last read
}

type request struct {
	endpoint string
	status   int
}

// durations is a sum and a count of durations.
type durations struct{ count, nanos atomic.Int64 }

func (d *durations) observe(t time.Duration) { d.count.Add(1); d.nanos.Add(int64(t)) }

func (m *metrics) request(endpoint string, status int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.requests == nil {
		m.requests = map[request]int64{}
	}
	m.requests[request{endpoint, status}]++
}

func (m *metrics) listRead(url string, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lists == nil {
		m.lists = map[string]time.Time{}
	}
	m.lists[url] = now
}

// Metrics serves the witness's metrics in the text format of Prometheus. It belongs on a listener
// of its own, not on the public one.
func (w *Witness) Metrics() http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		w.writeMetrics(rw)
	})
}

func (w *Witness) writeMetrics(out io.Writer) {
	var b strings.Builder
	m := &w.metrics
	m.mu.Lock()
	help(&b, "requests_total", "counter", "Requests answered.")
	var lines, lists []string
	for r, n := range m.requests {
		lines = append(lines, fmt.Sprintf("tallywood_witness_requests_total{endpoint=%q,code=\"%d\"} %d\n", r.endpoint, r.status, n))
	}
	for url, at := range m.lists {
		lists = append(lists, fmt.Sprintf("tallywood_witness_list_read_timestamp_seconds{list=%s} %d\n", quote(url), at.Unix()))
	}
	m.mu.Unlock()
	slices.Sort(lines)
	slices.Sort(lists)
	b.WriteString(strings.Join(lines, ""))
	if len(lists) > 0 {
		help(&b, "list_read_timestamp_seconds", "gauge", "When a log list was last read.")
		b.WriteString(strings.Join(lists, ""))
	}
	for _, c := range []struct {
		name, text string
		n          int64
	}{
		{"state_errors_total", "Reads and writes of the state that failed.", m.stateErrors.Load()},
		{"state_swaps_lost_total", "Writes of the state that another process forestalled.", m.swapsLost.Load()},
		{"clock_errors_total", "Requests refused because the clock was behind.", m.clockErrors.Load()},
		{"key_errors_total", "Requests refused because no key was valid.", m.keyErrors.Load()},
		{"evidence_total", "Equivocations kept since the start.", m.evidence.Load()},
		{"sign_errors_total", "Requests refused because the Ed25519 key could not be used.", m.signErrors.Load()},
	} {
		help(&b, c.name, "counter", c.text)
		fmt.Fprintf(&b, "tallywood_witness_%s %d\n", c.name, c.n)
	}
	help(&b, "state_swap_seconds", "summary", "Durations of the writes of the state.")
	fmt.Fprintf(&b, "tallywood_witness_state_swap_seconds_sum %g\ntallywood_witness_state_swap_seconds_count %d\n",
		time.Duration(m.swaps.nanos.Load()).Seconds(), m.swaps.count.Load())
	w.writeLogMetrics(&b)
	_, _ = io.WriteString(out, b.String()) // the scraper is gone; nobody to tell
}

func (w *Witness) writeLogMetrics(b *strings.Builder) {
	entries := w.entries()
	help(b, "logs", "gauge", "Logs known.")
	fmt.Fprintf(b, "tallywood_witness_logs %d\n", len(entries))
	help(b, "logs_disabled", "gauge", "Origins that are disabled.")
	fmt.Fprintf(b, "tallywood_witness_logs_disabled %d\n", len(w.Disabled()))
	series := func(name, text string, value func(*entry, snapshot) (float64, bool)) {
		help(b, name, "gauge", text)
		for _, e := range entries {
			if v, ok := value(e, e.snap()); ok {
				fmt.Fprintf(b, "tallywood_witness_%s{origin=%s} %v\n", name, quote(e.origin), v)
			}
		}
	}
	series("log_size", "Size of the last cosigned tree.",
		func(_ *entry, s snapshot) (float64, bool) { return float64(s.size), s.loaded })
	series("log_seen_timestamp_seconds", "When the log last sent a checkpoint it had signed.",
		func(_ *entry, s snapshot) (float64, bool) { return float64(s.lastSeen.Unix()), !s.lastSeen.IsZero() })
	series("log_frozen", "1 if the log is frozen because state of it was lost.",
		func(_ *entry, s snapshot) (float64, bool) { return map[bool]float64{true: 1}[s.frozen], s.loaded })
	series("log_quota_left", "Requests the log may still make at once.",
		func(e *entry, _ snapshot) (float64, bool) { return e.quota.left() })
}

func help(b *strings.Builder, name, kind, text string) {
	fmt.Fprintf(b, "# HELP tallywood_witness_%s %s\n# TYPE tallywood_witness_%s %s\n", name, text, name, kind)
}

// quote quotes a label value as the text format wants it.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}
