package driver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/transparency-dev/tessera"
	"golang.org/x/mod/sumdb/tlog"

	"tallywood/storage"
	"tallywood/witness/policy"
)

const (
	fsckRecords = 8  // records read ahead, of up to 8 MiB each
	fsckTiles   = 32 // tiles and entry bundles read at a time
)

// A Report is what Verify has read and found in order.
type Report struct {
	Name    string `json:"name"`
	Origin  string `json:"origin"`
	Size    int64  `json:"size"`    // of the checkpoint; 0 if nothing was published yet
	Root    string `json:"root"`    // its root hash, hex
	Head    int64  `json:"head"`    // committed entries
	Records int64  `json:"records"` // slot records from the floor to the head
	Leaders int64  `json:"leaders"` // LEADER records, back to slot 0
	Objects int64  `json:"objects"` // that were read, all in all
	Strays  int64  `json:"strays"`  // records below the floor that nobody needs and that do no harm
}

// A fsck is one run of Verify.
type fsck struct {
	l      *Log // for its names and keys
	ident  identity
	object hash // of the identity object
	hashes func(bundle []byte) ([][]byte, error)
	report Report

	done, total atomic.Int64
	telling     sync.Mutex // guards progress
	progress    func(done, total int64)
	issuers     issuerSet // of a static-ct log

	// Of one attempt.
	floor   floor
	pub     policy.Tree // the checkpoint
	found   bool        // there is one
	covered []hash      // compact range of the checkpoint's tree, from its record
	record  bool        // there is that record
	writer  id          // of the first BATCH record, if first is set
	first   bool
}

// Verify reads every object of the log of that name and verifies it against the others, up to the
// signature of the identity's keys on the checkpoint: identity and floor; the records from the floor
// to the head; the LEADER records back to slot 0; the checkpoint and its record; every tile and every
// entry bundle, and for a static-ct log the precertificates and the issuers they name. What it hashes
// with is not what wrote the log. It only reads, and a leader may be at work.
//
// The first object that is damaged or missing gives an *ObjectError. Any other error says that the
// log could not be read to the end. After each object progress, unless it is nil, is told how many
// are done of how many, as far as that is known.
func Verify(ctx context.Context, b storage.Bucket, name string, progress func(done, total int64)) (Report, error) {
	l, ident, object, err := view(ctx, b, name)
	if err != nil {
		return Report{Name: name}, fmt.Errorf("log %q: %w", name, err)
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	c := &fsck{l: l, ident: ident, object: object, progress: progress, hashes: tessera.NewMigrationOptions().LeafHasher()}
	if l.o.Layout.indexed {
		c.hashes = tessera.NewMigrationOptions().WithCTLayout().LeafHasher()
	}
	for range inspectAttempts {
		if err = c.verify(ctx); !errors.Is(err, errOvertaken) {
			break
		}
	}
	c.report.Objects = c.done.Load()
	if errors.Is(err, errOvertaken) {
		err = errUnsteady
	}
	if err != nil {
		return c.report, fmt.Errorf("log %q: %w", name, err)
	}
	return c.report, nil
}

// verify is one attempt. It fails with errOvertaken if records were collected that it still wanted.
func (c *fsck) verify(ctx context.Context) error {
	c.report = Report{Name: c.l.o.Name, Origin: c.ident.Origin}
	c.done.Store(1) // the identity
	c.record, c.first, c.covered = false, false, nil
	c.total.Store(3)
	// The checkpoint comes first, so that the records read after it cover it.
	if err := c.readCheckpoint(ctx); err != nil {
		return err
	}
	c.total.Add(objects(c.pub.Size))
	fresh, err := c.readFloor(ctx)
	if err != nil || fresh {
		return err
	}
	if err := c.records(ctx); err != nil {
		return err
	}
	if err := c.matchCheckpoint(ctx); err != nil {
		return err
	}
	if err := c.matchEnd(ctx); err != nil {
		return err
	}
	return c.tree(ctx)
}

// objects returns how many tiles and entry bundles a tree of size has.
func objects(size int64) int64 {
	n := (size + bundleWidth - 1) / bundleWidth
	for rest := size; rest > 0; rest /= tileWidth {
		n += (rest + tileWidth - 1) / tileWidth
		if rest < tileWidth {
			break
		}
	}
	return n
}

// step counts an object that is done.
func (c *fsck) step() {
	c.telling.Lock()
	defer c.telling.Unlock()
	c.progress(c.done.Add(1), c.total.Load())
}

// get reads an object that must be there.
func (c *fsck) get(ctx context.Context, key string) ([]byte, error) {
	b, _, err := c.l.o.Bucket.Get(ctx, key, storage.Range{})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &ObjectError{key, errMissing}
	}
	return b, err
}

