//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package posix_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tallywood/storage"
	"tallywood/storage/posix"
	"tallywood/storage/storagetest"
)

func TestConformance(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Bucket { return open(t, t.TempDir()) })
}

// TestConformanceOfTwoBuckets runs the suite on a bucket whose operations alternate between two
// that know nothing of each other.
func TestConformanceOfTwoBuckets(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Bucket {
		dir := t.TempDir()
		return &alternating{buckets: [2]*posix.Bucket{open(t, dir), open(t, dir)}}
	})
}

func TestStateIsPrivate(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0)) // nothing but the bucket's own modes
	dir := t.TempDir()
	b := open(t, dir)
	for _, key := range []string{"state/l/log/0", "logs/l/tile/0", "tuf/root.json"} {
		for _, c := range []storage.Condition{{}, storage.Absent()} {
			_, _ = b.Put(t.Context(), key, nil, storage.PutOptions{If: c})
		}
	}
	if unlock, err := b.Lock("state/l/lock"); err != nil || unlock() != nil {
		t.Error(err)
	}
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, name)
		top, _, _ := strings.Cut(rel, "/")
		want := fs.FileMode(0o644)
		if e.IsDir() {
			want = 0o755
		}
		if top == "state" || top == ".tmp" || top == ".lock" {
			want &= 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %04o, want %04o", rel, info.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestOpenRefusesStateOpenToOthers(t *testing.T) {
	for _, name := range []string{"state", ".tmp", ".lock"} {
		for _, mode := range []fs.FileMode{0o755, 0o710, 0o701} {
			dir := t.TempDir()
			b := open(t, dir)
			if _, err := b.Put(t.Context(), "state/key", nil, storage.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			private := filepath.Join(dir, name)
			if err := os.Chmod(private, mode); err != nil {
				t.Fatal(err)
			}
			if _, err := posix.Open(dir); err == nil || !strings.Contains(err.Error(), "chmod 0700 "+private) {
				t.Errorf("%s with mode %04o: %v", name, mode, err)
			}
		}
	}
}

func TestOpenMakesOnlyTheLastDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "objects")
	open(t, dir)
	if _, err := posix.Open(filepath.Join(dir, "not", "there")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing parent: %v", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := posix.Open(file); err == nil {
		t.Error("a file was opened as a bucket")
	}
}

func TestOpenRemovesStaleTemporaryFilesOnly(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	if _, err := b.Put(t.Context(), "state/key", nil, storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * time.Hour)
	write := func(name string, mtime time.Time) {
		name = filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Chtimes(name, mtime, mtime)); err != nil {
			t.Fatal(err)
		}
	}
	write(".tmp/dead", old)
	write(".tmp/alive", time.Now().Add(-time.Minute))
	write(".lock/held-x", old)
	write("state/key", old)
	open(t, dir)
	for name, want := range map[string]bool{".tmp/dead": false, ".tmp/alive": true, ".lock/held-x": true, "state/key": true} {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", name, err == nil, want)
		}
	}
}

