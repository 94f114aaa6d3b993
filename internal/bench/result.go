package bench

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Result is one measurement. Times are in milliseconds.
type Result struct {
	URL         string         `json:"url"`
	Concurrency int            `json:"concurrency"`
	Seed        uint64         `json:"seed,string"` // of the corpus
	Entries     int            `json:"entries"`     // accepted
	Seconds     float64        `json:"seconds"`     // it took
	PerSecond   float64        `json:"per_second"`
	Latency     Latency        `json:"latency"`
	Errors      map[string]int `json:"errors"`  // by class; requests that did not end in an entry
	Checked     int            `json:"checked"` // replies, of the warm-up too, verified to the root
	Server      *Server        `json:"server,omitempty"`
}

// Latency describes the times from sending a request to having read its reply, in milliseconds.
type Latency struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// A Server is what the server's process used.
type Server struct {
	CPU     float64 `json:"cpu_ms_per_entry"`        // user and system time
	RSS     int64   `json:"peak_rss_bytes"`          // resident memory
	Written int64   `json:"written_bytes_per_entry"` // to disk
}

func newResult(o LogOptions, t tally, checked int) Result {
	latencies := make([]time.Duration, len(t.replies))
	for i, r := range t.replies {
		latencies[i] = r.latency
	}
	slices.Sort(latencies)
	return Result{
		URL: o.URL, Concurrency: o.Concurrency, Seed: o.Seed,
		Entries: len(t.replies), Seconds: t.elapsed.Seconds(), PerSecond: float64(len(t.replies)) / t.elapsed.Seconds(),
		Latency: Latency{
			P50: percentile(latencies, 50), P95: percentile(latencies, 95),
			P99: percentile(latencies, 99), Max: percentile(latencies, 100),
		},
		Errors: t.errors, Checked: checked,
	}
}

func newServer(before, after process, entries int) *Server {
	return &Server{
		CPU:     milliseconds(after.cpu-before.cpu) / float64(entries),
		RSS:     after.rss,
		Written: (after.written - before.written) / int64(entries),
	}
}

// percentile returns the least time that p percent of the sorted times do not exceed.
func percentile(sorted []time.Duration, p int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	rank := (p*len(sorted) + 99) / 100
	return milliseconds(sorted[max(rank, 1)-1])
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// String is a report of a few lines.
func (r Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", r.URL)
	fmt.Fprintf(&b, "  %d entries in %.1f s over %d connections: %.1f entries/s\n", r.Entries, r.Seconds, r.Concurrency, r.PerSecond)
	fmt.Fprintf(&b, "  latency p50 %.1f ms, p95 %.1f ms, p99 %.1f ms, max %.1f ms\n", r.Latency.P50, r.Latency.P95, r.Latency.P99, r.Latency.Max)
	fmt.Fprintf(&b, "  %s; %d replies verified to the root; seed %d\n", describe(r.Errors), r.Checked, r.Seed)
	if r.Server != nil {
		fmt.Fprintf(&b, "  server: %.2f ms CPU per entry, %.0f MB at most, %d B written per entry\n",
			r.Server.CPU, float64(r.Server.RSS)/1e6, r.Server.Written)
	}
	return b.String()
}
