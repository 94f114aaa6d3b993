package driver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"strings"
	"sync"

	"github.com/transparency-dev/tessera/api/layout"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"

	"tallywood/log/ctentry"
	"tallywood/storage"
)

// tree verifies all tiles and entry bundles of the checkpoint's tree, from the compact range that
// has its root down to the entries: every tile against the one above it.
func (c *fsck) tree(ctx context.Context) error {
	size := c.pub.Size
	c.issuers = issuerSet{found: map[[32]byte]*x509.Certificate{}}
	rows := make([][]byte, edgeLevels(size))
	for level := len(rows) - 1; level >= 0; level-- {
		width := edgeWidth(size, level)
		if width == 0 {
			continue
		}
		t := tileID{level, size >> (layout.TileHeight * (level + 1))}
		row, err := c.part(ctx, c.l.tileKey(t, width), c.l.tileKey(t, 0))
		if err != nil {
			return err
		}
		if len(row) < width*sha256.Size {
			return objectf(c.l.tileKey(t, width), "is damaged: it has %d bytes", len(row))
		}
		rows[level] = row[:width*sha256.Size]
		if !c.isEdge(level, rows[level]) {
			return objectf(c.l.tileKey(t, width), "is damaged: it does not lead to the root")
		}
		c.step()
		if err := c.below(ctx, t, rows[level]); err != nil {
			return err
		}
	}
	return c.leftovers(ctx)
}

// part reads a partial tile or bundle, or what has replaced it.
func (c *fsck) part(ctx context.Context, key, full string) ([]byte, error) {
	b, err := c.get(ctx, key)
	if gone := (*ObjectError)(nil); errors.As(err, &gone) && key != full {
		if b, ferr := c.get(ctx, full); ferr == nil {
			return b, nil
		} else if !errors.As(ferr, &gone) {
			return nil, ferr
		}
	}
	return b, err
}

// isEdge reports whether the row of the partial tile of that level is what the compact range of
// the tree says.
func (c *fsck) isEdge(level int, row []byte) bool {
	size := uint64(c.pub.Size)
	for b := layout.TileHeight - 1; b >= 0; b-- {
		bit := layout.TileHeight*level + b
		if size>>bit&1 == 0 {
			continue
		}
		at := bits.OnesCount64(size >> (bit + 1)) // of this subtree in the range
		n := sha256.Size << b
		if rowRoot(row[:n]) != tlog.Hash(c.covered[at]) {
			return false
		}
		row = row[n:]
	}
	return len(row) == 0
}

// rowRoot returns the root above the hashes of a row, whose number is a power of two.
func rowRoot(row []byte) tlog.Hash {
	if len(row) == sha256.Size {
		return tlog.Hash(row)
	}
	half := len(row) / 2
	return tlog.NodeHash(rowRoot(row[:half]), rowRoot(row[half:]))
}

