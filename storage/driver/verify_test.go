package driver_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	rand2 "math/rand/v2"
	"strings"
	"testing"
	"time"

	"tallywood/internal/bubble"
	"tallywood/storage"
	"tallywood/storage/driver"
	"tallywood/storage/mem"
)

// verified verifies the log, which must be whole, and returns the report.
func verified(t *testing.T, b storage.Bucket) driver.Report {
	t.Helper()
	r, err := driver.Verify(t.Context(), b, "test", nil)
	if err != nil {
		t.Fatalf("Verify: %v", err)
	}
	return r
}

// wantGuilty checks that Verify names the object at key.
func wantGuilty(t *testing.T, b storage.Bucket, key, what string) {
	t.Helper()
	_, err := driver.Verify(t.Context(), b, "test", nil)
	if bad, ok := errors.AsType[*driver.ObjectError](err); !ok || bad.Key != key {
		t.Errorf("%s: Verify says %v; want it to name %s", what, err, key)
	}
}

// grown grows a log to each of the sizes in a leadership of its own.
func grown(t *testing.T, o driver.Options, sizes ...int64) {
	t.Helper()
	at := int64(0)
	for _, size := range sizes {
		l := open(t, o)
		stop := lead(t, l)
		add(t, l, at, size)
		quit(t, l, stop)
		at = size
	}
}

func TestVerifyReadsAWholeLog(t *testing.T) {
	b := mem.New()
	if _, err := driver.Verify(t.Context(), b, "test", nil); !errors.Is(err, driver.ErrNoLog) {
		t.Errorf("without a log: %v", err)
	}
	grown(t, options(t, b), 3, 600, 700)
	told := int64(0)
	r, err := driver.Verify(t.Context(), b, "test", func(done, total int64) {
		if done <= told || done > total {
			t.Errorf("told of %d of %d objects after %d", done, total, told)
		}
		told = done
	})
	if err != nil {
		t.Fatal(err)
	}
	tree := newOracle(t, 700)
	root := tree.root(t, 700)
	if r.Origin != origin || r.Size != 700 || r.Head != 700 || r.Root != hex.EncodeToString(root[:]) || r.Leaders != 3 || r.Strays != 0 || r.Objects != told {
		t.Errorf("got %+v", r)
	}
}

// collected returns a log whose older records are collected, and the slot of its floor.
func collected(t *testing.T) (storage.Bucket, int) {
	t.Helper()
	b := mem.New()
	size := int64(0)
	for range 3 {
		l := open(t, gcOptions(t, b))
		stop := lead(t, l)
		for range 60 {
			add(t, l, size, size+1)
			size++
			time.Sleep(100 * time.Millisecond)
		}
		quit(t, l, stop)
	}
	return b, int(readFloor(t, b).N)
}

// TestVerifyAfterCollection adds strays below the floor, which do no harm, and damages what is there.
func TestVerifyAfterCollection(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b, floor := collected(t)
		if r := verified(t, b); r.Leaders != 3 || r.Strays != 0 || r.Size != 180 {
			t.Errorf("got %+v", r)
		}
		stray := slotKey(floor - 1)
		put(t, b, stray, get(t, b, slotKey(floor)))
		if r := verified(t, b); r.Strays != 1 {
			t.Errorf("with a stray: %+v", r)
		}
		if s, err := driver.Inspect(t.Context(), b, "test"); err != nil || s.Floor != int64(floor) || s.Epoch != 3 || !s.Released || s.Lag != 0 {
			t.Errorf("Inspect: %+v, %v", s, err)
		}
		for key, bits := range map[string]func(key string, data []byte) []int{
			"state/test/floor": func(_ string, data []byte) []int {
				return at(data, `"n":`, `"size":`, `"root":"`, `"range":["`, `"rec":"`)
			},
			slotKey(0): func(_ string, data []byte) []int { return at(data, `"epoch":`, `"prev":"`, `"new_root":"`, `"log":"`) },
			slotKey(floor): func(_ string, data []byte) []int {
				return at(data, `"nonce":"`, `"prev":"`, `"new_root":"`, `"writer":"`)
			},
		} {
			data := get(t, b, key)
			for _, i := range bits(key, data) {
				flip(t, b, key, i)
				wantGuilty(t, b, key, fmt.Sprintf("byte %d of %s", i, data))
				put(t, b, key, data)
			}
		}
		for _, key := range []string{slotKey(0), slotKey(floor), slotKey(floor + 1), "state/test/floor", "state/test/identity", "logs/test/checkpoint"} {
			wantMissing(t, b, key)
		}
		verified(t, b)
	})
}

// at returns where the values of members begin in a JSON object.
func at(data []byte, members ...string) []int {
	var out []int
	for _, m := range members {
		if i := strings.Index(string(data), m); i >= 0 {
			out = append(out, i+len(m))
		}
	}
	return out
}

