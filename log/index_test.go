package log_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/transparency-dev/tessera/ctonly"

	"tallywood/internal/bubble"
	"tallywood/log"
)

// cached returns a fixture with its index in files, and 30 entries.
func cached(t *testing.T) (f *fixture, dir string) {
	f = newFixture(t)
	f.options.CacheDir = t.TempDir()
	l, stop := f.run()
	for i := range 30 {
		mustAdd(t, l, fmt.Sprint(i))
	}
	stop()
	return f, filepath.Join(f.options.CacheDir, "signatures.duplicates")
}

// files returns what the files of an index are called, but for the one that is only locked.
func files(t *testing.T, dir string) (names []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "lock" {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	return names
}

// exact checks that every entry there was is a duplicate. Damage may show only in use; then adds
// are refused until the index has been rebuilt.
func exact(t *testing.T, l *log.Log) {
	t.Helper()
	for i := range 30 {
		r, err := l.Add(t.Context(), tlogEntry(fmt.Sprint(i)))
		for errors.Is(err, log.ErrUnavailable) {
			eventually(t, "the index to be rebuilt", func() bool { return l.Ready() == nil })
			r, err = l.Add(t.Context(), tlogEntry(fmt.Sprint(i)))
		}
		if err != nil || !r.Duplicate || r.Index != int64(i) {
			t.Errorf("entry %d: index %d, duplicate %v, %v", i, r.Index, r.Duplicate, err)
		}
	}
}

// TestDamagedIndexIsRebuilt tries ways in which the files can be unusable; package duplicates tries more.
func TestDamagedIndexIsRebuilt(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		for name, damage := range map[string]func(data []byte) []byte{
			"missing":   func([]byte) []byte { return nil },
			"empty":     func([]byte) []byte { return []byte{} },
			"garbage":   func(data []byte) []byte { return bytes.Repeat([]byte{0xa5}, len(data)) },
			"cut short": func(data []byte) []byte { return data[:len(data)/2] },
			"one bit":   func(data []byte) []byte { data[len(data)/2] ^= 0x10; return data },
		} {
			f, dir := cached(t)
			for _, file := range files(t, dir) {
				data, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.Remove(file); err != nil {
					t.Fatal(err)
				}
				if data = damage(data); data != nil {
					if err := os.WriteFile(file, data, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				l, stop := f.run()
				exact(t, l)
				stop()
				l, stop = f.run() // what was rebuilt is good for the next start
				exact(t, l)
				stop()
				t.Logf("%s: %s", name, filepath.Base(file))
			}
		}
	})
}

// TestIndexInOneFileIsReplaced: it was of an earlier format.
func TestIndexInOneFileIsReplaced(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f, dir := cached(t)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir, make([]byte, 1<<15), 0o600); err != nil {
			t.Fatal(err)
		}
		l, _ := f.run()
		exact(t, l)
	})
}

// TestIndexOfAnotherLogIsDiscarded: the file names its log.
func TestIndexOfAnotherLogIsDiscarded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f, _ := cached(t)
		g := newFixture(t)
		g.options.CacheDir = f.options.CacheDir
		l, _ := g.run()
		if r := mustAdd(t, l, "5"); r.Duplicate || r.Index != 0 {
			t.Errorf("index %d, duplicate %v", r.Index, r.Duplicate)
		}
	})
}

// TestIndexOfAnotherTreeIsDiscarded: same log, but sizes or roots that its tree does not give.
func TestIndexOfAnotherTreeIsDiscarded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		for _, size := range []int64{20, 30, 31} {
			f, _ := cached(t)
			l := f.open()
			if err := log.Interrupt(l, size, [32]byte{1}); err != nil {
				t.Fatal(err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = f.open()
			if log.Indexed(l) != 0 && size <= 30 { // what is larger than the log only its leader can judge
				t.Errorf("size %d with a foreign root was believed", size)
			}
			stop := f.lead(l)
			exact(t, l)
			stop()
		}
	})
}

// TestKilledProcessKeepsItsIndex: the files as they are while the process lives.
func TestKilledProcessKeepsItsIndex(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f, dir := cached(t)
		l, stop := f.run()
		killed := filepath.Join(t.TempDir(), "signatures.duplicates")
		if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		exact(t, l)
		stop()
		f.options.CacheDir = filepath.Dir(killed)
		l = f.open()
		if log.Indexed(l) != 30 {
			t.Errorf("index holds %d of 30", log.Indexed(l))
		}
		f.lead(l)
		exact(t, l)
	})
}

