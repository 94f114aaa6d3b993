//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package posix_test

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"tallywood/internal/bubble"
	"tallywood/storage"
	"tallywood/storage/posix"
)

// TestPowerLossTakesNothingAcknowledged runs writers of every kind at once, in new and in old
// directories. At the moment a Put or Delete returns, and hence ever after, its effect must be
// among what a loss of power leaves.
func TestPowerLossTakesNothingAcknowledged(t *testing.T) {
	for range 5 {
		dir := t.TempDir()
		b := open(t, dir)
		if err := workload(t, b, watch(b, dir)); err != nil {
			t.Error(err)
		}
	}
}

// TestPowerLossCatchesMutants leaves out one kind of sync at a time, as far as the disk can tell.
func TestPowerLossCatchesMutants(t *testing.T) {
	for name, lie := range map[string]func(e posix.Effect) bool{
		"no data sync":                 func(e posix.Effect) bool { return e.Op == "datasync" },
		"no directory sync":            func(e posix.Effect) bool { return e.Op == "syncdir" && e.Name == "state/l/log" },
		"no sync of new directories":   func(e posix.Effect) bool { return e.Op == "syncdir" && e.Name == "logs/l/tile" },
		"no sync of the bucket itself": func(e posix.Effect) bool { return e.Op == "syncdir" && e.Name == "." },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			b := open(t, dir)
			d := watch(b, dir)
			d.lie = lie
			if err := workload(t, b, d); err == nil {
				t.Error("not noticed")
			}
		})
	}
}

// workload writes to b and returns what it finds to be acknowledged and not durable.
func workload(t *testing.T, b *posix.Bucket, d *disk) error {
	ctx := t.Context()
	var mu sync.Mutex
	var errs []error
	report := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, fmt.Errorf(format, args...))
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { // slots, one writer after the other in one directory
			for j := range 4 {
				key := fmt.Sprintf("state/l/log/%020d", i*4+j)
				_, err := b.Put(ctx, key, []byte(key), storage.PutOptions{If: storage.Absent()})
				if got, ok := d.survivor(key); err != nil || !ok || got != key {
					report("created %s, %v: survives as %q, %v", key, err, got, ok)
				}
			}
		})
		wg.Go(func() { // tiles, each in a new directory, and two writers for each
			for j := range 4 {
				key := fmt.Sprintf("logs/l/tile/%d/%03d.p/%d", i/4, i/2, j)
				_, err := b.Put(ctx, key, []byte(key), storage.PutOptions{If: storage.Absent()})
				if got, ok := d.survivor(key); err != nil && !errors.Is(err, storage.ErrPrecondition) || !ok || got != key {
					report("created %s, %v: survives as %q, %v", key, err, got, ok)
				}
			}
		})
		wg.Go(func() { // two growing objects, swapped by all; the private one overwrites what it was
			for range 6 {
				for _, key := range []string{"logs/l/checkpoint", "state/l/head"} {
					if err := extend(t, b, d, key); err != nil {
						report("swapping: %w", err)
					}
				}
			}
		})
		wg.Go(func() { // an object of one's own, overwritten and deleted
			key := fmt.Sprintf("state/w/%d", i)
			for j := range 4 {
				content := strings.Repeat("x", j)
				_, err := b.Put(ctx, key, []byte(content), storage.PutOptions{})
				if got, ok := d.survivor(key); err != nil || !ok || got != content {
					report("put %s, %v: survives as %q, %v", key, err, got, ok)
				}
			}
			err := b.Delete(ctx, key)
			if got, ok := d.survivor(key); err != nil || ok {
				report("deleted %s, %v: survives as %q", key, err, got)
			}
		})
	}
	wg.Wait()
	return errors.Join(append(errs, d.err())...)
}

