package driver_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"
	"golang.org/x/mod/sumdb/note"

	"tallywood/internal/bubble"
	"tallywood/storage"
	"tallywood/storage/driver"
	"tallywood/storage/mem"
)

// raise moves the floor to slot n and collects the BATCH records below it, as the leader's garbage
// collection will.
func raise(t *testing.T, b storage.Bucket, n int) {
	t.Helper()
	var floor map[string]any
	if err := json.Unmarshal(get(t, b, "state/test/floor"), &floor); err != nil {
		t.Fatal(err)
	}
	r := parseRecord(t, get(t, b, slotKey(n-1)))
	leader := r.Leader
	if r.Type == "LEADER" {
		leader = r.N
	}
	rng, err := json.Marshal(r.Range)
	if err != nil {
		t.Fatal(err)
	}
	put(t, b, "state/test/floor", fmt.Appendf(nil,
		`{"seq":%d,"n":%d,"size":%d,"root":"%s","range":%s,"rec":"%x","epoch":%d,"leader":%d,"pub_size":%d,"swept":%d}`+"\n",
		int(floor["seq"].(float64))+1, n, r.NewSize, r.NewRoot, rng, sha256.Sum256(r.line), r.Epoch, leader,
		stored(t, b).N, n))
	for i := range n {
		if raw := get(t, b, slotKey(i)); raw != nil && parseRecord(t, raw).Type == "BATCH" {
			if err := b.Delete(t.Context(), slotKey(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// settle waits until the bucket's checkpoint has the given size.
func settle(t *testing.T, b storage.Bucket, size int64) {
	t.Helper()
	for get(t, b, "logs/test/checkpoint") == nil || stored(t, b).N < size {
		time.Sleep(time.Millisecond)
	}
}

// TestDeposedLeader lets a second process take over while the first one leads.
func TestDeposedLeader(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := mem.New()
		first := open(t, options(t, b))
		stopFirst := lead(t, first)
		add(t, first, 0, 5)
		time.Sleep(time.Second)

		second := open(t, options(t, b))
		stopSecond := lead(t, second)
		add(t, second, 5, 7)

		_, err := first.Add(t.Context(), tessera.NewEntry(data(99)))()
		if !errors.Is(err, driver.ErrNotLeading) || !errors.Is(err, tessera.ErrPushback) {
			t.Errorf("Add of a deposed leader: %v", err)
		}
		if err := stopFirst(); !errors.Is(err, driver.ErrNotLeading) {
			t.Errorf("Run of a deposed leader: %v", err)
		}
		if _, err := first.Await(t.Context(), 5); err != nil {
			t.Errorf("Await of what was published: %v", err)
		}
		add(t, second, 7, 9)
		quit(t, second, stopSecond)
		checkLog(t, options(t, b), 9)
	})
}

// TestOvertakenLeaderSeesNoDamage lets an idle leader find a checkpoint that is ahead of it.
func TestOvertakenLeaderSeesNoDamage(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := mem.New()
		o := options(t, b)
		o.Cosign = new(quorum).cosign
		first := open(t, o)
		stopFirst := lead(t, first)
		add(t, first, 0, 5)
		time.Sleep(time.Second)
		second := open(t, options(t, b))
		stopSecond := lead(t, second)
		add(t, second, 5, 7)
		time.Sleep(11 * time.Minute) // the first one refreshes its checkpoint
		if err := stopFirst(); !errors.Is(err, driver.ErrNotLeading) {
			t.Errorf("Run of an overtaken leader: %v", err)
		}
		quit(t, second, stopSecond)
		if tree := stored(t, b); tree.N != 7 {
			t.Errorf("checkpoint of size %d", tree.N)
		}
	})
}

// TestGhostLeaderRecord pauses a candidate before its LEADER record until that slot has been used,
// published and collected: the record lands, and is of no consequence.
func TestGhostLeaderRecord(t *testing.T) {
	b := mem.New()
	leader := open(t, options(t, b))
	stop := lead(t, leader)
	add(t, leader, 0, 5)
	settle(t, b, 5)
	slot := newest(t, b) + 1
	o := options(t, b)
	o.Bucket = &hooked{b, once("put", slotKey(slot), func() {
		for i := int64(5); i < 300; i += 50 {
			add(t, leader, i, min(i+50, 300))
		}
		quit(t, leader, stop)
		raise(t, b, newest(t, b))
	})}
	candidate := open(t, o)
	if r := parseRecord(t, get(t, b, slotKey(slot))); r.Type != "LEADER" {
		t.Fatalf("the ghost is not there: %+v", r)
	}
	if size, root := candidate.Head(); size != 300 || root != newOracle(t, 300).root(t, 300) {
		t.Fatalf("leads from size %d", size)
	}
	stop = lead(t, candidate)
	add(t, candidate, 300, 310)
	quit(t, candidate, stop)
	checkLog(t, options(t, b), 310)
}

// TestCollectedWhileReading collects the records a candidate is about to read, with and without an
// earlier floor.
func TestCollectedWhileReading(t *testing.T) {
	for _, key := range []string{"logs/test/checkpoint", "logs/test/tile/0/000.p/5", "state/test/head"} {
		for _, raised := range []bool{false, true} {
			t.Run(fmt.Sprint(strings.ReplaceAll(key, "/", "_"), raised), func(t *testing.T) {
				collectWhileReading(t, key, raised)
			})
		}
	}
}

func collectWhileReading(t *testing.T, key string, raised bool) {
	b := mem.New()
	leader := open(t, options(t, b))
	stop := lead(t, leader)
	add(t, leader, 0, 4)
	add(t, leader, 4, 5)
	settle(t, b, 5)
	if raised {
		raise(t, b, newest(t, b))
	}
	o := options(t, b)
	o.Bucket = &hooked{b, once("get", key, func() {
		for i := int64(5); i < 300; i += 50 {
			add(t, leader, i, min(i+50, 300))
		}
		quit(t, leader, stop)
		raise(t, b, newest(t, b))
	})}
	candidate := open(t, o)
	if size, _ := candidate.Head(); size != 300 {
		t.Fatalf("leads from size %d", size)
	}
	stop = lead(t, candidate)
	add(t, candidate, 300, 310)
	quit(t, candidate, stop)
	checkLog(t, options(t, b), 310)
}

// TestConflictWithNothing has a slot refuse a record and then be empty: it was collected meanwhile.
// The record must go there all the same, for its commit is undecided.
func TestConflictWithNothing(t *testing.T) {
	b := mem.New()
	refused := 0
	o := options(t, b)
	o.Bucket = &refusing{b, func(key string) bool {
		refused++
		return strings.HasPrefix(key, "state/test/log/") && refused%2 == 0
	}}
	l := open(t, o)
	stop := lead(t, l)
	for i := range int64(10) {
		add(t, l, i, i+1)
	}
	quit(t, l, stop)
	checkLog(t, options(t, b), 10)
}

// TestConflictWithNothingForever has a slot that is taken and empty at once, as a link that leads
// nowhere makes it in a directory. Open asks again with pauses, and gives up.
func TestConflictWithNothingForever(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		puts := 0
		o := options(t, &refusing{mem.New(), func(key string) bool {
			if key != slot0 {
				return false
			}
			if puts++; puts == 1_000 {
				cancel()
			}
			return true
		}})
		_, err := driver.Open(ctx, o)
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open: %v", err)
		}
		if puts > 100 {
			t.Errorf("%d attempts", puts)
		}
	})
}

