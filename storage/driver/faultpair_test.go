package driver_test

import (
	"context"
	"flag"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"k8s.io/klog/v2"

	"tallywood/internal/bubble"
	"tallywood/internal/faultbucket"
	"tallywood/internal/trial"
	"tallywood/storage"
	"tallywood/storage/driver"
)

var (
	faultEvery = flag.Int("fault.every", faultStride, "TestFaultsSingly tries one in so many faults")
	faultPairs = flag.Int("fault.pairs", faultSample, "number of pairs TestFaultsInPairs tries")
	faultFirst = flag.Uint64("fault.first", 1, "seed of the first of them")
)

// faultsOf are the modes that make a difference to an operation of each kind. A store's answers 409,
// 429 and 503 are Fail or Lose: a caller is not told whether it was applied.
var faultsOf = map[faultbucket.Kind][]faultbucket.Mode{
	faultbucket.Get: {faultbucket.Fail, faultbucket.Hang, faultbucket.Cut},
	faultbucket.Put: {faultbucket.Fail, faultbucket.Lose, faultbucket.Refuse, faultbucket.Hang, faultbucket.HangAfter,
		faultbucket.Late, faultbucket.Again, faultbucket.Crash, faultbucket.CrashAfter},
	faultbucket.Delete: {faultbucket.Fail, faultbucket.Lose, faultbucket.Hang, faultbucket.Late, faultbucket.Again,
		faultbucket.Crash, faultbucket.CrashAfter},
	faultbucket.List: {faultbucket.Fail, faultbucket.Hang},
	faultbucket.Sync: {faultbucket.Fail, faultbucket.Hang, faultbucket.Crash},
}

// A misfortune says what becomes of each operation of a trial. What is late lands after part land of
// the story, at the earliest.
type misfortune struct {
	decide func(op faultbucket.Op) faultbucket.Mode
	land   int
}

// TestFaultsSingly makes each operation of a story fail in each way, what is late in two.
func TestFaultsSingly(t *testing.T) {
	defer quietly()()
	ops := suffers(t, misfortune{})
	if len(ops) < 300 {
		t.Fatalf("only %d operations", len(ops))
	}
	tried, at := 0, 0
	try := func(n int, mode faultbucket.Mode, land int) {
		if at++; at%*faultEvery == 0 && !t.Failed() {
			tried++
			suffers(t, misfortune{land: land, decide: func(op faultbucket.Op) faultbucket.Mode {
				if op.N == n {
					return mode
				}
				return faultbucket.None
			}})
		}
	}
	for _, op := range ops {
		for _, mode := range faultsOf[op.Kind] {
			if mode != faultbucket.Again {
				try(op.N, mode, 0)
			}
			if mode == faultbucket.Late && op.Kind == faultbucket.Put || mode == faultbucket.Again {
				try(op.N, mode, lateLand)
			}
		}
	}
	t.Logf("%d faults at %d operations", tried, len(ops))
}

// lateLand is the part of the story by whose end another process has collected what the first ones
// wrote.
const lateLand = 4

// TestFaultsInPairs makes two operations of a story fail, drawn as trial.DrawPair says. The long run
// takes some minutes:
//
//	go test ./storage/driver -run '^TestFaultsInPairs$' -v -timeout 1h -fault.pairs 10000 -fault.first 1000
func TestFaultsInPairs(t *testing.T) {
	defer quietly()()
	var ops []string
	for _, op := range suffers(t, misfortune{}) {
		ops = append(ops, string(op.Kind)+" "+op.Key)
	}
	for seed := *faultFirst; seed < *faultFirst+uint64(*faultPairs); seed++ {
		r := rand.New(rand.NewPCG(seed, 0))
		pair := trial.DrawPair(r, ops)
		suffers(t, misfortune{land: r.IntN(2) * lateLand, decide: func(op faultbucket.Op) faultbucket.Mode {
			if !pair.Falls(op.N, string(op.Kind)+" "+op.Key) {
				return faultbucket.None
			}
			of := faultsOf[op.Kind]
			return of[r.IntN(len(of))]
		}})
		if t.Failed() {
			t.Fatalf("repeat this by: go test ./storage/driver -run '^TestFaultsInPairs$' -fault.first %d -fault.pairs 1", seed)
		}
	}
	t.Logf("%d pairs of faults at %d operations", *faultPairs, len(ops))
}

