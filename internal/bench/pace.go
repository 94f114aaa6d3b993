package bench

import (
	"sync/atomic"
	"time"
)

// A pace says when the next request is due, and whether there is one.
type pace func() (time.Time, bool)

// pace returns the pace of a phase: the next request is due at once, or at the rate, evenly, whether or
// not those before have ended. With fewer connections than requests under way it is late, and the time
// that costs counts. Each connection has one request at least, however late it begins.
func (b *load) pace(start, deadline time.Time) pace {
	var n atomic.Int64
	if b.o.Rate == 0 {
		return func() (time.Time, bool) {
			now := time.Now()
			return now, n.Add(1) <= int64(len(b.conns)) || now.Before(deadline)
		}
	}
	return func() (time.Time, bool) {
		at := start.Add(time.Duration(float64(n.Add(1)-1) / b.o.Rate * float64(time.Second)))
		return at, at.Before(deadline)
	}
}
