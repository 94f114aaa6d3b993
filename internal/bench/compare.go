package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"tallywood/witness/policy"
)

// minPairs is the least number of runs of each server that says anything about spread.
const minPairs = 5

// A Target is a log to compare.
type Target struct {
	Name string // for the table
	URL  string // as in LogOptions
	PID  int    // as in LogOptions

	Policy *policy.Policy // as in LogOptions
}

// CompareOptions say which two logs to load in turns.
type CompareOptions struct {
	A, B        Target // A is the one praised or blamed, B the one it is measured by
	Concurrency []int  // a row of the table each; default 1, 64, 512
	Pairs       int    // runs of each log per row; default and least 5

	// Load holds what is common to all runs: durations, sample, seed, logger. Its URL,
	// Concurrency, PID and Policy are not used; each pair of runs gets a seed of its own, the
	// same for both.
	Load LogOptions
}

func (o *CompareOptions) init() error {
	var errs []error
	or(&o.Pairs, minPairs)
	if o.Pairs < minPairs {
		errs = append(errs, fmt.Errorf("%w: %d pairs, and fewer than %d say nothing", ErrOptions, o.Pairs, minPairs))
	}
	if len(o.Concurrency) == 0 {
		o.Concurrency = []int{1, 64, 512}
	}
	for _, t := range []*Target{&o.A, &o.B} {
		or(&t.Name, t.URL)
		load := o.Load
		load.URL, load.PID = t.URL, t.PID
		if err := load.init(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", t.Name, err))
		}
		o.Load.Seed, o.Load.Log = load.Seed, load.Log
	}
	if o.A.Name == o.B.Name {
		errs = append(errs, fmt.Errorf("%w: both logs have the same name", ErrOptions))
	}
	return errors.Join(errs...)
}

// A Comparison is what two logs did in turns.
type Comparison struct {
	A    string `json:"a"`
	B    string `json:"b"`
	Rows []Row  `json:"rows"`
}

// A Row holds the runs of one concurrency, of which A[i] and B[i] followed each other.
type Row struct {
	Concurrency int      `json:"concurrency"`
	A           []Result `json:"a"`
	B           []Result `json:"b"`
}

// Compare measures two logs in turns, A B A B. It stops at the first run that fails.
func Compare(ctx context.Context, o CompareOptions) (Comparison, error) {
	if err := o.init(); err != nil {
		return Comparison{}, err
	}
	c := Comparison{A: o.A.Name, B: o.B.Name}
	seed := o.Load.Seed
	for _, concurrency := range o.Concurrency {
		row := Row{Concurrency: concurrency}
		for range o.Pairs {
			seed++
			for _, t := range []struct {
				Target
				runs *[]Result
			}{{o.A, &row.A}, {o.B, &row.B}} {
				load := o.Load
				load.URL, load.PID, load.Policy, load.Concurrency, load.Seed = t.URL, t.PID, t.Policy, concurrency, seed
				r, err := Log(ctx, load)
				if err != nil {
					return Comparison{}, fmt.Errorf("measuring %s at concurrency %d: %w", t.Name, concurrency, err)
				}
				*t.runs = append(*t.runs, r)
			}
		}
		c.Rows = append(c.Rows, row)
	}
	return c, nil
}

// A figure is something measured of which a table shows both medians and their ratio.
type figure struct {
	name  string
	value func(Result) float64
}

var figures = []figure{
	{"entries/s", func(r Result) float64 { return r.PerSecond }},
	{"p50 ms", func(r Result) float64 { return r.Latency.P50 }},
	{"p99 ms", func(r Result) float64 { return r.Latency.P99 }},
	{"CPU ms/entry", func(r Result) float64 { return r.server().CPU }},
	{"peak RSS MB", func(r Result) float64 { return float64(r.server().RSS) / 1e6 }},
	{"written B/entry", func(r Result) float64 { return float64(r.server().Written) }},
}

func (r Result) server() Server {
	if r.Server == nil {
		return Server{}
	}
	return *r.Server
}

// Markdown is a table: for each concurrency and figure the medians of both logs, and the median
// of the ratios of paired runs with the least and the greatest of them.
func (c Comparison) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| c | | %s | %s | ratio | from | to |\n| ---: | --- | ---: | ---: | ---: | ---: | ---: |\n", c.A, c.B)
	for _, row := range c.Rows {
		for _, f := range figures {
			a, other := f.of(row.A), f.of(row.B)
			if slices.Max(a) == 0 && slices.Max(other) == 0 {
				continue // not looked at
			}
			ratios := make([]float64, 0, len(a))
			for i := range a {
				if other[i] != 0 {
					ratios = append(ratios, a[i]/other[i])
				}
			}
			fmt.Fprintf(&b, "| %d | %s | %s | %s |", row.Concurrency, f.name, number(median(a)), number(median(other)))
			if len(ratios) == 0 {
				b.WriteString(" – | – | – |\n")
				continue
			}
			fmt.Fprintf(&b, " %s | %s | %s |\n", number(median(ratios)), number(slices.Min(ratios)), number(slices.Max(ratios)))
		}
		if a, other := refused(row.A), refused(row.B); a+other > 0 {
			fmt.Fprintf(&b, "| %d | refused | %d | %d | – | – | – |\n", row.Concurrency, a, other)
		}
	}
	return b.String()
}

func (f figure) of(runs []Result) []float64 {
	values := make([]float64, len(runs))
	for i, r := range runs {
		values[i] = f.value(r)
	}
	return values
}

func refused(runs []Result) (n int) {
	for _, r := range runs {
		for _, count := range r.Errors {
			n += count
		}
	}
	return n
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// number writes three significant digits, and all of them before the point.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}
