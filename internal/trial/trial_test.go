package trial_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"

	"k8s.io/klog/v2"

	"tallywood/internal/bubble"
	"tallywood/internal/trial"
	"tallywood/storage"
)

// told plays the long story on a Store without faults and returns the Referee, which judges on, and
// the Store.
func told(t *testing.T, said *[]string) (*trial.Referee, storage.Bucket) {
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	w := trial.New(t)
	store := trial.NewStore(w.Referee)
	w.Open = func(who string) (storage.Bucket, func()) { return store.As(who), func() {} }
	w.Long()
	if v := w.Violation(); v != "" {
		t.Fatalf("without faults: violation: %s", v)
	}
	w.Referee.Fail = func(format string, args ...any) { *said = append(*said, fmt.Sprintf(format, args...)) }
	return w.Referee, store.As("a villain")
}

// A villainy is what no process may do, and what the referee says of it.
type villainy struct {
	name, want string
	do         func(t *testing.T, f *trial.Referee, b storage.Bucket) error
}

// checkpoint is one of the published root, at a size of choice.
func checkpoint(f *trial.Referee, size int64) []byte {
	return fmt.Appendf(nil, "%s\n%d\n%s\n\n\u2014 log AAAA\n", f.Origin, size, f.Published.Hash)
}

var villainies = []villainy{
	{"a record that follows nothing", "does not follow", func(t *testing.T, f *trial.Referee, b storage.Bucket) error {
		return put(t, b, slot(len(f.Slots)), []byte(fmt.Sprintf(`{"n":%d,"type":"BATCH"}`+"\n", len(f.Slots))))
	}},
	{"a record beyond the end", "is missing", func(t *testing.T, f *trial.Referee, b storage.Bucket) error {
		return put(t, b, slot(len(f.Slots)+1), []byte("{}\n"))
	}},
	{"another root", "not committed", func(t *testing.T, f *trial.Referee, b storage.Bucket) error {
		f.Sign("it", checkpoint(f, f.Published.N-1))
		return nil
	}},
	{"a missing tile", "missing or wrong", func(t *testing.T, f *trial.Referee, b storage.Bucket) error {
		for key, err := range b.List(t.Context(), "logs/test/tile/0/001.p/") {
			if err := b.Delete(t.Context(), key); err != nil {
				return err
			}
			if err != nil {
				return err
			}
		}
		f.Sign("it", checkpoint(f, f.Published.N))
		return nil
	}},
	{"a smaller checkpoint", "swapped the checkpoint from", func(t *testing.T, f *trial.Referee, b storage.Bucket) error {
		return put(t, b, "logs/test/checkpoint", checkpoint(f, 3))
	}},
	{"a checkpoint without quorum", "with 0 cosignatures", func(t *testing.T, f *trial.Referee, b storage.Bucket) error {
		f.Cosigned("it", checkpoint(f, f.Published.N))
		return nil
	}},
	{"a floor beyond what is published", "invariant F", func(t *testing.T, f *trial.Referee, b storage.Bucket) error {
		return put(t, b, "state/test/floor", []byte(fmt.Sprintf(`{"seq":%d,"n":%d,"swept":%d}`, f.Floor.Seq+1, len(f.Slots), f.Floor.Swept)))
	}},
	{"a record above the floor", "not below the floor", func(t *testing.T, f *trial.Referee, b storage.Bucket) error {
		return b.Delete(t.Context(), slot(int(f.Floor.N)))
	}},
	{"a LEADER record", "LEADER record", func(t *testing.T, f *trial.Referee, b storage.Bucket) error { return b.Delete(t.Context(), slot(0)) }},
	{"a full tile", "deleted logs", func(t *testing.T, f *trial.Referee, b storage.Bucket) error {
		return b.Delete(t.Context(), "logs/test/tile/0/000")
	}},
	{"an acknowledgement of another entry", "not what is committed", func(t *testing.T, f *trial.Referee, b storage.Bucket) error {
		f.Acked("it", 3, f.Entries[4]) // not "entry 4": attempts that were refused had numbers too
		return nil
	}},
}

// TestRefereeBites commits each villainy after a story in which all went well.
func TestRefereeBites(t *testing.T) {
	for _, c := range villainies {
		t.Run(c.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var said []string
				f, b := told(t, &said)
				if err := c.do(t, f, b); err != nil {
					t.Fatal(err)
				}
				if all := strings.Join(said, "\n"); !strings.Contains(all, c.want) {
					t.Errorf("the referee says %q, not %q", all, c.want)
				}
			})
		})
	}
}

func slot(n int) string { return fmt.Sprintf("state/test/log/%020d", n) }

func put(t *testing.T, b storage.Bucket, key string, data []byte) error {
	_, err := b.Put(t.Context(), key, data, storage.PutOptions{})
	return err
}

// TestEndOfStory takes something away from what a story left, which the last look must miss.
func TestEndOfStory(t *testing.T) {
	for _, key := range []string{"logs/test/tile/entries/000", "logs/test/tile/1/000.p/1", slot(0)} {
		bubble.Test(t, func(t *testing.T) {
			var said []string
			f, b := told(t, &said)
			if err := b.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
			said = nil
			if f.End(); len(said) == 0 {
				t.Errorf("nobody misses %s", key)
			}
		})
	}
}

// TestPairs draws pairs, each of which falls on two operations, and on every class in the end.
func TestPairs(t *testing.T) {
	ops := []string{"put slot/1", "put slot/2", "put slot/3", "put slot/2", "get floor", "put tile/000.p/1", "put slot/3", "get floor"}
	first, twice := map[int]bool{}, 0
	for seed := range uint64(1000) {
		p := trial.DrawPair(rand.New(rand.NewPCG(seed, 0)), ops)
		var falls []int
		for n, op := range ops {
			if p.Falls(n, op) {
				falls = append(falls, n)
			}
		}
		switch len(falls) {
		case 0:
			t.Fatalf("seed %d falls on nothing", seed)
		case 2:
			twice++
		}
		first[falls[0]] = true
	}
	if len(first) != len(ops) || twice < 400 {
		t.Errorf("the first of a pair falls on %d of %d operations, %d have a second", len(first), len(ops), twice)
	}
}
