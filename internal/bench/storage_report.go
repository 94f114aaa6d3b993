package bench

import (
	"fmt"
	"slices"
	"strings"
)

// What an object store charges, in dollars: the list prices of AWS S3 Standard in its cheapest
// region. Deletes are free.
const (
	pricePut = 0.005 / 1000 // and List
	priceGet = 0.0004 / 1000

	secondsPerMonth = 30 * 24 * 3600
)

// Cost returns what the requests cost in an object store, in dollars.
func (r Requests) Cost() float64 {
	return float64(r.Puts+r.Lists)*pricePut + float64(r.Gets)*priceGet
}

// String is a report of a few lines.
func (r StorageResult) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n  %d entries in %.1f s: %.0f entries/s\n", r.Name, r.Entries, r.Seconds, r.PerSecond)
	fmt.Fprintf(&b, "  durable after p50 %.1f ms, p99 %.1f ms; published after p50 %.1f ms, p99 %.1f ms\n",
		r.Durable.P50, r.Durable.P99, r.Published.P50, r.Published.P99)
	fmt.Fprintf(&b, "  %.3f ms CPU and %d B written to disk per entry; %d adds failed\n", r.CPU, r.Written, r.Errors)
	if r.Requests.Puts > 0 {
		million := 1e6 / float64(r.Entries)
		fmt.Fprintf(&b, "  per million entries: %.0f Puts of %.0f MB, %.0f Gets, %.0f Lists, %.0f deleted: $%.2f\n",
			million*float64(r.Requests.Puts), million*float64(r.Requests.Bytes)/1e6, million*float64(r.Requests.Gets),
			million*float64(r.Requests.Lists), million*float64(r.Requests.Deletes), million*r.Requests.Cost())
	}
	if r.IdleTime > 0 {
		month := secondsPerMonth / r.IdleTime
		fmt.Fprintf(&b, "  per idle month: %.0f Puts, %.0f Gets, %.0f Lists: $%.2f\n",
			month*float64(r.Idle.Puts), month*float64(r.Idle.Gets), month*float64(r.Idle.Lists), month*r.Idle.Cost())
	}
	return b.String()
}

var storageFigures = []struct {
	name  string
	value func(StorageResult) float64
}{
	{"entries/s", func(r StorageResult) float64 { return r.PerSecond }},
	{"durable p50 ms", func(r StorageResult) float64 { return r.Durable.P50 }},
	{"published p50 ms", func(r StorageResult) float64 { return r.Published.P50 }},
	{"CPU ms/entry", func(r StorageResult) float64 { return r.CPU }},
	{"written B/entry", func(r StorageResult) float64 { return float64(r.Written) }},
}

// StorageTable is a Markdown table of runs in turns, A B A B: medians, and of the ratios of paired
// runs the median, the least and the greatest.
func StorageTable(runs []StorageResult) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| | %s | %s | ratio | from | to |\n| --- | ---: | ---: | ---: | ---: | ---: |\n", runs[0].Name, runs[1].Name)
	for _, f := range storageFigures {
		var a, other, ratios []float64
		for i := 0; i+1 < len(runs); i += 2 {
			x, y := f.value(runs[i]), f.value(runs[i+1])
			a, other = append(a, x), append(other, y)
			if y != 0 {
				ratios = append(ratios, x/y)
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s |", f.name, number(median(a)), number(median(other)))
		if len(ratios) == 0 {
			b.WriteString(" – | – | – |\n")
			continue
		}
		fmt.Fprintf(&b, " %s | %s | %s |\n", number(median(ratios)), number(slices.Min(ratios)), number(slices.Max(ratios)))
	}
	return b.String()
}