// readCheckpoint reads the checkpoint and verifies the signature of each of the identity's keys.
func (c *fsck) readCheckpoint(ctx context.Context) error {
	hinted, err := c.l.exists(ctx, c.l.stateKey("head"))
	if err != nil {
		return fmt.Errorf("reading head hint: %w", err)
	}
	key := c.l.publicKey("checkpoint")
	raw, _, err := c.l.o.Bucket.Get(ctx, key, storage.Range{})
	c.pub, c.found = policy.Tree{Root: emptyHash}, err == nil
	c.report.Root = fmt.Sprintf("%x", c.pub.Root)
	if errors.Is(err, fs.ErrNotExist) {
		if hinted { // the hint follows a publication
			return &ObjectError{key, errMissing}
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading checkpoint: %w", err)
	}
	if c.pub, err = c.openCheckpoint(raw); err != nil {
		return objectf(key, "is damaged: %w", err)
	}
	c.report.Size, c.report.Root = c.pub.Size, fmt.Sprintf("%x", c.pub.Root)
	c.step()
	return nil
}

func (c *fsck) openCheckpoint(raw []byte) (policy.Tree, error) {
	n, err := policy.ParseNote(raw)
	if err != nil {
		return policy.Tree{}, err
	}
	for _, vkey := range c.ident.VKeys {
		k, err := policy.ParseVKey(vkey)
		if err != nil {
			return policy.Tree{}, err
		}
		if _, err := policy.VerifyLog(n, []policy.Key{k}); err != nil {
			return policy.Tree{}, err
		}
	}
	t, err := policy.ParseTree(n.Text)
	if err != nil {
		return policy.Tree{}, err
	}
	if t.Origin != c.ident.Origin {
		return policy.Tree{}, fmt.Errorf("it is of origin %q, not %q", t.Origin, c.ident.Origin)
	}
	return t, nil
}

// readFloor reads the floor. fresh reports that the log's creation was cut short before it.
func (c *fsck) readFloor(ctx context.Context) (fresh bool, err error) {
	key := c.l.stateKey("floor")
	raw, _, err := c.l.o.Bucket.Get(ctx, key, storage.Range{})
	if errors.Is(err, fs.ErrNotExist) {
		slot0, err := c.l.exists(ctx, c.l.slotKey(0))
		if err != nil || slot0 || c.found {
			return false, errors.Join(&ObjectError{key, errMissing}, err)
		}
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading floor: %w", err)
	}
	if c.floor, err = parseFloor(raw); err != nil {
		return false, objectf(key, "is damaged: %w", err)
	}
	f := c.floor
	// Before any record a log is empty, or all that was imported, which is published.
	switch {
	case f.N == 0 && f.Rec != c.object:
		return false, c.blameIdentity(ctx, f)
	case f.N == 0 && (f.PubSize != f.Size || f.Epoch != 0), f.N > 0 && (f.Epoch < 1 || f.Leader < 0):
		return false, objectf(key, "is damaged: slot %d is not of epoch %d, leader %d and size %d", f.N, f.Epoch, f.Leader, f.Size)
	case f.PubSize > c.pub.Size:
		return false, c.olderThan(ctx, f)
	}
	c.step()
	return false, nil
}

// blameIdentity tells whether the identity is damaged or the floor that does not belong to it: slot
// 0 knows.
func (c *fsck) blameIdentity(ctx context.Context, f floor) error {
	h, _, err := c.l.readHeader(ctx, 0)
	if err == nil && h.Prev == c.object {
		return objectf(c.l.stateKey("floor"), "is damaged: it is not that of the identity")
	}
	return objectf(c.l.stateKey("identity"), "is damaged: it is not what the floor was made for")
}

// olderThan judges a checkpoint that is smaller than what the floor says was published.
func (c *fsck) olderThan(ctx context.Context, f floor) error {
	size := c.pub.Size
	if err := c.readCheckpoint(ctx); err != nil {
		return err
	}
	if c.pub.Size > size {
		return errOvertaken // it was published meanwhile
	}
	return objectf(c.l.publicKey("checkpoint"), "is old: it has size %d, but %d was published once", size, f.PubSize)
}

// matchCheckpoint finds out whether the checkpoint is that of its record.
func (c *fsck) matchCheckpoint(ctx context.Context) error {
	key := c.l.publicKey("checkpoint")
	switch {
	case c.pub.Size > c.report.Head:
		return objectf(c.l.slotKey(c.floor.N+c.report.Records), "is missing: the checkpoint has size %d, but the records end at size %d",
			c.pub.Size, c.report.Head)
	case !c.found && c.floor.N > 0:
		return &ObjectError{key, errMissing}
	case !c.found:
		return nil
	case c.floor.N == 0 && c.report.Records == 0 && c.floor.Size == 0: // else it was just imported
		return &ObjectError{c.l.slotKey(0), errMissing}
	case !c.record && c.pub.Size < c.floor.Size:
		return c.olderThan(ctx, c.floor)
	case !c.record:
		return objectf(key, "is of no record: none ends at size %d", c.pub.Size)
	case rangeRoot(c.covered) != c.pub.Root:
		return objectf(key, "has another root than the record of size %d", c.pub.Size)
	}
	return nil
}

// matchEnd verifies the end of the log, if it has one, against the records and the checkpoint.
func (c *fsck) matchEnd(ctx context.Context) error {
	key := c.l.stateKey(frozenKey)
	raw, _, err := c.l.o.Bucket.Get(ctx, key, storage.Range{})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the end of the log: %w", err)
	}
	f, err := parseFrozen(raw, c.ident.UUID)
	switch {
	case err != nil:
		return objectf(key, "is damaged: %w", err)
	case c.pub.Size < f.Size:
		// The checkpoint that was read may be of a moment before the end.
		size := c.pub.Size
		if err := c.readCheckpoint(ctx); err != nil {
			return err
		}
		if c.pub.Size > size {
			return errOvertaken
		}
		return objectf(key, "ends the log at size %d, but its checkpoint has size %d", f.Size, size)
	case c.report.Head > f.Size || hash(c.pub.Root) != hash(f.Root):
		return objectf(key, "ends the log at size %d with root %x, but its checkpoint has size %d and root %x", f.Size, f.Root, c.pub.Size, c.pub.Root)
	}
	c.total.Add(1)
	c.step()
	return nil
}

