package duplicates_test

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tallywood/log/duplicates"
)

var identity = duplicates.Identity{LogUUID: "11111111-1111-4111-8111-111111111111", Kind: "rekor"}

func TestMain(m *testing.M) {
	if dir := os.Getenv("TEST_WRITE_INDEX"); dir != "" {
		writeForever(dir)
	}
	flag.Parse()
	os.Exit(m.Run())
}

func key(n int64) [32]byte { return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n))) }

// record is the nth record, with a key of its own.
func record(n int64) duplicates.Record {
	return duplicates.Record{Key: key(n), Index: n, Timestamp: uint64(n) << 33}
}

// at is the progress of an index of n entries.
func at(n int64) duplicates.Progress {
	t := duplicates.Tree{Size: n, Root: sha256.Sum256(fmt.Append(nil, n))}
	return duplicates.Progress{All: t, Within: t}
}

func open(t *testing.T, dir string) *duplicates.Index {
	t.Helper()
	x, err := duplicates.Open(dir, identity)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// put puts the records from one to before another.
func put(t *testing.T, x *duplicates.Index, from, to int64) {
	t.Helper()
	var records []duplicates.Record
	for n := from; n < to; n++ {
		records = append(records, record(n))
	}
	if err := x.Put(records, at(to)); err != nil {
		t.Fatal(err)
	}
}

// holds returns an error unless x has all entries that it claims to have, with what was put.
func holds(x *duplicates.Index) error {
	for n := range x.State().All.Size {
		if r, found, err := x.Get(key(n)); err != nil || !found || r != record(n) {
			return fmt.Errorf("entry %d of %d: %+v, %v, %w", n, x.State().All.Size, r, found, err)
		}
	}
	return nil
}

func closeIndex(t *testing.T, x *duplicates.Index) {
	t.Helper()
	if err := x.Close(); err != nil {
		t.Error(err)
	}
}

// TestIndexIsAMap: whatever is put in whatever portions, and however often the index is opened anew,
// it answers as a map in memory does: the first index of each key, and of no other key one.
func TestIndexIsAMap(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		restore := duplicates.SetSizes(1+r.IntN(40), 2+r.IntN(4))
		dir, want := t.TempDir(), duplicates.NewMemory()
		x := open(t, dir)
		next := int64(0)
		for range 150 {
			var records []duplicates.Record
			for range r.IntN(60) {
				records = append(records, duplicates.Record{Key: key(r.Int64N(2000)), Index: next, Timestamp: r.Uint64()})
				next++
			}
			if err := errors.Join(x.Put(records, at(next)), want.Put(records, at(next))); err != nil {
				t.Fatal(err)
			}
			if r.IntN(20) == 0 {
				closeIndex(t, x)
				x = open(t, dir)
			}
			if x.State() != want.State() {
				t.Fatalf("seed %d: state %+v, want %+v", seed, x.State(), want.State())
			}
		}
		for n := range int64(2200) {
			got, found, err := x.Get(key(n))
			r, ok, _ := want.Get(key(n))
			if err != nil || found != ok || found && got != r {
				t.Fatalf("seed %d, key %d: %+v, %v, %v; want %+v, %v", seed, n, got, found, err, r, ok)
			}
		}
		closeIndex(t, x)
		restore()
	}
}

// TestMergesKeepUp: however many entries there are, and in whatever portions they come, runs are few,
// and so are files.
func TestMergesKeepUp(t *testing.T) {
	defer duplicates.SetSizes(16, 4)()
	dir := t.TempDir()
	x := open(t, dir)
	r := rand.New(rand.NewPCG(1, 2))
	for n := int64(0); n < 16*4*4*4*4*3; {
		to := n + 1 + r.Int64N(100)
		put(t, x, n, to)
		n = to
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		tiers := duplicates.Tiers(x)
		for tier, runs := range tiers {
			if runs > 8 {
				t.Fatalf("%d entries: %d runs of tier %d", n, runs, tier)
			}
		}
		if len(tiers) > 6 || len(files) > 6*8 {
			t.Fatalf("%d entries: %d tiers, %d files", n, len(tiers), len(files))
		}
	}
	if tiers := duplicates.Tiers(x); tiers[3] == 0 {
		t.Errorf("in the end: %v", tiers)
	}
	if err := holds(x); err != nil {
		t.Error(err)
	}
	closeIndex(t, x)
}

// TestKilledWriterLeavesConsistentIndex: kill -9 amid writes and merges leaves an index that has all it
// claims to have, and no less than before.
func TestKilledWriterLeavesConsistentIndex(t *testing.T) {
	dir := t.TempDir()
	var last int64
	for round := range 8 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "TEST_WRITE_INDEX="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil { // it has begun
			t.Fatal(err)
		}
		time.Sleep(time.Duration(20+13*round) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // says that it was killed
		x := open(t, dir)
		if size := x.State().All.Size; size < last || size == 0 {
			t.Fatalf("round %d: size %d after %d", round, size, last)
		} else {
			last = size
		}
		if err := holds(x); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		closeIndex(t, x)
	}
	t.Logf("%d entries", last)
}

// writeForever fills the index in dir until the process is killed.
func writeForever(dir string) {
	duplicates.SetSizes(300, 3)
	x, err := duplicates.Open(dir, identity)
	if err != nil {
		panic(err)
	}
	for n := x.State().All.Size; ; n += 17 {
		var records []duplicates.Record
		for i := n; i < n+17; i++ {
			records = append(records, record(i))
		}
		if err := x.Put(records, at(n+17)); err != nil {
			panic(err)
		}
		if n%170 == 0 {
			fmt.Print(".")
		}
	}
}

