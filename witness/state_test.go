package witness_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"tallywood/internal/faultbucket"
	"tallywood/storage"
	"tallywood/storage/mem"
	"tallywood/witness"
	"tallywood/witness/policy"
)

func stateKey() string { return "state/" + name + "/" + hashOf(origin) }

// persisted returns the note that a fresh process serves of what is in the bucket, or "".
func persisted(t testing.TB, b storage.Bucket, l *testLog) string {
	t.Helper()
	return serve(t, b, newClock(), l).stored(t, l)
}

// TestNoSignatureLeavesWithoutState tries every fault at every operation of a short life, and then
// goes on with a fresh process: whatever was signed must be known to it.
func TestNoSignatureLeavesWithoutState(t *testing.T) {
	l, fork := newTestLog(t, origin), newTestLog(t, origin)
	l.grow(t, 20, "entry")
	fork.grow(t, 20, "forged entry")
	steps := [][2]int64{{0, 5}, {5, 9}, {9, 9}, {9, 20}}
	for _, mode := range []faultbucket.Mode{faultbucket.Fail, faultbucket.Lose, faultbucket.Late, faultbucket.Crash, faultbucket.CrashAfter, faultbucket.Unsynced, faultbucket.Broken} {
		for n := range 12 {
			t.Run(fmt.Sprintf("%v at %d", mode, n), func(t *testing.T) {
				inner := mem.New()
				b := faultbucket.New(inner)
				b.FailAt(n, mode)
				c := newClock()
				w := serve(t, b, c, l)
				signed := int64(0)
				for _, step := range steps {
					c.add(time.Second)
					a := w.add(t, l.request(t, step[0], step[1]))
					switch a.status {
					case http.StatusOK:
						signed = step[1]
						if got := persisted(t, inner, l); got != l.checkpoint(t, step[1])+a.body {
							t.Fatalf("size %d was signed, but the bucket holds\n%s", step[1], got)
						}
					case http.StatusServiceUnavailable:
						if a.header.Get("Retry-After") == "" {
							t.Error("503 without Retry-After")
						}
					case http.StatusConflict: // a write that was lost, or landed late, is known by now
					default:
						t.Errorf("step %v: %d %s", step, a.status, a.body)
					}
				}
				b.Crash()
				if err := b.Land(context.Background()); err != nil && !errors.Is(err, storage.ErrPrecondition) {
					t.Fatal(err)
				}
				after := serve(t, inner, c, l)
				if signed > 0 {
					if a := after.add(t, fork.request(t, signed, 20)); a.status == http.StatusOK {
						t.Errorf("a fork of the signed size %d is cosigned after a restart", signed)
					}
				}
				current := int64(0)
				if note := after.stored(t, l); note != "" {
					current = opened(t, l, note).Size()
				}
				if current < signed {
					t.Errorf("size %d was signed, and %d is remembered", signed, current)
				}
				after.mustAdd(t, l.request(t, current, 20))
			})
		}
	}
}

// TestNoNoteIsServedBeforeItIsDurable reads the monitoring prefix after a write that is visible and
// would go with the power: what it serves has cosignatures in it.
func TestNoNoteIsServedBeforeItIsDurable(t *testing.T) {
	l := newTestLog(t, origin)
	l.grow(t, 20, "entry")
	for _, mode := range []faultbucket.Mode{faultbucket.Unsynced, faultbucket.Broken} {
		t.Run(mode.String(), func(t *testing.T) {
			inner := mem.New()
			b := faultbucket.New(inner)
			serve(t, b, newClock(), l).mustAdd(t, l.request(t, 0, 5))
			// A process dies in its write, and another looks at what is there.
			b.FailWhen(faultbucket.On(faultbucket.Put, "state/"), mode)
			if a := serve(t, b, newClock(), l).add(t, l.request(t, 5, 9)); a.status != http.StatusServiceUnavailable {
				t.Errorf("not durable: %d %s", a.status, a.body)
			}
			a := do(t, http.MethodGet, serve(t, b, newClock(), l).url+"/"+hashOf(origin)+"/checkpoint", "")
			if want := map[faultbucket.Mode]int{faultbucket.Unsynced: 200, faultbucket.Broken: 503}[mode]; a.status != want {
				t.Errorf("monitoring prefix: %d, want %d", a.status, want)
			}
			b.Crash()
			if now := persisted(t, inner, l); a.status == http.StatusOK && now != a.body {
				t.Errorf("served was\n%s\nand the power left\n%s", a.body, now)
			}
		})
	}
}

