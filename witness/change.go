package witness

import (
	"context"
	"slices"
	"strings"
)

// What a list can say that is new.
const (
	ChangeNew     = "new"     // a log that is not known: it is added
	ChangeKey     = "key"     // another key for a known log: an alarm; the log stays what it is
	ChangeQuota   = "quota"   // another number of requests per day for a known log: not taken
	ChangeDropped = "dropped" // the list named the log, and does not any more: it goes on being cosigned
)

// A Change is one difference between a list and what a witness knows.
type Change struct {
	Kind    string `json:"kind"` // one of the above
	Origin  string `json:"origin"`
	Key     string `json:"vkey,omitempty"`      // new: the first of its keys; key: the other one
	QPD     int64  `json:"qpd,omitempty"`       // as the list has it
	Known   int64  `json:"known_qpd,omitempty"` // quota: as the witness has it
	Contact string `json:"contact,omitempty"`
}

// Diff returns what would be new if the witness were given logs as the contents of a list, in the
// order of origins. It changes nothing.
func (l *Lists) Diff(ctx context.Context, source string, logs []Log) ([]Change, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, _, err := l.witness.readRecord(ctx, source)
	if err != nil {
		return nil, err
	}
	return compare(l.witness, r, logs), nil
}

// compare compares a list with what the witness knows, and with what that list named before.
func compare(w *Witness, r record, logs []Log) []Change {
	var changes []Change
	named := make(map[string]bool, len(logs))
	for _, l := range logs {
		named[l.Origin] = true
		known, ok := w.knownAs(l.Origin)
		if !ok {
			changes = append(changes, Change{Kind: ChangeNew, Origin: l.Origin, Key: l.Keys[0].String(), QPD: l.QPD, Contact: l.Contact})
			continue
		}
		for _, k := range l.Keys {
			if !known.hasKey(k) {
				changes = append(changes, Change{Kind: ChangeKey, Origin: l.Origin, Key: k.String(), QPD: l.QPD, Contact: l.Contact})
			}
		}
		if known.QPD != l.QPD {
			changes = append(changes, Change{Kind: ChangeQuota, Origin: l.Origin, QPD: l.QPD, Known: known.QPD})
		}
	}
	for _, l := range r.Known {
		if _, before := slices.BinarySearch(r.Gone, l.Origin); !before && !named[l.Origin] {
			changes = append(changes, Change{Kind: ChangeDropped, Origin: l.Origin})
		}
	}
	slices.SortStableFunc(changes, func(a, b Change) int { return strings.Compare(a.Origin, b.Origin) })
	return changes
}

// maxLogged bounds the lines that one list can put into our log, of each kind.
const maxLogged = 100

// logChanges writes what a list changes into the log, and its numbers.
func (w *Witness) logChanges(source string, changes []Change) {
	n := map[string]int64{}
	for _, c := range changes {
		if n[c.Kind]++; n[c.Kind] > maxLogged {
			continue
		}
		switch c.Kind {
		case ChangeNew:
			w.log.Info("log added from list", "origin", c.Origin, "key", source)
		case ChangeKey:
			w.log.Error("log list names another key for a known origin", "origin", c.Origin, "key", source, "err", &KeyError{Origin: c.Origin, VKey: c.Key})
		case ChangeQuota:
			w.log.Info("log list has another quota for a known log; not taken", "origin", c.Origin, "size", c.QPD, "key", source)
		case ChangeDropped:
			w.log.Info("log list names a log no more; it stays", "origin", c.Origin, "key", source)
		}
	}
	if len(changes) > 0 {
		w.log.Info("log list has changed", "key", source, ChangeNew, n[ChangeNew], "keys", n[ChangeKey], "quotas", n[ChangeQuota], ChangeDropped, n[ChangeDropped])
	}
}