// TestSecondProcessCannotShareTheIndex: the directory is locked.
func TestSecondProcessCannotShareTheIndex(t *testing.T) {
	dir := t.TempDir()
	x := open(t, dir)
	put(t, x, 0, 5)
	if _, err := duplicates.Open(dir, identity); err == nil || !strings.Contains(err.Error(), "another process has it open") {
		t.Errorf("opened twice: %v", err)
	}
	closeIndex(t, x)
	x = open(t, dir)
	if n := x.State().All.Size; n != 5 {
		t.Errorf("size %d afterwards", n)
	}
	closeIndex(t, x)
}

// TestIndexOfAnotherLogIsEmptied, and one of another kind, of another format, and of the format that was
// one file.
func TestIndexOfAnotherLogIsEmptied(t *testing.T) {
	for name, id := range map[string]duplicates.Identity{
		"log":  {LogUUID: "22222222-2222-4222-8222-222222222222", Kind: "rekor"},
		"kind": {LogUUID: identity.LogUUID, Kind: "ct"},
	} {
		dir := t.TempDir()
		x := open(t, dir)
		put(t, x, 0, 5)
		closeIndex(t, x)
		y, err := duplicates.Open(dir, id)
		if err != nil {
			t.Fatal(err)
		}
		if _, found, err := y.Get(key(3)); y.State() != duplicates.NoProgress || found || err != nil {
			t.Errorf("another %s: %+v, found %v, %v", name, y.State(), found, err)
		}
		closeIndex(t, y)
	}
	file := filepath.Join(t.TempDir(), "signatures.duplicates")
	if err := os.WriteFile(file, make([]byte, 1<<16), 0o600); err != nil {
		t.Fatal(err)
	}
	x := open(t, file)
	put(t, x, 0, 5)
	if err := holds(x); err != nil {
		t.Error(err)
	}
	closeIndex(t, x)
}

// TestResetEmpties an index in use, one that is closed, and one whose files are gone.
func TestResetEmpties(t *testing.T) {
	defer duplicates.SetSizes(10, 2)()
	dir := t.TempDir()
	x := open(t, dir)
	for _, spoil := range []func() error{
		func() error { return nil },
		x.Close,
		func() error { return os.RemoveAll(dir) },
	} {
		for n := int64(0); n < 200; n += 7 {
			put(t, x, n, n+7)
		}
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		err := x.Reset()
		if errors.Is(err, os.ErrNotExist) { // the directory itself is made by Open only
			closeIndex(t, x)
			x = open(t, dir)
		} else if err != nil {
			t.Fatal(err)
		}
		if _, found, err := x.Get(key(3)); x.State() != duplicates.NoProgress || found || err != nil {
			t.Errorf("%+v, found %v, %v", x.State(), found, err)
		}
		put(t, x, 0, 30)
		if err := holds(x); err != nil {
			t.Error(err)
		}
	}
	closeIndex(t, x)
	if _, _, err := x.Get(key(3)); !errors.Is(err, duplicates.ErrDamaged) {
		t.Errorf("closed: %v", err)
	}
	if err := x.Put(nil, at(3)); !errors.Is(err, duplicates.ErrDamaged) {
		t.Errorf("closed: %v", err)
	}
}

// TestFilterPassesFew keys that it has not got, and all that it has.
func TestFilterPassesFew(t *testing.T) {
	var some, others [][32]byte
	for n := range int64(50_000) {
		some, others = append(some, key(n)), append(others, key(-1-n))
	}
	if n := duplicates.FilterPasses(some, some); n != len(some) {
		t.Errorf("%d of %d keys pass that it has", n, len(some))
	}
	if n := duplicates.FilterPasses(some, others); n > len(others)/30 {
		t.Errorf("%d of %d keys pass that it has not", n, len(others))
	}
}

// TestMergeThatFailsIsMadeLater: what was put is in the index although its runs could not be merged, and
// they are when that is possible.
func TestMergeThatFailsIsMadeLater(t *testing.T) {
	defer duplicates.SetSizes(10, 2)()
	dir := t.TempDir()
	x := open(t, dir)
	put(t, x, 0, 10)
	// journal-1, run-2, journal-3, then run-4 and journal-5: the merge is to write the sixth file.
	merged := filepath.Join(dir, "run-6")
	if err := os.Mkdir(merged, 0o700); err != nil {
		t.Fatal(err)
	}
	var records []duplicates.Record
	for n := range int64(10) {
		records = append(records, record(10+n))
	}
	if err := x.Put(records, at(20)); !errors.Is(err, duplicates.ErrUntidy) || errors.Is(err, duplicates.ErrDamaged) {
		t.Fatalf("Put: %v", err)
	}
	if x.State() != at(20) {
		t.Errorf("state: %+v", x.State())
	}
	if err := os.Remove(merged); err != nil {
		t.Fatal(err)
	}
	put(t, x, 20, 25)
	for n := range int64(25) {
		if r, found, err := x.Get(key(n)); err != nil || !found || r != record(n) {
			t.Errorf("record %d: %+v, %v, %v", n, r, found, err)
		}
	}
	if tiers := duplicates.Tiers(x); tiers[0] != 0 || tiers[1] != 1 {
		t.Errorf("tiers: %v", tiers)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
}
