package bench_test

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tallywood/internal/bench"
	"tallywood/storage/mem"
)

// TestRateIsKept: requests are sent when they are due, not when the ones before have ended.
func TestRateIsKept(t *testing.T) {
	var n atomic.Int64
	url, _ := serve(t, slowed(100*time.Millisecond, &n)) // one connection would make 10 a second
	o := short(url)
	o.Rate, o.Concurrency, o.Count, o.Duration = 200, 0, 0, 500*time.Millisecond
	o.Corpus = bench.Certificates
	r, err := bench.Log(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Entries != 100 || r.Rate != 200 || r.Concurrency != 1024 || r.Corpus != bench.Certificates || len(r.Errors) > 0 {
		t.Errorf("got %+v, want 100 entries", r)
	}
	if r.Checked < r.Entries {
		t.Errorf("%d of %d replies were checked", r.Checked, r.Entries)
	}
}

// TestLateRequestsCountFromWhenTheyWereDue: a server that lets requests wait for a connection does not
// look quick.
func TestLateRequestsCountFromWhenTheyWereDue(t *testing.T) {
	var n atomic.Int64
	url, _ := serve(t, slowed(20*time.Millisecond, &n))
	o := short(url)
	o.Rate, o.Concurrency, o.Count, o.Duration, o.Warmup = 400, 1, 0, 100*time.Millisecond, time.Millisecond
	r, err := bench.Log(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	// Of 40 requests, 2.5 ms apart, the last waits for 39 of 20 ms.
	if r.Entries != 40 || r.Latency.Max < 600 || r.Latency.P50 < 300 {
		t.Errorf("%d entries, latency %+v", r.Entries, r.Latency)
	}
}

// TestRefusalsKeepNoPaceUp: in an open loop the next request is due whatever became of the last.
func TestRefusalsKeepNoPaceUp(t *testing.T) {
	url, _ := serve(t, bend(2, func(w http.ResponseWriter, _ []byte) { http.Error(w, "later", http.StatusServiceUnavailable) }))
	o := short(url)
	o.Rate, o.Concurrency, o.Count, o.Duration = 100, 2, 0, 400*time.Millisecond
	r, err := bench.Log(t.Context(), o)
	if err != nil || r.Entries+r.Errors["status 503"] != 40 || r.Entries != 20 {
		t.Errorf("got %+v, %v; want half of 40", r, err)
	}
}

// TestKnownEntriesGetTheirIndex, and a log that gives them another fails the run.
func TestKnownEntriesGetTheirIndex(t *testing.T) {
	b := mem.New()
	f := fillOptions(t, b, 300)
	fill(t, f)
	url, _ := serveLog(t, b, f.Key, nil)
	o := short(url)
	o.Known, o.Seed = f.Entries, f.Seed
	r, err := bench.Log(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Known == 0 || r.Known >= r.Entries || r.KnownLatency == nil || r.KnownLatency.P50 <= 0 || len(r.Errors) > 0 {
		t.Errorf("got %+v", r)
	}
	if text := r.String(); !strings.Contains(text, "were known, and got their index") {
		t.Errorf("report %q", text)
	}
	o.Seed++
	var wrong *bench.WrongError
	if _, err := bench.Log(t.Context(), o); !errors.As(err, &wrong) || !strings.Contains(err.Error(), "of 300 that the log has") {
		t.Errorf("entries that the log has not: %v", err)
	}
}
