package driver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"

	"tallywood/internal/bubble"
	"tallywood/internal/faultbucket"
	"tallywood/storage"
	"tallywood/storage/driver"
	"tallywood/storage/mem"
)

var next = driver.Successor{Origin: "log2.example.org", URL: "https://log2.example.org"}

// frozen waits until the members know the end of the log and returns it.
func frozen(t *testing.T, members ...*member) driver.Frozen {
	t.Helper()
	var f *driver.Frozen
	for _, m := range members {
		for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			if f = m.Frozen(); f != nil {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%s knows of no end after a minute", m.url)
			}
		}
	}
	return *f
}

// TestFreezeEndsALog freezes a log that takes entries all the time, from one that leads, from one that
// stands by, and from outside: what was acknowledged is published, nothing else is, and nobody leads
// until it is taken back.
func TestFreezeEndsALog(t *testing.T) {
	for name, ask := range map[string]func(t *testing.T, b storage.Bucket, leader, other *member) error{
		"leader": func(t *testing.T, _ storage.Bucket, leader, _ *member) error {
			return leader.Freeze(t.Context(), next)
		},
		"standby": func(t *testing.T, _ storage.Bucket, _, other *member) error {
			return other.Freeze(t.Context(), next)
		},
		"outside": func(t *testing.T, b storage.Bucket, _, _ *member) error {
			return driver.Freeze(t.Context(), b, "test", next)
		},
	} {
		t.Run(name, func(t *testing.T) { bubble.Test(t, func(t *testing.T) { freezeUnderLoad(t, ask) }) })
	}
}

