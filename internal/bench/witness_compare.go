package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// WitnessCompareOptions say which witnesses to load in turns.
type WitnessCompareOptions struct {
	Targets []WitnessTarget // the first is measured by the others
	Logs    []int           // a part of the table each; default 1, 16, 256
	Pairs   int             // runs of each witness per number of logs; default and least 5

	// Load holds what is common to all runs: durations, seed, logger. Its Logs is not used.
	Load WitnessOptions
}

func (o *WitnessCompareOptions) init() error {
	var errs []error
	or(&o.Pairs, minPairs)
	if o.Pairs < minPairs {
		errs = append(errs, fmt.Errorf("%w: %d pairs, and fewer than %d say nothing", ErrOptions, o.Pairs, minPairs))
	}
	if len(o.Logs) == 0 {
		o.Logs = []int{1, 16, 256}
	}
	if len(o.Targets) < 2 {
		errs = append(errs, fmt.Errorf("%w: there is nothing to compare with", ErrOptions))
	}
	o.Targets = slices.Clone(o.Targets)
	names := map[string]bool{}
	for i := range o.Targets {
		t := &o.Targets[i]
		if err := t.check(); err != nil {
			errs = append(errs, err)
		}
		if names[t.Name] {
			errs = append(errs, fmt.Errorf("%w: two witnesses have the name %s", ErrOptions, t.Name))
		}
		names[t.Name] = true
	}
	return errors.Join(append(errs, o.Load.init())...)
}

// A WitnessComparison is what witnesses did in turns.
type WitnessComparison struct {
	Names []string     `json:"names"`
	Rows  []WitnessRow `json:"rows"`
}

// A WitnessRow holds the runs with one number of logs: Runs[w][i] of each witness w followed each other.
type WitnessRow struct {
	Logs int               `json:"logs"`
	Runs [][]WitnessResult `json:"runs"`
}

// CompareWitnesses measures witnesses in turns, A B C A B C. It stops at the first run that fails.
func CompareWitnesses(ctx context.Context, o WitnessCompareOptions) (WitnessComparison, error) {
	if err := o.init(); err != nil {
		return WitnessComparison{}, err
	}
	var c WitnessComparison
	for _, t := range o.Targets {
		c.Names = append(c.Names, t.Name)
	}
	for _, logs := range o.Logs {
		row := WitnessRow{Logs: logs, Runs: make([][]WitnessResult, len(o.Targets))}
		for range o.Pairs {
			for i, t := range o.Targets {
				load := o.Load
				load.Logs = logs
				r, err := Witness(ctx, t, load)
				if err != nil {
					return WitnessComparison{}, fmt.Errorf("measuring %s with %d logs: %w", t.Name, logs, err)
				}
				load.Log.Info("measured "+t.Name, "size", logs, "key", fmt.Sprintf("%.0f updates/s", r.PerSecond))
				row.Runs[i] = append(row.Runs[i], r)
			}
		}
		c.Rows = append(c.Rows, row)
	}
	return c, nil
}

// A witnessFigure is something measured of which a table shows medians and ratios.
type witnessFigure struct {
	name  string
	value func(WitnessResult) float64
}

var witnessFigures = []witnessFigure{
	{"updates/s", func(r WitnessResult) float64 { return r.PerSecond }},
	{"p50 ms", func(r WitnessResult) float64 { return r.Latency.P50 }},
	{"p99 ms", func(r WitnessResult) float64 { return r.Latency.P99 }},
	{"CPU ms/update", func(r WitnessResult) float64 { return r.server().CPU }},
	{"peak RSS MB", func(r WitnessResult) float64 { return float64(r.server().RSS) / 1e6 }},
	{"written B/update", func(r WitnessResult) float64 { return float64(r.server().Written) }},
	{"429, % of requests", func(r WitnessResult) float64 { return r.share(r.Limited) }},
	{"other errors, %", func(r WitnessResult) float64 { return r.share(r.failed()) }},
}

func (r WitnessResult) server() Server {
	if r.Server == nil {
		return Server{}
	}
	return *r.Server
}

// failed is how many requests ended in other errors than 429.
func (r WitnessResult) failed() (n int) {
	for _, count := range r.Errors {
		n += count
	}
	return n
}

// share is how many percent of all requests n are.
func (r WitnessResult) share(n int) float64 {
	return 100 * float64(n) / float64(r.Updates+r.Limited+r.failed())
}

// Markdown is a table: for each number of logs and figure the medians of all witnesses, and beside
// each but the first the median of the ratios of paired runs of the first to it, with the least and
// the greatest of them.
func (c WitnessComparison) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| logs | | %s |", c.Names[0])
	rule := "| ---: | --- | ---: |"
	for _, name := range c.Names[1:] {
		fmt.Fprintf(&b, " %s | ratio |", name)
		rule += " ---: | --- |"
	}
	b.WriteString("\n" + rule + "\n")
	for _, row := range c.Rows {
		for _, f := range witnessFigures {
			b.WriteString(row.line(f))
		}
	}
	return b.String()
}

// line is one line of the table, or nothing if nobody looked at its figure.
func (row WitnessRow) line(f witnessFigure) string {
	var b strings.Builder
	seen := false
	first := f.of(row.Runs[0])
	fmt.Fprintf(&b, "| %d | %s |", row.Logs, f.name)
	for i, runs := range row.Runs {
		values := f.of(runs)
		seen = seen || slices.Max(values) > 0
		fmt.Fprintf(&b, " %s |", number(median(values)))
		if i > 0 {
			fmt.Fprintf(&b, " %s |", ratios(first, values))
		}
	}
	if !seen {
		return ""
	}
	return b.String() + "\n"
}

func (f witnessFigure) of(runs []WitnessResult) []float64 {
	values := make([]float64, len(runs))
	for i, r := range runs {
		values[i] = f.value(r)
	}
	return values
}

// ratios tells the median of the ratios of pairs, and their range.
func ratios(a, b []float64) string {
	var all []float64
	for i := range a {
		if b[i] != 0 {
			all = append(all, a[i]/b[i])
		}
	}
	if len(all) == 0 {
		return "–"
	}
	return fmt.Sprintf("%s (%s–%s)", number(median(all)), number(slices.Min(all)), number(slices.Max(all)))
}