// TestDeletingAgainIsDurable fails a Delete after its first key is gone: the next one finds nothing
// there, and must not take that for durable.
func TestDeletingAgainIsDurable(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	d, broken := watch(b, dir), false
	b.SetAround(func(e posix.Effect, run func() error) error {
		if broken && e.Op == "remove" && e.Name == "state/b/y" {
			return errors.New("not now")
		}
		return d.around(e, run)
	})
	for _, key := range []string{"state/a/x", "state/b/y"} {
		if _, err := b.Put(t.Context(), key, []byte("here"), storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	broken = true
	if err := b.Delete(t.Context(), "state/a/x", "state/b/y"); err == nil {
		t.Fatal("the deletion that was to fail did not")
	}
	broken = false
	if err := b.Delete(t.Context(), "state/a/x", "state/b/y", "nowhere/z", "state/a/x/below"); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"state/a/x", "state/b/y"} {
		if got, ok := d.survivor(key); ok {
			t.Errorf("%s survives its deletion as %q", key, got)
		}
	}
}

// extend makes the object at key one byte longer, if nobody else does, and checks that at least
// what it wrote, or what was in its way, survives.
func extend(t *testing.T, b *posix.Bucket, d *disk, key string) error {
	old, v, err := b.Get(t.Context(), key, storage.Range{})
	c := storage.Match(v)
	if errors.Is(err, fs.ErrNotExist) {
		c, err = storage.Absent(), nil
	}
	if err != nil {
		return err
	}
	_, err = b.Put(t.Context(), key, append(old, 'x'), storage.PutOptions{If: c})
	if err != nil && !errors.Is(err, storage.ErrPrecondition) {
		return err
	}
	// Somebody else's object in the way is at least as long as ours would have been.
	if got, ok := d.survivor(key); !ok || len(got) <= len(old) {
		return fmt.Errorf("%s of length %d survives with length %d, %v: %w", key, len(old)+1, len(got), ok, err)
	}
	return nil
}

// TestParallelPutsShareSyncs holds the sync that the first of 32 Puts began until the others wait for the
// next.
func TestParallelPutsShareSyncs(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const puts = 32
		dir := t.TempDir()
		b := open(t, dir)
		if _, err := b.Put(t.Context(), "slots/before", nil, storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		var syncs atomic.Int32
		all := make(chan struct{})
		b.SetAround(func(e posix.Effect, run func() error) error {
			if e.Op == "syncdir" {
				syncs.Add(1)
				<-all
			}
			return run()
		})
		var wg sync.WaitGroup
		for i := range puts {
			wg.Go(func() {
				key := fmt.Sprintf("slots/%d", i)
				if _, err := b.Put(t.Context(), key, []byte(key), storage.PutOptions{If: storage.Absent()}); err != nil {
					t.Error(err)
				}
			})
			if i == 0 {
				synctest.Wait() // its sync has begun, before any other Put
			}
		}
		synctest.Wait()
		close(all)
		wg.Wait()
		if n := syncs.Load(); n != 2 {
			t.Errorf("%d puts took %d syncs, want 2", puts, n)
		}
	})
}

