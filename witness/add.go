package witness

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tallywood/witness/policy"
)

// clockSlack is how far the clock may be behind the last timestamp: less reuses that, more is a
// clock that is wrong now or was then.
const clockSlack = 5 // seconds

// maxSwaps bounds how often one request is judged again because another process was faster.
const maxSwaps = 4

// An addition is a checkpoint that its log has signed, on its way through add-checkpoint.
type addition struct {
	request addRequest
	note    policy.Note
	tree    policy.Tree
	lines   string // the log's verified signature lines
	own     bool   // the note has a valid cosignature of ours
	sender  netip.Prefix
}

// addCheckpoint answers the body of an add-checkpoint request with signature lines. The order of
// the checks is what strangers can learn: without a log's signature, nothing about its state.
func (w *Witness) addCheckpoint(ctx context.Context, sender netip.Prefix, body []byte) (string, error) {
	r, err := parseAdd(body)
	if err != nil {
		return "", refuse(http.StatusBadRequest, "malformed request: %w", err)
	}
	e, err := w.serving(r.originUnsigned)
	if err != nil {
		return "", err
	}
	a, err := w.authenticate(e, r)
	if err != nil {
		return "", err
	}
	a.sender = sender
	e.seen(w.now())
	// > The old size MUST be equal to or lower than the checkpoint size.
	if r.old > a.tree.Size {
		return "", refuse(http.StatusBadRequest, "old size %d is above the checkpoint's size %d", r.old, a.tree.Size)
	}
	if a.tree.Size == 0 && a.tree.Root != emptyRoot {
		return "", refuse(http.StatusUnprocessableEntity, "the root hash of an empty tree is another one")
	}
	if err := w.mayWork(); err != nil {
		return "", err
	}
	unlock, err := e.acquire(ctx, sender)
	if err != nil {
		return "", err
	}
	defer unlock()
	for range maxSwaps {
		lines, err := w.judge(ctx, e, a)
		if !errors.Is(err, errLost) {
			return lines, err
		}
	}
	return "", &unavailableError{after: time.Second, reason: "another process of this witness is busy with this log"}
}

// authenticate checks that the log has signed the note, and parses it.
func (w *Witness) authenticate(e *entry, r addRequest) (addition, error) {
	n, err := policy.ParseNote(r.note)
	switch {
	case errors.Is(err, policy.ErrNoSignatures):
		return addition{}, refuse(http.StatusForbidden, "%w", err)
	case err != nil:
		return addition{}, refuse(http.StatusBadRequest, "malformed note: %w", err)
	}
	known := e.log()
	var covered bool
	w.turns.do(func() { covered, err = policy.VerifyLog(n, known.Keys) })
	if err != nil {
		return addition{}, refuse(http.StatusForbidden, "%w", err)
	}
	a := addition{request: r, note: n}
	if a.tree, err = policy.ParseTree(n.Text); err != nil {
		return addition{}, refuse(http.StatusBadRequest, "malformed checkpoint: %w", err)
	}
	// Our Ed25519 cosignature covers extension lines: it must not be had for somebody else's.
	if len(a.tree.Extensions) > 0 && !covered {
		return addition{}, refuse(http.StatusBadRequest, "%w", policy.ErrExtensions)
	}
	for _, sig := range n.Signatures {
		line := sig.Line + "\n"
		if slices.ContainsFunc(known.Keys, func(k policy.Key) bool { return k.Matches(sig) }) && !strings.Contains(a.lines, line) {
			a.lines += line
		}
	}
	own := w.signer.own(n)
	a.own = own.ed || own.pq
	if own.bogus > 0 && !e.temporary {
		w.log.Warn("request with a forged line of this witness", "origin", e.origin, "size", a.tree.Size)
	}
	return a, nil
}

