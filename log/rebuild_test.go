package log_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tallywood/internal/bubble"
	"tallywood/log"
	"tallywood/storage"
)

// A narrow bucket lets one read of a full entry bundle through at a time, each of which takes a second,
// or for ever.
type narrow struct {
	storage.Bucket
	turn chan struct{}
	shut atomic.Bool
}

func newNarrow(b storage.Bucket) *narrow { return &narrow{Bucket: b, turn: make(chan struct{}, 1)} }

func (n *narrow) Get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	if !strings.Contains(key, "/tile/entries/") || strings.Contains(key, ".p/") {
		return n.Bucket.Get(ctx, key, r)
	}
	select {
	case n.turn <- struct{}{}:
		defer func() { <-n.turn }()
	case <-ctx.Done():
		return nil, "", ctx.Err()
	}
	takes := time.After(time.Second)
	if n.shut.Load() {
		takes = nil
	}
	select {
	case <-takes:
	case <-ctx.Done():
		return nil, "", ctx.Err()
	}
	return n.Bucket.Get(ctx, key, r)
}

// lines collects what is logged.
type lines struct {
	mu  sync.Mutex
	all []map[string]any
}

func (l *lines) Write(p []byte) (int, error) {
	var line map[string]any
	if err := json.Unmarshal(p, &line); err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, line)
	return len(p), nil
}

// with returns the lines with the given message.
func (l *lines) with(msg string) (found []map[string]any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.all {
		if line["msg"] == msg {
			found = append(found, line)
		}
	}
	return found
}

const longLog = 3000

// lost returns a log of longLog entries whose duplicate index is lost, in a narrow bucket, and what is
// logged.
func lost(t *testing.T) (*fixture, *narrow, *lines) {
	f := newFixture(t)
	l, stop := f.run()
	var adding sync.WaitGroup
	for i := range longLog {
		adding.Go(func() {
			if _, err := l.Sequence(t.Context(), tlogEntry(fmt.Sprint(i))); err != nil {
				t.Error(err)
			}
		})
	}
	adding.Wait()
	stop()
	n, logged := newNarrow(f.bucket), new(lines)
	f.options.Bucket, f.options.CacheDir, f.options.Log = n, t.TempDir(), slog.New(slog.NewJSONHandler(logged, nil))
	return f, n, logged
}

// background runs l and returns what ends it.
func background(t *testing.T, l *log.Log) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-done, l.Close()); err != nil {
			t.Error(err)
		}
	})
}

// TestLostIndexIsRebuiltBeforeAddsAreTaken: meanwhile whoever asks is told how far it is, and so is
// the log.
func TestLostIndexIsRebuiltBeforeAddsAreTaken(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f, _, logged := lost(t)
		l := f.open()
		defer background(t, l)()
		eventually(t, "the beginning", func() bool {
			r, _ := l.Rebuilding()
			return r.Read > 0
		})
		_, err := l.Add(t.Context(), tlogEntry("new"))
		var rebuilding *log.RebuildError
		if !errors.As(err, &rebuilding) || !errors.Is(err, log.ErrUnavailable) {
			t.Fatalf("an add meanwhile: %v", err)
		}
		if r := rebuilding.Rebuild; r.Total != longLog || r.Read == 0 || r.Read == longLog || r.Written != 0 ||
			r.Left < 5*time.Second || r.Left > 30*time.Second || rebuilding.RetryAfter() != r.Left {
			t.Errorf("it says %+v", r)
		}
		ready := l.Ready()
		if want := fmt.Sprintf("its duplicate index is being rebuilt: %v", rebuilding.Rebuild); ready == nil || !strings.Contains(ready.Error(), want) {
			t.Errorf("ready says %v; want %q", ready, want)
		}
		eventually(t, "the end", func() bool { return l.Ready() == nil })
		if r, ok := l.Rebuilding(); ok {
			t.Errorf("afterwards: %v", r)
		}
		for i := range longLog {
			pos, err := l.Sequence(t.Context(), tlogEntry(fmt.Sprint(i)))
			if err != nil || !pos.Duplicate {
				t.Fatalf("entry %d: %+v, %v", i, pos, err)
			}
		}
		checkReports(t, logged)
	})
}

