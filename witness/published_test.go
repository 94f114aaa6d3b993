package witness_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tallywood/internal/bubble"
	"tallywood/internal/faultbucket"
	"tallywood/internal/keys"
	"tallywood/storage"
	"tallywood/storage/mem"
	"tallywood/witness"
)

// keySetOf derives the keys of a witness with another name.
func keySetOf(t testing.TB, name string) keys.Witness {
	t.Helper()
	k, err := keys.WitnessFromSeed(name, seed("witness"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// exported returns the note of a log in an export, or "".
func exported(t testing.TB, b storage.Bucket, l *testLog) string {
	t.Helper()
	data, _, err := b.Get(t.Context(), hashOf(l.origin)+"/checkpoint", storage.Range{})
	if err != nil {
		return ""
	}
	return string(data)
}

// historyBucket remembers what was put, and when.
type historyBucket struct {
	storage.Bucket
	mu   sync.Mutex
	puts []put
}

type put struct {
	key, data string
	o         storage.PutOptions
	at        time.Time
}

func (b *historyBucket) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	v, err := b.Bucket.Put(ctx, key, data, o)
	if err == nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.puts = append(b.puts, put{key, string(data), o, time.Now()})
	}
	return v, err
}

// of returns the puts of a key so far.
func (b *historyBucket) of(key string) []put {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []put
	for _, p := range b.puts {
		if p.key == key {
			out = append(out, p)
		}
	}
	return out
}

// TestExportFollowsWithinASecond has a busy log and an idle one.
func TestExportFollowsWithinASecond(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, idle := newTestLog(t, origin), newTestLog(t, "idle.example.org")
		l.grow(t, 101, "entry")
		idle.grow(t, 5, "entry")
		export := &historyBucket{Bucket: mem.New()}
		w := start(t, mem.New(), export, l, idle)
		w.mustAdd(t, idle.request(t, 0, 5))
		for size := int64(0); size < 100; size++ {
			w.mustAdd(t, l.request(t, size, size+1))
			time.Sleep(20 * time.Millisecond)
		}
		last := time.Now()
		note := l.checkpoint(t, 101) + w.mustAdd(t, l.request(t, 100, 101))
		time.Sleep(time.Second)
		puts := export.of(hashOf(origin) + "/checkpoint")
		if len(puts) < 3 || len(puts) > 6 {
			t.Errorf("101 updates in two seconds made %d exports", len(puts))
		}
		end := puts[len(puts)-1]
		if end.data != note || end.at.Sub(last) > time.Second {
			t.Errorf("after %v exported is\n%s\nanswered was\n%s", end.at.Sub(last), end.data, note)
		}
		if end.o.ContentType != "text/plain; charset=utf-8" || end.o.CacheControl != "no-cache" {
			t.Errorf("exported with %+v", end.o)
		}
		size := int64(0)
		for _, p := range puts {
			if next := opened(t, l, p.data).Size(); next <= size {
				t.Errorf("size %d is exported after %d", next, size)
			} else {
				size = next
			}
		}
		if n := len(export.of(hashOf(idle.origin) + "/checkpoint")); n != 1 {
			t.Errorf("the idle log was exported %d times", n)
		}
	})
}

// TestExportEndsWithTheProcess has an update right before SIGTERM, and one that a crash leaves behind.
func TestExportEndsWithTheProcess(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := newTestLog(t, origin)
		l.grow(t, 30, "entry")
		state, export := mem.New(), mem.New()
		w := start(t, state, export, l)
		note := l.checkpoint(t, 5) + w.mustAdd(t, l.request(t, 0, 5))
		w.kill()
		if got := exported(t, export, l); got != note {
			t.Errorf("exported is\n%s", got)
		}
		// This one's export dies with it.
		dying := faultbucket.New(export)
		w = start(t, state, dying, l)
		note = l.checkpoint(t, 9) + w.mustAdd(t, l.request(t, 5, 9))
		dying.Crash()
		w.kill()
		if got := exported(t, export, l); got == note {
			t.Fatal("it was exported")
		}
		start(t, state, export, l)
		time.Sleep(2 * time.Second)
		if got := exported(t, export, l); got != note {
			t.Errorf("exported is\n%s", got)
		}
	})
}