func TestUnusableBucketEndsTheWitness(t *testing.T) {
	l, other := newTestLog(t, origin), newTestLog(t, "other.example.org")
	l.grow(t, 20, "entry")
	other.grow(t, 5, "entry")
	b := faultbucket.New(mem.New())
	w := serve(t, b, newClock(), l, other)
	lists, err := witness.NewLists(witness.ListsOptions{Witness: w.Witness})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	go func() { ended <- w.Run(t.Context()) }()
	go func() { ended <- lists.Run(t.Context()) }() // what runs it where there are lists
	w.mustAdd(t, l.request(t, 0, 5))
	b.FailWhen(faultbucket.On(faultbucket.Put, stateKey()), faultbucket.Broken)
	a := w.add(t, l.request(t, 5, 9))
	if a.status != http.StatusServiceUnavailable || strings.Contains(a.body, "— ") {
		t.Errorf("the write that broke the bucket: %d %s", a.status, a.body)
	}
	for range 2 {
		if err := <-ended; !errors.Is(err, faultbucket.ErrInjected) || !strings.Contains(err.Error(), name) {
			t.Errorf("Run = %v", err)
		}
	}
	b.Heal()
	if a := w.add(t, other.request(t, 0, 5)); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("another log, after that: %d %s", a.status, a.body)
	}
}

// optionsBucket remembers how objects were put.
type optionsBucket struct {
	storage.Bucket
	mu      sync.Mutex
	options map[string]storage.PutOptions // by key
}

func (b *optionsBucket) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	b.mu.Lock()
	b.options[key] = o
	b.mu.Unlock()
	return b.Bucket.Put(ctx, key, data, o)
}

func TestNoCacheKeepsState(t *testing.T) {
	l, fork := newTestLog(t, origin), newTestLog(t, origin)
	l.grow(t, 9, "entry")
	fork.grow(t, 9, "forged entry")
	b := &optionsBucket{Bucket: mem.New(), options: map[string]storage.PutOptions{}}
	w := serve(t, b, newClock(), l)
	w.mustAdd(t, l.request(t, 0, 5))
	w.mustAdd(t, l.request(t, 5, 9))
	w.add(t, "old 9\n\n"+fork.checkpoint(t, 9))
	if len(b.options) != 2 {
		t.Errorf("%d objects, want the state and one of evidence", len(b.options))
	}
	for key, o := range b.options {
		if o.CacheControl != "private, no-store" {
			t.Errorf("%s: Cache-Control %q", key, o.CacheControl)
		}
	}
}

func TestRacingRequestsAgree(t *testing.T) {
	l, fork := newTestLog(t, origin), newTestLog(t, origin)
	l.grow(t, 64, "entry")
	fork.grow(t, 64, "forged entry")
	b := mem.New()
	// Two processes on one bucket, sixteen clients, honest ones and forgers.
	servers := []*server{serve(t, b, newClock(), l), serve(t, b, newClock(), l)}
	servers[0].mustAdd(t, l.request(t, 0, 1))
	var mu sync.Mutex
	roots := map[int64][32]byte{1: l.tree(t, 1).Root}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			log, w := l, servers[i%2]
			if i%4 == 3 {
				log = fork
			}
			old := int64(1)
			for size := int64(2); size <= 64; size += int64(1 + i%3) {
				a := w.add(t, log.request(t, old, size))
				switch a.status {
				case http.StatusOK:
					mu.Lock()
					if root, ok := roots[size]; ok && root != log.tree(t, size).Root {
						t.Errorf("two roots signed for size %d", size)
					}
					roots[size] = log.tree(t, size).Root
					mu.Unlock()
					old = size
				case http.StatusConflict:
					if _, err := fmt.Sscanf(a.body, "%d\n", &old); err != nil {
						t.Error(err)
					}
					size = max(old, size) - 1
					if old > 64 || size >= 64 {
						return
					}
				case http.StatusUnprocessableEntity, http.StatusServiceUnavailable, http.StatusBadRequest:
				default:
					t.Errorf("%d %s", a.status, a.body)
				}
			}
		})
	}
	wg.Wait()
	for size, root := range roots {
		if root != l.tree(t, size).Root {
			t.Errorf("the forged tree of size %d was signed", size)
		}
	}
	if note := servers[0].stored(t, l); opened(t, l, note).Size() < 2 {
		t.Error("nothing was signed")
	}
}

