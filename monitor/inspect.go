package monitor

import (
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"tallywood/witness/policy"
)

// Trust is what an entry, or the evidence of an event, is held against.
type Trust struct {
	// Policy lists the log's key and says which cosignatures its checkpoint needs. Without one
	// Unverified must be set: then nobody vouches for the checkpoint, and nothing is Verified.
	Policy     *policy.Policy
	Unverified bool

	CAs    []*x509.Certificate // at which certificates must end, roots or issuing ones; empty: not checked
	CTLogs []crypto.PublicKey  // whose signed certificate timestamps count; empty: not checked
}

func (t Trust) check() error {
	if (t.Policy == nil) != t.Unverified {
		return errors.New("exactly one of a policy and going without must be chosen")
	}
	return nil
}

// A VerifyError reports an entry that its log does not prove, or evidence that proves nothing.
type VerifyError struct{ Err error }

func (e *VerifyError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *VerifyError) Unwrap() error { return e.Err }

func refusef(format string, args ...any) error { return &VerifyError{fmt.Errorf(format, args...)} }

// A Check is one thing that was looked at, and what came of it.
type Check struct {
	What   string  `json:"what"`   // in a few words
	Result Outcome `json:"result"` // ok, failed or skipped
	Text   string  `json:"text"`   // a sentence; it may quote what others wrote
}

// An Outcome is the result of a Check.
type Outcome string

// The outcomes. Skipped is a check for which something to compare with was missing.
const (
	OK      Outcome = "ok"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped"
)

// A Seen is a cosignature that counts: who saw the checkpoint, and when.
type Seen struct {
	Witness string    `json:"witness"`
	Time    time.Time `json:"time"`
}

// An Inspection is one entry of a log, in words, with what was found out about it.
type Inspection struct {
	Verified bool    `json:"verified"` // the log proves it under a verified checkpoint, and no check failed
	Checks   []Check `json:"checks"`

	Origin   string `json:"origin"`
	Index    int64  `json:"index"`
	Size     int64  `json:"size"` // of the checkpoint
	Root     string `json:"root"` // hex
	LeafHash string `json:"leaf_hash"`
	Kind     Kind   `json:"kind"` // what the entry was read as

	Cosignatures []Seen `json:"cosignatures"`
	// LoggedBefore is when the first witness saw a checkpoint with the entry, LoggedAfter when one
	// without it was last seen; zero: not known.
	LoggedBefore time.Time `json:"logged_before,omitzero"`
	LoggedAfter  time.Time `json:"logged_after,omitzero"`

	Statement Statement    `json:"statement"` // what the entry says
	Raw       []byte       `json:"entry"`     // its bytes in the log's bundle
	Leaf      []byte       `json:"-"`         // what its leaf hash is over; Raw but in certificate logs
	Proof     policy.Proof `json:"-"`         // tlog-proof of Leaf
}

// Inspect fetches the entry at index of the log at base, a URL, and verifies it as far as trust
// reaches: the checkpoint's signature and cosignatures, the entry's place in the tree, and what the
// entry itself states. An entry that the log does not prove is a *VerifyError; any other error is
// one of reaching the log. A nil client is as in Options.
func Inspect(ctx context.Context, base string, index int64, trust Trust, client *http.Client) (*Inspection, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%q is not an http or https URL of a directory", base)
	}
	if err := trust.check(); err != nil {
		return nil, err
	}
	if client == nil {
		client = defaultClient()
	}
	s := &source{base: strings.TrimRight(base, "/"), http: client}
	note, err := s.get(ctx, "checkpoint", maxCheckpoint, false)
	if err != nil {
		return nil, fmt.Errorf("reading checkpoint: %w", err)
	}
	i := &Inspection{Index: index}
	tr, err := i.open(note, trust)
	if err != nil {
		return nil, err
	}
	tr.source = s
	if index < 0 || index >= tr.size {
		return nil, refusef("there is no entry %d: the log has %d, and counts from 0", index, tr.size)
	}
	leaf, err := i.fetch(ctx, s, tr)
	if err != nil {
		return nil, err
	}
	i.prove(tr, leaf)
	i.judge(trust, func(fingerprint string) ([]byte, error) {
		return s.get(ctx, "issuer/"+fingerprint, maxIssuer, false)
	})
	return i, nil
}

