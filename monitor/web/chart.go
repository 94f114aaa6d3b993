package web

import (
	"fmt"
	"time"
)

// A bar is one day of a chart.
type bar struct{ n, alerted int64 }

// A chart shows numbers by day. It is drawn with attributes alone, as a content security policy
// allows no styles.
type chart struct {
	Width, Height  int
	Label, Caption string
	Bars           []drawnBar
}

type drawnBar struct {
	X, Y, W, H int
	Title      string
	Alert      bool
}

const (
	barStep   = 20
	barWidth  = 14
	barHeight = 90
)

// newChart draws the last days up to now; an empty chart if there is nothing on any.
func newChart(perDay map[string]*bar, now time.Time, what string) chart {
	var most, sum int64
	var busy string
	for date, b := range perDay {
		sum += b.n
		if b.n > most || b.n == most && date > busy {
			most, busy = b.n, date
		}
	}
	if sum == 0 {
		return chart{}
	}
	c := chart{Width: days * barStep, Height: barHeight,
		Label:   fmt.Sprintf("Bar chart of %s in the last %d days: %s in all, %s at most, on %s", what, days, thousands(sum), thousands(most), busy),
		Caption: fmt.Sprintf("The last %d days, today on the right: at most %s %s a day, on %s.", days, thousands(most), what, busy)}
	for i := range days {
		date := now.UTC().AddDate(0, 0, i+1-days).Format(time.DateOnly)
		b := perDay[date]
		if b == nil || b.n == 0 {
			continue
		}
		h := max(3, int(b.n*barHeight/most))
		d := drawnBar{X: i*barStep + (barStep-barWidth)/2, Y: barHeight - h, W: barWidth, H: h, Title: fmt.Sprintf("%s: %s %s", date, thousands(b.n), what)}
		if b.alerted > 0 {
			d.Alert, d.Title = true, d.Title+fmt.Sprintf(", %s unexplained", thousands(b.alerted))
		}
		c.Bars = append(c.Bars, d)
	}
	return c
}
