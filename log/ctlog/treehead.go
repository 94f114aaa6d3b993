package ctlog

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/transparency-dev/tessera/api/layout"

	"tallywood/internal/keys"
	"tallywood/log"
	"tallywood/log/ctentry"
	"tallywood/storage"
	"tallywood/witness/policy"
)

const (
	// maxAhead is how far a tree head may be ahead of the clock: heads made within a millisecond
	// of each other count up. More means that the clock went back.
	maxAhead = 1000 // milliseconds

	resumeTimeout  = 30 * time.Second
	checkpointSize = 1 << 20 // bytes read at most
	bundleWidth    = layout.EntryBundleWidth
)

// TreeHeadOptions say for which log a TreeHead signs.
type TreeHeadOptions struct {
	Origin string         // the checkpoints' first line and the key's name
	Key    crypto.Signer  // ECDSA P-256; an *ecdsa.PrivateKey signs deterministically
	Bucket storage.Bucket // the log's
	Name   string         // the log's objects are below logs/<Name>/
	Now    func() time.Time
}

// TreeHead signs for a certificate log: its tree heads, as the note.Signer of the RFC 6962 line
// of its checkpoints (c2sp.org/static-ct-api), and its SCTs.
//
// Both carry times, and RFC 6962 section 3.5 ties them together: a tree head's is at least that
// of every SCT in the tree, and above that of the tree head before it. So TreeHead remembers the
// times it gave out, and before it gives out the first one it reads what its predecessor left in
// the bucket. With a clock that has gone back behind all that it signs nothing.
type TreeHead struct {
	o     TreeHeadOptions
	logID [32]byte
	vkey  policy.Key

	reading chan struct{} // of capacity 1: holds one while the bucket is read

	mu      sync.Mutex // guards what follows, and is not held while the bucket is read
	resumed bool       // the stored checkpoint has been read
	pending int64      // entries from this index on are not looked at yet; -1: all later ones are ours
	last    int64      // time of the last tree head, ms
	largest int64      // largest SCT time given out or found, ms
}

// NewTreeHead returns the signer of a log. It reads nothing before it is used.
func NewTreeHead(o TreeHeadOptions) (*TreeHead, error) {
	var errs []error
	if o.Bucket == nil {
		errs = append(errs, errors.New("no bucket"))
	}
	if err := storage.CheckKey("logs/" + o.Name + "/checkpoint"); err != nil {
		errs = append(errs, err)
	}
	if o.Key == nil {
		errs = append(errs, errors.New("no key"))
	} else if key, ok := o.Key.Public().(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		errs = append(errs, fmt.Errorf("key is %T; SCTs are signed with ECDSA P-256", o.Key.Public()))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("checking options of tree head signer: %w", err)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	spki, err := x509.MarshalPKIXPublicKey(o.Key.Public())
	if err != nil {
		return nil, fmt.Errorf("encoding log key: %w", err)
	}
	h := &TreeHead{o: o, logID: sha256.Sum256(spki), reading: make(chan struct{}, 1)}
	// The key ID is a hash of the log ID, while the vkey carries the key itself.
	id := keys.KeyID(o.Origin, keys.AlgRFC6962, h.logID[:])
	vkey := fmt.Sprintf("%s+%08x+%s", o.Origin, id,
		base64.StdEncoding.EncodeToString(append([]byte{keys.AlgRFC6962}, spki...)))
	if h.vkey, err = policy.ParseVKey(vkey); err != nil {
		return nil, fmt.Errorf("naming log key: %w", err)
	}
	return h, nil
}

// Name returns the origin.
func (h *TreeHead) Name() string { return h.vkey.Name() }

// KeyHash returns the key ID in notes.
func (h *TreeHead) KeyHash() uint32 { return h.vkey.ID() }

// VKey returns the verifier key of the 0x05 line, name+hash+base64(05 || SubjectPublicKeyInfo).
func (h *TreeHead) VKey() string { return h.vkey.String() }

// LogID returns SHA-256 of the key's SubjectPublicKeyInfo.
func (h *TreeHead) LogID() [32]byte { return h.logID }

// Sign returns the signature of a checkpoint text: milliseconds, then DigitallySigned. It may
// read the bucket, the first time.
func (h *TreeHead) Sign(text []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), resumeTimeout)
	defer cancel()
	tree, err := policy.ParseTree(string(text))
	if err != nil {
		return nil, fmt.Errorf("signing tree head: %w", err)
	}
	// The signature covers neither of these.
	if tree.Origin != h.o.Origin || len(tree.Extensions) > 0 {
		return nil, fmt.Errorf("signing tree head: origin %q or extension lines are not this log's", tree.Origin)
	}
	at, err := h.next(ctx, tree.Size)
	if err != nil {
		return nil, fmt.Errorf("signing tree head of size %d: %w", tree.Size, err)
	}
	// TreeHeadSignature (RFC 6962 section 3.5): version v1, signature type tree_hash, timestamp,
	// tree size, root hash.
	head := []byte{0, 1}
	head = binary.BigEndian.AppendUint64(head, uint64(at))
	head = binary.BigEndian.AppendUint64(head, uint64(tree.Size))
	signed, err := h.digitallySigned(append(head, tree.Root[:]...))
	if err != nil {
		return nil, fmt.Errorf("signing tree head of size %d: %w", tree.Size, err)
	}
	out := append(binary.BigEndian.AppendUint64(nil, uint64(at)), signed...)
	if _, err := h.vkey.Verify(string(text), out); err != nil {
		return nil, fmt.Errorf("checking own tree head of size %d: %w", tree.Size, err)
	}
	return out, nil
}

