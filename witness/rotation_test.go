package witness_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/torchwood"

	"tallywood/internal/bubble"
	"tallywood/internal/keys"
	"tallywood/storage"
	"tallywood/storage/mem"
	"tallywood/witness"
	"tallywood/witness/policy"
)

// keySet derives the keys of a seed, valid in [from, until) seconds of the test's clock; 0: no bound.
func keySet(t testing.TB, label string, from, until int64) keys.Witness {
	t.Helper()
	k, err := keys.WitnessFromSeed(name, seed(label))
	if err != nil {
		t.Fatal(err)
	}
	if from != 0 {
		k.NotBefore = time.Unix(from, 0)
	}
	if until != 0 {
		k.NotAfter = time.Unix(until, 0)
	}
	return k
}

// signedBy returns the vkeys, among those given, whose valid lines a note has, and fails if another
// line of the witness is in it.
func signedBy(t testing.TB, note string, vkeys ...string) []string {
	t.Helper()
	n, err := policy.ParseNote([]byte(note))
	if err != nil {
		t.Fatal(err)
	}
	var by []string
	for _, sig := range n.Signatures {
		if sig.Name != name {
			continue
		}
		i := slices.IndexFunc(vkeys, func(v string) bool {
			k, err := policy.ParseVKey(v)
			if err != nil {
				t.Fatal(err)
			}
			at, err := k.Verify(n.Text, sig.Sig)
			return k.Matches(sig) && err == nil && !at.IsZero()
		})
		if i < 0 {
			t.Fatalf("a line of no key: %s", sig.Line)
		}
		by = append(by, vkeys[i])
	}
	return by
}

// TestKeysOverlap has one seed follow another, and later only what is known of the first.
func TestKeysOverlap(t *testing.T) {
	l := newTestLog(t, origin)
	l.grow(t, 30, "entry")
	c, b := newClock(), mem.New()
	start := c.unix.Load()
	old, next := keySet(t, "witness", 0, start+20), keySet(t, "next", start+10, 0)
	vkeys := append(old.VKeys(), next.VKeys()...)
	both := []string{vkeys[0], vkeys[2], vkeys[1], vkeys[3]}
	open := func() *server {
		return serveOptions(t, witness.Options{Keys: next, Rotation: []keys.Witness{old}, Bucket: b, Now: c.now,
			Logs: []witness.Log{{Origin: origin, Keys: logKeys(l)}}})
	}
	w, size, first := open(), int64(0), ""
	for _, step := range []struct {
		at   int64
		want []string
	}{
		{0, old.VKeys()}, {9, old.VKeys()}, {10, both}, {19, both}, {20, next.VKeys()}, {99, next.VKeys()},
	} {
		c.unix.Store(start + step.at)
		answer := w.mustAdd(t, l.request(t, size, size+3))
		size += 3
		note := l.checkpoint(t, size) + answer
		if got := signedBy(t, note, vkeys...); !slices.Equal(got, step.want) {
			t.Errorf("%d s: lines of %q, want %q", step.at, got, step.want)
		}
		if first == "" {
			first = note
		}
		if got := w.mustAdd(t, l.request(t, size, size)); got != answer {
			t.Errorf("%d s: once more in the same second:\n%s\nthe first answer:\n%s", step.at, got, answer)
		}
		for what, w := range map[string]*server{"the process": w, "its successor": open()} {
			if got := w.stored(t, l); got != note {
				t.Errorf("%d s: %s serves\n%s\nanswered was\n%s", step.at, what, got, note)
			}
		}
		var s struct {
			VKeys []string
			Keys  []struct {
				VKey        string
				Signs, Past bool
			}
		}
		if err := json.Unmarshal([]byte(do(t, http.MethodGet, w.url+"/status.json", "").body), &s); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(s.VKeys, step.want) || len(s.Keys) != 4 || s.Keys[0].Past != (step.at >= 20) || s.Keys[1].Past {
			t.Errorf("%d s: status %+v", step.at, s)
		}
	}
	// What only the first keys cosigned vouches for subtrees that the next one signs.
	v, err := torchwood.NewCosignatureVerifier(next.VKeys()[1])
	if err != nil {
		t.Fatal(err)
	}
	body, hash := l.subtreeRequest(t, 0, 2, 3, first)
	a := do(t, http.MethodPost, w.url+"/sign-subtree", body)
	if a.status != http.StatusOK || strings.Count(a.body, "\n") != 1 || !v.VerifySubtree(origin, 0, 2, hash, []byte(a.body)) {
		t.Errorf("subtree: %d %.80s", a.status, a.body)
	}
}

