package driver_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"tallywood/storage"
	"tallywood/storage/driver"
)

const origin = "log.example.org"

// zeros makes note.GenerateKey deterministic: the same keys in every test.
type zeros struct{ r *rand.ChaCha8 }

func (z zeros) Read(p []byte) (int, error) { return z.r.Read(p) }

// newKey returns the signer of the given log and its vkey.
func newKey(t testing.TB, name string) (note.Signer, string) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(zeros{rand.NewChaCha8(sha256.Sum256([]byte(name)))}, name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	return s, vkey
}

// options are those of a log without witnesses in b. Outside of a bubble its clients are patient, for
// there time passes while it works.
func options(t testing.TB, b storage.Bucket) driver.Options {
	t.Helper()
	s, vkey := newKey(t, origin)
	o := driver.Options{
		Bucket: b, Name: "test", Origin: origin, Layout: driver.TlogTiles(),
		Signers: []note.Signer{s}, VKeys: []string{vkey},
	}
	if time.Now().Year() > 2001 { // the clock of a bubble begins with the year 2000
		o.QuorumTimeout, o.MaxQueueAge, o.MaxUnpublished, o.DrainTimeout = time.Minute, time.Minute, time.Minute, time.Minute
	}
	return o
}

// open opens the log, and closes it when the test ends.
func open(t testing.TB, o driver.Options) *driver.Log {
	t.Helper()
	l, err := driver.Open(t.Context(), o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// lead runs the log and returns what stops it and returns Run's error.
func lead(t testing.TB, l *driver.Log) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { stop() })
	for !driver.Leading(l) {
		time.Sleep(time.Millisecond)
	}
	return stop
}

// quit stops a log that must have run well, and closes it.
func quit(t testing.TB, l *driver.Log, stop func() error) {
	t.Helper()
	if err := stop(); err != nil {
		t.Fatalf("Run: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

// data is the content of entry i.
func data(i int64) []byte { return fmt.Appendf(nil, "entry %d", i) }

// add adds entries i with from ≤ i < to, waits until they are published, and checks that entry i
// has index i.
func add(t testing.TB, l *driver.Log, from, to int64) {
	t.Helper()
	var futures []tessera.IndexFuture
	for i := from; i < to; i++ {
		futures = append(futures, l.Add(t.Context(), tessera.NewEntry(data(i))))
	}
	for i, f := range futures {
		index, err := f()
		if err != nil {
			t.Fatalf("adding entry %d: %v", from+int64(i), err)
		}
		if int64(index.Index) != from+int64(i) {
			t.Fatalf("entry %d has index %d", from+int64(i), index.Index)
		}
	}
	if _, err := l.Await(t.Context(), to); err != nil {
		t.Fatal(err)
	}
}

// oracle is the same tree by golang.org/x/mod/sumdb/tlog.
type oracle struct{ hashes []tlog.Hash }

func (o *oracle) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, i := range indexes {
		out = append(out, o.hashes[i])
	}
	return out, nil
}

// newOracle returns the tree of entries 0 to size-1.
func newOracle(t testing.TB, size int64) *oracle {
	t.Helper()
	o := new(oracle)
	for i := range size {
		h, err := tlog.StoredHashes(i, data(i), o)
		if err != nil {
			t.Fatal(err)
		}
		o.hashes = append(o.hashes, h...)
	}
	return o
}

func (o *oracle) root(t testing.TB, size int64) [32]byte {
	t.Helper()
	h, err := tlog.TreeHash(size, o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// get returns the object at key, nil if there is none.
func get(t testing.TB, b storage.Bucket, key string) []byte {
	t.Helper()
	data, _, err := b.Get(context.Background(), key, storage.Range{})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return data
}

// put overwrites the object at key.
func put(t testing.TB, b storage.Bucket, key string, data []byte) {
	t.Helper()
	if _, err := b.Put(context.Background(), key, data, storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

// stored returns the size and root of the bucket's checkpoint, which must verify.
func stored(t testing.TB, b storage.Bucket) tlog.Tree {
	t.Helper()
	return openNote(t, get(t, b, "logs/test/checkpoint"))
}

func openNote(t testing.TB, raw []byte) tlog.Tree {
	t.Helper()
	_, vkey := newKey(t, origin)
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(raw, note.VerifierList(v))
	if err != nil {
		t.Fatalf("opening checkpoint %q: %v", raw, err)
	}
	var size int64
	var root string
	if _, err := fmt.Sscanf(n.Text, origin+"\n%d\n%s\n", &size, &root); err != nil {
		t.Fatalf("parsing checkpoint %q: %v", n.Text, err)
	}
	h, err := tlog.ParseHash(root)
	if err != nil {
		t.Fatal(err)
	}
	return tlog.Tree{N: size, Hash: h}
}