// next returns the time of the next tree head.
func (h *TreeHead) next(ctx context.Context, size int64) (int64, error) {
	if err := h.resume(ctx); err != nil {
		return 0, err
	}
	// The bundles are durable before a tree head of their size is signed.
	if err := h.readTail(ctx, size); err != nil {
		return 0, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.o.Now().UnixMilli()
	at := max(now, h.last+1, h.largest)
	if at > now+maxAhead {
		return 0, clockError(at - now)
	}
	h.last = at
	return at, nil
}

// issue returns the time of a new SCT. No tree head of a tree with that SCT will be older.
func (h *TreeHead) issue(ctx context.Context) (int64, error) {
	if err := h.resume(ctx); err != nil {
		return 0, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.o.Now().UnixMilli()
	if ahead := max(h.last, h.largest) - now; ahead > maxAhead {
		return 0, clockError(ahead)
	}
	h.largest = max(h.largest, now)
	return now, nil
}

func clockError(ahead int64) error {
	return fmt.Errorf("%w: the clock has gone back: it is %v behind what was signed already",
		log.ErrUnavailable, time.Duration(ahead)*time.Millisecond)
}

// sct signs the promise of e and checks it before it leaves.
func (h *TreeHead) sct(e ctentry.Entry) (ctentry.SCT, error) {
	leaf, err := e.MerkleTreeLeaf()
	if err != nil {
		return ctentry.SCT{}, err
	}
	sig, err := h.sign(leaf)
	if err != nil { // of a key elsewhere: one in memory signs always
		return ctentry.SCT{}, fmt.Errorf("%w: signing SCT: %w", log.ErrUnavailable, err)
	}
	s := ctentry.SCT{
		LogID: h.logID, Timestamp: e.Timestamp, Extensions: e.Extensions,
		Hash: ctentry.HashSHA256, Algorithm: ctentry.SignatureECDSA, Signature: sig,
	}
	if err := s.Verify(h.o.Key.Public(), e); err != nil {
		return ctentry.SCT{}, fmt.Errorf("checking own SCT: %w", err)
	}
	return s, nil
}

func (h *TreeHead) digitallySigned(message []byte) ([]byte, error) {
	sig, err := h.sign(message)
	if err != nil {
		return nil, err
	}
	s := ctentry.SCT{Hash: ctentry.HashSHA256, Algorithm: ctentry.SignatureECDSA, Signature: sig}
	return s.DigitallySigned()
}

// sign returns the ASN.1 ECDSA signature of message. Keys in memory sign deterministically (RFC
// 6979), so that an entry has one SCT for ever; others draw their own randomness.
func (h *TreeHead) sign(message []byte) ([]byte, error) {
	digest := sha256.Sum256(message)
	var random io.Reader = rand.Reader
	if _, ok := h.o.Key.(*ecdsa.PrivateKey); ok {
		random = nil
	}
	return h.o.Key.Sign(random, digest[:], crypto.SHA256)
}

// read makes the caller the only one that reads the bucket, until it calls done.
func (h *TreeHead) read(ctx context.Context) (done func(), err error) {
	select {
	case h.reading <- struct{}{}:
		return func() { <-h.reading }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: waiting for the times of the log before: %w", log.ErrUnavailable, context.Cause(ctx))
	}
}

// known returns whether the stored checkpoint has been read, and from which index on entries have
// not.
func (h *TreeHead) known() (resumed bool, pending int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.resumed, h.pending
}

// resume learns the time of the last tree head from the stored checkpoint, once.
func (h *TreeHead) resume(ctx context.Context) error {
	if resumed, _ := h.known(); resumed {
		return nil
	}
	done, err := h.read(ctx)
	if err != nil {
		return err
	}
	defer done()
	if resumed, _ := h.known(); resumed {
		return nil
	}
	raw, _, err := h.o.Bucket.Get(ctx, "logs/"+h.o.Name+"/checkpoint", storage.Range{Length: checkpointSize})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		h.resumeAt(0, 0)
		return nil
	case err != nil:
		return fmt.Errorf("%w: reading stored checkpoint: %w", log.ErrUnavailable, err)
	}
	n, err := policy.ParseNote(raw)
	if err != nil {
		return fmt.Errorf("parsing stored checkpoint: %w", err)
	}
	for _, sig := range n.Signatures {
		if !h.vkey.Matches(sig) {
			continue
		}
		at, err := h.vkey.Verify(n.Text, sig.Sig)
		if err != nil {
			return fmt.Errorf("verifying stored checkpoint: %w", err)
		}
		tree, err := policy.ParseTree(n.Text)
		if err != nil {
			return fmt.Errorf("parsing stored checkpoint: %w", err)
		}
		h.resumeAt(at.UnixMilli(), tree.Size)
		return nil
	}
	return fmt.Errorf("the stored checkpoint has no tree head signature by %s", h.vkey)
}

func (h *TreeHead) resumeAt(last, pending int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last, h.pending, h.resumed = max(h.last, last), pending, true
}

// Forget makes the TreeHead read the bucket anew before it signs: another process may have led the
// log since. It is called at the start of each leadership; what was given out here stays known.
func (h *TreeHead) Forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.resumed = false
}

