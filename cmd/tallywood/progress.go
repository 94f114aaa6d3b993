package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

const (
	barAfter = 2 * time.Second        // work that takes less shows no bar
	barEvery = 200 * time.Millisecond // between two drawings
	barWidth = 30
)

// A bar shows how far long work has come, on a terminal.
type bar struct {
	w        io.Writer // nil: nobody looks
	label    string
	start    time.Time
	drawn    time.Time // zero: not yet
	finished bool
}

// newBar returns a bar on w if that is a terminal.
func newBar(w io.Writer, label string) *bar {
	b := &bar{label: label, start: time.Now()}
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			b.w = w
		}
	}
	return b
}

// tell says that done of total are done.
func (b *bar) tell(done, total int64) { b.tellAt(time.Now(), done, total) }

func (b *bar) tellAt(now time.Time, done, total int64) {
	if b.w == nil || b.finished || now.Sub(b.start) < barAfter || now.Sub(b.drawn) < barEvery {
		return
	}
	b.drawn = now
	part := min(1, float64(done)/float64(max(total, 1)))
	full := int(part * barWidth)
	fmt.Fprintf(b.w, "\r%s [%s%s] %3.0f%% %d of %d ", b.label, strings.Repeat("#", full), strings.Repeat("-", barWidth-full),
		100*part, done, total)
}

// end takes the bar away.
func (b *bar) end() {
	b.finished = true
	if b.w != nil && !b.drawn.IsZero() {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
}
