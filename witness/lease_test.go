package witness_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tallywood/internal/bubble"
	"tallywood/internal/faultbucket"
	"tallywood/storage"
	"tallywood/storage/mem"
	"tallywood/witness"
)

// An instance is a running process of a witness, in a bubble of synctest.
type instance struct {
	*witness.Witness
	handler http.Handler
	kill    func() // waits until it has ended
}

// start runs a witness on two buckets.
func start(t testing.TB, state, export storage.Bucket, logs ...*testLog) *instance {
	t.Helper()
	o := witness.Options{Keys: testKeys(t), Bucket: state, Export: export}
	for _, l := range logs {
		o.Logs = append(o.Logs, witness.Log{Origin: l.origin, Keys: logKeys(l)})
	}
	w, err := witness.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := w.Run(ctx); err != nil && !errors.Is(err, faultbucket.ErrInjected) {
			t.Errorf("Run = %v", err)
		}
	}()
	i := &instance{Witness: w, handler: w.Handler(), kill: func() { cancel(); <-ended }}
	t.Cleanup(i.kill)
	synctest.Wait()
	return i
}

func (i *instance) do(t testing.TB, method, path, body string) answer {
	t.Helper()
	rec := httptest.NewRecorder()
	req := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	req.RemoteAddr = "127.0.0.1:1" // nobody's limits are under test
	i.handler.ServeHTTP(rec, req)
	return answer{rec.Code, rec.Result().Header, rec.Body.String()}
}

func (i *instance) add(t testing.TB, body string) answer {
	t.Helper()
	return i.do(t, http.MethodPost, "/add-checkpoint", body)
}

func (i *instance) mustAdd(t testing.TB, body string) string {
	t.Helper()
	a := i.add(t, body)
	if a.status != http.StatusOK {
		t.Fatalf("add-checkpoint: %d %s", a.status, a.body)
	}
	return a.body
}

func (i *instance) metrics(t testing.TB) string {
	t.Helper()
	rec := httptest.NewRecorder()
	i.Metrics().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	return rec.Body.String()
}

// copyBucket copies all objects of a bucket, as one copies a directory.
func copyBucket(t testing.TB, from storage.Bucket) *mem.Bucket {
	t.Helper()
	to := mem.New()
	for key, err := range from.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		data, _, err := from.Get(t.Context(), key, storage.Range{})
		if err == nil {
			_, err = to.Put(t.Context(), key, data, storage.PutOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// refusesAll checks that an instance signs nothing, and says so wherever one looks.
func refusesAll(t testing.TB, i *instance, l *testLog, size int64) {
	t.Helper()
	for old := range size {
		a := i.add(t, l.request(t, old, size))
		if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || strings.Contains(a.body, "— ") {
			t.Errorf("add-checkpoint from %d: %d %s", old, a.status, a.body)
		}
	}
	if why := i.NotSigning(); len(why) != 1 || !strings.Contains(why[0], "take-over") {
		t.Errorf("NotSigning = %q", why)
	}
	if a := i.do(t, http.MethodGet, "/", ""); !strings.Contains(a.body, "Nothing is signed now") || !strings.Contains(a.body, "take-over") {
		t.Errorf("page:\n%s", a.body)
	}
	if a := i.do(t, http.MethodGet, "/status.json", ""); !strings.Contains(a.body, `"signing": false`) {
		t.Errorf("status:\n%s", a.body)
	}
	if m := i.metrics(t); !strings.Contains(m, "tallywood_witness_lease_held 0\n") {
		t.Errorf("metrics:\n%s", m)
	}
}

// TestSuccessorOnTheSameStateSignsAtOnce kills processes and starts others, also before they have ended.
func TestSuccessorOnTheSameStateSignsAtOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := newTestLog(t, origin)
		l.grow(t, 40, "entry")
		state, export := mem.New(), mem.New()
		var before *instance
		for size := int64(0); size < 40; size += 2 {
			now := time.Now()
			i := start(t, state, export, l) // the one before still runs
			i.mustAdd(t, l.request(t, size, size+1))
			if waited := time.Since(now); waited > time.Second {
				t.Errorf("the successor signs after %v", waited)
			}
			if before != nil {
				before.mustAdd(t, l.request(t, size+1, size+2))
				time.Sleep(17 * time.Second)
				for _, i := range []*instance{before, i} {
					if err := i.Ready(); err != nil {
						t.Errorf("two processes on one state: %v", err)
					}
				}
				before.kill()
			} else {
				i.mustAdd(t, l.request(t, size+1, size+2))
			}
			before = i
		}
		if m := before.metrics(t); !strings.Contains(m, "tallywood_witness_lease_held 1\n") {
			t.Errorf("metrics:\n%s", m)
		}
	})
}

