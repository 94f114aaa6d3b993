package posix_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tallywood/storage"
	"tallywood/storage/posix"
)

// swapper swaps one private object again and again.
type swapper struct {
	t   *testing.T
	b   *posix.Bucket
	key string
	v   storage.Version
}

func newSwapper(t *testing.T, b *posix.Bucket, key string) *swapper {
	t.Helper()
	v, err := b.Put(t.Context(), key, []byte("first"), storage.PutOptions{If: storage.Absent()})
	if err != nil {
		t.Fatal(err)
	}
	return &swapper{t, b, key, v}
}

func (s *swapper) swap(content string) {
	s.t.Helper()
	var err error
	if s.v, err = s.b.Put(s.t.Context(), s.key, []byte(content), storage.PutOptions{If: storage.Match(s.v)}); err != nil {
		s.t.Fatal(err)
	}
	data, v, err := s.b.Get(s.t.Context(), s.key, storage.Range{})
	if err != nil || string(data) != content || v != s.v {
		s.t.Fatalf("%s is %q of version %s, %v", s.key, data, v, err)
	}
}

func inode(t *testing.T, name string) uint64 {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

// TestSwapsOverwriteFilesInTurn has contents of all lengths, and no more than two files for them.
func TestSwapsOverwriteFilesInTurn(t *testing.T) {
	dir := t.TempDir()
	s := newSwapper(t, open(t, dir), "state/w/log")
	seen := map[uint64]bool{}
	for i := range 20 {
		s.swap(fmt.Sprintf("%0*d", 1+i*7919%5000, i))
		seen[inode(t, filepath.Join(dir, s.key))] = true
	}
	s.swap("")
	if len(seen) != 2 {
		t.Errorf("%d files were used", len(seen))
	}
	wantTemps(t, dir, 1)
	// What others may read, and what is not swapped, gets a new file each time.
	other := newSwapper(t, s.b, "logs/w/checkpoint")
	held := inode(t, filepath.Join(dir, other.key))
	other.swap("second")
	wantTemps(t, dir, 1)
	if inode(t, filepath.Join(dir, other.key)) == held {
		t.Error("an object that others may read was overwritten")
	}
}

// TestSwapLeavesReadersWhatTheyRead has readers that opened the object before, in this process and
// by another name.
func TestSwapLeavesReadersWhatTheyRead(t *testing.T) {
	dir := t.TempDir()
	s := newSwapper(t, open(t, dir), "state/w/log")
	name := filepath.Join(dir, s.key)
	for i := range 6 {
		reader, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		link := filepath.Join(dir, fmt.Sprintf("backup%d", i))
		if i%2 == 1 { // a backup of hard links, without an open file
			reader.Close()
			if err := os.Link(name, link); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for j := range 4 {
			s.swap(fmt.Sprintf("content %d.%d", i, j))
		}
		var got []byte
		if i%2 == 1 {
			got, err = os.ReadFile(link)
		} else {
			got, err = io.ReadAll(reader)
		}
		if err != nil || string(got) != string(want) {
			t.Errorf("reader %d of %q reads %q, %v", i, want, got, err)
		}
	}
}

// TestNoFileIsOverwrittenThatMayComeBack holds the sync that makes a swap durable, and lets another
// object be swapped meanwhile: a loss of power would bring the first one's old file back.
func TestNoFileIsOverwrittenThatMayComeBack(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	d := watch(b, dir)
	first, second := newSwapper(t, b, "state/a/log"), newSwapper(t, b, "state/b/log")
	var hold atomic.Bool
	reached, release := make(chan struct{}), make(chan struct{})
	b.SetAround(func(e posix.Effect, run func() error) error {
		if e.Op == "syncdir" && e.Name == "state/a" && hold.CompareAndSwap(true, false) {
			close(reached)
			<-release
		}
		return d.around(e, run)
	})
	hold.Store(true)
	var wg sync.WaitGroup
	wg.Go(func() { first.swap("second") })
	<-reached
	for i := range 5 {
		second.swap(fmt.Sprint("other ", i))
		if got, ok := d.survivor("state/a/log"); !ok || got != "first" {
			t.Errorf("survives as %q, %v", got, ok)
		}
	}
	close(release)
	wg.Wait()
	if got, ok := d.survivor("state/a/log"); !ok || got != "second" {
		t.Errorf("survives as %q, %v", got, ok)
	}
	if err := d.err(); err != nil {
		t.Error(err)
	}
}

// TestLostSparesAreReplaced has an operator, or another process after an hour, remove them.
func TestLostSparesAreReplaced(t *testing.T) {
	dir := t.TempDir()
	s := newSwapper(t, open(t, dir), "state/w/log")
	s.swap("second")
	names, err := filepath.Glob(filepath.Join(dir, ".tmp", "*"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	if err := os.Remove(names[0]); err != nil {
		t.Fatal(err)
	}
	s.swap("third")
	if err := os.Chmod(filepath.Join(dir, s.key), 0o640); err != nil {
		t.Fatal(err)
	}
	s.swap("fourth")
	s.swap("fifth") // not by the file of the third, which has another mode
	if info, err := os.Stat(filepath.Join(dir, s.key)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// TestSwapOfASymbolicLink replaces the link, as a rename does, and leaves what it points to alone.
func TestSwapOfASymbolicLink(t *testing.T) {
	dir := t.TempDir()
	s := newSwapper(t, open(t, dir), "state/w/log")
	name, moved := filepath.Join(dir, s.key), filepath.Join(dir, "state/w/moved")
	if err := os.Rename(name, moved); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("moved", name); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		s.swap(fmt.Sprint("content ", i))
	}
	if data, err := os.ReadFile(moved); err != nil || string(data) != "first" {
		t.Errorf("the link's target is %q, %v", data, err)
	}
}

// TestLockFilesMayBeRemoved has somebody clean up below a process that keeps them open: what locks
// the next swap is the file that other processes find.
func TestLockFilesMayBeRemoved(t *testing.T) {
	dir := t.TempDir()
	s := newSwapper(t, open(t, dir), "state/w/log")
	for i := range 3 {
		s.swap(fmt.Sprint("content ", i))
		names, err := filepath.Glob(filepath.Join(dir, ".lock", "keys-*"))
		if err != nil || len(names) != 1 {
			t.Fatalf("lock files %v, %v", names, err)
		}
		if i == 0 {
			if err := os.Remove(names[0]); err != nil {
				t.Fatal(err)
			}
			continue
		}
		f, err := os.Open(names[0])
		if err != nil {
			t.Fatal(err)
		}
		// Nobody holds it between two swaps.
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			t.Error(err)
		}
		s.b.SetLockWait(20 * time.Millisecond)
		if _, err := s.b.Put(t.Context(), s.key, nil, storage.PutOptions{If: storage.Match(s.v)}); !errors.Is(err, posix.ErrLocked) {
			t.Errorf("swap while another holds the lock: %v", err)
		}
		s.b.SetLockWait(time.Minute)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