// refusing is a bucket that says of some create-only Puts that the key exists.
type refusing struct {
	storage.Bucket
	refuse func(key string) bool
}

func (r *refusing) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	if strings.HasPrefix(key, "state/") && o.If.IsAbsent() && r.refuse(key) {
		return "", storage.ErrPrecondition
	}
	return r.Bucket.Put(ctx, key, data, o)
}

func TestOpenRefusesFloorWithoutItsSlot(t *testing.T) {
	b := damaged(t)
	last := newest(t, b)
	n := last
	for parseRecord(t, get(t, b, slotKey(n))).NewSize > 260 {
		n--
	}
	raise(t, b, n)
	for ; n <= last; n++ {
		if err := b.Delete(t.Context(), slotKey(n), "state/test/head"); err != nil {
			t.Fatal(err)
		}
	}
	refuses(t, options(t, b), "at the floor, is missing")
}

// TestTailSearch finds the newest slot from any hint, in a log of many records.
func TestTailSearch(t *testing.T) {
	b := mem.New()
	o := options(t, b)
	o.BatchMaxSize = 1
	l := open(t, o)
	stop := lead(t, l)
	add(t, l, 0, 100)
	quit(t, l, stop)
	size := int64(100)
	for _, hint := range []string{"", `{"n":0,"seq":1}`, `{"n":57,"seq":1}`, `{"n":100,"seq":1}`,
		`{"n":9223372036854775807,"seq":1}`, `{"n":-5,"seq":1}`, "{"} {
		put(t, b, "state/test/head", []byte(hint))
		l := open(t, o)
		if head, _ := l.Head(); head != size {
			t.Fatalf("hint %q: size %d", hint, head)
		}
		stop := lead(t, l)
		add(t, l, size, size+1)
		quit(t, l, stop)
		size++
	}
	raise(t, b, 60)
	l = open(t, o)
	if head, _ := l.Head(); head != size {
		t.Fatalf("above a floor: size %d", head)
	}
}

