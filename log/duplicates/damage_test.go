package duplicates_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"tallywood/log/duplicates"
)

// sample returns the files of an index with two tiers and a journal.
func sample(t testing.TB) map[string][]byte {
	defer duplicates.SetSizes(100, 2)()
	dir := t.TempDir()
	x, err := duplicates.Open(dir, identity)
	if err != nil {
		t.Fatal(err)
	}
	for n := int64(0); n < 450; n += 30 {
		var records []duplicates.Record
		for i := n; i < n+30; i++ {
			records = append(records, record(i))
		}
		if err := x.Put(records, at(n+30)); err != nil {
			t.Fatal(err)
		}
	}
	if tiers := duplicates.Tiers(x); tiers[0] == 0 || tiers[1] == 0 {
		t.Fatalf("tiers: %v", tiers)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	files := make(map[string][]byte)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// spoilt returns a directory with the files but for one.
func spoilt(t testing.TB, files map[string][]byte, name string, data []byte) string {
	t.Helper()
	dir := t.TempDir()
	for n, d := range files {
		if n == name {
			d = data
		}
		if d == nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, n), d, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// tolerates opens a spoilt index: it must be one of an earlier state or report damage, and be good
// again after Reset.
func tolerates(t *testing.T, dir string) (size int64, damaged bool) {
	t.Helper()
	x := open(t, dir)
	defer func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	}()
	size = x.State().All.Size
	if err := holds(x); err != nil {
		if !errors.Is(err, duplicates.ErrDamaged) {
			t.Error(err)
		}
		damaged = true
		if err := x.Reset(); err != nil {
			t.Fatal(err)
		}
	}
	now := x.State().All.Size
	put(t, x, now, now+250)
	if err := holds(x); err != nil {
		t.Error(err)
	}
	return size, damaged
}

// TestDamageIsFoundOut: one byte changed anywhere, in any file.
func TestDamageIsFoundOut(t *testing.T) {
	defer duplicates.SetSizes(100, 2)()
	files := sample(t)
	for name, data := range files {
		step := 1 + len(data)/40
		for i := 0; i < len(data); i += step {
			bad := bytes.Clone(data)
			bad[i] ^= 0x20
			if size, damaged := tolerates(t, spoilt(t, files, name, bad)); size == 450 && !damaged {
				t.Errorf("%s, byte %d: nothing was noticed", name, i)
			}
		}
	}
	if size, damaged := tolerates(t, spoilt(t, files, "", nil)); size != 450 || damaged {
		t.Errorf("unspoilt: size %d, damaged %v", size, damaged)
	}
}

// TestFilesCutShort, missing, empty, of zeros or of rubbish.
func TestFilesCutShort(t *testing.T) {
	defer duplicates.SetSizes(100, 2)()
	files := sample(t)
	for name, data := range files {
		if name == "lock" {
			continue
		}
		for what, bad := range map[string][]byte{
			"missing": nil, "empty": {}, "zeros": make([]byte, len(data)), "rubbish": bytes.Repeat([]byte{0xa5}, len(data)),
			"half": data[:len(data)/2], "less a byte": data[:len(data)-1], "one byte": data[:1],
		} {
			if size, damaged := tolerates(t, spoilt(t, files, name, bad)); size == 450 && !damaged {
				t.Errorf("%s %s: nothing was noticed", name, what)
			}
		}
	}
}

// TestJournalEndsWhereItWasTorn: a crash of the machine loses its end, or what is in the middle. The
// index is that of the frames before, and goes on from there.
func TestJournalEndsWhereItWasTorn(t *testing.T) {
	files := sample(t)
	for name, data := range files {
		if !isJournal(name) {
			continue
		}
		const frame = 88 + 30*48
		frames := int64(len(data) / frame)
		if frames < 2 || len(data)%frame != 0 {
			t.Fatalf("journal of %d bytes", len(data))
		}
		base := 450 - 30*frames
		for cut := 0; cut <= len(data); cut += 101 {
			if size, damaged := tolerates(t, spoilt(t, files, name, data[:cut])); size != base+30*int64(cut/frame) || damaged {
				t.Errorf("cut at %d: size %d, damaged %v", cut, size, damaged)
			}
		}
		hole := bytes.Clone(data)
		clear(hole[10 : frame-10])
		if size, damaged := tolerates(t, spoilt(t, files, name, hole)); size != base || damaged {
			t.Errorf("with a hole: size %d, damaged %v", size, damaged)
		}
		swapped := append(bytes.Clone(data[frame:2*frame]), data[:frame]...)
		if size, damaged := tolerates(t, spoilt(t, files, name, swapped)); size != base || damaged {
			t.Errorf("in another order: size %d, damaged %v", size, damaged)
		}
	}
}

func isJournal(name string) bool { return len(name) > 8 && name[:8] == "journal-" }

// TestPutAgainAfterAFailure: what could not be written is put again, and nothing is lost or torn.
func TestPutAgainAfterAFailure(t *testing.T) {
	defer duplicates.SetSizes(100, 2)()
	dir := t.TempDir()
	x := open(t, dir)
	failures := 0
	for n := int64(0); n < 3000; n += 30 {
		var obstacles []string
		if n%90 == 0 {
			obstacles = append(obstacles, filepath.Join(dir, "manifest.new"))
		}
		for _, o := range obstacles {
			if err := os.Mkdir(o, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		var records []duplicates.Record
		for i := n; i < n+30; i++ {
			records = append(records, record(i))
		}
		err := x.Put(records, at(n+30))
		for _, o := range obstacles {
			if err := os.Remove(o); err != nil {
				t.Fatal(err)
			}
		}
		if err == nil {
			continue
		}
		failures++
		if errors.Is(err, duplicates.ErrDamaged) {
			t.Fatal(err)
		}
		if size := x.State().All.Size; size == n {
			if err := x.Put(records, at(n+30)); err != nil {
				t.Fatal(err)
			}
		} else if size != n+30 {
			t.Fatalf("size %d after a failure at %d", size, n)
		}
		if err := holds(x); err != nil {
			t.Fatal(err)
		}
		if n%4 == 0 {
			closeIndex(t, x)
			x = open(t, dir)
		}
	}
	if failures < 5 {
		t.Errorf("%d failures", failures)
	}
	if err := holds(x); err != nil || x.State().All.Size != 3000 {
		t.Errorf("size %d, %v", x.State().All.Size, err)
	}
	closeIndex(t, x)
}

// FuzzRun: a file that is no run, or not a whole one, is refused, or lookups in it are.
func FuzzRun(f *testing.F) {
	for name, data := range sample(f) {
		if !isJournal(name) && name != "lock" && name != "manifest" {
			f.Add(data, int64(3))
			f.Add(data[:len(data)-1], int64(3))
			f.Add(data[4096:], int64(400))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, n int64) {
		path := filepath.Join(t.TempDir(), "run")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		r, found, err := duplicates.ReadRun(path, key(n))
		if err != nil && !errors.Is(err, duplicates.ErrDamaged) {
			t.Error(err)
		}
		if found && r.Key != key(n) {
			t.Errorf("another key's record: %+v", r)
		}
	})
}

// FuzzJournal: of a file that is no journal nothing is believed but whole frames.
func FuzzJournal(f *testing.F) {
	for name, data := range sample(f) {
		if isJournal(name) {
			f.Add(data, uint32(0))
			f.Add(data[:len(data)-1], uint32(1))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, seed uint32) {
		path := filepath.Join(t.TempDir(), "journal")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		n, _, err := duplicates.ReadJournal(path, seed)
		if err != nil {
			t.Error(err)
		}
		if n*48 > len(data) {
			t.Errorf("%d records in %d bytes", n, len(data))
		}
	})
}
