package bench_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"maps"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"tallywood/internal/bench"
	"tallywood/internal/bubble"
	"tallywood/internal/keys"
	"tallywood/log"
	"tallywood/log/entry"
	"tallywood/storage"
	"tallywood/storage/driver"
	"tallywood/storage/mem"
	"tallywood/witness/policy"
)

func fillOptions(t *testing.T, b storage.Bucket, entries int64) bench.FillOptions {
	t.Helper()
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) // the same in each test
	return bench.FillOptions{Bucket: b, Name: "signatures", Origin: origin, Key: key, Entries: entries, Seed: 7}
}

func fill(t *testing.T, o bench.FillOptions) bench.FillResult {
	t.Helper()
	r, err := bench.Fill(t.Context(), o)
	if err != nil || r.Size != o.Entries {
		t.Fatalf("%+v, %v", r, err)
	}
	return r
}

// objects returns all that is in b.
func objects(t *testing.T, b storage.Bucket) map[string]string {
	t.Helper()
	all := map[string]string{}
	for key, err := range b.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		data, _, err := b.Get(t.Context(), key, storage.Range{})
		if err != nil {
			t.Fatal(err)
		}
		all[key] = string(data)
	}
	return all
}

// TestFilledLogIsWhatTheServerTakes: different entries, with signatures that verify, under a checkpoint
// of the key; the server goes on with it and knows the entries.
func TestFilledLogIsWhatTheServerTakes(t *testing.T) {
	defer bench.SetFillBatch(64)()
	bubble.Test(t, filledLogIsWhatTheServerTakes)
}

func filledLogIsWhatTheServerTakes(t *testing.T) {
	const entries = 700
	b := mem.New()
	var last int64
	o := fillOptions(t, b, entries)
	o.Progress = func(done, size int64) {
		if done <= last || done > size || size != entries {
			t.Errorf("progress went from %d to %d of %d", last, done, size)
		}
		last = done
	}
	filled := fill(t, o)
	if filled.Added != entries || last != entries || filled.Seconds <= 0 {
		t.Errorf("%+v, progress %d", filled, last)
	}
	signer, err := keys.NoteSigner(origin, o.Key)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse([]byte("log " + filled.VKey + "\nquorum none\n"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := log.Open(t.Context(), log.Options{Name: o.Name, Origin: origin, Kind: log.KindRekor, Bucket: b,
		Signers: []note.Signer{signer}, VKeys: []string{filled.VKey}, Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	run(t, l)
	requests, err := bench.CorpusBodies(7, bench.Keys, entries)
	if err != nil {
		t.Fatal(err)
	}
	var first entry.Entry
	for i, request := range requests {
		e, err := entry.ParseRequest(request) // verifies the signature
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = e
		}
		pos, err := l.Sequence(t.Context(), log.Entry{Key: e.Key, Data: e.Canonical})
		if err != nil || pos.Index != int64(i) || !pos.Duplicate {
			t.Fatalf("entry %d is at %+v, %v", i, pos, err)
		}
	}
	r, err := l.Add(t.Context(), log.Entry{Key: [32]byte{1}, Data: []byte("new")})
	if err != nil || r.Index != entries {
		t.Errorf("a new entry has index %d, %v", r.Index, err)
	}
	logged, err := l.Logged(t.Context(), 0, first.Key)
	if err != nil || string(logged[2:]) != string(first.Canonical) {
		t.Errorf("the first entry is %q, %v", logged, err)
	}
}

// TestFillGoesOn where an earlier one ended, or was cut short, to the same tree.
func TestFillGoesOn(t *testing.T) {
	defer bench.SetFillBatch(64)()
	bubble.Test(t, fillGoesOn)
}

func fillGoesOn(t *testing.T) {
	want := fill(t, fillOptions(t, mem.New(), 900)).Root
	b := mem.New()
	fill(t, fillOptions(t, b, 100))
	ctx, cancel := context.WithCancel(t.Context())
	o := fillOptions(t, b, 900)
	o.Progress = func(int64, int64) { cancel() }
	if r, err := bench.Fill(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("cut short: %+v, %v", r, err)
	}
	r := fill(t, fillOptions(t, b, 900))
	if r.Root != want || r.Added > 800 {
		t.Errorf("%d more make root %s; want %s", r.Added, r.Root, want)
	}
	if r := fill(t, fillOptions(t, b, 900)); r.Added != 0 {
		t.Errorf("then %d more were added", r.Added)
	}
}

// TestFillLeavesOtherLogsAlone: of another seed, of another key, and what is published already.
func TestFillLeavesOtherLogsAlone(t *testing.T) {
	defer bench.SetFillBatch(64)()
	bubble.Test(t, fillLeavesOtherLogsAlone)
}

func fillLeavesOtherLogsAlone(t *testing.T) {
	b := mem.New()
	fill(t, fillOptions(t, b, 100))
	before := objects(t, b)
	o := fillOptions(t, b, 200)
	o.Seed = 8
	if r, err := bench.Fill(t.Context(), o); !errors.Is(err, bench.ErrOtherEntries) {
		t.Errorf("another seed: %+v, %v", r, err)
	}
	o = fillOptions(t, b, 200)
	o.Key = ed25519.NewKeyFromSeed([]byte("another seed of thirty-two bytes"))
	if r, err := bench.Fill(t.Context(), o); !errors.Is(err, driver.ErrOtherLog) {
		t.Errorf("another key: %+v, %v", r, err)
	}
	if !maps.Equal(objects(t, b), before) {
		t.Error("what was there has changed")
	}
	for name, o := range map[string]bench.FillOptions{
		"no bucket":  {Name: "x", Origin: origin, Key: o.Key, Entries: 1},
		"no key":     {Bucket: b, Name: "x", Origin: origin, Entries: 1},
		"no entries": {Bucket: b, Name: "x", Origin: origin, Key: o.Key},
		"bad origin": {Bucket: b, Name: "x", Origin: "a b", Key: o.Key, Entries: 1},
	} {
		if r, err := bench.Fill(t.Context(), o); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}