// TestOwnFilesAreNoObjects looks for what the bucket keeps beside objects through its front door.
func TestOwnFilesAreNoObjects(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	for _, c := range []storage.Condition{storage.Absent(), {}} {
		if _, err := b.Put(t.Context(), "state/l/head", []byte("1"), storage.PutOptions{If: c}); err != nil {
			t.Fatal(err)
		}
	}
	unlock, err := b.Lock("state/l/lock")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if err := os.WriteFile(filepath.Join(dir, ".tmp", "left"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"", ".", ".tmp", ".tmp/", ".lock/", "state/"} {
		for key, err := range b.List(t.Context(), prefix) {
			if err != nil || key != "state/l/head" {
				t.Errorf("prefix %q lists %q, %v", prefix, key, err)
			}
		}
	}
	if _, _, err := b.Get(t.Context(), "state/l/lock", storage.Range{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lock reads as an object: %v", err)
	}
	for _, key := range []string{".tmp/left", ".lock/x", ".tmp", ".lock"} {
		if _, _, err := b.Get(t.Context(), key, storage.Range{}); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("getting %s: %v, want it refused", key, err)
		}
		if _, err := b.Put(t.Context(), key, nil, storage.PutOptions{}); err == nil {
			t.Errorf("putting %s: want it refused", key)
		}
		if err := b.Delete(t.Context(), key); err == nil {
			t.Errorf("deleting %s: want it refused", key)
		}
		if _, err := b.Lock(key); err == nil {
			t.Errorf("locking %s: want it refused", key)
		}
	}
	wantTemps(t, dir, 1)
}

func TestSymbolicLinkDoesNotLeaveTheBucket(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	b := open(t, dir)
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Put(t.Context(), "logs/l/checkpoint", nil, storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	up, err := filepath.Rel(filepath.Join(dir, "logs"), outside)
	if err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"absolute": outside, "relative": up} {
		if err := os.Symlink(target, filepath.Join(dir, "logs", name)); err != nil {
			t.Fatal(err)
		}
		if data, _, err := b.Get(t.Context(), "logs/"+name+"/secret", storage.Range{}); err == nil {
			t.Errorf("%s link: read %q", name, data)
		}
		for _, c := range []storage.Condition{{}, storage.Absent()} {
			if _, err := b.Put(t.Context(), "logs/"+name+"/planted", nil, storage.PutOptions{If: c}); err == nil {
				t.Errorf("%s link: wrote", name)
			}
		}
		if err := b.Delete(t.Context(), "logs/"+name+"/secret"); err == nil {
			t.Errorf("%s link: deleted", name)
		}
	}
	for key, err := range b.List(t.Context(), "") {
		if err != nil || key != "logs/l/checkpoint" {
			t.Errorf("listed %q, %v", key, err)
		}
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
		t.Errorf("outside: %v, %v", entries, err)
	}
}

func TestDirectoryIsNoObject(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	if err := os.MkdirAll(filepath.Join(dir, "logs", "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Get(t.Context(), "logs/empty", storage.Range{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("getting a directory: %v", err)
	}
	for _, c := range []storage.Condition{{}, storage.Absent()} {
		if _, err := b.Put(t.Context(), "logs/empty", nil, storage.PutOptions{If: c}); err == nil || errors.Is(err, storage.ErrPrecondition) {
			t.Errorf("putting over a directory: %v", err)
		}
	}
	if err := b.Delete(t.Context(), "logs/empty"); err != nil {
		t.Errorf("deleting a directory, an absent key: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "logs", "empty")); err != nil {
		t.Errorf("the directory is gone: %v", err)
	}
	wantTemps(t, dir, 0)
}

// TestRemovedDirectoriesAreMadeAgain is an operator who cleans up under a running process.
func TestRemovedDirectoriesAreMadeAgain(t *testing.T) {
	for _, c := range []storage.Condition{{}, storage.Absent()} {
		dir := t.TempDir()
		b := open(t, dir)
		if _, err := b.Put(t.Context(), "a/b/c/1", nil, storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(dir, "a", "b")); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Put(t.Context(), "a/b/c/2", nil, storage.PutOptions{If: c}); err == nil {
			t.Error("a put into a directory that is gone succeeded")
		}
		d := watch(b, dir)
		_, err := b.Put(t.Context(), "a/b/c/2", []byte("x"), storage.PutOptions{If: c})
		if got, ok := d.survivor("a/b/c/2"); err != nil || !ok || got != "x" {
			t.Errorf("the put after it: %v, survives as %q, %v", err, got, ok)
		}
	}
}

func BenchmarkCreate33(b *testing.B) {
	content := make([]byte, 8<<10) // a tile, or an entry bundle of a few entries
	key := func(n, i int) string { return fmt.Sprintf("logs/bench/tile/%d/%06d", i%3, n*33+i) }
	b.Run("serial", func(b *testing.B) {
		bucket := open(b, b.TempDir())
		for n := 0; b.Loop(); n++ {
			for i := range 33 {
				create(b, bucket, key(n, i), content)
			}
		}
	})
	b.Run("parallel", func(b *testing.B) {
		bucket := open(b, b.TempDir())
		for n := 0; b.Loop(); n++ {
			var wg sync.WaitGroup
			for i := range 33 {
				wg.Go(func() { create(b, bucket, key(n, i), content) })
			}
			wg.Wait()
		}
	})
}

func create(b *testing.B, bucket *posix.Bucket, key string, content []byte) {
	if _, err := bucket.Put(b.Context(), key, content, storage.PutOptions{If: storage.Absent()}); err != nil {
		b.Error(err)
	}
}

// open opens a bucket that is patient: a busy machine may leave a lock with who does not run.
func open(t testing.TB, dir string) *posix.Bucket {
	t.Helper()
	b, err := posix.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	b.SetLockWait(time.Minute)
	return b
}

// wantTemps checks that n temporary files are left.
func wantTemps(t *testing.T, dir string, n int) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, ".tmp"))
	if err != nil || len(entries) != n {
		t.Errorf("temporary files left: %v, %v; want %d", entries, err, n)
	}
}