func TestFailedSyncIsFinal(t *testing.T) {
	for _, op := range []string{"datasync", "syncdir"} {
		t.Run(op, func(t *testing.T) {
			b := open(t, t.TempDir())
			v, err := b.Put(t.Context(), "dir/old", []byte("old"), storage.PutOptions{})
			if err != nil {
				t.Fatal(err)
			}
			b.SetAround(func(e posix.Effect, run func() error) error {
				if e.Op == op {
					return syscall.EIO
				}
				return run()
			})
			_, err = b.Put(t.Context(), "dir/new", nil, storage.PutOptions{If: storage.Absent()})
			if !errors.Is(err, posix.ErrSync) || !errors.Is(err, syscall.EIO) || errors.Is(err, storage.ErrPrecondition) {
				t.Errorf("put whose sync fails: %v", err)
			}
			// The disk works again, but what it lost meanwhile it will not say.
			b.SetAround(func(e posix.Effect, run func() error) error {
				t.Errorf("%s %s after a failed sync", e.Op, e.Name)
				return run()
			})
			for name, c := range map[string]storage.Condition{"plain": {}, "create-only": storage.Absent(), "swap": storage.Match(v)} {
				if _, err := b.Put(t.Context(), "dir/old", nil, storage.PutOptions{If: c}); !errors.Is(err, posix.ErrSync) {
					t.Errorf("%s put after a failed sync: %v", name, err)
				}
			}
			if err := b.Delete(t.Context(), "dir/old"); !errors.Is(err, posix.ErrSync) {
				t.Errorf("delete after a failed sync: %v", err)
			}
			if err := b.Sync(t.Context(), "dir"); !errors.Is(err, posix.ErrSync) {
				t.Errorf("sync after a failed sync: %v", err)
			}
			if data, _, err := b.Get(t.Context(), "dir/old", storage.Range{}); err != nil || string(data) != "old" {
				t.Errorf("get after a failed sync: %q, %v", data, err)
			}
		})
	}
}

