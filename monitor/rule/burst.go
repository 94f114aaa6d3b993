package rule

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// The defaults of id.burst.
const (
	burstWindow = 10 * time.Minute
	burstMax    = 20 // while it is not known what is usual
)

const (
	// maxTallies is how many tallies are kept: a window is divided in so many, so that one of up to
	// ten minutes is exact to the second.
	maxTallies = 600
	// learnedFrom is how many windows with entries make an average worth the name.
	learnedFrom = 5
	// averageOver is how many of them count: older ones fade.
	averageOver = 16
	// farAbove times the average is a burst; of no less than neverFar entries.
	farAbove, neverFar = 4, 10
	// gravely times what is usual is critical.
	gravely = 3
)

// A burst is what id.burst keeps: how many entries there were in each of the last moments, up to one
// window before the newest, and what a window with entries in it has on average. It has a fixed
// size; what is older than the window is forgotten.
type burst struct {
	Counts  tallies `json:"counts"`           // of the last window
	Slot    int64   `json:"slot"`             // number of the window-long slot that is being counted
	InSlot  int64   `json:"in_slot"`          // entries in it
	Slots   int64   `json:"slots,omitempty"`  // earlier slots with entries, up to averageOver
	Average int64   `json:"mean,omitempty"`   // of those, in hundredths
	Raised  int     `json:"raised,omitempty"` // the burst that is on has been raised as 1 warning, 2 critical
}

// A tally says how many entries there were at a Unix time.
type tally struct{ at, n int64 }

type tallies []tally

// MarshalJSON writes the time and the number of the first, then of each other how much later it is
// and its number.
func (t tallies) MarshalJSON() ([]byte, error) {
	flat := make([]int64, 0, 2*len(t))
	last := int64(0)
	for _, x := range t {
		flat = append(flat, x.at-last, x.n)
		last = x.at
	}
	return json.Marshal(flat)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (t *tallies) UnmarshalJSON(data []byte) error {
	var flat []int64
	if err := json.Unmarshal(data, &flat); err != nil {
		return err
	}
	if len(flat)%2 != 0 || len(flat) > 2*maxTallies {
		return fmt.Errorf("%d numbers are not pairs, %d at most", len(flat), maxTallies)
	}
	out := make(tallies, 0, len(flat)/2)
	last := int64(0)
	for i := 0; i < len(flat); i += 2 {
		const most = 1 << 48
		if flat[i] < 0 || flat[i] > most || flat[i+1] < 1 || flat[i+1] > most || i > 0 && flat[i] == 0 {
			return errors.New("tallies are not in order of time, of one entry at least")
		}
		last += flat[i]
		out = append(out, tally{last, flat[i+1]})
	}
	*t = out
	return nil
}

func (b *burst) check() error {
	if b != nil && (b.Slot < 0 || b.InSlot < 0 || b.Slots < 0 || b.Slots > averageOver || b.Average < 0 || b.Raised < 0 || b.Raised > 2) {
		return errors.New("impossible number in the memory of a burst")
	}
	return nil
}

// add counts an entry at a Unix time and returns how many there were in the window that ends with
// the newest. One that is a window older than that does not count any more.
func (b *burst) add(at int64, window time.Duration) int64 {
	seconds := max(1, int64(window/time.Second))
	step := max(1, (seconds+maxTallies-1)/maxTallies)
	at -= at % step
	i, found := slices.BinarySearchFunc(b.Counts, at, func(x tally, at int64) int { return int(x.at - at) })
	if found {
		b.Counts[i].n++
	} else {
		b.Counts = slices.Insert(b.Counts, i, tally{at, 1})
	}
	newest := b.Counts[len(b.Counts)-1].at
	b.Counts = slices.DeleteFunc(b.Counts, func(x tally) bool { return x.at <= newest-seconds })
	total := int64(0)
	for _, x := range b.Counts {
		total += x.n
	}
	return total
}

// learn counts the entry towards the average. No slot counts for more than most: a burst is not what
// is usual, but what comes again and again becomes so.
func (b *burst) learn(at int64, window time.Duration, most int64) {
	slot := at / max(1, int64(window/time.Second))
	if slot <= b.Slot {
		b.InSlot++
		return
	}
	if b.InSlot > 0 {
		b.Slots = min(b.Slots+1, averageOver)
		b.Average += (100*min(b.InSlot, most) - b.Average) / b.Slots
	}
	b.Slot, b.InSlot = slot, 1
}

// usual returns how many entries in a window are no burst: what the configuration says, else what
// experience does.
func (b *burst) usual(max int) int64 {
	switch {
	case max > 0:
		return int64(max)
	case b.Slots < learnedFrom:
		return burstMax
	}
	return farAboveAverage(b.Average)
}

func farAboveAverage(hundredths int64) int64 { return max(neverFar, farAbove*hundredths/100) }

// BurstWindow returns the time in which id.burst counts entries.
func (p Params) BurstWindow() time.Duration { return cmp.Or(p.Window, burstWindow) }

// newBurst returns id.burst: more than so many entries within the window, critical when it is far
// more. It is raised when it begins and when it becomes critical, and then not until it has ended:
// when no more than half of what is usual is within the window.
func newBurst(p Params) (func(*judging), error) {
	window := p.BurstWindow()
	if window < time.Second {
		return nil, fmt.Errorf("window %s is shorter than a second", window)
	}
	return func(j *judging) {
		if !j.exact {
			return
		}
		if j.memory.Burst == nil {
			j.memory.Burst = &burst{}
		}
		b := j.memory.Burst
		usual := b.usual(p.Max)
		n := b.add(unix(j.time), window)
		b.learn(unix(j.time), window, usual)
		level := 0
		switch {
		case n > gravely*usual:
			level = 2
		case n > usual:
			level = 1
		case n <= max(1, usual/2):
			b.Raised = 0
		}
		if level <= b.Raised {
			return
		}
		b.Raised = level
		r := Reason{Rule: IDBurst, Severity: Severity(level), Field: "entries",
			Expected: []string{fmt.Sprintf("at most %d within %s", usual, window)}, Seen: fmt.Sprint(n),
			Text: fmt.Sprintf("%d entries for %s within %s, %d are usual; the first was at %s", n, quoted(j.watch.Name), window, usual,
				time.Unix(b.Counts[0].at, 0).UTC().Format(time.RFC3339))}
		j.add(r)
	}, nil
}
