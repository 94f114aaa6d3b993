package log

import (
	"sync/atomic"

	"tallywood/storage/driver"
)

// Stats are the figures of a log at one moment.
type Stats struct {
	driver.Stats
	Indexed        int64 // entries of which the duplicate index knows
	Waiting        int   // adds that the duplicate index does not know yet
	Lookups, Found int64 // in the duplicate index, since the start
}

// lookups counts the lookups in the duplicate index.
type lookups struct{ all, found atomic.Int64 }

func (c *lookups) count(found bool) {
	c.all.Add(1)
	if found {
		c.found.Add(1)
	}
}

// Stats returns the figures of the log as this process knows them.
func (l *Log) Stats() Stats {
	s := Stats{Stats: l.driver.Stats(), Indexed: l.index.State().All.Size, Lookups: l.lookups.all.Load(), Found: l.lookups.found.Load()}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.Waiting = len(l.flights)
	return s
}