// judge decides about an authentic checkpoint and cosigns it. The caller holds e.lock.
func (w *Witness) judge(ctx context.Context, e *entry, a addition) (string, error) {
	if e.removed {
		return "", refuse(http.StatusNotFound, "log %q is not known here any more", shorten(e.origin))
	}
	if err := w.mayWork(); err != nil { // others were judged meanwhile
		return "", err
	}
	if err := w.load(ctx, e, false); err != nil {
		return "", err
	}
	// Another process may have moved the state: look again before saying anything that is final.
	if e.head.Size != a.request.old || e.contradicts(a) || e.head.Frozen != "" {
		if err := w.load(ctx, e, true); err != nil {
			return "", err
		}
	}
	if err := w.compare(ctx, e); err != nil {
		return "", err
	}
	if e.head.Frozen == "" && e.contradicts(a) {
		if err := w.freeze(ctx, e, a); err != nil {
			return "", err
		}
	}
	if e.head.Frozen != "" {
		return "", errFrozen
	}
	if e.head.Size == a.tree.Size && e.head.Root != a.tree.Root && !e.temporary {
		w.keepEvidence(ctx, e, a, kindEquivocation)
	}
	// > The witness MUST check that the old size matches the size of the latest checkpoint it
	// > cosigned for the checkpoint's origin (or zero if it never cosigned one).
	if e.head.Size != a.request.old {
		return "", &ConflictError{Size: e.head.Size}
	}
	if err := e.consistent(a); err != nil {
		return "", refuse(http.StatusUnprocessableEntity, "%w", err)
	}
	return w.cosign(ctx, e, a)
}

// contradicts reports whether a carries a cosignature of ours that the state knows nothing of.
func (e *entry) contradicts(a addition) bool {
	return a.own && (a.tree.Size > e.head.Size || a.tree.Size == e.head.Size && a.tree.Root != e.head.Root)
}

// consistent checks the proof from the stored tree to the submitted one.
func (e *entry) consistent(a addition) error {
	if a.request.old == 0 && a.tree.Size > 0 {
		// > If the old size is zero, the proof MUST be empty.
		if len(a.request.proof) != 0 {
			return errors.New("proof from the empty tree is not empty")
		}
		return nil
	}
	return checkConsistency(a.request.proof, a.request.old, a.tree.Size, e.head.Root, a.tree.Root)
}

// cosign signs and persists. Its lines leave only if the state that knows of them is durable.
func (w *Witness) cosign(ctx context.Context, e *entry, a addition) (string, error) {
	timestamp, err := w.timestamp(e)
	if err != nil {
		return "", err
	}
	valid := w.signer.validAt(timestamp)
	if len(valid) == 0 {
		return "", w.noKey()
	}
	// What was cosigned in this very second is on record as it is, and signing it again gives the
	// same lines. No log needs them twice, but whoever has its checkpoint can ask.
	repeated := timestamp == e.head.Timestamp && e.signed == w.signer.set(ids(valid)) && sha256.Sum256([]byte(a.note.Text)) == e.text
	q := &e.quota
	switch {
	case repeated:
		w.refusals.Allow(a.sender, w.now())
		return w.repeat(ctx, e, a, valid)
	case e.head.Timestamp != 0 && a.tree.Size == e.head.Size:
		q = &e.resigns
	}
	// Only now: a request that is refused, or that anyone can replay, must not cost the log one.
	if wait, ok := q.take(w.now()); !ok {
		return "", &unavailableError{after: wait, reason: "this log has spent its requests of today", limited: true}
	}
	lines, err := w.signAndCommit(ctx, e, a, valid, timestamp)
	if err == nil {
		err = w.mayWork() // it took a while on a slow disk: nothing is released that another instance may know nothing of
	}
	if err != nil {
		q.giveBack()
		return "", err
	}
	return lines, nil
}

// repeat returns the lines that the state was answered with.
func (w *Witness) repeat(ctx context.Context, e *entry, a addition, valid []*ownKey) (string, error) {
	if !slices.ContainsFunc(valid, func(k *ownKey) bool { return k.remote }) {
		return w.signer.cosign(valid, a.note.Text, a.tree, e.head.Timestamp)
	}
	s, version, err := w.read(ctx, e)
	switch {
	case err != nil:
		return "", w.unreadable(e, err)
	case version != e.version:
		e.known = false
		return "", errLost
	}
	kept, derived, err := w.stateLines(s)
	return kept + derived, err
}

