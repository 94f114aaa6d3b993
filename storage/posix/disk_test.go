//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package posix_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"sync"
	"testing"

	"tallywood/storage/posix"
)

// A disk knows what would be left of a bucket's directory after a loss of power that takes
// everything no sync has covered: the content of files never synced, and the entries of a
// directory made after its last sync began. It sees the effects of one Bucket.
type disk struct {
	dir string
	lie func(e posix.Effect) bool // effects the disk overlooks, as if the Bucket had left them out

	mu      sync.Mutex
	files   map[string]*file            // by name, also temporary ones
	entries map[string]map[string]entry // what a reader sees now, by directory
	kept    map[string]map[string]entry // what the last sync of each directory covers
	syncs   map[string]int              // successful syncs, by directory
	faults  []error                     // names given to content not on disk
}

// A file is an inode.
type file struct {
	content string
	synced  bool
}

// An entry is a name in a directory: of a file, or (nil) of a directory.
type entry struct{ file *file }

// watch returns the disk under b, which is freshly opened on the empty directory dir.
func watch(b *posix.Bucket, dir string) *disk {
	d := &disk{
		dir:     dir,
		files:   make(map[string]*file),
		entries: map[string]map[string]entry{".": {}},
		kept:    map[string]map[string]entry{".": {}},
		syncs:   make(map[string]int),
	}
	b.SetAround(d.around)
	return d
}

func (d *disk) around(e posix.Effect, run func() error) error {
	if d.lie != nil && d.lie(e) {
		return run()
	}
	d.mu.Lock()
	begun := maps.Clone(d.entries[e.Name]) // what a sync covers: not what comes later
	if e.Op == "write" || e.Op == "datasync" || e.Op == "syncdir" {
		d.mu.Unlock()
		if err := run(); err != nil {
			return err
		}
		d.mu.Lock()
	} else if err := run(); err != nil { // names change one at a time, here and on the real disk
		d.mu.Unlock()
		return err
	}
	defer d.mu.Unlock()
	switch e.Op {
	case "mkdir":
		for name := e.Name; name != "."; name = path.Dir(name) {
			d.set(name, entry{})
			if d.entries[name] == nil {
				d.entries[name] = make(map[string]entry)
			}
		}
	case "write":
		content, err := os.ReadFile(filepath.Join(d.dir, e.Name))
		if err != nil {
			return err
		}
		f := d.files[e.Name]
		if f == nil {
			f = new(file)
			d.files[e.Name] = f
		}
		f.content, f.synced = string(content), false // under every name it has or may get back
	case "datasync":
		d.files[e.Name].synced = true
	case "link", "rename":
		f := d.files[e.Name]
		if !f.synced {
			d.faults = append(d.faults, fmt.Errorf("%s %s: the content is not on disk", e.Op, e.To))
		}
		d.files[e.To] = f
		d.set(e.To, entry{f})
		if e.Op == "rename" {
			delete(d.files, e.Name)
		}
	case "exchange":
		f := d.files[e.Name]
		if !f.synced {
			d.faults = append(d.faults, fmt.Errorf("%s %s: the content is not on disk", e.Op, e.To))
		}
		d.files[e.Name], d.files[e.To] = d.files[e.To], f
		d.set(e.To, entry{f})
	case "remove":
		delete(d.files, e.Name)
		delete(d.entries[path.Dir(e.Name)], path.Base(e.Name))
	case "syncdir":
		d.kept[e.Name] = begun
		d.syncs[e.Name]++
	}
	return nil
}

// set makes the entry name, unless it is a directory that exists.
func (d *disk) set(name string, e entry) {
	dir := path.Dir(name)
	if d.entries[dir] == nil {
		d.entries[dir] = make(map[string]entry)
	}
	if _, exists := d.entries[dir][path.Base(name)]; exists && e.file == nil {
		return
	}
	d.entries[dir][path.Base(name)] = e
}

// survivor returns the content of key after a loss of power at this moment, and whether it is there.
func (d *disk) survivor(key string) (string, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for dir := path.Dir(key); dir != "."; dir = path.Dir(dir) {
		if _, ok := d.kept[path.Dir(dir)][path.Base(dir)]; !ok {
			return "", false
		}
	}
	e, ok := d.kept[path.Dir(key)][path.Base(key)]
	if !ok || e.file == nil {
		return "", false
	}
	if !e.file.synced {
		return "", true
	}
	return e.file.content, true
}

// err returns what the disk objects to in itself.
func (d *disk) err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return errors.Join(d.faults...)
}

// syncsOf returns the number of successful syncs of the directory dir.
func (d *disk) syncsOf(dir string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.syncs[dir]
}

// TestDiskForgets checks the disk itself on a hand-made history.
func TestDiskForgets(t *testing.T) {
	dir := t.TempDir()
	d := watch(open(t, dir), dir)
	step := func(op, name, to string) {
		t.Helper()
		if err := d.around(posix.Effect{Op: op, Name: name, To: to}, func() error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	want := func(key, content string, there bool) {
		t.Helper()
		if got, ok := d.survivor(key); got != content || ok != there {
			t.Errorf("%s survives as %q, %v; want %q, %v", key, got, ok, content, there)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "tmp"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	step("mkdir", "a/b", "")
	step("write", "tmp", "")
	step("datasync", "tmp", "")
	step("link", "tmp", "a/b/key")
	want("a/b/key", "", false)
	step("syncdir", "a/b", "")
	want("a/b/key", "", false) // a/b itself may be gone
	step("syncdir", ".", "")
	want("a/b/key", "", false) // b in a
	step("syncdir", "a", "")
	want("a/b/key", "x", true)
	step("remove", "a/b/key", "")
	want("a/b/key", "x", true)
	step("syncdir", "a/b", "")
	want("a/b/key", "", false)
	step("write", "tmp", "")
	if d.err() != nil {
		t.Error(d.err())
	}
	step("link", "tmp", "a/b/key")
	step("syncdir", "a/b", "")
	want("a/b/key", "", true)
	if d.err() == nil {
		t.Error("a name for content not on disk is not objected to")
	}
}
