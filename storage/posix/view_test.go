//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package posix_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tallywood/storage"
	"tallywood/storage/posix"
)

// TestViewLeavesTheDirectoryAsItIs looks at a bucket, and at a directory that is none.
func TestViewLeavesTheDirectoryAsItIs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "objects")
	if _, err := posix.View(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is missing: %v", err)
	}
	b, err := posix.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Put(t.Context(), "state/x", []byte("x"), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, private := range []string{".tmp", ".lock"} {
		if err := os.RemoveAll(filepath.Join(dir, private)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "state"), 0o755); err != nil {
		t.Fatal(err)
	}
	v, err := posix.View(dir)
	if err != nil {
		t.Fatal(err)
	}
	if data, _, err := v.Get(t.Context(), "state/x", storage.Range{}); err != nil || string(data) != "x" {
		t.Errorf("got %q, %v", data, err)
	}
	if at, err := v.Modified(t.Context(), "state/x"); err != nil || time.Since(at) > time.Hour {
		t.Errorf("modified at %v, %v", at, err)
	}
	if _, err := v.Modified(t.Context(), "state/y"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing key: %v", err)
	}
	_, put := v.Put(t.Context(), "state/y", nil, storage.PutOptions{If: storage.Absent()})
	_, lock := v.Lock("state/lock")
	for what, err := range map[string]error{"Put": put, "Delete": v.Delete(t.Context(), "state/x"), "Lock": lock} {
		if !errors.Is(err, posix.ErrReadOnly) {
			t.Errorf("%s: %v", what, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("the directory has %v, %v", entries, err)
	}
	if _, err := posix.Open(dir); !errors.Is(err, posix.ErrOpenToOthers) {
		t.Errorf("a state/ that others may enter: %v", err)
	}
}

// TestNetworkKnowsLocalDisks asks for the file system of the tests, and of one that is none.
func TestNetworkKnowsLocalDisks(t *testing.T) {
	b, err := posix.Open(filepath.Join(t.TempDir(), "objects"))
	if err != nil {
		t.Fatal(err)
	}
	if kind, err := b.Network(); err != nil || kind != "" {
		t.Errorf("got %q, %v", kind, err)
	}
}