// signAndCommit signs while the state is being made durable, and returns the lines when it is. What
// the state says is enough to sign the same once more after a crash, with keys in this process.
// Others sign before, and their lines are in the state.
func (w *Witness) signAndCommit(ctx context.Context, e *entry, a addition, valid []*ownKey, timestamp int64) (string, error) {
	var remote, local []*ownKey
	for _, k := range valid {
		if k.remote {
			remote = append(remote, k)
		} else {
			local = append(local, k)
		}
	}
	kept, err := w.signer.cosign(remote, a.note.Text, a.tree, timestamp)
	if len(remote) > 0 {
		err = w.noteKey(err)
	}
	if err != nil {
		return "", err
	}
	var derived string
	signed := make(chan error, 1)
	go func() {
		var err error
		w.turns.do(func() { derived, err = w.signer.cosign(local, a.note.Text, a.tree, timestamp) })
		signed <- err
	}()
	err = w.commit(ctx, e, state{
		Size: a.tree.Size, Root: a.tree.Root, Timestamp: timestamp, Keys: ids(valid),
		Note: a.note.Text + "\n" + a.lines + kept,
	})
	if err := errors.Join(err, <-signed); err != nil {
		return "", err
	}
	if w.exporter.bucket != nil {
		w.exporter.mark(e, a.note.Text+"\n"+a.lines+kept+derived)
	}
	return kept + derived, nil
}

// noKey is the answer when none of the keys is valid now, of which somebody should know.
func (w *Witness) noKey() error {
	w.metrics.keyErrors.Add(1)
	w.log.Error("no key of the witness is valid now: give it one")
	return &unavailableError{after: time.Hour, reason: "the witness has no key that is valid now"}
}

// timestamp returns the time to sign, in Unix seconds: never before the last one of this log.
func (w *Witness) timestamp(e *entry) (int64, error) {
	now, last := w.now().Unix(), e.head.Timestamp
	switch {
	case now > 0 && now >= last:
		return now, nil
	case last-now <= clockSlack && last > 0:
		return last, nil
	}
	w.metrics.clockErrors.Add(1)
	w.log.Error("clock is behind the last cosignature", "origin", e.origin, "size", e.head.Size,
		"err", "behind by "+(time.Duration(last-now)*time.Second).String())
	return 0, &unavailableError{after: time.Minute, reason: "the witness's clock is wrong"}
}

// errFrozen is the answer for a log that is frozen.
var errFrozen = &unavailableError{after: time.Hour, reason: "this log is frozen: the witness has lost state of it, and its operator must look"}

// freeze stops all signing for a log whose state was lost, durably, and keeps the note that shows it
// there and as evidence.
func (w *Witness) freeze(ctx context.Context, e *entry, a addition) error {
	s, version, err := w.read(ctx, e)
	if err != nil {
		return w.unreadable(e, err)
	}
	if version != e.version {
		e.known = false
		return errLost
	}
	w.keepEvidence(ctx, e, a, kindRollback)
	w.log.Error("log frozen: own cosignature ahead of the state", "origin", e.origin, "size", a.tree.Size,
		"err", &ConflictError{Size: e.head.Size})
	s.Frozen = string(a.request.note)
	e.setCompared(0)
	return w.commit(ctx, e, s)
}

// acquire takes the log's lock, or gives up when ctx ends or too many wait already.
func (e *entry) acquire(ctx context.Context, sender netip.Prefix) (unlock func(), err error) {
	if err := e.queue.enter(sender); err != nil {
		return nil, err
	}
	defer e.queue.leave(sender)
	select {
	case e.lock <- struct{}{}:
		return func() { <-e.lock }, nil
	case <-ctx.Done():
		return nil, &unavailableError{after: time.Second, reason: "gave up waiting for earlier requests of this log"}
	}
}

// seen notes when the log last sent an authentic checkpoint.
func (e *entry) seen(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.snapshot.lastSeen = now
}

// shorten keeps what strangers send out of our logs and answers, but for its beginning.
func shorten(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}