// TestSecondProcessCannotShareTheIndex: the files are locked.
func TestSecondProcessCannotShareTheIndex(t *testing.T) {
	f, _ := cached(t)
	l := f.open()
	defer l.Close()
	g := *f
	if second, err := log.Open(t.Context(), g.options); err == nil {
		second.Close()
		t.Error("opened twice")
	}
}

// TestWrongIndexIsNoticed: an index that points elsewhere is found out by reading the entry, and
// rebuilt; nobody gets another one's receipt.
func TestWrongIndexIsNoticed(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f, _ := cached(t)
		l, _ := f.run()
		if err := log.Corrupt(l, sha256.Sum256([]byte("3")), 4); err != nil {
			t.Fatal(err)
		}
		if r, err := l.Add(t.Context(), tlogEntry("3")); err == nil {
			t.Fatalf("answered index %d", r.Index)
		}
		eventually(t, "the index to be rebuilt", func() bool { return l.Ready() == nil })
		exact(t, l)
	})
}

// TestFailingIndexStopsAdds: if the index cannot be read, nothing is added until it can.
func TestFailingIndexStopsAdds(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f, _ := cached(t)
		l, _ := f.run()
		if err := log.Break(l); err != nil {
			t.Fatal(err)
		}
		if r, err := l.Add(t.Context(), tlogEntry("3")); err == nil {
			t.Fatalf("answered index %d", r.Index)
		}
		eventually(t, "the index to be rebuilt", func() bool { return l.Ready() == nil })
		exact(t, l)
	})
}

// TestCertificateDuplicatesKeepTheirTimestamp: an SCT is a promise about index and time, so both
// survive restarts with and without the file.
func TestCertificateDuplicatesKeepTheirTimestamp(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		for _, cache := range []string{"", t.TempDir()} {
			f := newFixture(t)
			f.options.Kind = log.KindCT
			f.options.CacheDir = cache
			first := map[int]log.Position{}
			for restart := range 3 {
				l, stop := f.run()
				for i := range 5 * (restart + 1) {
					e := certificate(i, uint64(1_700_000_000_000+1000*restart+i))
					pos, err := l.Sequence(t.Context(), e)
					if err != nil {
						t.Fatal(err)
					}
					if want, ok := first[i]; ok && (pos.Index != want.Index || pos.Timestamp != want.Timestamp || !pos.Duplicate) {
						t.Errorf("cache %q, restart %d: %+v, first %+v", cache, restart, pos, want)
					} else if !ok {
						if pos.Duplicate || pos.Timestamp != e.CT.Timestamp {
							t.Errorf("new entry: %+v", pos)
						}
						first[i] = pos
					}
				}
				stop()
			}
		}
	})
}

func certificate(i int, timestamp uint64) log.Entry {
	e := &ctonly.Entry{Timestamp: timestamp, Certificate: fmt.Appendf(nil, "certificate %d", i), FingerprintsChain: [][32]byte{{1}}}
	if i%2 == 1 {
		e.IsPrecert, e.Precertificate, e.IssuerKeyHash = true, fmt.Appendf(nil, "precertificate %d", i), make([]byte, 32)
	}
	return log.Entry{Key: [32]byte(e.Identity()), CT: e}
}

// TestRebuildReadsALongLog crosses entry bundles and writes of the index.
func TestRebuildReadsALongLog(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.options.CacheDir = t.TempDir()
		l, stop := f.run()
		const n = 1000
		positions := make([]int64, n)
		done := make(chan error, n)
		for i := range n {
			go func() {
				pos, err := l.Sequence(t.Context(), tlogEntry(fmt.Sprint(i)))
				positions[i] = pos.Index
				done <- err
			}()
		}
		for range n {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		stop()
		l = f.open()
		if err := log.ReadLog(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		f.lead(l)
		for i, want := range positions {
			if pos, err := l.Sequence(t.Context(), tlogEntry(fmt.Sprint(i))); err != nil || pos.Index != want || !pos.Duplicate {
				t.Fatalf("entry %d: %+v, %v; want index %d", i, pos, err, want)
			}
		}
	})
}