func freezeUnderLoad(t *testing.T, ask func(t *testing.T, b storage.Bucket, leader, other *member) error) {
	b, n := mem.New(), newNetwork()
	members := []*member{n.join(t, b, "a"), n.join(t, b, "b"), n.join(t, b, "c")}
	leader := leading(t, members...)
	other := members[0]
	if other == leader {
		other = members[1]
	}
	var mu sync.Mutex
	acked := map[int64]bool{}
	var refused error
	var load sync.WaitGroup
	for c := range 20 {
		load.Go(func() {
			for i := 0; ; i++ {
				index, err := leader.Add(t.Context(), tessera.NewEntry(fmt.Appendf(nil, "entry %d of %d", i, c)))()
				mu.Lock()
				if err == nil {
					acked[int64(index.Index)] = true
				} else if refused = errors.Join(refused, err); errors.Is(err, driver.ErrFrozen) {
					mu.Unlock()
					return
				}
				mu.Unlock()
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	time.Sleep(time.Second)
	if err := ask(t, b, leader, other); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	load.Wait()
	f := frozen(t, members...)
	if d := time.Since(begun); d > 12*time.Second {
		t.Errorf("it took %v", d)
	}
	if f.Size != int64(len(acked)) || f.Next != next {
		t.Errorf("the end is at size %d, successor %v; %d entries were acknowledged", f.Size, f.Next, len(acked))
	}
	for i := range f.Size {
		if !acked[i] {
			t.Errorf("index %d was given to nobody", i)
		}
	}
	time.Sleep(time.Minute)
	for _, m := range members {
		if driver.Takes(m.Replica) {
			t.Errorf("%s leads a frozen log", m.url)
		}
		if _, err := m.Add(t.Context(), tessera.NewEntry([]byte("late")))(); !errors.Is(err, driver.ErrFrozen) {
			t.Errorf("adding to a frozen log at %s: %v", m.url, err)
		}
		if p, ok := m.Published(); !ok || p.Size != f.Size || p.Root != f.Root {
			t.Errorf("%s shows size %d", m.url, p.Size)
		}
	}
	checkLog(t, options(t, b), f.Size)
	if _, err := driver.Verify(t.Context(), b, "test", nil); err != nil {
		t.Error(err)
	}
	if s, err := driver.Inspect(t.Context(), b, "test"); err != nil || s.Frozen == nil || s.Frozen.Size != f.Size || !s.Released {
		t.Errorf("status %+v, %v", s, err)
	}
	// A process that starts now does not lead either.
	late := n.join(t, b, "d")
	if f := late.Frozen(); f == nil {
		t.Error("a replica that was just opened does not know of the end")
	}
	time.Sleep(time.Minute)
	if driver.Takes(late.Replica) {
		t.Error("it leads")
	}
	if err := driver.Unfreeze(t.Context(), b, "test"); err != nil {
		t.Fatal(err)
	}
	members = append(members, late)
	again := leading(t, members...)
	if _, err := again.Add(t.Context(), tessera.NewEntry([]byte("thawed")))(); err != nil {
		t.Errorf("adding after the freeze was taken back: %v", err)
	}
	for _, m := range members {
		m.stop()
	}
	checkLog(t, options(t, b), f.Size+1)
}

// TestFreezeWaitsForTheQuorum: a log ends when all it promised is published, and not before, even if
// the process that is about to end it goes on as another one.
func TestFreezeWaitsForTheQuorum(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b, n := mem.New(), newNetwork()
		var mu sync.Mutex
		away := false
		o := options(t, b)
		o.Cosign = func(ctx context.Context, checkpoint []byte, _ driver.ProofFunc) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			if away {
				return nil, errors.New("no witness answers")
			}
			return checkpoint, nil
		}
		m := n.joinWith(t, o, "a")
		leading(t, m)
		addTo(t, m, 0, 10)
		mu.Lock()
		away = true
		mu.Unlock()
		if _, err := m.Add(t.Context(), tessera.NewEntry(data(10)))(); err != nil {
			t.Fatal(err)
		}
		if err := m.Freeze(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if m.Frozen() != nil || get(t, b, "state/test/frozen") != nil {
			t.Fatal("the log has ended before what it promised was published")
		}
		if err := m.stop(); err != nil {
			t.Fatal(err)
		}
		m = n.joinWith(t, o, "b")
		time.Sleep(time.Minute)
		if _, err := m.Add(t.Context(), tessera.NewEntry(data(11)))(); err == nil {
			t.Error("it takes entries")
		}
		mu.Lock()
		away = false
		mu.Unlock()
		if f := frozen(t, m); f.Size != 11 {
			t.Errorf("it ended at size %d", f.Size)
		}
		m.stop()
		checkLog(t, options(t, b), 11)
	})
}

// TestFreezeSurvivesACrashAnywhere crashes the process that freezes a log at each of its operations,
// before and after it, and has another one go on. The log ends once, with all that was acknowledged.
func TestFreezeSurvivesACrashAnywhere(t *testing.T) {
	ops := 0
	bubble.Test(t, func(t *testing.T) { ops = freezeWithCrash(t, -1, 0) })
	if ops < 15 {
		t.Fatalf("a freeze has only %d operations; the test counts wrong", ops)
	}
	for n := range ops {
		for _, mode := range []faultbucket.Mode{faultbucket.Crash, faultbucket.CrashAfter} {
			bubble.Test(t, func(t *testing.T) { freezeWithCrash(t, n, mode) })
			if t.Failed() {
				t.Fatalf("crash at operation %d of %d, mode %v", n, ops, mode)
			}
		}
	}
}

// freezeWithCrash returns how many operations of the bucket the run took.
func freezeWithCrash(t *testing.T, at int, mode faultbucket.Mode) int {
	inner := mem.New()
	n := newNetwork()
	first := n.join(t, inner, "first") // makes the log and goes
	leading(t, first)
	addTo(t, first, 0, 20)
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	b := faultbucket.New(inner)
	if at >= 0 {
		b.FailAt(at, mode)
	}
	acked := int64(20)
	if r, err := driver.OpenReplica(t.Context(), options(t, b)); err == nil {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		for end := time.Now().Add(10 * time.Second); !driver.Takes(r) && !b.Crashed() && time.Now().Before(end); {
			time.Sleep(20 * time.Millisecond)
		}
		answered := make(chan bool, 1)
		go func() {
			i, err := r.Add(t.Context(), tessera.NewEntry(data(20)))()
			answered <- err == nil && i.Index == 20
		}()
		select {
		case ok := <-answered:
			if ok {
				acked++
			}
		case <-time.After(10 * time.Second): // the process has died before it knew
		}
		// If the request fails, it is made again below.
		if !b.Crashed() {
			_ = r.Freeze(t.Context(), next)
		}
		for end := time.Now().Add(10 * time.Second); r.Frozen() == nil && !b.Crashed() && time.Now().Before(end); {
			time.Sleep(20 * time.Millisecond)
		}
		cancel()
		<-done // a process that dies may say anything
	}
	ops := len(b.Ops())
	b.Crash()
	// Whoever is next finishes what was begun.
	if err := driver.Freeze(t.Context(), inner, "test", next); err != nil {
		t.Fatal(err)
	}
	m := n.join(t, inner, "second")
	f := frozen(t, m)
	if f.Size < acked || f.Size > acked+1 { // an entry that was committed without an answer
		t.Errorf("the log ended at size %d; %d entries were acknowledged", f.Size, acked)
	}
	m.stop()
	checkLog(t, options(t, inner), f.Size)
	if _, err := driver.Verify(t.Context(), inner, "test", nil); err != nil {
		t.Error(err)
	}
	return ops
}

// TestUnfreezeCutShortIsFrozen: the request goes first, and the end decides.
func TestUnfreezeCutShortIsFrozen(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		inner, n := mem.New(), newNetwork()
		m := n.join(t, inner, "a")
		leading(t, m)
		addTo(t, m, 0, 5)
		if err := m.Freeze(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		frozen(t, m)
		m.stop()
		if err := inner.Delete(t.Context(), "state/test/freeze"); err != nil {
			t.Fatal(err)
		}
		m = n.join(t, inner, "b")
		time.Sleep(time.Minute)
		if driver.Takes(m.Replica) || m.Frozen() == nil {
			t.Error("a log whose freeze was taken back by half is led")
		}
		if s, err := driver.ReadFrozen(t.Context(), inner, "test"); err != nil || s.Frozen == nil || s.Asked {
			t.Errorf("%+v, %v", s, err)
		}
	})
}

// TestFsckJudgesTheEndOfALog changes it.
func TestFsckJudgesTheEndOfALog(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b, n := mem.New(), newNetwork()
		m := n.join(t, b, "a")
		leading(t, m)
		addTo(t, m, 0, 5)
		if err := m.Freeze(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		frozen(t, m)
		m.stop()
		const key = "state/test/frozen"
		whole := get(t, b, key)
		// of is what comes first in the value of a field; what it is differs from run to run.
		of := func(field string) string { return regexp.MustCompile(`"` + field + `":"?.`).FindString(string(whole)) }
		other := map[bool]string{true: "1", false: "0"}
		for what, c := range map[string]struct{ old, new, want string }{
			"size":      {`"size":5`, `"size":4`, "ends the log at size 4"},
			"larger":    {`"size":5`, `"size":6`, "ends the log at size 6"},
			"version":   {`"v":1`, `"v":2`, "version 2"},
			"log":       {of("log"), `"log":"` + other[strings.HasSuffix(of("log"), "0")], "is damaged"},
			"root":      {of("root"), `"root":"` + other[strings.HasSuffix(of("root"), "0")], "ends the log at size 5 with root"},
			"no line":   {"\n", "", "is damaged"},
			"more":      {"\n", "\n\n", "is damaged"},
			"not exact": {`"v":1,`, `"v":1, `, "is damaged"},
		} {
			bad := strings.Replace(string(whole), c.old, c.new, 1)
			put(t, b, key, []byte(bad))
			_, err := driver.Verify(t.Context(), b, "test", nil)
			var oe *driver.ObjectError
			if !errors.As(err, &oe) || oe.Key != key || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", what, err)
			}
		}
		put(t, b, key, whole)
		if _, err := driver.Verify(t.Context(), b, "test", nil); err != nil {
			t.Error(err)
		}
	})
}

func FuzzParseFreeze(f *testing.F) {
	b := mem.New()
	l := open(f, options(f, b))
	if err := driver.Freeze(f.Context(), b, "test", next); err != nil {
		f.Fatal(err)
	}
	log := driver.LogUUID(l)
	f.Add(get(f, b, "state/test/freeze"))
	f.Add(driver.FrozenLine(log, time.Unix(1e9, 0), 5, [32]byte{1}, next))
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := driver.ParseFreeze(b, log); err == nil && (bytes.Count(b, []byte{'\n'}) != 1 || b[len(b)-1] != '\n') {
			t.Fatalf("accepted %q as a request", b)
		}
		if end, err := driver.ParseFrozen(b, log); err == nil {
			if again := driver.FrozenLine(log, end.Time, end.Size, end.Root, end.Next); !bytes.Equal(again, b) {
				t.Fatalf("%q encodes to %q", b, again)
			}
		}
	})
}
