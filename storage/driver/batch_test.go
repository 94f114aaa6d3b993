package driver_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/ctonly"

	"tallywood/internal/bubble"
	"tallywood/internal/faultbucket"
	"tallywood/storage"
	"tallywood/storage/driver"
	"tallywood/storage/mem"
)

// slow delays the records of b: while one is written, the next batch gathers.
func slow(b storage.Bucket, d time.Duration) storage.Bucket {
	return &hooked{b, func(op, key string) {
		if op == "put" && bytes.HasPrefix([]byte(key), []byte("state/test/log/")) {
			time.Sleep(d)
		}
	}}
}

// batches returns how many entries each record of b has.
func batches(t *testing.T, b storage.Bucket) []int64 {
	t.Helper()
	var counts []int64
	size := int64(0)
	for n := range newest(t, b) + 1 {
		r := parseRecord(t, get(t, b, slotKey(n)))
		if r.Type == "BATCH" {
			counts = append(counts, r.NewSize-size)
		}
		size = r.NewSize
	}
	return counts
}

// TestBatchIsWhatArrivedMeanwhile adds entries while a slow commit is in flight.
func TestBatchIsWhatArrivedMeanwhile(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := mem.New()
		o := options(t, slow(b, 50*time.Millisecond))
		l := open(t, o)
		stop := lead(t, l)
		var last tessera.IndexFuture
		began := time.Now()
		for i := int64(0); i < 100; i++ {
			last = l.Add(t.Context(), tessera.NewEntry(data(i)))
			if i == 0 {
				synctest.Wait() // it is in flight alone
			}
		}
		if _, err := last(); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d != 100*time.Millisecond {
			t.Errorf("two commits of 50 ms took %v", d)
		}
		if again, err := last(); err != nil || again.Index != 99 {
			t.Errorf("the future says %d, %v the second time", again.Index, err)
		}
		quit(t, l, stop)
		if got := batches(t, b); len(got) != 3 || got[0] != 1 || got[1] != 99 || got[2] != 0 {
			t.Errorf("batches of %d", got)
		}
	})
}

// TestCommitDuringTileWrite commits entries that fill nothing while full tiles are being written.
func TestCommitDuringTileWrite(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		o := options(t, &hooked{mem.New(), once("put", "logs/test/tile/0/000", func() { time.Sleep(time.Second) })})
		l := open(t, o)
		stop := lead(t, l)
		for i := range int64(256) {
			l.Add(t.Context(), tessera.NewEntry(data(i)))
		}
		time.Sleep(500 * time.Millisecond)
		began := time.Now()
		add(t, l, 256, 257)
		if d := time.Since(began); d > 510*time.Millisecond {
			t.Errorf("published after %v, the tile was there after 500ms", d)
		}
		quit(t, l, stop)
	})
}

func TestBatchLimits(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := mem.New()
		o := options(t, slow(b, time.Second))
		o.BatchMaxSize, o.MaxOutstandingBytes = 200, 256<<20
		l := open(t, o)
		stop := lead(t, l)
		var last tessera.IndexFuture
		large := bytes.Repeat([]byte{1}, 1<<16-1)
		for range 1_000 { // 62 MiB: bytes are what limits a batch
			last = l.Add(t.Context(), tessera.NewEntry(large))
		}
		if _, err := last(); err != nil {
			t.Fatal(err)
		}
		for i := range int64(1_000) {
			last = l.Add(t.Context(), tessera.NewEntry(data(i)))
		}
		if _, err := last(); err != nil {
			t.Fatal(err)
		}
		quit(t, l, stop)
		for n := range newest(t, b) + 1 {
			raw := get(t, b, slotKey(n))
			if payload := len(raw) - len(parseRecord(t, raw).line); payload > 2<<20+200*20 {
				t.Errorf("record %d has %d bytes of entries", n, payload)
			}
		}
		for _, count := range batches(t, b) {
			if count > 200 {
				t.Errorf("a batch of %d", count)
			}
		}
		checkLog(t, options(t, b), 2_000)
	})
}

func TestEntryTooLarge(t *testing.T) {
	l := open(t, options(t, mem.New()))
	stop := lead(t, l)
	if _, err := l.Add(t.Context(), tessera.NewEntry(make([]byte, 1<<16)))(); err == nil {
		t.Error("took an entry whose length does not fit")
	}
	add(t, l, 0, 1)
	quit(t, l, stop)

	o := options(t, mem.New())
	o.Layout = driver.StaticCT()
	l = open(t, o)
	stop = lead(t, l)
	if _, err := l.AddCT(t.Context(), &ctonly.Entry{Certificate: make([]byte, 256<<10)})(); err == nil {
		t.Error("took a certificate above 256 KiB")
	}
	if _, err := l.AddCT(t.Context(), &ctonly.Entry{Certificate: make([]byte, 255<<10)})(); err != nil {
		t.Error(err)
	}
	quit(t, l, stop)
}