// open verifies a checkpoint and returns its tree, which has no source yet.
func (i *Inspection) open(note []byte, trust Trust) (*tree, error) {
	t, seen, check, err := trust.open(note)
	if err != nil {
		return nil, err
	}
	i.Origin, i.Size, i.Root = t.Origin, t.Size, hex.EncodeToString(t.Root[:])
	i.Cosignatures = seen
	for _, c := range seen {
		if i.LoggedBefore.IsZero() || c.Time.Before(i.LoggedBefore) {
			i.LoggedBefore = c.Time
		}
	}
	i.Checks = append(i.Checks, check)
	i.Proof.Checkpoint = note
	return &tree{size: t.Size, root: t.Root, note: note, tiles: map[tlog.Tile][]byte{}}, nil
}

// open verifies a note as far as t reaches. What does not verify is a *VerifyError.
func (t Trust) open(note []byte) (tree policy.Tree, seen []Seen, check Check, err error) {
	const what = "checkpoint"
	if t.Unverified {
		n, err := policy.ParseNote(note)
		if err == nil {
			tree, err = policy.ParseTree(n.Text)
		}
		if err != nil {
			return tree, nil, check, refusef("reading checkpoint: %w", err)
		}
		if tree.Size > policy.MaxSize {
			return tree, nil, check, refusef("reading checkpoint: size %d: %w", tree.Size, policy.ErrSize)
		}
		return tree, []Seen{}, Check{what, Skipped, "its signature was not checked, as was asked for: whoever answers at this address may have made it up"}, nil
	}
	cp, err := t.Policy.Open(note)
	if err != nil {
		return tree, nil, check, refusef("the checkpoint does not verify: %w", err)
	}
	seen = []Seen{}
	var names []string
	for _, c := range cp.Cosignatures() {
		seen, names = append(seen, Seen{c.Witness, c.Time.UTC()}), append(names, c.Witness)
	}
	text := fmt.Sprintf("signed by the log %s, without witnesses: the policy asks for none", cp.Origin())
	if len(names) > 0 {
		text = fmt.Sprintf("signed by the log %s, and cosigned by %s", cp.Origin(), strings.Join(names, ", "))
	}
	if !t.Policy.None() {
		text += ", which is a quorum"
	}
	return cp.Tree(), seen, Check{what, OK, text}, nil
}

// fetch reads the entry at i.Index, past caches if what they have is not in the tree, and returns
// its leaf hash. Which kind of log it is shows in where it keeps its entries: both are tried, and
// what comes must hash into the tree.
func (i *Inspection) fetch(ctx context.Context, s *source, tr *tree) (tlog.Hash, error) {
	var missing error
	for _, kind := range []Kind{KindRekor, KindCT} {
		leaf, err := i.fetchKind(ctx, s, tr, kind)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return leaf, err
		}
		missing = cmp.Or(missing, err)
	}
	return tlog.Hash{}, fmt.Errorf("reading entry: %w", missing)
}

func (i *Inspection) fetchKind(ctx context.Context, s *source, tr *tree, kind Kind) (tlog.Hash, error) {
	n, at := i.Index/bundleWidth, i.Index%bundleWidth
	width := int(min(bundleWidth, tr.size-n*bundleWidth))
	l := layouts[kind]
	for fresh := false; ; fresh = true {
		_, entries, wrong, err := s.bundle(ctx, l, n, width, fresh)
		if err != nil {
			return tlog.Hash{}, err
		}
		var leaf tlog.Hash
		var p tlog.RecordProof
		if wrong == nil {
			leaf, wrong = l.leafHash(entries[at])
		}
		if wrong == nil {
			p, wrong = tr.prove(ctx, i.Index, leaf)
			if _, unreached := errors.AsType[*fetchError](wrong); unreached {
				return tlog.Hash{}, fmt.Errorf("reading hash tiles: %w", wrong)
			}
		}
		switch {
		case wrong == nil:
			i.Kind, i.Raw, i.Leaf = kind, slices.Clone(entries[at]), slices.Clone(entries[at])
			for _, h := range p {
				i.Proof.Hashes = append(i.Proof.Hashes, h)
			}
			return leaf, nil
		case fresh: // whoever ends it before that learns nothing of the log: the second look fails
			return tlog.Hash{}, refusef("entry %d does not hash into the tree of size %d: %w", i.Index, tr.size, wrong)
		}
	}
}

// prove notes that the entry was proved to be in the tree.
func (i *Inspection) prove(tr *tree, leaf tlog.Hash) {
	i.LeafHash, i.Proof.Index = hex.EncodeToString(leaf[:]), i.Index
	i.Checks = append(i.Checks, Check{"inclusion", OK,
		fmt.Sprintf("entry %d hashes into the tree of size %d that the checkpoint states", i.Index, tr.size)})
}