// below verifies what is below a tile that has been verified: the tiles whose roots its row has, or
// the entry bundle. Of several damaged objects it names that with the lowest index.
func (c *fsck) below(ctx context.Context, t tileID, row []byte) error {
	if t.level == 0 {
		return c.bundle(ctx, t.index, row)
	}
	n := len(row) / sha256.Size
	child := func(i int) error {
		return c.child(ctx, tileID{t.level - 1, t.index*tileWidth + int64(i)}, row[i*sha256.Size:(i+1)*sha256.Size])
	}
	if t.level > 1 {
		for i := range n {
			if err := child(i); err != nil {
				return err
			}
		}
		return nil
	}
	errs := make([]error, n)
	var g errgroup.Group
	g.SetLimit(fsckTiles)
	for i := range n {
		g.Go(func() error {
			errs[i] = child(i)
			return nil
		})
	}
	_ = g.Wait() // the errors are in errs
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// child verifies a full tile, whose root is known, and what is below it.
func (c *fsck) child(ctx context.Context, t tileID, root []byte) error {
	key := c.l.tileKey(t, 0)
	row, err := c.get(ctx, key)
	if err != nil {
		return err
	}
	if len(row) != tileWidth*sha256.Size {
		return objectf(key, "is damaged: it has %d bytes", len(row))
	}
	if rowRoot(row) != tlog.Hash(root) {
		return objectf(key, "is damaged: it is not the tile that the one above it names")
	}
	c.step()
	return c.below(ctx, t, row)
}

// bundle verifies the entry bundle above a row of leaf hashes.
func (c *fsck) bundle(ctx context.Context, index int64, row []byte) error {
	width := len(row) / sha256.Size
	key := c.l.bundleKey(index, width%bundleWidth)
	data, err := c.part(ctx, key, c.l.bundleKey(index, 0))
	if err != nil {
		return err
	}
	leaves, err := c.hashes(data)
	if err != nil {
		return objectf(key, "is damaged: %w", err)
	}
	if len(leaves) < width || width == bundleWidth && len(leaves) > width {
		return objectf(key, "is damaged: it has %d entries, not %d", len(leaves), width)
	}
	for i := range width {
		if !bytes.Equal(leaves[i], row[i*sha256.Size:(i+1)*sha256.Size]) {
			return objectf(key, "is damaged: entry %d is not the one that was logged", index*bundleWidth+int64(i))
		}
	}
	if c.l.o.Layout.indexed {
		if err := c.certificates(ctx, key, index, width, data); err != nil {
			return err
		}
	}
	c.step()
	return nil
}

// An issuerSet holds the issuers that entries name.
type issuerSet struct {
	mu    sync.Mutex
	found map[[32]byte]*x509.Certificate // nil: it is no certificate that can be parsed
}

// certificates verifies what the leaf hashes of a static-ct bundle do not cover: that the issuers
// are there, and that the precertificates are those of the entries.
func (c *fsck) certificates(ctx context.Context, key string, index int64, width int, data []byte) error {
	entries, err := ctentry.Split(data)
	if err != nil || len(entries) < width {
		return objectf(key, "is damaged: it has no %d entries: %w", width, err)
	}
	for i, encoded := range entries[:width] {
		e, err := ctentry.Parse(encoded)
		if err != nil {
			return objectf(key, "is damaged: entry %d: %w", index*bundleWidth+int64(i), err)
		}
		var issuer *x509.Certificate
		for at, fingerprint := range e.UnverifiedFingerprints {
			cert, err := c.issuer(ctx, fingerprint)
			if err != nil {
				return fmt.Errorf("%w; entry %d in %s names it", err, index*bundleWidth+int64(i), key)
			}
			if at == 0 {
				issuer = cert
			}
		}
		if !e.Precert || issuer == nil {
			continue
		}
		if err := e.Check(issuer); err != nil && !errors.Is(err, ctentry.ErrPrecertSigner) {
			return objectf(key, "is damaged: entry %d: %w", index*bundleWidth+int64(i), err)
		}
	}
	return nil
}

// issuer returns the issuer with that fingerprint, read once.
func (c *fsck) issuer(ctx context.Context, fingerprint [32]byte) (*x509.Certificate, error) {
	c.issuers.mu.Lock()
	defer c.issuers.mu.Unlock()
	if cert, ok := c.issuers.found[fingerprint]; ok {
		return cert, nil
	}
	key := c.l.publicKey("issuer/" + hex.EncodeToString(fingerprint[:]))
	der, err := c.get(ctx, key)
	if err != nil {
		return nil, err
	}
	if sha256.Sum256(der) != fingerprint {
		return nil, objectf(key, "is damaged: it is not the certificate of that name")
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		cert = nil // the chain was accepted as it is; nothing can be verified with it
	}
	c.issuers.found[fingerprint] = cert
	c.total.Add(1)
	c.step()
	return cert, nil
}

// leftovers verifies the partial tiles and bundles that are left of smaller checkpoints.
func (c *fsck) leftovers(ctx context.Context) error {
	prefix := c.l.publicKey("tile/")
	for key, err := range c.l.o.Bucket.List(ctx, prefix) {
		if err != nil {
			return fmt.Errorf("listing the tiles: %w", err)
		}
		level, path, _ := strings.Cut(strings.TrimPrefix(key, prefix), "/")
		if !strings.Contains(path, ".p/") {
			continue
		}
		isBundle := level == "entries" || level == "data"
		if isBundle {
			level = "0"
		}
		l, index, width, err := layout.ParseTileLevelIndexPartial(level, path)
		if err != nil || l >= tileLevels || index > uint64(c.pub.Size) {
			continue // no tile of ours
		}
		t := tileID{int(l), int64(index)}
		if covers := c.pub.Size >> (layout.TileHeight * t.level); t.index*tileWidth+int64(width) > covers {
			continue // of a checkpoint to come
		}
		if err := c.leftover(ctx, key, t, isBundle); err != nil {
			return err
		}
	}
	return nil
}

// leftover verifies the partial tile or bundle at key against what has been verified of its place.
func (c *fsck) leftover(ctx context.Context, key string, t tileID, isBundle bool) error {
	edge := 0
	if t.index == c.pub.Size>>(layout.TileHeight*(t.level+1)) {
		edge = edgeWidth(c.pub.Size, t.level)
	}
	at := func(width int) string {
		if isBundle {
			return c.l.bundleKey(t.index, width)
		}
		return c.l.tileKey(t, width)
	}
	old, _, err := c.l.o.Bucket.Get(ctx, key, storage.Range{})
	if errors.Is(err, fs.ErrNotExist) || key == at(edge) {
		return nil // collected meanwhile, or verified already
	}
	if err != nil {
		return err
	}
	whole, err := c.part(ctx, at(edge), at(0))
	if err != nil {
		return err
	}
	n := len(old) / sha256.Size
	if isBundle {
		entries, serr := c.l.o.Layout.Split(old)
		if n = len(entries); serr != nil {
			n = 0
		}
	}
	if !bytes.HasPrefix(whole, old) || key != at(n) {
		return objectf(key, "is damaged: it is not how %s begins", at(edge))
	}
	c.total.Add(1)
	c.step()
	return nil
}
