package driver_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/api/layout"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"tallywood/storage"
	"tallywood/storage/driver"
	"tallywood/storage/mem"
)

// A vast bucket publishes a log of any size whose entries are all the same, so that its tiles and
// entry bundles can be made when they are read. What is written lies in memory, before it.
type vast struct {
	*mem.Bucket
	size  int64
	gets  atomic.Int64
	nodes [64]tlog.Hash // of a full subtree, by its height
	entry string        // as in a bundle
}

// newVast returns a bucket with size entries of width bytes each.
func newVast(size int64, width int) *vast {
	v := &vast{Bucket: mem.New(), size: size}
	v.entry = string(binary.BigEndian.AppendUint16(nil, uint16(width))) + strings.Repeat("x", width)
	v.nodes[0] = tlog.RecordHash([]byte(v.entry[2:]))
	for i := 1; i < len(v.nodes); i++ {
		v.nodes[i] = tlog.NodeHash(v.nodes[i-1], v.nodes[i-1])
	}
	return v
}

func (v *vast) root() tlog.Hash {
	var root tlog.Hash
	for n := v.size; n > 0; n &= n - 1 {
		height := bits.TrailingZeros64(uint64(n))
		if n == v.size {
			root = v.nodes[height]
			continue
		}
		root = tlog.NodeHash(v.nodes[height], root)
	}
	return root
}

// checkpoint is that of the published log.
func (v *vast) checkpoint(t testing.TB) []byte {
	t.Helper()
	text := tlog.FormatTree(tlog.Tree{N: v.size, Hash: v.root()})
	signed, err := note.Sign(&note.Note{Text: strings.Replace(string(text), "go.sum database tree", origin, 1)}, options(t, v).Signers...)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// establish makes it a log with one record for each of commits more entries.
func (v *vast) establish(t testing.TB, commits int64) {
	t.Helper()
	o := options(t, v)
	if err := driver.Establish(t.Context(), o, driver.Published{Size: v.size, Root: v.root(), Note: v.checkpoint(t)}); err != nil {
		t.Fatal(err)
	}
	l := open(t, o)
	stop := lead(t, l)
	for range commits {
		if _, err := l.Add(t.Context(), tessera.NewEntry([]byte(v.entry[2:])))(); err != nil {
			t.Fatal(err)
		}
	}
	quit(t, l, stop)
}

// made returns what the published log has at key.
func (v *vast) made(key string) ([]byte, bool) {
	path, ok := strings.CutPrefix(key, "logs/test/tile/")
	if !ok {
		return nil, false
	}
	head, tail, _ := strings.Cut(path, "/")
	level := 0
	if head != "entries" {
		if _, err := fmt.Sscan(head, &level); err != nil {
			return nil, false
		}
	}
	name, suffix, partial := strings.Cut(tail, ".p/")
	width := layout.TileWidth
	if partial {
		if _, err := fmt.Sscan(suffix, &width); err != nil {
			return nil, false
		}
	}
	var index int64
	for _, group := range strings.Split(name, "/") {
		var n int64
		if _, err := fmt.Sscanf(strings.TrimPrefix(group, "x"), "%03d", &n); err != nil {
			return nil, false
		}
		index = 1000*index + n
	}
	row := v.size >> (layout.TileHeight * level)
	if partial && (index != row/layout.TileWidth || int64(width) != row%layout.TileWidth) || !partial && (index+1)*layout.TileWidth > row {
		return nil, false
	}
	if head == "entries" {
		return []byte(strings.Repeat(v.entry, width)), true
	}
	return []byte(strings.Repeat(string(v.nodes[layout.TileHeight*level][:]), width)), true
}

func (v *vast) Get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	v.gets.Add(1)
	data, version, err := v.Bucket.Get(ctx, key, r)
	if errors.Is(err, fs.ErrNotExist) {
		if made, ok := v.made(key); ok {
			return made, "made", nil
		}
	}
	return data, version, err
}

func (v *vast) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	if _, ok := v.made(key); ok && o.If.IsAbsent() {
		return "", storage.ErrPrecondition
	}
	return v.Bucket.Put(ctx, key, data, o)
}

// A far bucket takes a second for each request.
type far struct {
	*vast
	now, most atomic.Int64 // requests under way
	tiles     atomic.Int64
}

func (f *far) request(do func()) {
	n := f.now.Add(1)
	defer f.now.Add(-1)
	for most := f.most.Load(); n > most && !f.most.CompareAndSwap(most, n); most = f.most.Load() {
	}
	time.Sleep(time.Second)
	do()
}

func (f *far) Get(ctx context.Context, key string, r storage.Range) (data []byte, v storage.Version, err error) {
	if strings.HasPrefix(key, "logs/test/tile/") && !strings.Contains(key, "/entries/") {
		f.tiles.Add(1)
	}
	f.request(func() { data, v, err = f.vast.Get(ctx, key, r) })
	return data, v, err
}

func (f *far) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (v storage.Version, err error) {
	f.request(func() { v, err = f.vast.Put(ctx, key, data, o) })
	return v, err
}
