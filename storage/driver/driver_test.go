package driver_test

import (
	"bytes"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"tallywood/storage/driver"
	"tallywood/storage/mem"
)

func TestEmptyLogPublishesSizeZero(t *testing.T) {
	b := mem.New()
	l := open(t, options(t, b))
	stop := lead(t, l)
	p, err := l.Await(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if tree := openNote(t, p.Note); tree.N != 0 || tree.Hash.String() != "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=" {
		t.Fatalf("checkpoint of size %d, root %v", tree.N, tree.Hash)
	}
	quit(t, l, stop)
	if tree := stored(t, b); tree.N != 0 {
		t.Fatalf("stored checkpoint of size %d", tree.N)
	}
}

// TestRestartAtEverySize opens, grows and leaves a log at sizes around each boundary of tiles.
func TestRestartAtEverySize(t *testing.T) {
	b := mem.New()
	sizes := []int64{0, 1, 2, 3, 254, 255, 256, 257, 258, 511, 512, 513, 767, 768, 1023, 1024, 1025}
	o := newOracle(t, sizes[len(sizes)-1])
	at := int64(0)
	for _, size := range sizes {
		l := open(t, options(t, b))
		if head, root := l.Head(); head != at || root != o.root(t, at) {
			t.Fatalf("opened at size %d, not %d, or with another root", head, at)
		}
		stop := lead(t, l)
		add(t, l, at, size)
		at = size
		checkProofs(t, l, o, size)
		quit(t, l, stop)
		if tree := stored(t, b); tree.N != size || tree.Hash != tlog.Hash(o.root(t, size)) {
			t.Fatalf("stored checkpoint of size %d, root %v", tree.N, tree.Hash)
		}
	}
}

// checkProofs verifies proofs of entries and of older sizes, and the entries themselves.
func checkProofs(t *testing.T, l *driver.Log, o *oracle, size int64) {
	t.Helper()
	root := tlog.Hash(o.root(t, size))
	for _, i := range []int64{0, 1, 128, 255, 256, 300, size / 2, size - 1} {
		if i < 0 || i >= size {
			continue
		}
		hashes, err := l.InclusionProof(t.Context(), i, size)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckRecord(proofOf(hashes), size, root, i, tlog.RecordHash(data(i))); err != nil {
			t.Fatalf("entry %d in size %d: %v", i, size, err)
		}
		e, err := l.Entry(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(e[2:], data(i)) {
			t.Fatalf("entry %d is %q", i, e)
		}
		if i == 0 {
			continue
		}
		if hashes, err = l.ConsistencyProof(t.Context(), i, size); err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckTree(proofOf(hashes), size, root, i, o.root(t, i)); err != nil {
			t.Fatalf("size %d in size %d: %v", i, size, err)
		}
	}
}

func proofOf(hashes [][]byte) []tlog.Hash {
	var p []tlog.Hash
	for _, h := range hashes {
		p = append(p, tlog.Hash(slices.Clone(h)))
	}
	return p
}
