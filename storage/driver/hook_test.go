package driver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"tallywood/storage"
)

// hooked is a bucket that calls back before each operation: the moment at which another process
// does something.
type hooked struct {
	storage.Bucket
	before func(op, key string)
}

func (h *hooked) Get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	h.before("get", key)
	return h.Bucket.Get(ctx, key, r)
}

func (h *hooked) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	h.before("put", key)
	return h.Bucket.Put(ctx, key, data, o)
}

// once calls do before the first operation on key.
func once(op, key string, do func()) func(op, key string) {
	do = sync.OnceFunc(do)
	return func(o, k string) {
		if o == op && k == key {
			do()
		}
	}
}

// watched is a bucket that checks the checkpoint at each write: its size never falls.
type watched struct {
	storage.Bucket
	t *testing.T

	mu   sync.Mutex
	size int64
}

func (w *watched) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v, err := w.Bucket.Put(ctx, key, data, o)
	if err == nil && key == "logs/test/checkpoint" {
		tree := openNote(w.t, data)
		if tree.N < w.size {
			w.t.Errorf("the bucket's checkpoint went from size %d to %d", w.size, tree.N)
		}
		w.size = tree.N
	}
	return v, err
}

// notary is a note.Signer that checks what it signs: one root for each size, and only what is
// committed and has its tiles in the bucket.
type notary struct {
	note.Signer
	t *testing.T
	b storage.Bucket

	mu    sync.Mutex
	roots map[int64]tlog.Hash
	slots int              // records read so far
	sizes map[int64]string // the roots in them, in hex
}

func newNotary(t *testing.T, b storage.Bucket) *notary {
	s, _ := newKey(t, origin)
	return &notary{Signer: s, t: t, b: b, roots: make(map[int64]tlog.Hash), sizes: make(map[int64]string)}
}

func (n *notary) Sign(msg []byte) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	lines := strings.Split(string(msg), "\n")
	var size int64
	if _, err := fmt.Sscan(lines[1], &size); err != nil {
		n.t.Fatal(err)
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		n.t.Fatal(err)
	}
	if old, ok := n.roots[size]; ok && old != root {
		n.t.Errorf("signing root %v at size %d after %v", root, size, old)
	}
	n.roots[size] = root
	if !n.committed(size, root) {
		n.t.Errorf("signing size %d, which is not committed", size)
	}
	for _, tile := range tlog.NewTiles(8, 0, size) {
		key := "logs/test/" + strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		if get(n.t, n.b, key) == nil {
			n.t.Errorf("signing size %d without %s", size, key)
		}
		if tile.L == 0 {
			if key = strings.Replace(key, "tile/0/", "tile/entries/", 1); get(n.t, n.b, key) == nil {
				n.t.Errorf("signing size %d without %s", size, key)
			}
		}
	}
	return n.Signer.Sign(msg)
}

func (n *notary) committed(size int64, root tlog.Hash) bool {
	for ; ; n.slots++ {
		raw := get(n.t, n.b, slotKey(n.slots))
		if raw == nil {
			return n.sizes[size] == fmt.Sprintf("%x", root[:])
		}
		h := parseRecord(n.t, raw)
		n.sizes[h.NewSize] = h.NewRoot
	}
}

// record is what tests need to know of a header.
type record struct {
	N        int64    `json:"n"`
	Type     string   `json:"type"`
	Epoch    int64    `json:"epoch"`
	Leader   int64    `json:"leader"`
	NewSize  int64    `json:"new_size"`
	NewRoot  string   `json:"new_root"`
	Range    []string `json:"range"`
	Released bool     `json:"released"`

	line []byte
}

func parseRecord(t testing.TB, raw []byte) record {
	t.Helper()
	line, _, _ := strings.Cut(string(raw), "\n")
	r := record{line: []byte(line + "\n")}
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		t.Fatal(err)
	}
	return r
}