// quietly makes trials take turns, so that they can be repeated, and says no word of Tessera's.
func quietly() (restore func()) {
	procs, percent := runtime.GOMAXPROCS(1), debug.SetGCPercent(400)
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	jitter := driver.SetJitter(func(d time.Duration) time.Duration {
		return time.Duration(rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0)).Int64N(int64(d)))
	})
	return func() {
		runtime.GOMAXPROCS(procs)
		debug.SetGCPercent(percent)
		jitter()
	}
}

// suffers plays the long story, in which nothing may be violated, and returns its operations.
func suffers(t *testing.T, m misfortune) []faultbucket.Op {
	t.Helper()
	ops, violation := m.trial(t)
	var suffered []string
	for _, op := range ops {
		if op.Mode != faultbucket.None {
			suffered = append(suffered, fmt.Sprintf("%d %s %s: %v", op.N, op.Kind, op.Key, op.Mode))
		}
	}
	if violation != "" {
		t.Errorf("%q, landing after %d: violation: %s", suffered, m.land, violation)
	}
	return ops
}

// trial plays the long story and returns its operations and what was violated. The bubble does not end
// while a goroutine is left.
func (m misfortune) trial(t *testing.T) (ops []faultbucket.Op, violation string) {
	bubble.Test(t, func(t *testing.T) {
		w := trial.New(t)
		store := trial.NewStore(w.Referee)
		root := faultbucket.New(nil)
		if m.decide != nil {
			root.FailAs(func(op faultbucket.Op) faultbucket.Mode {
				mode := m.decide(op)
				switch mode {
				case faultbucket.Cut:
					w.Cut()
				case faultbucket.Late, faultbucket.Again, faultbucket.Hang, faultbucket.HangAfter:
					w.Stray() // or another process has led when the request ends
				}
				return mode
			})
		}
		var mu sync.Mutex // guards buckets
		var buckets []*faultbucket.Bucket
		w.Open = func(who string) (storage.Bucket, func()) {
			b := root.Sibling(store.As(who))
			mu.Lock()
			defer mu.Unlock()
			buckets = append(buckets, b)
			return &mortal{b, w, who}, b.Crash
		}
		landAll := func() {
			mu.Lock()
			defer mu.Unlock()
			for _, b := range buckets {
				_ = b.Land(context.Background()) // says at most that it came too late
			}
		}
		w.Between = func(part int) {
			if part >= m.land {
				landAll()
			}
		}
		w.Healed = func() {
			root.Heal()
			ops = root.Ops()
			landAll()
		}
		w.Long()
		violation = w.Violation()
	})
	return ops, violation
}

// mortal is the bucket of a process that dies with it.
type mortal struct {
	b   *faultbucket.Bucket
	w   *trial.Trial
	who string
}

func (m *mortal) died() {
	if m.b.Crashed() {
		if p := m.w.Process(m.who); p != nil {
			p.Kill()
		}
	}
}

func (m *mortal) Get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	data, v, err := m.b.Get(ctx, key, r)
	m.died()
	return data, v, err
}

func (m *mortal) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	v, err := m.b.Put(ctx, key, data, o)
	m.died()
	return v, err
}

func (m *mortal) Delete(ctx context.Context, keys ...string) error {
	err := m.b.Delete(ctx, keys...)
	m.died()
	return err
}

// Sync is what a directory has: what other processes wrote becomes durable.
func (m *mortal) Sync(ctx context.Context, prefixes ...string) error {
	err := m.b.Sync(ctx, prefixes...)
	m.died()
	return err
}

func (m *mortal) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for key, err := range m.b.List(ctx, prefix) {
			m.died()
			if !yield(key, err) {
				return
			}
		}
	}
}
