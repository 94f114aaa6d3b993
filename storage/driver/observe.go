package driver

import (
	"time"
)

// A Stage is a part of an entry's way into the bucket's checkpoint, for metrics.
type Stage string

// The stages. Publishing is what comes after a commit up to the cosigned checkpoint: tiles,
// signature and cosignatures.
const (
	StageCommit  Stage = "commit"  // one record
	StagePublish Stage = "publish" // one checkpoint, in memory
	StageCosign  Stage = "cosign"  // of it, one round of the witnesses
	StageSwap    Stage = "swap"    // one checkpoint into the bucket
)

// Stages are all of them.
func Stages() []Stage { return []Stage{StageCommit, StagePublish, StageCosign, StageSwap} }

// observe tells Options.Observe that a stage which began at the given time has ended.
func (l *Log) observe(s Stage, began time.Time, err error) {
	if l.o.Observe != nil {
		l.o.Observe(s, time.Since(began), err)
	}
}

// Stats are the figures of a log at one moment. A standby has no queue, and of the sizes it knows
// that of the bucket's checkpoint alone.
type Stats struct {
	Leading bool

	Queued      int   // entries that are not committed yet
	QueuedBytes int64 // their bytes

	Committed  int64 // sizes: what is durable
	Integrated int64 // what is in tiles
	Published  int64 // what is under a cosigned checkpoint
	Stored     int64 // what is under the bucket's checkpoint

	OldestUnpublished time.Time // when it was committed; zero if all is published
	PublishedAt       time.Time // when the newest checkpoint was published, or found in the bucket; zero without

	Records  int64 // that are not collected yet
	Partials int   // tiles and bundles that are not collected yet
}

// stats returns the figures but for Leading.
func (l *Log) stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Stats{
		Queued: l.queued, QueuedBytes: l.queuedSize,
		Committed: l.head.size, Integrated: max(l.integrated, l.durable), Published: l.published.Size,
		Stored: max(l.storedSize, 0), Records: max(l.head.next-l.collected, 0), Partials: len(l.partials),
	}
	if !l.started.Load() {
		s.Integrated = s.Published
	}
	if m, ok := l.oldestLocked(); ok {
		s.OldestUnpublished = m.at
	}
	if l.found {
		s.PublishedAt = l.published.Time
	}
	return s
}

// Stats returns the figures of the log as this replica knows them.
func (r *Replica) Stats() Stats {
	l, leading := r.role()
	s := l.stats()
	s.Leading = leading
	return s
}

// setCollected notes that the records below slot n are deleted.
func (l *Log) setCollected(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.collected = max(l.collected, n)
}