func TestSecondProcessWinsTheSwap(t *testing.T) {
	l := newTestLog(t, origin)
	l.grow(t, 20, "entry")
	b := mem.New()
	first, second := serve(t, b, newClock(), l), serve(t, b, newClock(), l)
	first.mustAdd(t, l.request(t, 0, 5))
	second.mustAdd(t, l.request(t, 5, 9))
	// The first still believes in 5: it must not sign a second tree from there.
	if a := first.add(t, l.request(t, 5, 20)); a.status != http.StatusConflict || a.body != "9\n" {
		t.Errorf("stale process: %d %q, want 409 9", a.status, a.body)
	}
	first.mustAdd(t, l.request(t, 9, 20))
	if a := second.add(t, l.request(t, 20, 20)); a.status != http.StatusOK {
		t.Errorf("the other process asks the bucket before it says 409: %d %q", a.status, a.body)
	}
}

func TestClockMayNotGoBack(t *testing.T) {
	l, c := newTestLog(t, origin), newClock()
	l.grow(t, 9, "entry")
	w := serve(t, mem.New(), c, l)
	last := w.mustAdd(t, l.request(t, 0, 5))
	c.add(-5 * time.Second)
	if again := w.mustAdd(t, l.request(t, 5, 5)); again != last {
		t.Error("five seconds back: the last timestamp is not reused")
	}
	c.add(-time.Second)
	a := w.add(t, l.request(t, 5, 9))
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("six seconds back: %d %s", a.status, a.body)
	}
	if got := w.stored(t, l); got != l.checkpoint(t, 5)+last {
		t.Error("the refused request changed the state")
	}
	c.add(time.Minute)
	w.mustAdd(t, l.request(t, 5, 9))
	c.unix.Store(0)
	if a := serve(t, mem.New(), c, l).add(t, l.request(t, 0, 5)); a.status != http.StatusServiceUnavailable {
		t.Errorf("a timestamp of zero is signed: %d", a.status)
	}
}

