package witness

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// bounds are the upper ends of the buckets of durations, in seconds; the last one has none.
var bounds = [...]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// durations is a histogram of durations.
type durations struct {
	buckets [len(bounds) + 1]atomic.Int64
	nanos   atomic.Int64
}

func (d *durations) observe(t time.Duration) {
	i := 0
	for i < len(bounds) && t.Seconds() > bounds[i] {
		i++
	}
	d.buckets[i].Add(1)
	d.nanos.Add(int64(t))
}

// write writes the histogram. The labels are of the form `name="value",`, or empty.
func (d *durations) write(b *strings.Builder, name, labels string) {
	n := int64(0)
	for i := range d.buckets {
		n += d.buckets[i].Load()
		end := "+Inf"
		if i < len(bounds) {
			end = fmt.Sprint(bounds[i])
		}
		fmt.Fprintf(b, "tallywood_witness_%s_bucket{%sle=%q} %d\n", name, labels, end, n)
	}
	if labels != "" {
		labels = "{" + strings.TrimSuffix(labels, ",") + "}"
	}
	fmt.Fprintf(b, "tallywood_witness_%s_sum%s %g\ntallywood_witness_%s_count%s %d\n",
		name, labels, time.Duration(d.nanos.Load()).Seconds(), name, labels, n)
}
