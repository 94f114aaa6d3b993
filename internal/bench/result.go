package bench

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Result is one measurement. Times are in milliseconds.
type Result struct {
	URL         string  `json:"url"`
	Concurrency int     `json:"concurrency"`
	Rate        float64 `json:"rate,omitempty"` // at which requests were due, in an open loop
	Corpus      string  `json:"corpus"`
	Seed        uint64  `json:"seed,string"` // of the corpus
	Entries     int     `json:"entries"`     // accepted
	Seconds     float64 `json:"seconds"`     // it took
	PerSecond   float64 `json:"per_second"`
	Latency     Latency `json:"latency"`

	// Of entries that the log was known to have; with LogOptions.Known only.
	Known        int      `json:"known,omitempty"`
	KnownLatency *Latency `json:"known_latency,omitempty"`

	Errors  map[string]int `json:"errors"`  // by class; requests that did not end in an entry
	Checked int            `json:"checked"` // replies, of the warm-up too, verified to the root
	Server  *Server        `json:"server,omitempty"`
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
	Begin   int64   `json:"begin_rss_bytes"`         // its median in the first fifth of the time
	End     int64   `json:"end_rss_bytes"`           // and in the last: of a steady server no more
	Written int64   `json:"written_bytes_per_entry"` // to disk
}

func newResult(o LogOptions, t tally, checked int) Result {
	return Result{
		URL: o.URL, Concurrency: o.Concurrency, Rate: o.Rate, Corpus: o.Corpus, Seed: o.Seed,
		Entries: len(t.replies), Seconds: t.elapsed.Seconds(), PerSecond: float64(len(t.replies)) / t.elapsed.Seconds(),
		Latency: latency(sortedTimes(t.replies)),
		Errors:  t.errors, Checked: checked,
	}
}

func sortedTimes(replies []reply) []time.Duration {
	times := make([]time.Duration, len(replies))
	for i, r := range replies {
		times[i] = r.latency
	}
	slices.Sort(times)
	return times
}

func newServer(before, after process, entries int, sizes []int64) *Server {
	fifth := (len(sizes) + 4) / 5
	return &Server{
		CPU:     milliseconds(after.cpu-before.cpu) / float64(entries),
		RSS:     after.rss,
		Begin:   middle(sizes[:fifth]),
		End:     middle(sizes[len(sizes)-fifth:]),
		Written: (after.written - before.written) / int64(entries),
	}
}

// middle returns the median of sizes, 0 of none.
func middle(sizes []int64) int64 {
	if len(sizes) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(sizes))[len(sizes)/2]
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
	fmt.Fprintf(&b, "  %d entries with a %s in %.1f s over %d connections: %.1f entries/s", r.Entries, r.Corpus, r.Seconds, r.Concurrency, r.PerSecond)
	if r.Rate > 0 {
		fmt.Fprintf(&b, " of %.1f due", r.Rate)
	}
	b.WriteString("\n")
	fmt.Fprintf(&b, "  latency p50 %.1f ms, p95 %.1f ms, p99 %.1f ms, max %.1f ms\n", r.Latency.P50, r.Latency.P95, r.Latency.P99, r.Latency.Max)
	if l := r.KnownLatency; l != nil {
		fmt.Fprintf(&b, "  %d of them were known, and got their index: p50 %.1f ms, p99 %.1f ms\n", r.Known, l.P50, l.P99)
	}
	fmt.Fprintf(&b, "  %s; %d replies verified to the root; seed %d\n", describe(r.Errors), r.Checked, r.Seed)
	if r.Server != nil {
		fmt.Fprintf(&b, "  server: %.3f ms CPU per entry, %d B written per entry\n", r.Server.CPU, r.Server.Written)
		fmt.Fprintf(&b, "  memory: %.0f MB at most; median %.0f MB at the beginning, %.0f MB at the end\n",
			float64(r.Server.RSS)/1e6, float64(r.Server.Begin)/1e6, float64(r.Server.End)/1e6)
	}
	return b.String()
}