// TestCopiedKeyWithOtherStateIsRefused starts the same seed on a fresh state, and on a copy of the
// state that the first has left behind.
func TestCopiedKeyWithOtherStateIsRefused(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, fork := newTestLog(t, origin), newTestLog(t, origin)
		l.grow(t, 30, "entry")
		fork.grow(t, 30, "forged entry")
		state, export := mem.New(), mem.New()
		first := start(t, state, export, l)
		first.mustAdd(t, l.request(t, 0, 5))
		old := copyBucket(t, state)
		time.Sleep(12 * time.Second)
		for what, other := range map[string]storage.Bucket{"fresh": mem.New(), "old copy": old} {
			second := start(t, other, export, fork)
			refusesAll(t, second, fork, 6)
			time.Sleep(time.Minute)
			refusesAll(t, second, fork, 6)
			second.kill()
			if _, _, err := other.Get(t.Context(), stateKey(), storage.Range{}); what == "fresh" && err == nil {
				t.Error("the other state has the log")
			}
		}
		first.mustAdd(t, l.request(t, 5, 9))
		if err := first.Ready(); err != nil {
			t.Error(err)
		}
		first.kill()
		second := start(t, mem.New(), export, fork)
		refusesAll(t, second, fork, 6) // also when the first has ended
	})
}

// TestCopyOfALiveStateIsNoticed copies the whole state between two renewals and starts it at once:
// the one that is first to renew goes on, the other one ends signing then.
func TestCopyOfALiveStateIsNoticed(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := newTestLog(t, origin)
		l.grow(t, 30, "entry")
		state, export := mem.New(), mem.New()
		first := start(t, state, export, l)
		first.mustAdd(t, l.request(t, 0, 5))
		time.Sleep(time.Second)
		second := start(t, copyBucket(t, state), export, l)
		time.Sleep(5 * time.Second)
		if second.Ready() != nil {
			t.Error(second.Ready())
		}
		refusesAll(t, first, l, 6)
	})
}

// TestTakeOver moves the witness to other state while the first instance runs: at no time do both sign.
func TestTakeOver(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, other := newTestLog(t, origin), newTestLog(t, "other.example.org")
		l.grow(t, 30, "entry")
		other.grow(t, 30, "entry")
		state, export := mem.New(), mem.New()
		first := start(t, state, export, l, other)
		first.mustAdd(t, other.request(t, 0, 5))
		first.mustAdd(t, l.request(t, 0, 5))
		old := copyBucket(t, state)
		time.Sleep(12 * time.Second)
		ours := l.checkpoint(t, 9) + first.mustAdd(t, l.request(t, 5, 9))
		time.Sleep(2 * time.Second)
		second := start(t, old, export, l, other)
		refusesAll(t, second, l, 6)
		if err := first.TakeOver(t.Context()); !errors.Is(err, witness.ErrLeaseHeld) {
			t.Errorf("who holds the lease takes it over: %v", err)
		}
		// The command runs beside the server.
		operator, err := witness.New(witness.Options{Keys: testKeys(t), Bucket: old, Export: export})
		if err != nil {
			t.Fatal(err)
		}
		if err := operator.TakeOver(t.Context()); err != nil {
			t.Fatal(err)
		}
		both, taken := 0, time.Duration(0)
		for began := time.Now(); time.Since(began) < 30*time.Second; time.Sleep(100 * time.Millisecond) {
			switch {
			case first.Ready() == nil && second.Ready() == nil:
				both++
			case second.Ready() == nil && taken == 0:
				taken = time.Since(began)
			}
		}
		if both > 0 || taken == 0 {
			t.Errorf("both signed %d times; the second after %v", both, taken)
		}
		refusesAll(t, first, l, 6)
		// What was exported and the copy does not know is not forgotten; the other log goes on.
		if a := second.add(t, l.request(t, 5, 20)); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "frozen") {
			t.Errorf("behind the export: %d %s", a.status, a.body)
		}
		second.mustAdd(t, other.request(t, 5, 9))
		if tree, err := second.SetFloor(t.Context(), origin, nil); err != nil || tree.Size != 9 {
			t.Errorf("SetFloor = %d, %v", tree.Size, err)
		}
		second.mustAdd(t, l.request(t, 9, 20))
		if a := second.add(t, "old 9\n\n"+ours); a.status != http.StatusConflict || a.body != "20\n" {
			t.Errorf("its own older cosignature: %d %s", a.status, a.body)
		}
		// And back.
		if err := first.TakeOver(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		if first.Ready() != nil || second.Ready() == nil {
			t.Errorf("taken back: %v, %v", first.Ready(), second.Ready())
		}
		if a := first.add(t, l.request(t, 9, 20)); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "frozen") {
			t.Errorf("the first, now behind: %d %s", a.status, a.body)
		}
	})
}