// TestAddPausedAcrossDrain lets an add that found the log leading go on when that has ended.
func TestAddPausedAcrossDrain(t *testing.T) {
	o := options(t, mem.New())
	l := open(t, o)
	stop := lead(t, l)
	add := driver.PausedAdd(l)
	quit(t, l, stop)
	_, err := add(t.Context(), tessera.NewEntry(data(0)))()
	if !errors.Is(err, driver.ErrNotLeading) || !errors.Is(err, tessera.ErrPushback) {
		t.Errorf("Add: %v", err)
	}

	o = options(t, mem.New())
	o.Layout = driver.StaticCT()
	l = open(t, o)
	stop = lead(t, l)
	addCT := driver.PausedAddCT(l)
	quit(t, l, stop)
	if _, err := addCT(t.Context(), certificate(0))(); !errors.Is(err, driver.ErrNotLeading) {
		t.Errorf("AddCT: %v", err)
	}
}

// TestPushback adds more than may wait while the store does not answer.
func TestPushback(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		o := options(t, slow(mem.New(), 10*time.Second))
		o.MaxOutstanding = 100
		l := open(t, o)
		stop := lead(t, l)
		var last tessera.IndexFuture
		for i := range int64(100) {
			last = l.Add(t.Context(), tessera.NewEntry(data(i)))
		}
		if _, err := l.Add(t.Context(), tessera.NewEntry(data(100)))(); !errors.Is(err, tessera.ErrPushbackIntegration) {
			t.Errorf("Add above the limit: %v", err)
		}
		if _, err := last(); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Await(t.Context(), 100); err != nil {
			t.Fatal(err)
		}
		add(t, l, 100, 101)
		quit(t, l, stop)
	})
}

// TestPushbackOfBytes adds more bytes than may wait, while the store takes no records, and while it
// takes no tiles.
func TestPushbackOfBytes(t *testing.T) {
	for _, stuck := range []string{"state/test/log/", "logs/test/tile/"} {
		t.Run(strings.ReplaceAll(stuck, "/", "_"), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) { pushbackOfBytes(t, stuck) })
		})
	}
}

func pushbackOfBytes(t *testing.T, stuck string) {
	b := faultbucket.New(mem.New())
	o := options(t, b)
	o.MaxOutstandingBytes, o.MaxUnpublished, o.MaxQueueAge = 20<<20, time.Hour, time.Hour
	l := open(t, o)
	stop := lead(t, l)
	b.FailWhen(faultbucket.On(faultbucket.Put, stuck), faultbucket.Fail)
	entry := make([]byte, 1<<13)
	var last tessera.IndexFuture
	taken := int64(0)
	for full := false; !full && taken < 10_000; taken++ {
		last = l.Add(t.Context(), tessera.NewEntry(entry))
		if taken%800 == 0 {
			time.Sleep(time.Second) // to commit, where that works
		}
		_, full = driver.Outstanding(l)
	}
	// What is in the bundle at the right edge when the first one has yet to fill does not count.
	if taken < 2560-1 || taken > 2560+256 {
		t.Fatalf("%d entries of 8 KiB before 20 MiB were full", taken)
	}
	refused := make(chan error, 1)
	go func() {
		_, err := l.Add(t.Context(), tessera.NewEntry(nil))()
		refused <- err
	}()
	synctest.Wait()
	select {
	case err := <-refused:
		if !errors.Is(err, tessera.ErrPushbackIntegration) {
			t.Errorf("Add above the limit: %v", err)
		}
	default:
		t.Fatal("Add above the limit was admitted")
	}
	b.FailWhen(faultbucket.On(faultbucket.Put, stuck), faultbucket.None)
	if _, err := last(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Await(t.Context(), taken); err != nil {
		t.Fatal(err)
	}
	if bytes, _ := driver.Outstanding(l); bytes != 0 {
		t.Errorf("%d bytes count as outstanding when all is published", bytes)
	}
	if _, err := l.Add(t.Context(), tessera.NewEntry(nil))(); err != nil {
		t.Errorf("Add once all is published: %v", err)
	}
	quit(t, l, stop)
}

// TestUnpublishedIsLimited commits without publishing until that is refused.
func TestUnpublishedIsLimited(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		o := options(t, mem.New())
		o.Cosign, o.MaxUnpublished = (&quorum{err: errDown}).cosign, time.Hour
		l := open(t, o)
		stop := lead(t, l)
		var futures []tessera.IndexFuture
		for i := int64(0); i < 65_536; i++ {
			if futures = append(futures, l.Add(t.Context(), tessera.NewEntry(data(i)))); len(futures) < 1024 {
				continue
			}
			for _, f := range futures {
				if _, err := f(); err != nil {
					t.Fatal(err)
				}
			}
			futures = futures[:0]
			time.Sleep(5 * time.Second) // until all is integrated
		}
		if _, err := l.Add(t.Context(), tessera.NewEntry(data(65_536)))(); !errors.Is(err, tessera.ErrPushback) || !errors.Is(err, driver.ErrUnpublished) {
			t.Errorf("entry 65,536: %v", err)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestHintIsWritten(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := mem.New()
		l := open(t, options(t, b))
		stop := lead(t, l)
		for i := int64(0); i < 30; i++ {
			add(t, l, i, i+1)
			time.Sleep(time.Second)
		}
		var hint struct{ N, Seq int64 }
		if err := json.Unmarshal(get(t, b, "state/test/head"), &hint); err != nil {
			t.Fatal(err)
		}
		if hint.Seq < 2 || hint.Seq > 4 || get(t, b, slotKey(int(hint.N))) == nil {
			t.Errorf("after 30 s the hint is %+v", hint)
		}
		quit(t, l, stop)
	})
}
