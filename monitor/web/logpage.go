package web

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"tallywood/monitor"
	"tallywood/witness/policy"
)

// logData is what the page of a log shows.
type logData struct {
	top
	file      string
	Origin    string
	State     string
	Class     string
	Err       string
	Size      string
	Scanned   string
	Growth    string
	Chart     chart
	Quorum    string
	Witnesses []witnessRow
	Facts     []fact
	Failures  []failureRow
	Alerts    []row

	age     string // of the checkpoint, with the time of the page
	givenUp int64
}

type witnessRow struct{ Name, Time, Counts string }

type failureRow struct{ Link, Summary, Sink, Error string }

func newLogData(v monitor.View, now time.Time) *logData {
	d := &logData{file: fileName(v.Origin), Origin: visible(v.Origin), Err: visible(v.Err), Size: thousands(v.Size), Scanned: thousands(v.Scanned), givenUp: v.GivenUp}
	d.state(v)
	d.age = "not cosigned"
	switch {
	case v.Checkpoint.Size() == 0 && len(v.Checkpoint.Note()) == 0:
		d.age = "none yet"
	case !v.Cosigned.IsZero():
		d.age = "cosigned " + ago(now, v.Cosigned)
	}
	d.growth(v.Usage, v.Size, now)
	d.witnesses(v)
	d.Facts = []fact{
		{Name: "Address", Value: visible(v.URL), Link: link(v.URL)},
		{Name: "Kind", Value: map[monitor.Kind]string{monitor.KindRekor: "signatures (rekor)", monitor.KindCT: "certificates (ct)", monitor.KindTlog: "anything (tlog): verified, matched by nothing"}[v.Kind]},
		{Name: "Verifier key", Value: visible(v.VKey), Code: true},
		{Name: "Newest cosignature", Value: cmp.Or(zeroOr(v.Cosigned), "none")},
		{Name: "Newest verified checkpoint", Value: "checkpoints/" + checkpointName(v.Origin), Link: "../checkpoints/" + checkpointName(v.Origin), Code: true},
	}
	for _, f := range v.Failures {
		d.Failures = append(d.Failures, failureRow{"../alerts/" + f.Event.ID + ".html", visible(f.Event.Summary), visible(f.Sink), visible(f.Error)})
	}
	return d
}

func zeroOr(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return clock(t)
}

// state says how the log was found.
func (d *logData) state(v monitor.View) {
	switch {
	case v.Err != "":
		d.State, d.Class = "Not in order", "bad"
	case v.Checked.IsZero() && v.Scanned < v.Size:
		d.State, d.Class = fmt.Sprintf("Reading: %s of %s entries", thousands(v.Scanned), thousands(v.Size)), "soft"
	case v.Checked.IsZero():
		d.State, d.Class = "Not looked at yet", "soft"
	default:
		d.State, d.Class = "In order", "good"
	}
}

// growth says how the log grew, as far as it was watched.
func (d *logData) growth(u monitor.Usage, size int64, now time.Time) {
	bars := map[string]*bar{}
	var first string
	var firstSize, last int64
	for _, day := range u.Days {
		if day.Size == 0 {
			continue
		}
		if first == "" {
			first, firstSize = day.Date, day.Size
		} else {
			bars[day.Date] = &bar{n: max(0, day.Size-last)}
		}
		last = day.Size
	}
	if len(bars) == 0 {
		return
	}
	d.Growth = fmt.Sprintf("it grew by %s since the end of %s", thousands(max(0, size-firstSize)), first)
	d.Chart = newChart(bars, now, "new entries")
}

// witnesses lists the witnesses of the policy.
func (d *logData) witnesses(v monitor.View) {
	if v.Policy == nil || v.Policy.None() {
		d.Quorum = "This log is followed without witnesses: nobody but its operator vouches that others see the same log."
		return
	}
	list := v.Policy.Witnesses()
	at := map[string]time.Time{}
	for _, c := range v.Checkpoint.Cosignatures() {
		if c.Time.After(at[c.Witness]) {
			at[c.Witness] = c.Time
		}
	}
	have := len(slices.DeleteFunc(slices.Clone(list), func(w policy.Witness) bool { return at[w.Name].IsZero() }))
	d.Quorum = fmt.Sprintf("%d of %d witnesses are on the newest checkpoint. ", have, len(list))
	if n, ok := v.Policy.Threshold(); ok {
		d.Quorum += fmt.Sprintf("Any %d of them are a quorum.", n)
	} else {
		d.Quorum += "The policy says which of them are a quorum."
	}
	for _, w := range list {
		counts := "towards the quorum"
		if !v.Policy.Counts(w.Name) {
			counts = "not towards the quorum"
		}
		d.Witnesses = append(d.Witnesses, witnessRow{visible(w.Name), zeroOr(at[w.Name]), counts})
	}
}