func TestWitnessNoticesARestoredBackup(t *testing.T) {
	l, other := newTestLog(t, origin), newTestLog(t, "other.example.org")
	l.grow(t, 20, "entry")
	other.grow(t, 20, "entry")
	b := mem.New()
	w := serve(t, b, newClock(), l, other)
	w.mustAdd(t, l.request(t, 0, 5))
	backup, _, err := b.Get(t.Context(), stateKey(), storage.Range{})
	if err != nil {
		t.Fatal(err)
	}
	ours := l.checkpoint(t, 9) + w.mustAdd(t, l.request(t, 5, 9))
	if _, err := b.Put(t.Context(), stateKey(), backup, storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	w = serve(t, b, newClock(), l, other)
	request := "old 5\n" + l.proof(t, 5, 9) + "\n" + ours
	a := w.add(t, request)
	if a.status != http.StatusServiceUnavailable || strings.Contains(a.body, "— ") {
		t.Fatalf("own cosignature ahead of the state: %d %s", a.status, a.body)
	}
	// It stays frozen, without that cosignature and after a restart; other logs go on.
	for _, w := range []*server{w, serve(t, b, newClock(), l, other)} {
		if a := w.add(t, l.request(t, 5, 20)); a.status != http.StatusServiceUnavailable {
			t.Errorf("frozen log: %d %s", a.status, a.body)
		}
	}
	w.mustAdd(t, other.request(t, 0, 5))
	if a := do(t, http.MethodGet, w.url+"/status.json", ""); !strings.Contains(a.body, `"frozen": true`) {
		t.Errorf("status does not say frozen:\n%s", a.body)
	}
	if got := opened(t, l, w.stored(t, l)).Size(); got != 5 {
		t.Errorf("monitoring prefix has size %d", got)
	}
	thaw(t, w, l, b)
}

// thaw sets the floor of a frozen log, from a process beside the one that serves.
func thaw(t *testing.T, w *server, l *testLog, b storage.Bucket) {
	t.Helper()
	operator := serve(t, b, newClock(), l)
	fork := newTestLog(t, origin)
	fork.grow(t, 5, "forged entry")
	for what, note := range map[string]string{
		"a fork of the state":  fork.checkpoint(t, 5),
		"below the state":      l.checkpoint(t, 4),
		"not signed by it":     l.tree(t, 20).Text() + "\n— x AAAAAAA=\n",
		"another log's origin": newTestLog(t, "other.example.org").checkpoint(t, 0),
	} {
		if _, err := operator.SetFloor(t.Context(), origin, []byte(note)); err == nil {
			t.Errorf("floor %s is taken", what)
		}
	}
	tree, err := operator.SetFloor(t.Context(), origin, nil)
	if err != nil || tree.Size != 9 {
		t.Fatalf("SetFloor = %d, %v", tree.Size, err)
	}
	if s := readStatus(t, w); s.kinds() != "" { // before the log asks again
		t.Errorf("after the floor the page has %+v", s.Alarms)
	}
	wantMetric(t, w, "tallywood_witness_logs_frozen 0")
	if a := w.add(t, l.request(t, 5, 20)); a.status != http.StatusConflict || a.body != "9\n" {
		t.Errorf("from below the floor: %d %s", a.status, a.body)
	}
	w.mustAdd(t, l.request(t, 9, 20))
	if _, err := operator.SetFloor(t.Context(), origin, nil); err == nil {
		t.Error("a floor without note on a log that is not frozen")
	}
}

// TestStateThatGoesBackUnderAWitness restores a backup, and removes the state, while the witness runs.
func TestStateThatGoesBackUnderAWitness(t *testing.T) {
	for _, what := range []string{"restored", "removed"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			l, fork := newTestLog(t, origin), newTestLog(t, origin)
			l.grow(t, 20, "entry")
			fork.grow(t, 5, "entry")
			fork.grow(t, 20, "forged entry")
			b := mem.New()
			w := serve(t, b, newClock(), l)
			w.mustAdd(t, l.request(t, 0, 5))
			backup, _, err := b.Get(t.Context(), stateKey(), storage.Range{})
			if err != nil {
				t.Fatal(err)
			}
			w.mustAdd(t, l.request(t, 5, 9))
			old := int64(5)
			if what == "restored" {
				_, err = b.Put(t.Context(), stateKey(), backup, storage.PutOptions{})
			} else {
				old, err = 0, b.Delete(t.Context(), stateKey())
			}
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if a := w.add(t, fork.request(t, old, 20)); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "frozen") {
					t.Errorf("a fork from size %d: %d %s", old, a.status, a.body)
				}
			}
			if s := readStatus(t, w); s.kinds() != "frozen" {
				t.Errorf("alarms %q", s.kinds())
			}
			operator := serve(t, b, newClock(), l)
			if _, err := operator.SetFloor(t.Context(), origin, []byte(l.checkpoint(t, 9))); err != nil {
				t.Fatal(err)
			}
			if a := w.add(t, fork.request(t, old, 20)); a.status != http.StatusConflict || a.body != "9\n" {
				t.Errorf("a fork from below the floor: %d %s", a.status, a.body)
			}
			w.mustAdd(t, l.request(t, 9, 20))
			if s := readStatus(t, w); s.kinds() != "" {
				t.Errorf("alarms %q after the floor was set", s.kinds())
			}
		})
	}
}

func TestWitnessNoticesALostState(t *testing.T) {
	l := newTestLog(t, origin)
	l.grow(t, 9, "entry")
	ours := l.checkpoint(t, 9) + serve(t, mem.New(), newClock(), l).mustAdd(t, l.request(t, 0, 9))
	if a := serve(t, mem.New(), newClock(), l).add(t, "old 0\n\n"+ours); a.status != http.StatusServiceUnavailable {
		t.Errorf("first contact with an own cosignature: %d %s", a.status, a.body)
	}
}

func TestOwnCosignatureInARequestIsNoRollback(t *testing.T) {
	l := newTestLog(t, origin)
	l.grow(t, 9, "entry")
	b := mem.New()
	first, second := serve(t, b, newClock(), l), serve(t, b, newClock(), l)
	first.mustAdd(t, l.request(t, 0, 5))
	ours := l.checkpoint(t, 9) + second.mustAdd(t, l.request(t, 5, 9))
	// The first process has not heard of 9; the bucket has.
	first.mustAdd(t, "old 9\n\n"+ours)
}

