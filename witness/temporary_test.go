package witness_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"tallywood/storage"
	"tallywood/storage/mem"
	"tallywood/witness"
	"tallywood/witness/policy"
)

// keysOf lists the keys of a bucket below a prefix.
func keysOf(t *testing.T, b storage.Bucket, prefix string) []string {
	t.Helper()
	var all []string
	for key, err := range b.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, key)
	}
	return all
}

func temporaryLog(t *testing.T, name string) *testLog {
	t.Helper()
	l := newTestLog(t, witness.TemporaryPrefix+name)
	l.grow(t, 20, "entry")
	return l
}

func logOf(l *testLog) witness.Log {
	return witness.Log{Origin: l.origin, Keys: []policy.Key{l.key}}
}

func TestTemporaryLogsLeaveNothing(t *testing.T) {
	b := mem.New()
	lasting, temporary := newTestLog(t, origin), temporaryLog(t, "1")
	lasting.grow(t, 20, "entry")
	w := serve(t, b, newClock(), lasting)
	w.mustAdd(t, lasting.request(t, 0, 5))
	before := keysOf(t, b, "")
	if a := w.add(t, temporary.request(t, 0, 5)); a.status != http.StatusNotFound {
		t.Errorf("before it is added: %d %s", a.status, a.body)
	}
	remove, err := w.AddTemporary(t.Context(), []witness.Log{logOf(temporary)})
	if err != nil {
		t.Fatal(err)
	}
	w.mustAdd(t, temporary.request(t, 0, 5))
	opened(t, temporary, w.stored(t, temporary))
	w.mustAdd(t, temporary.request(t, 5, 9))
	forked := temporary.tree(t, 9)
	forked.Root = [32]byte{1}
	if a := w.add(t, "old 9\n\n"+temporary.sign(t, forked.Text())); a.status != http.StatusUnprocessableEntity {
		t.Errorf("a fork: %d %s", a.status, a.body)
	}
	for _, path := range []string{"/", "/status.json"} {
		if a := do(t, http.MethodGet, w.url+path, ""); strings.Contains(a.body, witness.TemporaryPrefix) {
			t.Errorf("%s tells of the temporary log:\n%s", path, a.body)
		}
	}
	if len(w.Logs()) != 1 {
		t.Errorf("Logs = %v", w.Logs())
	}
	if got := keysOf(t, b, "evidence/"); got != nil {
		t.Errorf("evidence was kept: %q", got)
	}
	if got := keysOf(t, b, "selftest/"); len(got) != 1 {
		t.Errorf("state of temporary logs: %q", got)
	}
	if err := remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a := w.add(t, temporary.request(t, 9, 12)); a.status != http.StatusNotFound {
		t.Errorf("after it was removed: %d %s", a.status, a.body)
	}
	if got := keysOf(t, b, ""); !slices.Equal(got, before) {
		t.Errorf("left over: %q; before: %q", got, before)
	}
	w.mustAdd(t, lasting.request(t, 5, 9))
}

func TestTemporaryLogsAreOneSetAtATime(t *testing.T) {
	b := mem.New()
	w := serve(t, b, newClock(), newTestLog(t, origin))
	one, other := temporaryLog(t, "1"), temporaryLog(t, "2")
	remove, err := w.AddTemporary(t.Context(), []witness.Log{logOf(one)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.AddTemporary(t.Context(), []witness.Log{logOf(other)}); !errors.Is(err, witness.ErrTesting) {
		t.Errorf("a second set: %v", err)
	}
	w.mustAdd(t, one.request(t, 0, 5))
	if err := remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	// What a crash has left goes when the next are added.
	if _, err := b.Put(t.Context(), "selftest/"+name+"/left-over", []byte("x"), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if remove, err = w.AddTemporary(t.Context(), []witness.Log{logOf(one), logOf(other)}); err != nil {
		t.Fatal(err)
	}
	if got := keysOf(t, b, "selftest/"); got != nil {
		t.Errorf("left over: %q", got)
	}
	w.mustAdd(t, one.request(t, 0, 3)) // it has no state of the first time
	if err := remove(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestAddTemporaryRefuses(t *testing.T) {
	w := serve(t, mem.New(), newClock(), newTestLog(t, origin))
	good := temporaryLog(t, "1")
	many := slices.Repeat([]witness.Log{logOf(good)}, 1001)
	for want, logs := range map[string][]witness.Log{
		"does not begin with selftest.invalid/": {logOf(newTestLog(t, "other.example.org"))},
		"has no key":                            {{Origin: witness.TemporaryPrefix + "x"}},
		"is known already":                      {logOf(good), logOf(good)},
		"at most 1000":                          many,
	} {
		if _, err := w.AddTemporary(t.Context(), logs); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want an error with %q", err, want)
		}
	}
	if a := w.add(t, good.request(t, 0, 5)); a.status != http.StatusNotFound {
		t.Errorf("after refusals: %d", a.status)
	}
	remove, err := w.AddTemporary(t.Context(), []witness.Log{logOf(good)})
	if err != nil {
		t.Fatalf("after refusals: %v", err)
	}
	if err := remove(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}