// TestStaleCheckpointSwap changes the bucket's checkpoint right before the swap.
func TestStaleCheckpointSwap(t *testing.T) {
	b := mem.New()
	l := open(t, options(t, b))
	stop := lead(t, l)
	add(t, l, 0, 5)
	quit(t, l, stop)
	old := get(t, b, "logs/test/checkpoint")
	o := options(t, b)
	o.Bucket = &watched{Bucket: &hooked{b, once("put", "logs/test/checkpoint", func() {
		put(t, b, "logs/test/checkpoint", old) // the same bytes, another version
	})}, t: t}
	l = open(t, o)
	stop = lead(t, l)
	add(t, l, 5, 9)
	quit(t, l, stop)
	if tree := stored(t, b); tree.N != 9 {
		t.Errorf("checkpoint of size %d", tree.N)
	}
}

// TestZombieCannotTakeTheCheckpointBack pauses a leader before its checkpoint swap until another one
// has published more.
func TestZombieCannotTakeTheCheckpointBack(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := mem.New()
		l := open(t, options(t, b))
		stop := lead(t, l)
		add(t, l, 0, 5)
		quit(t, l, stop)
		seen := &watched{Bucket: b, t: t}
		o := options(t, b)
		o.Bucket = &hooked{seen, once("put", "logs/test/checkpoint", func() {
			l := open(t, options(t, seen))
			stop := lead(t, l)
			add(t, l, 6, 300)
			quit(t, l, stop)
		})}
		zombie := open(t, o)
		stop = lead(t, zombie)
		add(t, zombie, 5, 6)
		settle(t, b, 300)
		if err := stop(); !errors.Is(err, driver.ErrNotLeading) {
			t.Errorf("Run of the zombie: %v", err)
		}
		checkLog(t, options(t, b), 300)
	})
}

// TestZombieCannotTakeARefreshBack pauses a leader before it refreshes the checkpoint until another
// one has taken over and refreshed it at the same size.
func TestZombieCannotTakeARefreshBack(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := mem.New()
		var armed atomic.Bool
		refreshed := make(chan []byte, 1)
		o := options(t, &hooked{b, func(op, key string) {
			if op != "get" || key != "logs/test/checkpoint" || !armed.CompareAndSwap(true, false) {
				return
			}
			o := options(t, b)
			o.Cosign = (&quorum{calls: 1_000}).cosign
			l := open(t, o)
			stop := lead(t, l)
			time.Sleep(time.Second)
			quit(t, l, stop)
			refreshed <- get(t, b, "logs/test/checkpoint")
		}})
		o.Cosign = new(quorum).cosign
		zombie := open(t, o)
		stop := lead(t, zombie)
		add(t, zombie, 0, 5)
		time.Sleep(time.Second)
		before := get(t, b, "logs/test/checkpoint")
		armed.Store(true)
		fresh := <-refreshed
		time.Sleep(time.Second)
		if bytes.Equal(before, fresh) {
			t.Fatal("the second leader did not refresh the checkpoint")
		}
		if !bytes.Equal(get(t, b, "logs/test/checkpoint"), fresh) {
			t.Error("the zombie replaced the refreshed checkpoint")
		}
		if err := stop(); !errors.Is(err, driver.ErrNotLeading) {
			t.Errorf("Run of the zombie: %v", err)
		}
	})
}

