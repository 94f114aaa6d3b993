package e2e_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// figures prints how long adds take by the witnesses that are alive, near and far, and how many the policy
// needs is the least of them. What is off is unplugged, and silent, or dead, and refuses.
func (n *witnessNetwork) figures(t *testing.T) {
	t.Helper()
	const adds = 200
	var b strings.Builder
	fmt.Fprintf(&b, "| witnesses alive | the others | delay of each | p50 ms | p95 ms |\n| ---: | --- | --- | ---: | ---: |\n")
	for _, delay := range []time.Duration{0, 20 * time.Millisecond, 100 * time.Millisecond} {
		for _, w := range n.witnesses {
			w.link.delay.Store(int64(delay))
		}
		for _, c := range []struct {
			off    []int
			silent bool
		}{{nil, false}, {[]int{0}, true}, {[]int{0, 3}, true}, {[]int{0}, false}, {[]int{0, 3}, false}} {
			others := "–"
			for _, i := range c.off {
				w := n.witnesses[i]
				if others = "dead"; c.silent {
					others = "silent"
					w.setPlugged(t, false)
				} else {
					w.setDead(t, true)
				}
			}
			n.goesOn(t, true)
			took := make([]time.Duration, adds)
			for i := range took {
				began := time.Now()
				if status, text := n.addNew(t); status != http.StatusCreated {
					t.Fatalf("%s: status %d\n%s", n.state(), status, text)
				}
				took[i] = time.Since(began)
			}
			slices.Sort(took)
			ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
			fmt.Fprintf(&b, "| %d | %s | %s | %.1f | %.1f |\n", len(n.witnesses)-len(c.off), others, delaysText(delay), ms(took[adds/2]), ms(took[adds*95/100]))
			n.heal(t)
		}
	}
	t.Logf("%d adds one after the other in each row\n%s", adds, b.String())
}

// delaysText says which delays there are.
func delaysText(d time.Duration) string {
	if d == 0 {
		return "none"
	}
	return fmt.Sprintf("%d to %d ms", (d / 2).Milliseconds(), (d * 3 / 2).Milliseconds())
}