// TestFailedSyncFailsAllThatShareIt has 16 Puts wait for one sync, which fails.
func TestFailedSyncFailsAllThatShareIt(t *testing.T) {
	const puts = 16
	b := open(t, t.TempDir())
	if _, err := b.Put(t.Context(), "dir/old", nil, storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	var links atomic.Int32
	linked := make(chan struct{})
	b.SetAround(func(e posix.Effect, run func() error) error {
		if e.Op == "syncdir" {
			<-linked
			return syscall.EIO
		}
		err := run()
		if e.Op == "link" && links.Add(1) == puts {
			close(linked)
		}
		return err
	})
	var wg sync.WaitGroup
	for i := range puts {
		wg.Go(func() {
			if _, err := b.Put(t.Context(), fmt.Sprintf("dir/%d", i), nil, storage.PutOptions{If: storage.Absent()}); !errors.Is(err, posix.ErrSync) {
				t.Errorf("put %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

func TestFullDiskIsNotFinal(t *testing.T) {
	for _, op := range []string{"mkdir", "write", "datasync", "link", "rename"} {
		for _, full := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
			t.Run(op+" "+full.Error(), func(t *testing.T) {
				dir := t.TempDir()
				b := open(t, dir)
				opts := storage.PutOptions{}
				if op == "link" {
					opts.If = storage.Absent()
				}
				b.SetAround(func(e posix.Effect, run func() error) error {
					if e.Op == op {
						return full
					}
					return run()
				})
				if _, err := b.Put(t.Context(), "dir/key", []byte("x"), opts); !errors.Is(err, full) || errors.Is(err, posix.ErrSync) {
					t.Errorf("put on a full disk: %v", err)
				}
				b.SetAround(func(_ posix.Effect, run func() error) error { return run() })
				if _, err := b.Put(t.Context(), "dir/key", []byte("x"), opts); err != nil {
					t.Errorf("put when there is room again: %v", err)
				}
				wantTemps(t, dir, 0)
			})
		}
	}
}

// TestFaultAtEveryEffect fails each effect of each kind of Put, before or after it took place, and
// lets the caller do what the protocol says: repeat the Put until its answer is definite.
func TestFaultAtEveryEffect(t *testing.T) {
	for kind, c := range map[string]func(v storage.Version) storage.Condition{
		"plain":       func(storage.Version) storage.Condition { return storage.Condition{} },
		"create-only": func(storage.Version) storage.Condition { return storage.Absent() },
		"swap":        storage.Match,
	} {
		for _, applied := range []bool{false, true} {
			reached := true
			for n := 0; reached; n++ {
				t.Run(fmt.Sprintf("%s, effect %d, applied %v", kind, n, applied), func(t *testing.T) {
					reached = putWithFault(t, kind, c, n, applied)
				})
			}
		}
	}
}

// putWithFault reports whether the Put had an effect n.
func putWithFault(t *testing.T, kind string, c func(storage.Version) storage.Condition, n int, applied bool) bool {
	dir := t.TempDir()
	b := open(t, dir)
	opts := storage.PutOptions{}
	if kind == "swap" {
		v, err := b.Put(t.Context(), "state/dir/key", []byte("old"), storage.PutOptions{})
		if err != nil {
			t.Fatal(err)
		}
		opts.If = c(v)
	} else {
		opts.If = c("")
	}
	var effects atomic.Int32 // the syncs of several directories run at the same time
	op := ""
	b.SetAround(func(e posix.Effect, run func() error) error {
		if int(effects.Add(1))-1 != n {
			return run()
		}
		op = e.Op
		if applied {
			if err := run(); err != nil {
				t.Error(err)
			}
		}
		return syscall.EIO
	})
	_, err := b.Put(t.Context(), "state/dir/key", []byte("new"), opts)
	final := op == "datasync" || op == "syncdir"
	switch {
	case op == "" || op == "remove":
		if err != nil {
			t.Fatalf("put with a fault at %q: %v", op, err)
		}
	case !errors.Is(err, syscall.EIO) || errors.Is(err, storage.ErrPrecondition) || errors.Is(err, posix.ErrSync) != final:
		t.Fatalf("put with a fault at %q: %v", op, err)
	default:
		again := open(t, dir) // a new process, for the old one may be unable to write
		_, err := again.Put(t.Context(), "state/dir/key", []byte("new"), opts)
		if err != nil && !errors.Is(err, storage.ErrPrecondition) {
			t.Fatalf("repeating the put: %v", err)
		}
	}
	data, _, err := b.Get(t.Context(), "state/dir/key", storage.Range{})
	if err != nil || string(data) != "new" {
		t.Errorf("in the end: %q, %v", data, err)
	}
	return op != ""
}

func TestSyncCoversWhatAnotherProcessLeft(t *testing.T) {
	dir := t.TempDir()
	other := open(t, dir)
	for _, key := range []string{"state/l/log/0", "state/l/floor", "logs/l/checkpoint"} {
		if _, err := other.Put(t.Context(), key, nil, storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	b := open(t, dir)
	d := watch(b, dir)
	if err := b.Sync(t.Context(), "logs/l/", "state/l", "state/l/log", "logs/missing", ""); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".", "logs", "logs/l", "state", "state/l", "state/l/log"} {
		if d.syncsOf(name) == 0 {
			t.Errorf("%s was not synced", name)
		}
	}
	before := d.syncsOf("logs")
	if err := b.Sync(t.Context(), "logs/l"); err != nil {
		t.Fatal(err)
	}
	if d.syncsOf("logs") != before || d.syncsOf("logs/l") != 2 {
		t.Error("a second Sync syncs what it need not, or not what it must")
	}
	for _, bad := range []string{"../x", "/", "a//b", "state/l/floor"} {
		if err := b.Sync(t.Context(), bad); err == nil {
			t.Errorf("syncing %q: no error", bad)
		}
	}
}

func TestForgottenDirectoriesAreSyncedAgain(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	d := watch(b, dir)
	put := func(key string) {
		t.Helper()
		_, err := b.Put(t.Context(), key, []byte("x"), storage.PutOptions{If: storage.Absent()})
		if _, ok := d.survivor(key); err != nil || !ok {
			t.Errorf("putting %s: %v, survives %v", key, err, ok)
		}
	}
	put("a/b/1")
	put("a/b/2")
	if n := d.syncsOf("a"); n != 1 {
		t.Errorf("%d syncs of a, whose entry b was durable", n)
	}
	b.FillDirs()
	put("a/b/3")
	if n := d.syncsOf("a"); n != 2 {
		t.Errorf("%d syncs of a, after b was forgotten", n)
	}
	if n := b.KnownDirs(); n > posix.MaxDirs {
		t.Errorf("%d directories are remembered", n)
	}
}