// TestRefreshReplacesLatePredecessor has a checkpoint of the same size land late in the bucket, by a
// process that led before: the leader replaces it when it refreshes its own.
func TestRefreshReplacesLatePredecessor(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := mem.New()
		o := options(t, b)
		o.Cosign = new(quorum).cosign
		l := open(t, o)
		stop := lead(t, l)
		add(t, l, 0, 5)
		time.Sleep(time.Second)
		p, _ := l.Published()
		late := fmt.Appendf(bytes.Clone(p.Note), "\u2014 late AQIDBAU=\n")
		put(t, b, "logs/test/checkpoint", late)
		time.Sleep(11 * time.Minute)
		p, _ = l.Published()
		if !bytes.Equal(get(t, b, "logs/test/checkpoint"), p.Note) {
			t.Error("the late checkpoint was not replaced")
		}
		quit(t, l, stop)
	})
}

// TestLeaderStopsOnDamage shows a leader an object that must not be there.
func TestLeaderStopsOnDamage(t *testing.T) {
	signed := func(t *testing.T, size string) []byte {
		s, _ := newKey(t, origin)
		n, err := note.Sign(&note.Note{Text: origin + "\n" + size + "\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"}, s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, c := range []struct {
		name, key string
		data      func(t *testing.T) []byte
		want      string
	}{
		{"tile", "logs/test/tile/0/000.p/6", func(*testing.T) []byte { return make([]byte, 6*32) }, "not what the committed"},
		{"bundle", "logs/test/tile/entries/000.p/6", func(*testing.T) []byte { return nil }, "not what the committed"},
		{"unsigned checkpoint", "logs/test/checkpoint", func(*testing.T) []byte { return []byte("x") }, "opening the stored"},
		{"checkpoint ahead", "logs/test/checkpoint", func(t *testing.T) []byte { return signed(t, "1000") }, "only 6 are committed"},
		{"checkpoint beside", "logs/test/checkpoint", func(t *testing.T) []byte { return signed(t, "6") }, "another root"},
		{"checkpoint malformed", "logs/test/checkpoint", func(t *testing.T) []byte { return signed(t, "06") }, "stored checkpoint"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := mem.New()
			l := open(t, options(t, b))
			stop := lead(t, l)
			add(t, l, 0, 5)
			quit(t, l, stop)
			l = open(t, options(t, b))
			put(t, b, c.key, c.data(t))
			ran := make(chan error, 1)
			go func() { ran <- l.Run(t.Context()) }()
			for !driver.Leading(l) {
				time.Sleep(time.Millisecond)
			}
			if _, err := l.Add(t.Context(), tessera.NewEntry(data(5)))(); err != nil && !errors.Is(err, driver.ErrNotLeading) {
				t.Fatal(err)
			}
			err := <-ran
			var damage *driver.DamageError
			if !errors.As(err, &damage) {
				t.Fatalf("Run: %v", err)
			}
			if !strings.Contains(err.Error(), c.want) && !strings.Contains(err.Error(), "only 5 are committed") {
				t.Errorf("Run: %v, want %q", err, c.want)
			}
			if c.key != "logs/test/checkpoint" && stored(t, b).N != 5 {
				t.Error("published over damage")
			}
		})
	}
}

func TestLeadershipChain(t *testing.T) {
	b := mem.New()
	for range 3 {
		l := open(t, options(t, b))
		quit(t, l, lead(t, l))
	}
	leader := int64(-1)
	for n := range 6 {
		r := parseRecord(t, get(t, b, slotKey(n)))
		want := record{N: int64(n), Type: "LEADER", Epoch: int64(n/2 + 1), Leader: leader}
		if n%2 == 1 {
			want.Type, want.Released = "BATCH", true
		} else {
			leader = r.N
		}
		if r.N != want.N || r.Type != want.Type || r.Epoch != want.Epoch || r.Leader != want.Leader || r.Released != want.Released {
			t.Errorf("slot %d is %+v", n, r)
		}
	}
}
