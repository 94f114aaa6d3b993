package witness

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// An alarm is something that the operator has to look at, as the status page shows it.
type alarm struct {
	Kind   string     `json:"kind"` // signing, export, bastion, state, frozen, evidence, key, list or more
	Origin string     `json:"origin,omitempty"`
	Text   string     `json:"text"`
	Since  *time.Time `json:"since,omitempty"`
}

// staleList is how long a list may not have been read before the page calls that an alarm.
const staleList = 24 * time.Hour

// maxShownAlarms bounds what the page shows of alarms.
const maxShownAlarms = 100

// alarmsNow returns what the operator has to look at. The page is for everyone, so that it says of a
// file no more than its name. There is so much evidence of each log, by origin hash.
func (w *Witness) alarmsNow(ctx context.Context, evidence map[string]evidenceCount) []alarm {
	out := []alarm{}
	for _, why := range w.NotSigning() {
		out = append(out, alarm{Kind: "signing", Text: "Nothing is signed now: " + why + "."})
	}
	if w.exporter.bucket != nil && w.exporter.status().Failing {
		out = append(out, alarm{Kind: "export", Text: "What is cosigned cannot be exported now; signing goes on."})
	}
	for _, b := range w.via() {
		if !b.Up {
			since := b.Since.UTC().Truncate(time.Second)
			out = append(out, alarm{Kind: "bastion", Since: &since,
				Text: "Nobody reaches the witness through the bastion " + b.Bastion + " now. It connects by itself when it can, and its log says what is wrong."})
		}
	}
	for _, e := range w.entries() {
		snap := e.snap()
		if snap.unreadable {
			out = append(out, alarm{Kind: "state", Origin: e.origin, Text: "This log is not cosigned: its state cannot be read, and the witness's log says why."})
		}
		if snap.frozen {
			text := "This log is not cosigned: the witness has lost state of it, and its operator has to set a floor."
			if evidence[e.hash].lost > 0 {
				text += fmt.Sprintf(" What it had cosigned, and what it remembered, is at evidence/%s/.", e.hash)
			}
			out = append(out, alarm{Kind: "frozen", Origin: e.origin, Text: text})
		}
		if n := evidence[e.hash].forks; n > 0 {
			out = append(out, alarm{Kind: "evidence", Origin: e.origin,
				Text: fmt.Sprintf("This log has signed trees that contradict each other; the proof is at evidence/%s/ (%d).", e.hash, n)})
		}
	}
	for _, a := range w.raised(ctx) {
		out = append(out, alarm{Kind: "key", Origin: a.Origin, Since: &a.Time,
			Text: "A list names another key for this log: " + a.Key + " (" + publicSource(a.Source) + "). The log is cosigned with the keys it had."})
	}
	for _, s := range w.lists.all() {
		if isFile(s.Source) { // it is read when it changes
			continue
		}
		if s.Read == nil && s.Failing || s.Read != nil && w.now().Sub(*s.Read) > staleList {
			out = append(out, alarm{Kind: "list", Since: s.Read,
				Text: "This list of logs could not be read lately: " + publicSource(s.Source) + ". What it named before is cosigned."})
		}
	}
	if n := len(out); n > maxShownAlarms {
		out = append(out[:maxShownAlarms], alarm{Kind: "more", Text: fmt.Sprintf("And %d more.", n-maxShownAlarms)})
	}
	return out
}

// publicLists returns the status of each list as everyone may see it.
func (w *Witness) publicLists() []listStatus {
	out := w.lists.all()
	for i := range out {
		out[i].Source = publicSource(out[i].Source)
	}
	return out
}

// evidenceAge is how old the counts of evidence may be. Another process may have kept some.
const evidenceAge = 2 * time.Second

// An evidenceCount is how much evidence there is of one log.
type evidenceCount struct {
	forks int // that the log has signed trees that contradict each other
	lost  int // that the witness has lost state of it
}

// An evidenceBook is how much evidence the bucket has of each log.
type evidenceBook struct {
	mu     sync.Mutex // guards the fields below
	read   time.Time
	counts map[string]evidenceCount // by origin hash; replaced as a whole
}

// evidenceCounts returns how many objects of evidence there are, by origin hash; as many as were found
// last if that cannot be found out.
func (w *Witness) evidenceCounts(ctx context.Context) map[string]evidenceCount {
	b := &w.kept
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.read.IsZero() && time.Since(b.read) < evidenceAge {
		return b.counts
	}
	counts := map[string]evidenceCount{}
	prefix := "evidence/" + w.signer.name + "/"
	for key, err := range w.bucket.List(ctx, prefix) {
		if err != nil {
			if ctx.Err() == nil {
				w.metrics.stateErrors.Add(1)
				w.log.Error("listing evidence", "err", err)
			}
			return b.counts
		}
		hash, name, _ := strings.Cut(strings.TrimPrefix(key, prefix), "/")
		c := counts[hash]
		if strings.HasPrefix(name, kindRollback) {
			c.lost++
		} else {
			c.forks++
		}
		counts[hash] = c
	}
	b.read, b.counts = time.Now(), counts
	return counts
}

// span says in words how long so many seconds are.
func span(seconds int64) string {
	switch {
	case seconds < 120:
		return fmt.Sprintf("%d s", seconds)
	case seconds < 2*3600:
		return fmt.Sprintf("%d min", seconds/60)
	case seconds < 48*3600:
		return fmt.Sprintf("%d h", seconds/3600)
	}
	return fmt.Sprintf("%d days", seconds/86400)
}

// since says in words how long t is before now.
func since(now time.Time, t *time.Time) string { return span(max(0, int64(now.Sub(*t).Seconds()))) }