// flip flips the lowest bit of a byte of an object.
func flip(t *testing.T, b storage.Bucket, key string, i int) {
	t.Helper()
	data := append([]byte(nil), get(t, b, key)...)
	data[i] ^= 1
	put(t, b, key, data)
}

// wantMissing takes an object away for a while.
func wantMissing(t *testing.T, b storage.Bucket, key string) {
	t.Helper()
	data := get(t, b, key)
	if data == nil {
		t.Fatalf("there is no %s", key)
	}
	if err := b.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	wantGuilty(t, b, key, "missing")
	put(t, b, key, data)
}

// TestVerifyNamesTheDamagedObject flips each bit of small objects and some of large ones, and takes
// each object away.
func TestVerifyNamesTheDamagedObject(t *testing.T) {
	b := mem.New()
	grown(t, options(t, b), 40, 600)
	// Records chain: what nothing is chained to yet cannot be told, nor what has no meaning.
	free := map[string][]string{
		"state/test/identity": {`"format":`}, // another format is not for this program
		"state/test/floor":    {`"seq":`}, slotKey(newest(t, b)): {`"nonce":"`},
	}
	objects := dump(t, b)
	if len(objects) < 15 {
		t.Fatalf("the log has only %d objects", len(objects))
	}
	for key, data := range objects {
		if key == "state/test/head" {
			continue // a hint
		}
		step := max(1, len(data)/60)
		for i := 0; i < len(data); i += step {
			if !within(data, i, free[key]) {
				flip(t, b, key, i)
				wantGuilty(t, b, key, fmt.Sprintf("byte %d", i))
				put(t, b, key, data)
			}
		}
		if key == slotKey(newest(t, b)) {
			continue // an empty record of a handover, after which there may be another
		}
		if full, _, partial := strings.Cut(key, ".p/"); partial && !isEdge(full, key) {
			continue // of an older checkpoint: it may go
		}
		wantMissing(t, b, key)
	}
	verified(t, b)
}

// isEdge reports whether key is of the checkpoint of size 600.
func isEdge(_, key string) bool {
	return strings.HasSuffix(key, "/002.p/88") || strings.HasSuffix(key, "/1/000.p/2")
}

// within reports whether byte i lies in the value of one of the members.
func within(data []byte, i int, members []string) bool {
	for _, start := range at(data, members...) {
		if end := start + strings.IndexAny(string(data[start:]), `,"`); i >= start && i <= end {
			return true
		}
	}
	return false
}

// TestVerifyWhileTheLogGrows reads a log again and again, slowly, while it grows and its records are
// collected.
func TestVerifyWhileTheLogGrows(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := mem.New()
		o := gcOptions(t, b)
		o.GCInterval, o.GCKeepAge = 100*time.Millisecond, 200*time.Millisecond
		l := open(t, o)
		stop := lead(t, l)
		grew := make(chan struct{})
		go func() {
			defer close(grew)
			for size := range int64(1_000) {
				add(t, l, size, size+1)
				time.Sleep(30 * time.Millisecond)
			}
		}()
		runs, unsteady := 0, 0 // it is collected 10,000 times as often as by default
		for ended := false; !ended; runs++ {
			select {
			case <-grew:
				ended = true
			default:
			}
			if _, err := driver.Verify(t.Context(), &sleepy{Bucket: b}, "test", nil); errors.Is(err, driver.ErrUnsteady) {
				unsteady++
			} else if err != nil {
				t.Errorf("Verify: %v", err)
			}
			s, err := driver.Inspect(t.Context(), &sleepy{Bucket: b}, "test")
			if errors.Is(err, driver.ErrUnsteady) {
				unsteady++
			} else if err != nil {
				t.Errorf("Inspect: %v", err)
			} else if s.HeadSize > 0 && (s.Lag > 10 || s.Checkpoint == nil) {
				t.Errorf("Inspect: %+v", s)
			}
		}
		// One look in about 2,500 meets another log five times: of the 20 or more of them hardly ever four do.
		if runs < 5 || unsteady > runs/3 {
			t.Errorf("it was verified %d times, and looked at %d times without end", runs, unsteady)
		}
		quit(t, l, stop)
		if f := readFloor(t, b); f.N < 500 {
			t.Errorf("floor is %+v", f)
		}
	})
}

// sleepy is a bucket that takes its time.
type sleepy struct{ storage.Bucket }

func (s *sleepy) Get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	time.Sleep(rand2.N(20 * time.Millisecond))
	return s.Bucket.Get(ctx, key, r)
}

