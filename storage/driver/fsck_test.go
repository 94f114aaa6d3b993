package driver_test

import (
	"context"
	"crypto/sha256"
	"testing"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/ctonly"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"

	"tallywood/storage"
	"tallywood/storage/driver"
	"tallywood/storage/mem"
)

// fetcher reads a log as its clients do: static files and nothing else.
type fetcher struct {
	b           storage.Bucket
	entriesPath func(uint64, uint8) string
}

func (f fetcher) get(ctx context.Context, path string) ([]byte, error) {
	b, _, err := f.b.Get(ctx, "logs/test/"+path, storage.Range{})
	return b, err
}

func (f fetcher) ReadCheckpoint(ctx context.Context) ([]byte, error) { return f.get(ctx, "checkpoint") }

func (f fetcher) ReadTile(ctx context.Context, l, i uint64, p uint8) ([]byte, error) {
	return f.get(ctx, layout.TilePath(l, i, p))
}

func (f fetcher) ReadEntryBundle(ctx context.Context, i uint64, p uint8) ([]byte, error) {
	return f.get(ctx, f.entriesPath(i, p))
}

var _ fsck.Fetcher = fetcher{}

// checkLog re-derives every resource of the published log with Tessera's own checker.
func checkLog(t *testing.T, o driver.Options, size int64) {
	t.Helper()
	v, err := note.NewVerifier(o.VKeys[0])
	if err != nil {
		t.Fatal(err)
	}
	hasher := tessera.NewMigrationOptions().LeafHasher()
	if o.Layout.Name == "static-ct" {
		hasher = tessera.NewMigrationOptions().WithCTLayout().LeafHasher()
	}
	f := fsck.New(origin, v, fetcher{o.Bucket, o.Layout.EntriesPath}, hasher, fsck.Opts{N: 4})
	if err := f.Check(t.Context()); err != nil {
		t.Fatalf("fsck: %v", err)
	}
	if tree := stored(t, o.Bucket); tree.N != size {
		t.Fatalf("checkpoint of size %d, not %d", tree.N, size)
	}
}

// TestFsck70001 grows a log by batches of 97, which meet the boundaries of tiles at every offset,
// past the first tile of level 2.
func TestFsck70001(t *testing.T) {
	const size = 70_001
	b := mem.New()
	o := options(t, b)
	o.BatchMaxSize = 97
	l := open(t, o)
	stop := lead(t, l)
	for at := int64(0); at < size; {
		next := min(at+9_700, size)
		add(t, l, at, next)
		at = next
	}
	tree := newOracle(t, size)
	if _, root := l.Head(); root != tree.root(t, size) {
		t.Fatal("the root is not that of sumdb/tlog")
	}
	checkProofs(t, l, tree, size)
	checkProofs(t, l, tree, 65_536)
	checkEntries(t, l, 0, size)
	quit(t, l, stop)
	checkLog(t, o, size)

	l = open(t, options(t, b)) // memory is empty now: proofs come from tiles
	checkProofs(t, l, tree, size)
	checkEntries(t, l, 300, 5_000)
}

func checkEntries(t *testing.T, l *driver.Log, from, to int64) {
	t.Helper()
	i := from
	for e, err := range driver.Visit(t.Context(), l, from, to, visited) {
		if err != nil {
			t.Fatal(err)
		}
		if e.first != i {
			t.Fatalf("entries %d and on come after %d", e.first, i)
		}
		for _, e := range e.entries {
			if string(e[2:]) != string(data(i)) {
				t.Fatalf("entry %d is %q", i, e)
			}
			i++
		}
	}
	if i != to {
		t.Fatalf("entries end at %d, not %d", i, to)
	}
}

// visit is what a bundle was visited with.
type visit struct {
	first   int64
	entries [][]byte
}

func visited(first int64, entries [][]byte) (visit, error) { return visit{first, entries}, nil }

