package monitor

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"tallywood/monitor/rule"
	"tallywood/witness/policy"
)

// evidenceWriters is how many pieces of evidence are written at once.
const evidenceWriters = 16

// event returns the event of a finding about the entry of h, evidence excepted.
func (w *walk) event(h hit, f rule.Finding) Event {
	e := w.entryEvent(h)
	e.ID = eventID(string(f.Rule), e.Origin, fmt.Sprint(h.index), f.Identity)
	e.Rule, e.Severity, e.Identity = f.Rule, f.Severity, f.Identity
	e.Reasons, e.Subject, e.Issuer, e.Expected = f.Reasons, f.Subject, f.Seen, f.Expected
	e.Summary = fmt.Sprintf("%s (%s, entry %d)", f.Summary(), e.Origin, h.index)
	return e
}

// malformedEvent returns the one event for all entries of a bundle that cannot be parsed and hold
// nothing that is watched.
func (w *walk) malformedEvent(s scanned) Event {
	first := s.malformed[0]
	e := w.entryEvent(first)
	r, _ := rule.Lookup(rule.LogMalformedEntry)
	e.ID = eventID(string(r.ID), e.Origin, fmt.Sprint(first.index))
	e.Rule, e.Severity = r.ID, r.Severity
	e.Summary = fmt.Sprintf("entry %d of %s cannot be parsed: %q", first.index, e.Origin, rule.Clip(first.err.Error()))
	if n := len(s.malformed) - 1; n > 0 {
		e.Summary += fmt.Sprintf(" (and %d more in the same entry bundle)", n)
	}
	return e
}

// entryEvent fills in what is true of any event about the entry of h.
func (w *walk) entryEvent(h hit) Event {
	e := Event{Time: time.Now().UTC(), Origin: w.cp.Origin(), Index: h.index, Size: w.cp.Size(),
		Digest: h.decoded.digest, LogURL: w.tail.cfg.URL}
	for _, s := range h.decoded.entry.Signers {
		if c := s.Certificate; c != nil && e.Certificate == "" {
			sum := c.Fingerprint()
			e.Certificate, e.RunURL = "sha256:"+hex.EncodeToString(sum[:]), rule.Clip(c.Extensions[21])
		}
	}
	if h.index >= w.after.Size() {
		_, e.LoggedAfter = cosigned(w.after)
		e.LoggedBefore, _ = cosigned(w.cp)
	}
	return e
}

// A report is an event with all that belongs to it.
type report struct {
	event  Event
	notify []string // sinks asked for, empty for all
	files  []file

	due   time.Time  // if it waits until then for something that explains it
	facts rule.Facts // likewise
	told  bool       // likewise
}

// reports returns the reports of all that was found since the last commit, in the order of the
// log, with their evidence on disk.
func (w *walk) reports(ctx context.Context) ([]report, error) {
	var all []report
	for _, h := range w.hits {
		files, err := w.proof(ctx, h)
		if err != nil {
			return nil, err
		}
		for _, f := range h.findings {
			all = append(all, report{event: w.event(h, f), notify: f.Notify, files: files})
		}
		for _, d := range h.waits {
			all = append(all, report{w.event(h, d.finding), d.finding.Notify, files, d.due, d.facts, d.told})
		}
	}
	for _, s := range w.bad {
		files, err := w.proof(ctx, s.malformed[0])
		if err != nil {
			return nil, err
		}
		all = append(all, report{event: w.malformedEvent(s), files: files})
	}
	slices.SortStableFunc(all, func(a, b report) int { return cmp.Compare(a.event.Index, b.event.Index) })
	// Disks sync many files at once in the time of one.
	var g errgroup.Group
	g.SetLimit(evidenceWriters)
	for i := range all {
		g.Go(func() (err error) {
			all[i].event.Evidence, err = writeEvidence(w.tail.evidence, all[i].event, all[i].files)
			return err
		})
	}
	return all, g.Wait()
}

// proof returns the evidence for an entry, proved to be in the tree.
func (w *walk) proof(ctx context.Context, h hit) ([]file, error) {
	p, err := w.tree.prove(ctx, h.index, h.leaf)
	if err != nil {
		return nil, fmt.Errorf("proving entry %d: %w", h.index, err)
	}
	inclusion := policy.Proof{Index: h.index, Checkpoint: w.cp.Note()}
	for _, hash := range p {
		inclusion.Hashes = append(inclusion.Hashes, hash)
	}
	files := []file{
		{name: "entry", data: h.entry},
		{name: "checkpoint", data: inclusion.Checkpoint},
		{name: "inclusion.tlog-proof", data: inclusion.Format()},
	}
	var certificates []byte
	for _, s := range h.decoded.entry.Signers {
		if s.Certificate != nil {
			block := &pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate.Raw}
			certificates = append(certificates, pem.EncodeToMemory(block)...)
		}
	}
	if certificates != nil {
		files = append(files, file{name: "certificate.pem", data: certificates})
	}
	return files, nil
}

// cosigned returns the earliest and the latest time in c's cosignatures, zero without any.
func cosigned(c policy.Checkpoint) (first, last time.Time) {
	for _, s := range c.Cosignatures() {
		if first.IsZero() || s.Time.Before(first) {
			first = s.Time
		}
		if s.Time.After(last) {
			last = s.Time
		}
	}
	return first, last
}