// A lockedBucket has writes of a key wait until the gate is open, whatever their callers do.
type lockedBucket struct {
	storage.Bucket
	key  string
	gate chan struct{} // nil: it is open
}

func (b *lockedBucket) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	if gate := b.gate; gate != nil && key == b.key {
		<-gate
		ctx = context.WithoutCancel(ctx)
	}
	return b.Bucket.Put(ctx, key, data, o)
}

// TestSlowRequestDoesNotOutliveTheLease has a disk that takes longer than a take-over does.
func TestSlowRequestDoesNotOutliveTheLease(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := newTestLog(t, origin)
		l.grow(t, 30, "entry")
		state, export := &lockedBucket{Bucket: mem.New(), key: stateKey()}, mem.New()
		first := start(t, state, export, l)
		first.mustAdd(t, l.request(t, 0, 5))
		old := copyBucket(t, state)
		time.Sleep(12 * time.Second)
		second := start(t, old, export, l)
		state.gate = make(chan struct{})
		answers := make(chan answer, 2)
		for _, r := range []string{l.request(t, 5, 9), l.request(t, 9, 12)} { // the second one waits for the first
			go func() { answers <- first.add(t, r) }()
			synctest.Wait()
		}
		takeOver := second.TakeOver(t.Context())
		time.Sleep(witness.TakeOverTime + time.Second)
		other := second.add(t, l.request(t, 5, 7))
		close(state.gate)
		if takeOver != nil || other.status != http.StatusOK {
			t.Errorf("TakeOver = %v; the other instance: %d %s", takeOver, other.status, other.body)
		}
		for range 2 {
			if a := <-answers; a.status != http.StatusServiceUnavailable || strings.Contains(a.body, "— ") {
				t.Errorf("while another instance signs: %d %s", a.status, a.body)
			}
		}
	})
}

// TestExportOfAnotherWitnessIsRefused gives two witnesses one place.
func TestExportOfAnotherWitnessIsRefused(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := newTestLog(t, origin)
		l.grow(t, 9, "entry")
		export := mem.New()
		first := start(t, mem.New(), export, l)
		w, err := witness.New(witness.Options{Keys: keySetOf(t, "other.example.org"), Bucket: mem.New(), Export: export})
		if err != nil {
			t.Fatal(err)
		}
		var le *witness.LeaseError
		if err := w.RenewLease(t.Context()); !errors.As(err, &le) || !le.Other || le.Witness != name {
			t.Errorf("renewing = %v", err)
		}
		if err := w.TakeOver(t.Context()); err == nil || errors.Is(err, witness.ErrLeaseHeld) {
			t.Errorf("TakeOver = %v", err)
		}
		time.Sleep(20 * time.Second)
		if err := first.Ready(); err != nil {
			t.Error(err)
		}
	})
}