// readTail learns the largest SCT time among the entries up to size that no tree head covers yet,
// once. They are those that the predecessor sequenced and did not live to publish.
func (h *TreeHead) readTail(ctx context.Context, size int64) error {
	if _, pending := h.known(); pending < 0 {
		return nil
	}
	done, err := h.read(ctx)
	if err != nil {
		return err
	}
	defer done()
	_, pending := h.known()
	if pending < 0 {
		return nil
	}
	largest, err := h.largestTime(ctx, pending, size)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.largest, h.pending = max(h.largest, largest), -1
	return nil
}

// largestTime returns the largest SCT time among the entries from index from up to size.
func (h *TreeHead) largestTime(ctx context.Context, from, size int64) (int64, error) {
	largest := int64(0)
	for n := from / bundleWidth; n*bundleWidth < size; n++ {
		width := min(size-n*bundleWidth, bundleWidth)
		bundle, err := h.readBundle(ctx, n, width)
		if err != nil {
			return 0, fmt.Errorf("%w: reading unpublished entries: %w", log.ErrUnavailable, err)
		}
		leaves, err := ctentry.Split(bundle)
		if err != nil {
			return 0, fmt.Errorf("parsing unpublished entries: %w", err)
		}
		for _, leaf := range leaves {
			e, err := ctentry.Parse(leaf)
			if err != nil {
				return 0, fmt.Errorf("parsing unpublished entries: %w", err)
			}
			largest = max(largest, e.Timestamp)
		}
	}
	return largest, nil
}

// readBundle returns entry bundle n of at least width entries. A partial one may have been
// replaced by the full one.
func (h *TreeHead) readBundle(ctx context.Context, n, width int64) ([]byte, error) {
	prefix := "logs/" + h.o.Name + "/tile/data/"
	partial := uint8(width % bundleWidth) // 0: the full one
	bundle, _, err := h.o.Bucket.Get(ctx, prefix+layout.NWithSuffix(0, uint64(n), partial), storage.Range{})
	if partial != 0 && errors.Is(err, fs.ErrNotExist) {
		bundle, _, err = h.o.Bucket.Get(ctx, prefix+layout.NWithSuffix(0, uint64(n), 0), storage.Range{})
	}
	return bundle, err
}