// TestPastKeyContradicts shows a witness that has lost its state what a key of its past has cosigned.
func TestPastKeyContradicts(t *testing.T) {
	l := newTestLog(t, origin)
	l.grow(t, 9, "entry")
	c := newClock()
	old := serve(t, mem.New(), c, l)
	for i, line := range strings.SplitAfter(strings.TrimSuffix(old.mustAdd(t, l.request(t, 0, 9)), "\n"), "\n") {
		w := serveOptions(t, witness.Options{Keys: keySet(t, "next", 0, 0), PastKeys: testKeys(t).VKeys(), Bucket: mem.New(), Now: c.now,
			Logs: []witness.Log{{Origin: origin, Keys: logKeys(l)}}})
		note := l.checkpoint(t, 9) + strings.TrimSuffix(line, "\n") + "\n"
		if a := w.add(t, "old 0\n\n"+note); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "frozen") {
			t.Errorf("line %d: %d %s", i, a.status, a.body)
		}
	}
}

// TestRemovedKeyIsMissed serves a state whose key was taken away before another one followed.
func TestRemovedKeyIsMissed(t *testing.T) {
	l := newTestLog(t, origin)
	l.grow(t, 9, "entry")
	c, b := newClock(), mem.New()
	serve(t, b, c, l).mustAdd(t, l.request(t, 0, 5))
	var logged strings.Builder
	next := keySet(t, "next", 0, 0)
	w := serveOptions(t, witness.Options{Keys: next, Bucket: b, Now: c.now, Log: slog.New(slog.NewTextHandler(&logged, nil)),
		Logs: []witness.Log{{Origin: origin, Keys: logKeys(l)}}})
	if got := w.stored(t, l); got != l.checkpoint(t, 5) {
		t.Errorf("served is\n%s", got)
	}
	if !strings.Contains(logged.String(), "own key is missing") {
		t.Errorf("logged is %s", &logged)
	}
	note := l.checkpoint(t, 9) + w.mustAdd(t, l.request(t, 5, 9))
	if got := signedBy(t, note, next.VKeys()...); len(got) != 2 || w.stored(t, l) != note {
		t.Errorf("then: lines of %q, served\n%s", got, w.stored(t, l))
	}
}

func TestNoKeyIsValidNow(t *testing.T) {
	l := newTestLog(t, origin)
	l.grow(t, 9, "entry")
	c := newClock()
	w := serveOptions(t, witness.Options{Keys: keySet(t, "witness", 0, c.unix.Load()+10), Bucket: mem.New(), Now: c.now,
		Logs: []witness.Log{{Origin: origin, Keys: logKeys(l)}}})
	note := l.checkpoint(t, 5) + w.mustAdd(t, l.request(t, 0, 5))
	c.add(10 * time.Second)
	if a := w.add(t, l.request(t, 5, 9)); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || !strings.Contains(a.body, "no key") {
		t.Errorf("add-checkpoint: %d %s", a.status, a.body)
	}
	body, _ := l.subtreeRequest(t, 0, 4, 5, note)
	if a := do(t, http.MethodPost, w.url+"/sign-subtree", body); a.status != http.StatusServiceUnavailable {
		t.Errorf("sign-subtree: %d %s", a.status, a.body)
	}
	if got := w.stored(t, l); got != note {
		t.Errorf("served is\n%s", got)
	}
	rec := httptest.NewRecorder()
	w.Metrics().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	if !strings.Contains(rec.Body.String(), "tallywood_witness_key_errors_total 2\n") {
		t.Errorf("metrics:\n%s", rec.Body)
	}
}

