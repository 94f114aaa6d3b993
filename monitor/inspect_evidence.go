package monitor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"tallywood/log/ctentry"
	"tallywood/monitor/rule"
	"tallywood/witness/policy"
)

// maxEvidence is how many bytes of one file of evidence are read: the largest is an entry bundle.
const maxEvidence = 64 << 20

// Evidence is what an event left behind, looked at once more.
type Evidence struct {
	Holds  bool    `json:"holds"` // the files prove what the event says, and nothing in them is damaged
	Checks []Check `json:"checks"`
	Event  Event   `json:"event"`
	// Entry is the entry that the event is about, nil if it is about the log.
	Entry *Inspection `json:"entry,omitempty"`

	shown bool // what the event says was found again
}

// InspectEvidence verifies, offline, the directory that an event left: that its files are whole,
// and that they prove what the event says. trust must come from elsewhere: whoever made up
// evidence made up a key with it. Evidence that cannot be read is an error; one that proves
// nothing does not hold.
func InspectEvidence(ctx context.Context, dir string, trust Trust) (*Evidence, error) {
	if err := trust.check(); err != nil {
		return nil, err
	}
	ev := &Evidence{}
	files, err := ev.read(dir)
	if err != nil {
		return nil, fmt.Errorf("reading evidence: %w", err)
	}
	e := ev.Event
	switch {
	case files.named["inclusion.tlog-proof"] != nil:
		ev.entry(files, trust)
	case trust.Unverified:
		ev.check("evidence", Skipped, "nothing was checked, as was asked for: without the log's key its signatures say nothing")
	case files.named["checkpoint.seen"] != nil:
		ev.trouble(ctx, files, trust)
	case files.named["checkpoint"] != nil && e.Rule == rule.LogStale:
		ev.stale(files.named["checkpoint"], trust)
	default:
		ev.check("evidence", Skipped, "%s is an observation: it leaves nothing that could be checked afterwards", e.Rule)
	}
	ev.Holds = ev.shown && !trust.Unverified && !slices.ContainsFunc(ev.Checks, func(c Check) bool { return c.Result == Failed })
	return ev, nil
}

func (ev *Evidence) check(what string, r Outcome, format string, args ...any) {
	ev.Checks = append(ev.Checks, Check{what, r, fmt.Sprintf(format, args...)})
}

// show notes the check that finds again what the event says.
func (ev *Evidence) show(what, format string, args ...any) {
	ev.check(what, OK, format, args...)
	ev.shown = true
}

// kept are the files of a piece of evidence. It is a getter of those that were a log's.
type kept struct {
	named map[string][]byte // by file name
	byURL map[string][]byte // by path below the log's URL
}

