package driver_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"
	tposix "github.com/transparency-dev/tessera/storage/posix"

	"tallywood/internal/bubble"
	"tallywood/storage/driver"
	"tallywood/storage/mem"
)

// tesseraLog writes a log of the given size with Tessera's own POSIX driver and returns its
// directory.
func tesseraLog(t *testing.T, size int64) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "log")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	d, err := tposix.New(ctx, tposix.Config{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	s, _ := newKey(t, origin)
	a, shutdown, _, err := tessera.NewAppender(ctx, d, tessera.NewAppendOptions().WithCheckpointSigner(s).
		WithBatching(256, 10*time.Millisecond).WithCheckpointInterval(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	var futures []tessera.IndexFuture
	for i := range size {
		futures = append(futures, a.Add(ctx, tessera.NewEntry(data(i))))
	}
	for i, f := range futures {
		if index, err := f(); err != nil || index.Index != uint64(i) {
			t.Fatalf("entry %d has index %d, %v", i, index.Index, err)
		}
	}
	if err := shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	return dir
}

// fetchFrom reads a log in a directory; each object goes through change.
func fetchFrom(dir string, change func(path string, data []byte) []byte) driver.Fetch {
	return func(_ context.Context, path string) ([]byte, error) {
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(path)))
		if err == nil && change != nil {
			data = change(path, data)
		}
		return data, err
	}
}

func quiet(int64, int64) {}

// TestImportGoesOnAsTheWriter imports what Tessera's own driver wrote, and goes on.
func TestImportGoesOnAsTheWriter(t *testing.T) {
	for _, size := range []int64{1, 255, 256, 700, 66_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			dir := tesseraLog(t, size)
			b := mem.New()
			var last int64
			p, err := driver.Import(t.Context(), options(t, b), fetchFrom(dir, nil), func(done, all int64) {
				if done < last || all != size {
					t.Errorf("progress went from %d to %d of %d", last, done, all)
				}
				last = done
			})
			if err != nil || p.Size != size || last != size {
				t.Fatalf("imported %d, progress %d, %v", p.Size, last, err)
			}
			checkpoint, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
			if err != nil || string(get(t, b, "logs/test/checkpoint")) != string(checkpoint) {
				t.Errorf("the checkpoint changed: %v", err)
			}
			verify := func(when string) {
				if r, err := driver.Verify(t.Context(), b, "test", nil); err != nil {
					t.Errorf("fsck %s: %v, %+v", when, err, r)
				}
			}
			verify("before anybody led the log")
			l := open(t, options(t, b))
			stop := lead(t, l)
			add(t, l, size, size+300)
			quit(t, l, stop)
			verify("after that")
			checkLog(t, options(t, b), size+300)
			if _, err := driver.Import(t.Context(), options(t, b), fetchFrom(dir, nil), quiet); !errors.Is(err, driver.ErrOtherLog) {
				t.Errorf("importing over a log: %v", err)
			}
		})
	}
}

// TestImportRefusesWhatTheCheckpointDoesNotCover flips one byte of each kind of object.
func TestImportRefusesWhatTheCheckpointDoesNotCover(t *testing.T) {
	dir := tesseraLog(t, 700)
	for _, path := range []string{"checkpoint", "tile/entries/000", "tile/entries/002.p/188", "tile/0/001", "tile/1/000.p/2"} {
		t.Run(path, func(t *testing.T) {
			b := mem.New()
			met := false
			_, err := driver.Import(t.Context(), options(t, b), fetchFrom(dir, func(p string, data []byte) []byte {
				if p == path {
					met = true
					data[len(data)/2] ^= 1
				}
				return data
			}), quiet)
			if err == nil && met {
				t.Error("imported")
			}
			if err == nil { // a hash tile that is not needed: it is made from the entries
				return
			}
			if get(t, b, "logs/test/checkpoint") != nil || get(t, b, "state/test/identity") != nil {
				t.Error("it made a log of it")
			}
			if _, err := driver.Import(t.Context(), options(t, b), fetchFrom(dir, nil), quiet); err != nil {
				t.Errorf("importing the whole one afterwards: %v", err)
			}
		})
	}
}

// TestImportMayBeRepeated cuts an import off after each of its Puts.
func TestImportMayBeRepeated(t *testing.T) {
	dir := tesseraLog(t, 300)
	for n := 0; ; n++ {
		b := mem.New()
		ctx, cancel := context.WithCancel(t.Context())
		var puts atomic.Int64
		o := options(t, &hooked{b, func(op, _ string) {
			if op == "put" && puts.Add(1) > int64(n) {
				cancel()
			}
		}})
		_, err := driver.Import(ctx, o, fetchFrom(dir, nil), quiet)
		cancel()
		if _, rerr := driver.Import(t.Context(), options(t, b), fetchFrom(dir, nil), quiet); rerr != nil {
			t.Fatalf("after %d Puts: %v", n, rerr)
		}
		l := open(t, options(t, b))
		stop := lead(t, l)
		add(t, l, 300, 301)
		quit(t, l, stop)
		if err == nil {
			return
		}
	}
}

func TestImportWantsThePublishedLog(t *testing.T) {
	if _, err := driver.Import(t.Context(), options(t, mem.New()), fetchFrom(t.TempDir(), nil), quiet); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "checkpoint") {
		t.Errorf("an empty directory: %v", err)
	}
	_, vkey := newKey(t, "other.example.org")
	s, _ := newKey(t, "other.example.org")
	o := options(t, mem.New())
	o.Origin, o.VKeys, o.Signers[0] = "other.example.org", []string{vkey}, s
	if _, err := driver.Import(t.Context(), o, fetchFrom(tesseraLog(t, 3), nil), quiet); err == nil || !strings.Contains(err.Error(), "checkpoint") {
		t.Errorf("another key: %v", err)
	}
}

// TestImportWritesInParallel: on a far bucket as fast as on one nearby, nearly.
func TestImportWritesInParallel(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		source := newVast(200*256+77, 4)
		fetch := func(_ context.Context, path string) ([]byte, error) {
			if path == "checkpoint" {
				return source.checkpoint(t), nil
			}
			if data, ok := source.made("logs/test/" + path); ok {
				return data, nil
			}
			return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
		}
		f := &far{vast: newVast(0, 4)}
		begun := time.Now()
		p, err := driver.Import(t.Context(), options(t, f), fetch, quiet)
		if took := time.Since(begun); err != nil || p.Size != source.size || took > 30*time.Second {
			t.Errorf("imported %d entries in %v: %v", p.Size, took, err)
		}
		if most := f.most.Load(); most > 64 {
			t.Errorf("%d requests at a time", most)
		}
	})
}