// TestRemoteLineIsInTheState has a key that is away after it has signed.
func TestRemoteLineIsInTheState(t *testing.T) {
	l := newTestLog(t, origin)
	l.grow(t, 9, "entry")
	c, b := newClock(), mem.New()
	k := testKeys(t)
	key := &remoteKey{Signer: k.Ed25519}
	k.Ed25519 = key
	open := func() *server {
		return serveOptions(t, witness.Options{Keys: k, Bucket: b, Now: c.now, Logs: []witness.Log{{Origin: origin, Keys: logKeys(l)}}})
	}
	w := open()
	answer := w.mustAdd(t, l.request(t, 0, 5))
	opened(t, l, l.checkpoint(t, 5)+answer)
	key.away.Store(true)
	for _, w := range []*server{w, open()} {
		if got := w.stored(t, l); got != l.checkpoint(t, 5)+answer {
			t.Errorf("served is\n%s", got)
		}
		if got := w.mustAdd(t, l.request(t, 5, 5)); got != answer {
			t.Errorf("in the same second:\n%s\nthe first answer:\n%s", got, answer)
		}
	}
}

func TestNewRefusesKeys(t *testing.T) {
	good, past := testKeys(t), keySet(t, "past", 0, 0).VKeys()
	elsewhere, err := keys.WitnessFromSeed("other.example.org", seed("witness"))
	if err != nil {
		t.Fatal(err)
	}
	for what, o := range map[string]witness.Options{
		"the same key twice":   {Rotation: []keys.Witness{good}},
		"its vkey as past":     {PastKeys: good.VKeys()},
		"a key of no time":     {Rotation: []keys.Witness{keySet(t, "next", 9, 9)}},
		"another name":         {Rotation: []keys.Witness{elsewhere}},
		"another name's vkey":  {PastKeys: elsewhere.VKeys()},
		"no key":               {Rotation: []keys.Witness{{Name: name}}},
		"a vkey that is none":  {PastKeys: []string{"vkey"}},
		"a log's vkey":         {PastKeys: []string{keys.VKey(name, keys.AlgEd25519, make(ed25519.PublicKey, 32))}},
		"seventeen vkeys more": {PastKeys: manyVKeys(t)},
	} {
		o.Keys, o.Bucket = good, mem.New()
		if _, err := witness.New(o); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
	if _, err := witness.New(witness.Options{Keys: good, PastKeys: past, Bucket: mem.New()}); err != nil {
		t.Error(err)
	}
}

func manyVKeys(t testing.TB) []string {
	var vkeys []string
	for i := range 17 {
		vkeys = append(vkeys, keySet(t, string(rune('a'+i)), 0, 0).VKeys()[0])
	}
	return vkeys
}

// heldBucket holds every Put until it is let go.
type heldBucket struct {
	storage.Bucket
	entered, letGo chan struct{}
}

func (b *heldBucket) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	b.entered <- struct{}{}
	<-b.letGo
	return b.Bucket.Put(ctx, key, data, o)
}

// TestNothingLeavesWhileTheStateIsWritten holds the write of the state: the lines are made by then.
func TestNothingLeavesWhileTheStateIsWritten(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := newTestLog(t, origin)
		l.grow(t, 9, "entry")
		b := &heldBucket{mem.New(), make(chan struct{}), make(chan struct{})}
		w := start(t, b, nil, l)
		stored := func() string { return w.do(t, http.MethodGet, "/"+hashOf(origin)+"/checkpoint", "").body }
		answered := make(chan string, 1)
		go func() { answered <- w.add(t, l.request(t, 0, 5)).body }()
		<-b.entered
		synctest.Wait()
		if got := stored(); !strings.Contains(got, "no checkpoint of this log was cosigned yet") {
			t.Errorf("served is\n%s", got)
		}
		select {
		case lines := <-answered:
			t.Errorf("answered was\n%s", lines)
		default:
		}
		close(b.letGo)
		if note := l.checkpoint(t, 5) + <-answered; stored() != note {
			t.Errorf("served is\n%s\nanswered was\n%s", stored(), note)
		}
	})
}