// checkReports wants a line after a second and then every five, until it was done.
func checkReports(t *testing.T, logged *lines) {
	t.Helper()
	reports := logged.with("rebuilding duplicate index")
	if len(reports) < 2 || len(reports) > 4 {
		t.Fatalf("reports %v", reports)
	}
	last := -1.0
	for i, r := range reports {
		read, rate := r["read"].(float64), r["rate"].(float64)
		if r["total"] != float64(longLog) || read <= last {
			t.Errorf("report %d: %v", i, r)
		}
		took := time.Duration(r["dur"].(float64))
		if took != time.Second+time.Duration(i)*5*time.Second || int64(rate) != int64(read/took.Seconds()) {
			t.Errorf("report %d after %v has rate %v", i, took, rate)
		}
		last = read
	}
	if done := logged.with("duplicate index caught up"); len(done) != 1 || done[0]["size"] != float64(longLog) {
		t.Errorf("at the end: %v", done)
	}
}

// TestStandbyRebuildsItsIndex: when it is to lead it has what it needs.
func TestStandbyRebuildsItsIndex(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f, n, _ := lost(t)
		f.options.URL = "http://a.example.org"
		leads := f.options
		leads.CacheDir, leads.Bucket = t.TempDir(), f.bucket
		a, err := log.Open(t.Context(), leads)
		if err != nil {
			t.Fatal(err)
		}
		stop := background(t, a)
		defer stop()
		eventually(t, "a leader", func() bool { return a.Ready() == nil })
		f.options.URL = "http://b.example.org"
		f.options.Probe = func(context.Context, string, bool) (log.Alive, error) { return a.Alive(false), nil }
		b := f.open()
		defer background(t, b)()
		eventually(t, "the beginning", func() bool {
			r, _ := b.Rebuilding()
			return r.Read > 0 && b.Ready() == nil
		})
		eventually(t, "the end", func() bool {
			_, on := b.Rebuilding()
			return !on
		})
		if size := log.Indexed(b); size != longLog {
			t.Errorf("the index has %d of %d entries", size, longLog)
		}
		n.shut.Store(true)
		stop()
		eventually(t, "the other to lead", func() bool { return b.Takes() })
		if pos, err := b.Sequence(t.Context(), tlogEntry("17")); err != nil || !pos.Duplicate {
			t.Errorf("a duplicate: %+v, %v", pos, err)
		}
	})
}

// TestRebuildDoesNotHoldUpTheEnd: SIGTERM does not wait for a store that does not answer, nor for a long read.
func TestRebuildDoesNotHoldUpTheEnd(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f, n, _ := lost(t)
		n.shut.Store(true)
		l := f.open()
		stop := background(t, l)
		eventually(t, "the beginning", func() bool {
			_, on := l.Rebuilding()
			return on && l.Leading()
		})
		begun := time.Now()
		stop()
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("the end took %v", took)
		}
	})
}

// TestRebuildGoesOnWhenThereIsSpace: without, adds are refused.
func TestRebuildGoesOnWhenThereIsSpace(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f, _, logged := lost(t)
		l := f.open()
		fails := log.FailPuts(l)
		defer background(t, l)()
		eventually(t, "the failure", func() bool { return len(logged.with("duplicate index fell behind")) > 0 })
		if _, err := l.Add(t.Context(), tlogEntry("new")); !errors.Is(err, log.ErrUnavailable) {
			t.Errorf("an add meanwhile: %v", err)
		}
		fails.Store(false)
		time.Sleep(2 * time.Minute) // of the bubble
		if r := mustAdd(t, l, "17"); !r.Duplicate {
			t.Errorf("a duplicate has index %d anew", r.Index)
		}
	})
}

// TestRebuiltIndexHasTheTimestamps of certificates.
func TestRebuiltIndexHasTheTimestamps(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		defer log.SetReadBatch(3)()
		f := newFixture(t)
		f.options.Kind, f.options.CacheDir = log.KindCT, t.TempDir()
		l, stop := f.run()
		var first []log.Position
		for i := range 20 {
			pos, err := l.Sequence(t.Context(), certificate(i, uint64(1_700_000_000_000+i)))
			if err != nil {
				t.Fatal(err)
			}
			first = append(first, pos)
		}
		stop()
		if err := os.RemoveAll(filepath.Join(f.options.CacheDir, "signatures.duplicates")); err != nil {
			t.Fatal(err)
		}
		l, _ = f.run()
		for i, want := range first {
			pos, err := l.Sequence(t.Context(), certificate(i, 1))
			if want.Duplicate = true; err != nil || pos != want {
				t.Errorf("certificate %d: %+v, %v; want %+v", i, pos, err, want)
			}
		}
	})
}