// A stuckBucket answers the first write of a key when its caller gives up.
type stuckBucket struct {
	storage.Bucket
	key   string
	stuck chan struct{} // closed when that write has come
	once  sync.Once
}

func (b *stuckBucket) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	first := false
	if key == b.key {
		b.once.Do(func() { first = true })
	}
	if first {
		close(b.stuck)
		<-ctx.Done()
		return "", ctx.Err()
	}
	return b.Bucket.Put(ctx, key, data, o)
}

// TestExportThatIsCutOffIsMadeUpFor ends the process while an export is under way: that is no failure.
func TestExportThatIsCutOffIsMadeUpFor(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := newTestLog(t, origin)
		l.grow(t, 5, "entry")
		export := &stuckBucket{Bucket: mem.New(), key: hashOf(origin) + "/checkpoint", stuck: make(chan struct{})}
		var logged bytes.Buffer
		w, err := witness.New(witness.Options{Keys: testKeys(t), Bucket: mem.New(), Export: export, Log: slog.New(slog.NewTextHandler(&logged, nil)),
			Logs: []witness.Log{{Origin: origin, Keys: logKeys(l)}}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- w.Run(ctx) }()
		synctest.Wait() // the lease is held
		i := &instance{Witness: w, handler: w.Handler()}
		note := l.checkpoint(t, 5) + i.mustAdd(t, l.request(t, 0, 5))
		<-export.stuck
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if got := exported(t, export, l); got != note {
			t.Errorf("exported is\n%s", got)
		}
		if strings.Contains(logged.String(), "level=ERROR") || !strings.Contains(i.metrics(t), "tallywood_witness_export_errors_total 0\n") {
			t.Errorf("the end of the process is told as a failure:\n%s", &logged)
		}
	})
}

// TestExportsOfTwoProcessesKeepTheirOrder lets them take turns with one log.
func TestExportsOfTwoProcessesKeepTheirOrder(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := newTestLog(t, origin)
		l.grow(t, 200, "entry")
		state, export := mem.New(), &historyBucket{Bucket: mem.New()}
		of := []*instance{start(t, state, export, l), start(t, state, export, l)}
		for size := int64(0); size < 200; size++ {
			of[size%2].mustAdd(t, l.request(t, size, size+1))
			time.Sleep(time.Duration(1+size*37%400) * time.Millisecond)
		}
		time.Sleep(3 * time.Second)
		size := int64(0)
		puts := export.of(hashOf(origin) + "/checkpoint")
		for _, p := range puts {
			next := opened(t, l, p.data).Size()
			if next < size {
				t.Errorf("size %d is exported after %d", next, size)
			}
			size = next
		}
		if size != 200 || len(puts) < 20 {
			t.Errorf("the last of %d exports has size %d", len(puts), size)
		}
		for _, i := range of {
			if a := i.do(t, http.MethodGet, "/status.json", ""); strings.Contains(a.body, `"frozen": true`) {
				t.Errorf("status:\n%s", a.body)
			}
		}
	})
}

// TestExportIsNeverAheadOfTheState tries every fault at every operation on the state.
func TestExportIsNeverAheadOfTheState(t *testing.T) {
	l := newTestLog(t, origin)
	l.grow(t, 30, "entry")
	for _, mode := range []faultbucket.Mode{faultbucket.Fail, faultbucket.Lose, faultbucket.Late, faultbucket.Crash, faultbucket.CrashAfter, faultbucket.Unsynced, faultbucket.Broken} {
		for n := range 14 {
			t.Run(fmt.Sprintf("%v at %d", mode, n), func(t *testing.T) {
				bubble.Test(t, func(t *testing.T) {
					state, export := mem.New(), mem.New()
					faulty := faultbucket.New(state)
					faulty.FailAt(n, mode)
					w := start(t, faulty, export, l)
					for size := int64(0); size < 20; size += 5 {
						w.add(t, l.request(t, size, size+5)) // some fail
						time.Sleep(time.Second)
					}
					faulty.Crash()
					if err := faulty.Land(t.Context()); err != nil && !errors.Is(err, storage.ErrPrecondition) {
						t.Fatal(err)
					}
					w.kill()
					after := start(t, state, export, l)
					time.Sleep(2 * time.Second)
					served := after.do(t, http.MethodGet, "/"+hashOf(origin)+"/checkpoint", "")
					got := exported(t, export, l)
					if served.status != http.StatusOK && got != "" || served.status == http.StatusOK && got != served.body {
						t.Errorf("exported is\n%s\nserved is\n%s", got, served.body)
					}
					size := int64(0)
					if got != "" {
						size = opened(t, l, got).Size()
					}
					after.mustAdd(t, l.request(t, size, 30))
				})
			})
		}
	}
}