// certificate is a static-ct entry; half of them are precertificates.
func certificate(i int64) *ctonly.Entry {
	fingerprint := sha256.Sum256(data(i))
	e := &ctonly.Entry{
		Timestamp: uint64(1_000_000 + i), Certificate: data(i),
		FingerprintsChain: [][32]byte{fingerprint},
	}
	if i%2 == 1 {
		e.IsPrecert, e.Precertificate, e.IssuerKeyHash = true, append(data(i), " poison"...), fingerprint[:]
	}
	return e
}

func TestStaticCT(t *testing.T) {
	b := mem.New()
	o := options(t, b)
	o.Layout = driver.StaticCT()
	at := int64(0)
	for _, size := range []int64{3, 256, 700} {
		l := open(t, o)
		stop := lead(t, l)
		var futures []tessera.IndexFuture
		for i := at; i < size; i++ {
			futures = append(futures, l.AddCT(t.Context(), certificate(i)))
		}
		for _, f := range futures {
			if index, err := f(); err != nil || int64(index.Index) != at {
				t.Fatalf("entry %d has index %d, %v", at, index.Index, err)
			}
			e, err := l.Entry(t.Context(), at)
			if err != nil {
				t.Fatal(err)
			}
			if string(e) != string(certificate(at).LeafData(uint64(at))) {
				t.Fatalf("entry %d is %x", at, e)
			}
			leaf, err := o.Layout.LeafHash(e)
			if err != nil || string(leaf) != string(certificate(at).MerkleLeafHash(uint64(at))) {
				t.Fatalf("entry %d has leaf hash %x, %v", at, leaf, err)
			}
			at++
		}
		if _, err := l.Add(t.Context(), tessera.NewEntry(nil))(); err == nil {
			t.Error("took an entry that is no certificate")
		}
		quit(t, l, stop)
		checkLog(t, o, size)
	}
	if _, err := (fetcher{b, o.Layout.EntriesPath}).get(t.Context(), "tile/data/000"); err != nil {
		t.Error(err)
	}
}

func TestProofsRefuseTamperedTiles(t *testing.T) {
	for _, key := range []string{"logs/test/tile/0/002", "logs/test/tile/entries/002"} {
		b := mem.New()
		l := open(t, options(t, b))
		stop := lead(t, l)
		add(t, l, 0, 1_000)
		quit(t, l, stop)
		tampered := get(t, b, key)
		tampered[100] ^= 1
		put(t, b, key, tampered)
		l = open(t, options(t, b))
		_, proofErr := l.InclusionProof(t.Context(), 515, 1_000)
		_, entryErr := l.Entry(t.Context(), 515)
		if proofErr == nil && entryErr == nil {
			t.Errorf("%s: served proofs and entries from a tampered object", key)
		}
		if _, err := l.Entry(t.Context(), 30); err != nil {
			t.Errorf("%s: entry 30: %v", key, err)
		}
	}
}

func TestReadsOutOfRange(t *testing.T) {
	l := open(t, options(t, mem.New()))
	stop := lead(t, l)
	add(t, l, 0, 3)
	for name, err := range map[string]error{
		"entry":       second(l.Entry(t.Context(), 3)),
		"negative":    second(l.Entry(t.Context(), -1)),
		"inclusion":   second(l.InclusionProof(t.Context(), 3, 3)),
		"future":      second(l.InclusionProof(t.Context(), 0, 4)),
		"consistency": second(l.ConsistencyProof(t.Context(), 2, 1)),
		"late":        second(l.ConsistencyProof(t.Context(), 1, 4)),
		"await":       second(l.Await(t.Context(), 4)),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, err := range driver.Visit(t.Context(), l, 1, 4, visited) {
		if err == nil {
			t.Error("entries: no error")
		}
	}
	for range driver.Visit(t.Context(), l, 0, 3, visited) {
		break // must not leak or block
	}
	quit(t, l, stop)
}

func second[T any](_ T, err error) error { return err }