// TestVerifyTellsDamageFromAStoreThatFails reads from a store that does not answer for one object.
func TestVerifyTellsDamageFromAStoreThatFails(t *testing.T) {
	b := mem.New()
	grown(t, options(t, b), 40, 600)
	for key := range dump(t, b) {
		_, err := driver.Verify(t.Context(), unreachable{b, key}, "test", nil)
		if bad, ok := errors.AsType[*driver.ObjectError](err); ok || !errors.Is(err, errRefused) {
			t.Errorf("without an answer for %s: %v (%v)", key, err, bad)
		}
	}
	if _, err := driver.Verify(t.Context(), unreachable{b, "list"}, "test", nil); !errors.Is(err, errRefused) {
		t.Errorf("without a listing: %v", err)
	}
	if _, err := driver.Names(t.Context(), unreachable{b, "list"}); !errors.Is(err, errRefused) {
		t.Errorf("Names without a listing: %v", err)
	}
}

var errRefused = errors.New("connection refused")

// unreachable is a bucket that does not answer for one key, or to List.
type unreachable struct {
	storage.Bucket
	key string
}

func (u unreachable) Get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	if key == u.key {
		return nil, "", errRefused
	}
	return u.Bucket.Get(ctx, key, r)
}

func (u unreachable) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	if u.key == "list" {
		return func(yield func(string, error) bool) { yield("", errRefused) }
	}
	return u.Bucket.List(ctx, prefix)
}

// TestInspect looks at a log in all its ages, from the bucket alone.
func TestInspect(t *testing.T) {
	b := mem.New()
	put(t, b, "state/witness.example.org/0123", []byte("{}"))
	put(t, b, "state/_check/x/1", []byte("{}"))
	if names, err := driver.Names(t.Context(), b); err != nil || len(names) != 0 {
		t.Errorf("Names: %v, %v", names, err)
	}
	if _, err := driver.Inspect(t.Context(), b, "test"); !errors.Is(err, driver.ErrNoLog) {
		t.Errorf("without a log: %v", err)
	}
	o := options(t, b)
	o.URL = "http://replica.example.org"
	l := open(t, o)
	if s, err := driver.Inspect(t.Context(), b, "test"); err != nil || s.HeadSlot != 0 || s.Since != 0 || s.Epoch != 1 ||
		s.Leader != o.URL || s.Released || s.Checkpoint != nil || s.Origin != origin || s.Layout != "tlog-tiles" {
		t.Errorf("when it has a leader: %+v, %v", s, err)
	}
	stop := lead(t, l)
	add(t, l, 0, 300)
	quit(t, l, stop)
	s, err := driver.Inspect(t.Context(), b, "test")
	if err != nil || s.HeadSize != 300 || s.Lag != 0 || s.Checkpoint == nil || s.Checkpoint.Size != 300 || !s.Released || s.Leader != o.URL {
		t.Errorf("when it was led: %+v, %v", s, err)
	}
	if names, err := driver.Names(t.Context(), b); err != nil || len(names) != 1 || names[0] != "test" {
		t.Errorf("Names: %v, %v", names, err)
	}
	for _, key := range []string{"state/test/identity", "state/test/floor", "logs/test/checkpoint", slotKey(0)} {
		data := get(t, b, key)
		flip(t, b, key, 0)
		if s, err := driver.Inspect(t.Context(), b, "test"); !isDamage(err) {
			t.Errorf("with %s damaged: %+v, %v", key, s, err)
		}
		put(t, b, key, data)
	}
	for n := newest(t, b); n > 0; n-- { // as after state/ was rolled back
		if err := b.Delete(t.Context(), slotKey(n)); err != nil {
			t.Fatal(err)
		}
	}
	if s, err := driver.Inspect(t.Context(), b, "test"); !isDamage(err) {
		t.Errorf("when state/ was rolled back: %+v, %v", s, err)
	}
}

func isDamage(err error) bool {
	_, object := errors.AsType[*driver.ObjectError](err)
	_, damage := errors.AsType[*driver.DamageError](err)
	return object || damage
}

// TestVerifyALogOfThreeLevels names damage high and low in a tree of three levels of tiles, and of
// several damaged objects the first.
func TestVerifyALogOfThreeLevels(t *testing.T) {
	b := mem.New()
	const size = 66_000
	l := open(t, options(t, b))
	stop := lead(t, l)
	for at := int64(0); at < size; {
		next := min(at+10_000, size)
		add(t, l, at, next)
		at = next
	}
	quit(t, l, stop)
	if r := verified(t, b); r.Size != size || r.Objects < 2*size/256 {
		t.Errorf("got %+v", r)
	}
	later := ""
	for _, key := range []string{"logs/test/tile/entries/257.p/208", "logs/test/tile/0/256", "logs/test/tile/1/001.p/1", "logs/test/tile/entries/255",
		"logs/test/tile/0/200", "logs/test/tile/entries/007", "logs/test/tile/0/007", "logs/test/tile/1/000", "logs/test/tile/2/000.p/1"} {
		flip(t, b, key, 40%len(get(t, b, key)))
		wantGuilty(t, b, key, "before "+later)
		later = key
	}
}