// TestRestoredLogIsFrozenByTheExport restores the state of one log, and shows the witness nothing of
// what it has cosigned.
func TestRestoredLogIsFrozenByTheExport(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, other := newTestLog(t, origin), newTestLog(t, "other.example.org")
		l.grow(t, 30, "entry")
		other.grow(t, 30, "entry")
		state, export := mem.New(), mem.New()
		w := start(t, state, export, l, other)
		w.mustAdd(t, other.request(t, 0, 5))
		w.mustAdd(t, l.request(t, 0, 5))
		backup, _, err := state.Get(t.Context(), stateKey(), storage.Range{})
		if err != nil {
			t.Fatal(err)
		}
		note := l.checkpoint(t, 9) + w.mustAdd(t, l.request(t, 5, 9))
		w.kill()
		if _, err := state.Put(t.Context(), stateKey(), backup, storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		for range 2 { // by the first request, and by a successor that finds it frozen
			w = start(t, state, export, l, other)
			isFrozen(t, w, l, note)
		}
		w.mustAdd(t, other.request(t, 5, 9))
		time.Sleep(2 * time.Second)
		if got := exported(t, export, l); got != note {
			t.Errorf("what was published is gone:\n%s", got)
		}
		if _, err := w.SetFloor(t.Context(), origin, []byte(l.checkpoint(t, 7))); err == nil {
			t.Error("a floor below what was exported is taken")
		}
		if tree, err := w.SetFloor(t.Context(), origin, nil); err != nil || tree.Size != 9 {
			t.Errorf("SetFloor = %d, %v", tree.Size, err)
		}
		w.mustAdd(t, l.request(t, 9, 20))
	})
}

// TestExportThatOvertakesTheState has another instance, with other state, export more than this one has
// cosigned, after that one had compared its state.
func TestExportThatOvertakesTheState(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := newTestLog(t, origin)
		l.grow(t, 30, "entry")
		export := mem.New()
		w := start(t, mem.New(), export, l)
		w.mustAdd(t, l.request(t, 0, 5))
		time.Sleep(2 * time.Second)
		note := l.checkpoint(t, 9) + start(t, mem.New(), mem.New(), l).mustAdd(t, l.request(t, 0, 9))
		if _, err := export.Put(t.Context(), hashOf(origin)+"/checkpoint", []byte(note), storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		w.mustAdd(t, l.request(t, 5, 7)) // nobody has looked yet
		time.Sleep(2 * time.Second)
		if a := w.add(t, l.request(t, 7, 20)); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "frozen") {
			t.Errorf("behind what is published: %d %s", a.status, a.body)
		}
		if got := exported(t, export, l); got != note {
			t.Errorf("what was published is gone:\n%s", got)
		}
	})
}

// isFrozen checks that a log is frozen by a note, wherever one looks.
func isFrozen(t testing.TB, w *instance, l *testLog, note string) {
	t.Helper()
	for _, old := range []int64{5, 9} {
		a := w.add(t, l.request(t, old, 20))
		if a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "frozen") || strings.Contains(a.body, "— ") {
			t.Errorf("from %d: %d %s", old, a.status, a.body)
		}
	}
	time.Sleep(2 * time.Second) // until all were looked at, and evidence again
	if m := w.metrics(t); !strings.Contains(m, `tallywood_witness_log_frozen{origin="log.example.org"} 1`+"\n") ||
		!strings.Contains(m, `tallywood_witness_log_frozen{origin="other.example.org"} 0`+"\n") {
		t.Errorf("metrics:\n%s", m)
	}
	base := "/evidence/" + hashOf(origin) + "/"
	if a := w.do(t, http.MethodGet, "/", ""); strings.Count(a.body, `<span class="frozen">frozen</span>`) != 1 ||
		strings.Count(a.body, "What it had cosigned, and what it remembered, is at "+base[1:]+".") != 1 || strings.Contains(a.body, "contradict each other") {
		t.Errorf("page:\n%s", a.body)
	}
	var list struct{ Evidence []string }
	if err := json.Unmarshal([]byte(w.do(t, http.MethodGet, base, "").body), &list); err != nil || len(list.Evidence) != 1 {
		t.Fatalf("evidence: %v, %q", err, list.Evidence)
	}
	var e struct{ Kind, First, Second string }
	if err := json.Unmarshal([]byte(w.do(t, http.MethodGet, base+list.Evidence[0], "").body), &e); err != nil {
		t.Fatal(err)
	}
	if e.Kind != "rollback" || e.Second != note || opened(t, l, e.First).Size() != 5 {
		t.Errorf("evidence: %+v", e)
	}
}