// TestExportThatIsAway cannot be asked at the start, and later on.
func TestExportThatIsAway(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := newTestLog(t, origin)
		l.grow(t, 30, "entry")
		export := faultbucket.New(mem.New())
		export.FailWhen(faultbucket.On("", ""), faultbucket.Fail)
		w := start(t, mem.New(), export, l)
		if a := w.add(t, l.request(t, 0, 5)); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") != "1" {
			t.Errorf("before the lease was looked at: %d %s", a.status, a.body)
		}
		export.Heal()
		time.Sleep(3 * time.Second)
		w.mustAdd(t, l.request(t, 0, 5))
		time.Sleep(time.Second)
		export.FailWhen(faultbucket.On("", ""), faultbucket.Fail)
		for size := int64(5); size < 20; size += 5 {
			time.Sleep(20 * time.Second)
			w.mustAdd(t, l.request(t, size, size+5))
		}
		time.Sleep(time.Second)
		m := w.metrics(t)
		if !strings.Contains(m, "tallywood_witness_lease_held 1\n") || !strings.Contains(m, "tallywood_witness_export_behind 1\n") ||
			strings.Contains(m, "tallywood_witness_export_errors_total 0\n") || strings.Contains(m, "tallywood_witness_lease_errors_total 0\n") {
			t.Errorf("metrics:\n%s", m)
		}
		if a := w.do(t, http.MethodGet, "/", ""); !strings.Contains(a.body, "cannot be exported now") {
			t.Errorf("page:\n%s", a.body)
		}
		export.Heal()
		time.Sleep(time.Minute)
		if got, want := exported(t, export, l), w.do(t, http.MethodGet, "/"+hashOf(origin)+"/checkpoint", "").body; got != want || got == "" {
			t.Errorf("exported is\n%s\nserved is\n%s", got, want)
		}
	})
}

// TestLeaseSurvivesFaults tries every fault at every operation of two renewals, on either bucket, and
// then goes on with a fresh process on the same state.
func TestLeaseSurvivesFaults(t *testing.T) {
	modes := []faultbucket.Mode{faultbucket.Fail, faultbucket.Lose, faultbucket.Late, faultbucket.Crash, faultbucket.CrashAfter,
		faultbucket.Unsynced, faultbucket.Broken, faultbucket.Refuse, faultbucket.Again}
	for _, mode := range modes {
		for n := range 12 {
			for _, which := range []string{"state", "export", "export, landing later"} {
				t.Run(fmt.Sprintf("%v at %d of the %s", mode, n, which), func(t *testing.T) {
					state, export := mem.New(), mem.New()
					faultyState, faultyExport := faultbucket.New(state), faultbucket.New(export)
					faulty := faultyExport
					if which == "state" {
						faulty = faultyState
					}
					faulty.FailAt(n, mode)
					open := func(state, export storage.Bucket) *witness.Witness {
						w, err := witness.New(witness.Options{Keys: testKeys(t), Bucket: state, Export: export})
						if err != nil {
							t.Fatal(err)
						}
						return w
					}
					w := open(faultyState, faultyExport)
					for range 3 {
						_ = w.RenewLease(t.Context()) // some fail
					}
					faultyState.Crash()
					faultyExport.Crash()
					land := func() {
						if err := faulty.Land(t.Context()); err != nil && !errors.Is(err, storage.ErrPrecondition) {
							t.Fatal(err)
						}
					}
					if which != "export, landing later" {
						land()
					}
					after := open(state, export)
					for i := range 3 {
						if err := after.RenewLease(t.Context()); err != nil || after.Ready() != nil {
							t.Errorf("renewal %d after that: %v, %v", i, err, after.Ready())
						}
						if i == 0 && which == "export, landing later" {
							land()
						}
					}
				})
			}
		}
	}
}

// TestRacingRenewals has four processes on one state: none takes another for a stranger.
func TestRacingRenewals(t *testing.T) {
	state, export := mem.New(), mem.New()
	var wg sync.WaitGroup
	for range 4 {
		w, err := witness.New(witness.Options{Keys: testKeys(t), Bucket: state, Export: export})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for range 100 {
				var le *witness.LeaseError
				if err := w.RenewLease(t.Context()); errors.As(err, &le) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzDecodeLease(f *testing.F) {
	state, export := mem.New(), mem.New()
	w, err := witness.New(witness.Options{Keys: testKeys(f), Bucket: state, Export: export})
	if err != nil {
		f.Fatal(err)
	}
	for range 2 {
		if err := w.RenewLease(f.Context()); err != nil {
			f.Fatal(err)
		}
	}
	for b, key := range map[storage.Bucket]string{state: "state/" + name + "/lease", export: "lease.json"} {
		data, _, err := b.Get(f.Context(), key, storage.Range{})
		if err != nil {
			f.Fatal(err)
		}
		record, inState := witness.DecodeLease(data)
		if (record == nil) == (inState == nil) {
			f.Fatalf("%s: %v, %v", key, record, inState)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"witness":"w","counter":1,"instance":"i"} x`))
	f.Add([]byte(`{"witness":"w","counter":9007199254740993,"instance":"i"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if record, inState := witness.DecodeLease(data); record == nil && inState == nil {
			t.Errorf("%q is both", data)
		}
	})
}