func TestDamagedStateIsNotOverwritten(t *testing.T) {
	l := newTestLog(t, origin)
	l.grow(t, 9, "entry")
	b := mem.New()
	w := serve(t, b, newClock(), l)
	w.mustAdd(t, l.request(t, 0, 5))
	good, _, err := b.Get(t.Context(), stateKey(), storage.Range{})
	if err != nil {
		t.Fatal(err)
	}
	for what, bad := range map[string]string{
		"nothing":                "",
		"unknown key":            strings.Replace(string(good), "{", `{"future": 1,`, 1),
		"another value after it": string(good) + string(good),
		"no line feed":           strings.TrimSuffix(string(good), "\n"),
		"repeated key":           strings.Replace(string(good), "{", "{\n  \"size\": 4,", 1),
		"key in capitals":        strings.Replace(string(good), `"size"`, `"SIZE"`, 1),
		"other origin":           strings.Replace(string(good), `"origin": "log`, `"origin": "blog`, 1),
		"other size":             strings.Replace(string(good), `"size": 5`, `"size": 4`, 1),
		"unknown key of ours":    strings.Replace(string(good), `"keys": [`, `"keys": 5, "x": [`, 1),
		"no note":                strings.Replace(string(good), `"note": "log`, `"note": "", "frozen": "log`, 1),
	} {
		if _, err := b.Put(t.Context(), stateKey(), []byte(bad), storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		fresh := serve(t, b, newClock(), l)
		if a := fresh.add(t, l.request(t, 5, 9)); a.status != http.StatusServiceUnavailable {
			t.Errorf("%s: %d %s", what, a.status, a.body)
		}
		if a := do(t, http.MethodGet, fresh.url+"/"+hashOf(origin)+"/checkpoint", ""); a.status != http.StatusServiceUnavailable {
			t.Errorf("%s: the monitoring prefix answers %d", what, a.status)
		}
		if now, _, err := b.Get(t.Context(), stateKey(), storage.Range{}); err != nil || string(now) != bad {
			t.Errorf("%s: overwritten, %v", what, err)
		}
	}
}

func TestEquivocationIsKeptAndServed(t *testing.T) {
	l := newTestLog(t, origin)
	l.grow(t, 20, "entry")
	b := mem.New()
	w := serve(t, b, newClock(), l)
	w.mustAdd(t, l.request(t, 0, 5))
	first := w.stored(t, l)
	for i := range 20 { // more forks than are kept, each told twice
		fork := newTestLog(t, origin)
		fork.grow(t, 5, fmt.Sprintf("fork %d", i))
		for _, old := range []int64{5, 0} {
			want := map[int64]int{5: 422, 0: 409}[old]
			if a := w.add(t, fmt.Sprintf("old %d\n\n%s", old, fork.checkpoint(t, 5))); a.status != want {
				t.Errorf("fork %d, old %d: %d", i, old, a.status)
			}
		}
	}
	base := w.url + "/evidence/" + hashOf(origin) + "/"
	var list struct{ Evidence []string }
	if err := json.Unmarshal([]byte(do(t, http.MethodGet, base, "").body), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Evidence) != 16 {
		t.Fatalf("%d objects of evidence, want 16", len(list.Evidence))
	}
	var e struct {
		Size          int64
		First, Second string
	}
	if err := json.Unmarshal([]byte(do(t, http.MethodGet, base+list.Evidence[0], "").body), &e); err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse([]byte("log " + l.key.String() + "\nquorum none\n"))
	if err != nil {
		t.Fatal(err)
	}
	one, err1 := p.Open([]byte(e.First))
	two, err2 := p.Open([]byte(e.Second))
	if err1 != nil || err2 != nil || one.Size() != two.Size() || one.Root() == two.Root() || e.First != first {
		t.Errorf("the evidence proves nothing: %v, %v\n%+v", err1, err2, e)
	}
	// The honest chain goes on, also in a process that has counted the evidence anew.
	serve(t, b, newClock(), l).mustAdd(t, l.request(t, 5, 20))
}
