package monitor

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"tallywood/monitor/rule"
)

// usageDays is how many days a Usage goes back, today included.
const usageDays = 31

// dateLayout is how a Day is named.
const dateLayout = time.DateOnly

// A Usage is what happened in a log day by day, for people to look at: no rule reads it. It is part
// of the state, and bounded by the days and the identities that are watched.
type Usage struct {
	Days []Day          `json:"days,omitempty"` // oldest first, at most 31 of them
	Last map[string]Use `json:"last,omitempty"` // the newest use of each identity, by its name
}

// A Day is one day of a Usage.
type Day struct {
	Date    string           `json:"date"`              // UTC, such as 2026-11-28
	Size    int64            `json:"size,omitempty"`    // of the log at the end of the day; 0: not known
	Used    map[string]int64 `json:"used,omitempty"`    // entries of each identity
	Alerted map[string]int64 `json:"alerted,omitempty"` // those of them that were more than information
}

// A Use is an entry of an identity.
type Use struct {
	Time  time.Time `json:"time"` // when it was certified or logged, UTC
	Index int64     `json:"index"`
	Ref   string    `json:"ref,omitempty"` // branch or tag in its certificate, clipped
}

// clone returns a copy that shares nothing with u.
func (u Usage) clone() Usage {
	c := Usage{Days: slices.Clone(u.Days), Last: maps.Clone(u.Last)}
	for i, d := range c.Days {
		c.Days[i].Used, c.Days[i].Alerted = maps.Clone(d.Used), maps.Clone(d.Alerted)
	}
	return c
}

// day returns the Day of t, which it makes if need be; nil if that is longer ago than u goes back.
func (u *Usage) day(t, now time.Time) *Day {
	oldest := now.UTC().AddDate(0, 0, 1-usageDays).Format(dateLayout)
	u.Days = slices.DeleteFunc(u.Days, func(d Day) bool { return d.Date < oldest })
	date := t.UTC().Format(dateLayout)
	if date < oldest || t.After(now) && date > now.UTC().Format(dateLayout) {
		return nil
	}
	i, found := slices.BinarySearchFunc(u.Days, date, func(d Day, date string) int {
		switch {
		case d.Date < date:
			return -1
		case d.Date > date:
			return 1
		}
		return 0
	})
	if !found {
		u.Days = slices.Insert(u.Days, i, Day{Date: date})
	}
	return &u.Days[i]
}

// grew notes the size of the log.
func (u *Usage) grew(size int64, now time.Time) { u.day(now, now).Size = size }

// used notes that an identity was used, at a time that may be zero for not known.
func (u *Usage) used(identity string, use Use, now time.Time) {
	if d := u.day(use.Time, now); d != nil {
		if d.Used == nil {
			d.Used = map[string]int64{}
		}
		d.Used[identity]++
	}
	if u.Last == nil {
		u.Last = map[string]Use{}
	}
	if last, ok := u.Last[identity]; !ok || use.Index >= last.Index {
		u.Last[identity] = use
	}
}

// alerted notes that a use noted before was reported as more than information.
func (u *Usage) alerted(identity string, at, now time.Time) {
	if d := u.day(at, now); d != nil {
		if d.Alerted == nil {
			d.Alerted = map[string]int64{}
		}
		d.Alerted[identity]++
	}
}

// used notes that the entry of h is one of the verdict's identity.
func (w *walk) used(h hit, v rule.Verdict, at rule.Times) {
	use := Use{Index: h.index}
	for i := range h.decoded.entry.Signers {
		s := &h.decoded.entry.Signers[i]
		if use.Time.IsZero() {
			use.Time = s.Moment(at).UTC()
		}
		if c := s.Certificate; c != nil && use.Ref == "" {
			use.Ref = rule.Clip(cmp.Or(c.Extensions[14], c.Extensions[6]))
		}
	}
	if use.Time.IsZero() && w.after.Size() > 0 && h.index >= w.after.Size() {
		use.Time = at.Now // it is new, whoever may say since when
	}
	w.usage.used(v.Identity, use, at.Now)
	if v.Report && v.Severity > rule.Info {
		w.usage.alerted(v.Identity, use.Time, at.Now)
	}
}

// forget drops identities that are no longer watched.
func (u *Usage) forget(watched func(name string) bool) {
	gone := func(name string) bool { return !watched(name) }
	maps.DeleteFunc(u.Last, func(name string, _ Use) bool { return gone(name) })
	for _, d := range u.Days {
		maps.DeleteFunc(d.Used, func(name string, _ int64) bool { return gone(name) })
		maps.DeleteFunc(d.Alerted, func(name string, _ int64) bool { return gone(name) })
	}
}