// inOrder fetches items from index from on, up to n at a time, and yields them in order.
func inOrder[T any](ctx context.Context, from int64, n int, fetch func(ctx context.Context, i int64) (T, error)) iter.Seq2[T, error] {
	type result struct {
		v   T
		err error
	}
	return func(yield func(T, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var ahead []chan result
		defer func() {
			cancel()
			for _, c := range ahead {
				<-c
			}
		}()
		for i := from; ; i++ {
			for ; len(ahead) < n; from++ {
				c, at := make(chan result, 1), from
				go func() {
					v, err := fetch(ctx, at)
					c <- result{v, err}
				}()
				ahead = append(ahead, c)
			}
			r := <-ahead[0]
			ahead = ahead[1:]
			if !yield(r.v, r.err) {
				return
			}
		}
	}
}

// appendLeaf returns the compact range of the tree of size with one leaf more.
func appendLeaf(rng []hash, size int64, leaf []byte) []hash {
	h := tlog.Hash(leaf)
	for ; size&1 == 1; size >>= 1 {
		h = tlog.NodeHash(tlog.Hash(rng[len(rng)-1]), h)
		rng = rng[:len(rng)-1]
	}
	return append(rng, hash(h))
}

// oneBitOff reports whether some single bit flipped in b gives it the given hash.
func oneBitOff(b []byte, want hash) bool {
	b = slices.Clone(b)
	for i := range b {
		for bit := range 8 {
			b[i] ^= 1 << bit
			if sum(b) == want {
				return true
			}
			b[i] ^= 1 << bit
		}
	}
	return false
}