// TestExportThatSaysOtherwise has all that can lie where a log's checkpoint should.
func TestExportThatSaysOtherwise(t *testing.T) {
	l, fork, stranger := newTestLog(t, origin), newTestLog(t, origin), newTestLog(t, "other.example.org")
	for _, l := range []*testLog{l, stranger} {
		l.grow(t, 30, "entry")
	}
	fork.grow(t, 30, "forged entry")
	lines := func(l *testLog, size int64) string {
		return l.checkpoint(t, size) + serve(t, mem.New(), newClockNow(), l).mustAdd(t, l.request(t, 0, size))
	}
	for what, tc := range map[string]struct {
		data string
		want string // in the answer; "": it is cosigned
	}{
		"nothing":                       {"", ""},
		"an older one":                  {lines(l, 3), ""},
		"the same size":                 {lines(l, 5), ""},
		"ahead":                         {lines(l, 9), "frozen"},
		"a fork of the same size":       {lines(fork, 5), "frozen"},
		"a fork that is ahead":          {lines(fork, 9), "frozen"},
		"a fork that is older":          {lines(fork, 4), ""}, // nobody can tell without a proof
		"ahead without our cosignature": {l.checkpoint(t, 9), "cannot compare"},
		"another log's":                 {lines(stranger, 9), "cannot compare"},
		"no note":                       {"<html>", "cannot compare"},
		"no checkpoint":                 {l.sign(t, origin+"\nx\n"), "cannot compare"},
	} {
		t.Run(what, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				state, export := mem.New(), mem.New()
				w := start(t, state, export, l, stranger)
				w.mustAdd(t, l.request(t, 0, 5))
				w.kill()
				key := hashOf(origin) + "/checkpoint"
				var err error
				if tc.data == "" {
					err = export.Delete(t.Context(), key)
				} else {
					_, err = export.Put(t.Context(), key, []byte(tc.data), storage.PutOptions{})
				}
				if err != nil {
					t.Fatal(err)
				}
				w = start(t, state, export, l, stranger)
				a := w.add(t, l.request(t, 5, 20))
				if tc.want == "" && a.status != http.StatusOK || tc.want != "" && (a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, tc.want)) {
					t.Errorf("%d %s", a.status, a.body)
				}
				w.mustAdd(t, stranger.request(t, 0, 5))
				if tc.want != "cannot compare" {
					return
				}
				if err := export.Delete(t.Context(), key); err != nil {
					t.Fatal(err)
				}
				w.mustAdd(t, l.request(t, 5, 20))
			})
		})
	}
}

// TestManyLogsAreComparedInTheBackground finds a restored log that nobody asks for.
func TestManyLogsAreComparedInTheBackground(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var logs []*testLog
		for i := range 300 {
			l := newTestLog(t, fmt.Sprintf("log-%d.example.org", i))
			l.grow(t, 2, "entry")
			logs = append(logs, l)
		}
		state, export := mem.New(), mem.New()
		w := start(t, state, export, logs...)
		w.mustAdd(t, logs[7].request(t, 0, 1))
		time.Sleep(2 * time.Second)
		w.kill()
		if err := state.Delete(t.Context(), "state/"+name+"/"+hashOf(logs[7].origin)); err != nil {
			t.Fatal(err)
		}
		w = start(t, state, export, logs...)
		time.Sleep(5 * time.Second)
		if m := w.metrics(t); !strings.Contains(m, `tallywood_witness_log_frozen{origin="log-7.example.org"} 1`+"\n") {
			t.Error("the log is not frozen")
		}
	})
}
