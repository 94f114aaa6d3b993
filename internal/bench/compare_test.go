package bench_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tallywood/internal/bench"
)

// slowed counts what passes and delays it.
func slowed(by time.Duration, n *atomic.Int64) func(http.Handler) http.Handler {
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n.Add(1)
			time.Sleep(by)
			h.ServeHTTP(w, r)
		})
	}
}

func TestCompareFindsTheSlowOne(t *testing.T) {
	var fast, slow atomic.Int64
	a, _ := serve(t, slowed(0, &fast))
	b, _ := serve(t, slowed(40*time.Millisecond, &slow))
	load := short("")
	load.Count, load.Duration, load.Warmup = 0, 100*time.Millisecond, 45*time.Millisecond
	c, err := bench.Compare(t.Context(), bench.CompareOptions{
		A: bench.Target{Name: "ours", URL: a}, B: bench.Target{Name: "theirs", URL: b}, Concurrency: []int{1, 2}, Load: load,
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Rows) != 2 || len(c.Rows[0].A) != 5 || len(c.Rows[1].B) != 5 {
		t.Fatalf("got %d rows", len(c.Rows))
	}
	for _, row := range c.Rows {
		for i := range row.A {
			if row.A[i].Seed != row.B[i].Seed || row.A[i].Concurrency != row.Concurrency {
				t.Errorf("pair %d at %d is no pair", i, row.Concurrency)
			}
			if i > 0 && row.A[i].Seed == row.A[i-1].Seed {
				t.Errorf("pair %d posts what the pair before has posted", i)
			}
		}
	}
	table := c.Markdown()
	for _, want := range []string{"| c | | ours | theirs | ratio |", "| 1 | entries/s |", "| 2 | p50 ms |"} {
		if !strings.Contains(table, want) {
			t.Errorf("table does not have %q:\n%s", want, table)
		}
	}
	if strings.Contains(table, "CPU") || strings.Contains(table, "refused") {
		t.Errorf("table has rows that nobody measured:\n%s", table)
	}
	// The best runs of each: any may have met with a machine that was busy.
	best := func(runs []bench.Result) (p50 float64) {
		p50 = runs[0].Latency.P50
		for _, r := range runs {
			p50 = min(p50, r.Latency.P50)
		}
		return p50
	}
	if p50a, p50b := best(c.Rows[0].A), best(c.Rows[0].B); p50a >= p50b || p50b < 40 {
		t.Errorf("p50 %.1f ms without delay, %.1f ms with 40 ms", p50a, p50b)
	}
	if fast.Load() < 20 || slow.Load() < 20 { // one in each run and in the warm-up before it
		t.Errorf("%d requests to the fast log, %d to the slow one", fast.Load(), slow.Load())
	}
}

func TestMarkdownGivesTheMedianOfPairedRatios(t *testing.T) {
	run := func(perSecond float64, refused int) bench.Result {
		r := bench.Result{PerSecond: perSecond, Server: &bench.Server{CPU: 1000 / perSecond, RSS: 25e6}}
		if refused > 0 {
			r.Errors = map[string]int{"status 503": refused}
		}
		return r
	}
	c := bench.Comparison{A: "a", B: "b", Rows: []bench.Row{{
		Concurrency: 64,
		A:           []bench.Result{run(100, 0), run(400, 2), run(300, 1)},
		B:           []bench.Result{run(50, 0), run(100, 0), run(100, 0)},
	}}}
	want := `| c | | a | b | ratio | from | to |
| ---: | --- | ---: | ---: | ---: | ---: | ---: |
| 64 | entries/s | 300 | 100 | 3.00 | 2.00 | 4.00 |
| 64 | CPU ms/entry | 3.33 | 10.0 | 0.333 | 0.250 | 0.500 |
| 64 | peak RSS MB | 25.0 | 25.0 | 1.00 | 1.00 | 1.00 |
| 64 | refused | 3 | 0 | – | – | – |
`
	if got := c.Markdown(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestCompareWantsEnoughPairs(t *testing.T) {
	_, err := bench.Compare(t.Context(), bench.CompareOptions{
		A: bench.Target{Name: "x", URL: "http://h"}, B: bench.Target{Name: "x", URL: "h"}, Pairs: 4,
	})
	for _, want := range []string{"4 pairs", "same name", "not an http"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestPercentiles(t *testing.T) {
	var times []time.Duration
	for i := range 200 {
		times = append(times, time.Duration(i+1)*time.Millisecond)
	}
	for p, want := range map[int]float64{50: 100, 95: 190, 99: 198, 100: 200} {
		if got := bench.Percentile(times, p); got != want {
			t.Errorf("p%d: got %v, want %v", p, got, want)
		}
	}
	if got := bench.Percentile(times[:1], 50); got != 1 {
		t.Errorf("of one: got %v", got)
	}
	if got := bench.Percentile(nil, 50); got != 0 {
		t.Errorf("of none: got %v", got)
	}
}