// read reads the files of the evidence in dir, and compares them with the list of them.
func (ev *Evidence) read(dir string) (kept, error) {
	k := kept{map[string][]byte{}, map[string][]byte{}}
	data, err := readRegular(filepath.Join(dir, "evidence.json"))
	if err != nil {
		return k, err
	}
	var list struct {
		Event Event   `json:"event"`
		Files []about `json:"files"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return k, fmt.Errorf("decoding evidence.json: %w", err)
	}
	if list.Event.ID == "" || list.Event.Rule == "" {
		return k, errors.New("evidence.json is of no event")
	}
	ev.Event = list.Event
	bad := 0
	for _, f := range list.Files {
		if f.File != filepath.Base(f.File) || !filepath.IsLocal(f.File) {
			return k, fmt.Errorf("evidence.json names %q, which is no file in the same directory", f.File)
		}
		data, err := readRegular(filepath.Join(dir, f.File))
		if err != nil {
			return k, err
		}
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != f.SHA256 {
			bad++
			ev.check("files", Failed, "%s is not what was written: its SHA-256 is another", f.File)
		}
		k.named[f.File] = data
		if f.Path != "" {
			k.byURL[f.Path] = data
		}
	}
	if bad == 0 {
		ev.check("files", OK, "all %d are as they were written", len(list.Files))
	}
	return k, nil
}

func readRegular(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a plain file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxEvidence+1))
	if err == nil && len(data) > maxEvidence {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxEvidence)
	}
	return data, err
}

// get implements getter.
func (k kept) get(_ context.Context, path string, _ int64, _ bool) ([]byte, error) {
	if data, ok := k.byURL[path]; ok {
		return data, nil
	}
	return nil, &fetchError{path, 404, fmt.Errorf("%w in the evidence", fs.ErrNotExist)}
}

// entry verifies the entry that an event is about, with the proof beside it.
func (ev *Evidence) entry(files kept, trust Trust) {
	i, err := inspectProof(files.named["entry"], files.named["inclusion.tlog-proof"], trust)
	if err != nil {
		ev.check("inclusion", Failed, "%v", err)
		return
	}
	e := ev.Event
	if i.Index != e.Index || i.Origin != e.Origin {
		ev.check("event", Failed, "it says entry %d of %s, but the proof is of entry %d of %s", e.Index, e.Origin, i.Index, i.Origin)
	}
	digest, signer := e.Digest == i.Statement.Digest, e.Certificate == ""
	for _, s := range i.Statement.Signers {
		signer = signer || s.Certificate == e.Certificate
	}
	if !digest || !signer {
		ev.check("event", Failed, "it says digest %q and certificate %q, and the entry has others", e.Digest, e.Certificate)
	} else {
		ev.show("event", "it is about this entry")
	}
	i.LoggedAfter = e.LoggedAfter
	if !e.LoggedBefore.IsZero() {
		i.LoggedBefore = e.LoggedBefore
	}
	ev.Entry = i
}

// inspectProof verifies an entry and its tlog-proof offline. What kind of log it is of shows in
// which leaf hash the proof leads from.
func inspectProof(raw, proof []byte, trust Trust) (*Inspection, error) {
	p, err := policy.ParseProof(proof)
	if err != nil {
		return nil, refusef("reading proof: %w", err)
	}
	i := &Inspection{Index: p.Index, Raw: raw, Leaf: raw}
	tr, err := i.open(p.Checkpoint, trust)
	if err != nil {
		return nil, err
	}
	if p.Index >= tr.size {
		return nil, refusef("index %d is not in a tree of size %d", p.Index, tr.size)
	}
	hashes := make(tlog.RecordProof, len(p.Hashes))
	for n, h := range p.Hashes {
		hashes[n] = h
	}
	i.Kind, i.Proof.Hashes = KindRekor, p.Hashes
	leaf := tlog.RecordHash(raw)
	err = tlog.CheckRecord(hashes, tr.size, tr.root, p.Index, leaf)
	if ct, ctErr := ctentry.LeafHash(raw); err != nil && ctErr == nil {
		i.Kind, leaf = KindCT, tlog.Hash(ct)
		err = tlog.CheckRecord(hashes, tr.size, tr.root, p.Index, leaf)
	}
	if err != nil {
		return nil, refusef("the proof does not lead from the entry to the root hash of the checkpoint of size %d", tr.size)
	}
	i.prove(tr, leaf)
	i.judge(trust, func(string) ([]byte, error) { return nil, errors.New("it is not in the evidence") })
	return i, nil
}

// stale checks that a checkpoint's newest cosignature was as old as the event says.
func (ev *Evidence) stale(note []byte, trust Trust) {
	cp, err := trust.Policy.Open(note)
	if err != nil {
		ev.check("checkpoint", Failed, "it does not verify: %v", err)
		return
	}
	_, last := cosigned(cp)
	ev.show("checkpoint", "its newest cosignature is of %s, %s before the event; that no newer one was served is the monitor's word",
		last.UTC().Format(timeForm), ev.Event.Time.Sub(last).Round(1e9))
}

const timeForm = "2006-01-02 15:04:05 UTC"

// trouble verifies the evidence for what a log did wrong: the note that was seen and, if there was
// one before, the one that was verified.
func (ev *Evidence) trouble(ctx context.Context, files kept, trust Trust) {
	seenNote, e := files.named["checkpoint.seen"], ev.Event
	if e.Rule == rule.WitnessConflict { // the witness signed it, and the log perhaps not
		ev.conflict(ctx, files, trust)
		return
	}
	seen, err := trust.Policy.OpenLog(seenNote)
	switch e.Rule {
	case rule.LogBadSignature, rule.LogKeyChange:
		if err == nil {
			_, err = trust.Policy.Open(seenNote)
		}
		if err == nil {
			ev.check("checkpoint seen", Failed, "it does verify under the keys given")
			return
		}
		ev.show("checkpoint seen", "it does not verify: %v", err)
		return
	}
	if err != nil {
		ev.check("checkpoint seen", Failed, "the log did not sign it: %v", err)
		return
	}
	if seen.Origin() != e.Origin {
		ev.check("checkpoint seen", Failed, "it is of log %s, the event is about %s", seen.Origin(), e.Origin)
		return
	}
	ev.check("checkpoint seen", OK, "signed by the log %s: size %d, root %x, cosigned by %s", seen.Origin(), seen.Size(), seen.Root(), witnesses(seen))
	switch e.Rule {
	case rule.WitnessClockSkew:
		ev.skew(seen)
		return
	case rule.WitnessMissing:
		ev.check("witness", Skipped, "for how long a witness has been away is the monitor's word")
		return
	}
	if e.Rule == rule.QuorumLost {
		var qe *policy.QuorumError
		_, err := trust.Policy.Open(seenNote)
		if !errors.As(err, &qe) {
			ev.check("quorum", Failed, "the checkpoint does not lack cosignatures under this policy")
			return
		}
		ev.show("quorum", "%v", qe)
		return
	}
	verified := policy.Checkpoint{}
	if note := files.named["checkpoint.verified"]; note != nil {
		if verified, err = trust.Policy.OpenLog(note); err != nil || verified.Origin() != seen.Origin() {
			ev.check("checkpoint before", Failed, "the log did not sign it: %v", err)
			return
		}
		ev.check("checkpoint before", OK, "signed by the log too: size %d, root %x, cosigned by %s", verified.Size(), verified.Root(), witnesses(verified))
	}
	ev.contradiction(ctx, files, seen, verified)
}

// skew checks that a cosignature's time is not that of the others, or not that of the event.
func (ev *Evidence) skew(seen policy.Checkpoint) {
	_, newest := cosigned(seen)
	off := false
	var times []string
	for _, c := range seen.Cosignatures() {
		off = off || c.Time.After(ev.Event.Time.Add(time.Second)) || newest.Sub(c.Time) > time.Second
		times = append(times, c.Witness+" "+c.Time.UTC().Format(timeForm))
	}
	if !off {
		ev.check("cosignatures", Failed, "they agree with each other and with the event: %s", strings.Join(times, ", "))
		return
	}
	ev.show("cosignatures", "%s; when the monitor saw them is its word", strings.Join(times, ", "))
}

// conflict checks that a witness cosigned a tree that the verified one did not grow out of.
func (ev *Evidence) conflict(ctx context.Context, files kept, trust Trust) {
	const what = "checkpoint of the witness"
	n, err := policy.ParseNote(files.named["checkpoint.seen"])
	var shown policy.Tree
	if err == nil {
		shown, err = policy.ParseTree(n.Text)
	}
	verified, verr := trust.Policy.OpenLog(files.named["checkpoint.verified"])
	if err = errors.Join(err, verr); err != nil {
		ev.check(what, Failed, "%v", err)
		return
	}
	by := ""
	for _, w := range trust.Policy.Witnesses() {
		for _, sig := range n.Signatures {
			if at, err := w.Key.Verify(n.Text, sig.Sig); w.Key.Matches(sig) && err == nil && !at.IsZero() {
				by = w.Name
			}
		}
	}
	switch {
	case by == "":
		ev.check(what, Failed, "no witness of the policy cosigned it")
		return
	case shown.Origin != verified.Origin() || shown.Origin != ev.Event.Origin || shown.Size > verified.Size():
		ev.check(what, Failed, "it is of log %q, size %d; the verified one of %q, size %d", shown.Origin, shown.Size, verified.Origin(), verified.Size())
		return
	}
	ev.check(what, OK, "cosigned by %s: size %d, root %x", by, shown.Size, shown.Root)
	root, err := newTree(files, verified).rootAt(ctx, shown.Size)
	switch {
	case err != nil:
		ev.check("contradiction", Skipped, "the hash tiles kept do not suffice to recompute it: %v", err)
	case root == tlog.Hash(shown.Root):
		ev.check("contradiction", Failed, "the verified tree has that root at that size")
	default:
		ev.show("contradiction", "in the verified tree of size %d the first %d entries have root %x", verified.Size(), shown.Size, root[:])
	}
}

func witnesses(c policy.Checkpoint) string {
	var names []string
	for _, s := range c.Cosignatures() {
		names = append(names, s.Witness)
	}
	if len(names) == 0 {
		return "nobody"
	}
	return strings.Join(names, ", ")
}

// contradiction checks that two checkpoints, both signed, cannot both be true, or that the files of
// the one do not belong to it.
func (ev *Evidence) contradiction(ctx context.Context, files kept, seen, verified policy.Checkpoint) {
	const what = "contradiction"
	found := contradictions(seen, verified)
	switch r := ev.Event.Rule; {
	case len(found) > 0 && found[0].rule == r:
		text := found[0].summary
		if r == rule.LogRollback {
			text += "; that the smaller one was served after the larger is the monitor's word"
		}
		ev.show(what, "%s", text)
	case r == rule.LogSplitView && verified.Size() != seen.Size() && verified.Size() > 0:
		ev.grown(ctx, files, seen, verified)
	case r == rule.LogInconsistent:
		ev.inconsistent(ctx, files, seen)
	case r == rule.LogBundleMismatch:
		ev.mismatch(ctx, files, seen)
	default:
		ev.check(what, Failed, "the two checkpoints do not contradict each other as the event says")
	}
}

// grown checks that the larger of two trees, of which there are hash tiles, did not grow out of the
// smaller.
func (ev *Evidence) grown(ctx context.Context, files kept, seen, verified policy.Checkpoint) {
	small, large := seen, verified
	if small.Size() > large.Size() {
		small, large = large, small
	}
	root, err := newTree(files, large).rootAt(ctx, small.Size())
	switch {
	case err != nil:
		ev.check("contradiction", Skipped, "the hash tiles kept do not suffice to recompute it: %v", err)
	case root == tlog.Hash(small.Root()):
		ev.check("contradiction", Failed, "the tree of size %d did grow out of that of size %d", large.Size(), small.Size())
	default:
		ev.show("contradiction", "in the tree of size %d the first %d entries have root %x, and the log signed %x for size %d: both cannot be true",
			large.Size(), small.Size(), root[:], small.Root(), small.Size())
	}
}

// inconsistent checks that the hash tiles kept do not make the root.
func (ev *Evidence) inconsistent(ctx context.Context, files kept, seen policy.Checkpoint) {
	tr := newTree(files, seen)
	_, err := tr.leafHashes(ctx, 0, min(seen.Size(), bundleWidth))
	if seen.Size() > 0 {
		_, last := tr.leafHashes(ctx, seen.Size()-1, seen.Size())
		err = errors.Join(err, last)
	}
	var ie *inconsistentError
	switch {
	case errors.As(err, &ie):
		ev.show("contradiction", "%v; that the log served these tiles is the monitor's word", ie)
	case err != nil:
		ev.check("contradiction", Skipped, "the hash tiles kept do not suffice to recompute it: %v", err)
	default:
		ev.check("contradiction", Failed, "the hash tiles kept do make the signed root")
	}
}

// mismatch checks that the entry bundle kept does not hash into the tree.
func (ev *Evidence) mismatch(ctx context.Context, files kept, seen policy.Checkpoint) {
	const what = "contradiction"
	for path, data := range files.byURL {
		kind := KindRekor
		if strings.HasPrefix(path, "tile/data/") {
			kind = KindCT
		} else if !strings.HasPrefix(path, "tile/entries/") {
			continue
		}
		wrong, err := misfit(ctx, layouts[kind], newTree(files, seen), path, data, ev.Event.Index)
		switch {
		case err != nil:
			ev.check(what, Skipped, "the hash tiles kept do not suffice to recompute it: %v", err)
		case wrong == nil:
			ev.check(what, Failed, "the entry bundle %s does hash into the tree", path)
		default:
			ev.show(what, "entry bundle %s: %v; that the log served these bytes is the monitor's word", path, wrong)
		}
		return
	}
	ev.check(what, Failed, "there is no entry bundle among the files")
}

// misfit says what is wrong with the bundle that index is in, nil if it hashes into tr.
func misfit(ctx context.Context, l layout, tr *tree, path string, data []byte, index int64) (wrong, err error) {
	if index < 0 || index >= tr.size {
		return nil, fmt.Errorf("entry %d is not in the tree", index)
	}
	n := index / bundleWidth
	width := int(min(bundleWidth, tr.size-n*bundleWidth))
	if path != tilePath(l.dir, n, width) && path != tilePath(l.dir, n, bundleWidth) {
		return nil, fmt.Errorf("bundle %s does not hold entry %d", path, index)
	}
	entries, wrong := l.split(data)
	if wrong != nil || len(entries) < width {
		return errors.Join(wrong, fmt.Errorf("%d entries, of %d", len(entries), width)), nil
	}
	want, err := tr.leafHashes(ctx, n*bundleWidth, n*bundleWidth+int64(width))
	if err != nil {
		return nil, err
	}
	for i, h := range want {
		leaf, hashErr := l.leafHash(entries[i])
		if hashErr != nil || leaf != h {
			return fmt.Errorf("entry %d has leaf hash %x, in the tree is %x", n*bundleWidth+int64(i), leaf[:], h[:]), nil
		}
	}
	return nil, nil
}
