package witness_test

import (
	"crypto"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tallywood/internal/bubble"
	"tallywood/storage/mem"
	"tallywood/witness"
	"tallywood/witness/policy"
)

// A remoteKey is a key that can be out of reach, as one in an agent or a KMS is.
type remoteKey struct {
	crypto.Signer
	away  atomic.Bool
	asked atomic.Int64
}

var errAway = errors.New("the agent is away")

func (k *remoteKey) Sign(rand io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	k.asked.Add(1)
	if k.away.Load() {
		return nil, errAway
	}
	return k.Signer.Sign(rand, message, opts)
}

// TestNothingIsSignedWithoutTheKey has a key that goes away and comes back.
func TestNothingIsSignedWithoutTheKey(t *testing.T) {
	l := newTestLog(t, origin)
	l.grow(t, 10, "entry")
	k := testKeys(t)
	key := &remoteKey{Signer: k.Ed25519}
	k.Ed25519 = key
	b := mem.New()
	w := serveOptions(t, witness.Options{Keys: k, Bucket: b, Now: newClock().now,
		Logs: []witness.Log{{Origin: origin, Keys: logKeys(l)}}})

	key.away.Store(true)
	for range 2 {
		a := w.add(t, l.request(t, 0, 5))
		if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") != "5" || !strings.Contains(a.body, "cannot use its Ed25519 key") {
			t.Errorf("without the key: %d %q %v", a.status, a.body, a.header)
		}
		if strings.Contains(a.body, "—") || strings.Contains(a.body, errAway.Error()) {
			t.Errorf("the answer says too much: %q", a.body)
		}
	}
	if err := w.CheckKey(); !errors.Is(err, errAway) {
		t.Errorf("CheckKey = %v", err)
	}
	if got := w.stored(t, l); got != "" {
		t.Errorf("something was remembered of what was not signed:\n%s", got)
	}
	key.away.Store(false)
	opened(t, l, l.checkpoint(t, 5)+w.mustAdd(t, l.request(t, 0, 5)))
	if err := w.CheckKey(); err != nil {
		t.Errorf("CheckKey = %v after it signed", err)
	}

	// The state that is there stays what it is, and can be read.
	key.away.Store(true)
	before := w.stored(t, l)
	if a := w.add(t, l.request(t, 5, 10)); a.status != http.StatusServiceUnavailable {
		t.Errorf("without the key: %d", a.status)
	}
	if after := w.stored(t, l); after != before || before == "" {
		t.Errorf("a checkpoint that was not signed replaced another:\n%s", after)
	}
	if a := w.add(t, l.request(t, 0, 10)); a.status != http.StatusConflict || a.body != "5\n" {
		t.Errorf("a refusal needs no key: %d %q", a.status, a.body)
	}
	key.away.Store(false)
	opened(t, l, l.checkpoint(t, 10)+w.mustAdd(t, l.request(t, 5, 10)))

	var metrics strings.Builder
	witness.WriteMetrics(w.Witness, &metrics)
	if !strings.Contains(metrics.String(), "tallywood_witness_sign_errors_total 3\n") {
		t.Errorf("no count of three in\n%s", metrics.String())
	}
}

// TestCheckKeyNoticesThatTheKeyIsBack has nobody ask for a signature, as when a balancer sends nothing to
// a witness that is not ready.
func TestCheckKeyNoticesThatTheKeyIsBack(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		k := testKeys(t)
		key := &remoteKey{Signer: k.Ed25519}
		k.Ed25519 = key
		key.away.Store(true)
		w, err := witness.New(witness.Options{Keys: k, Bucket: mem.New()})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := w.CheckKey(); !errors.Is(err, errAway) {
				t.Errorf("CheckKey = %v", err)
			}
		}
		if n := key.asked.Load(); n != 1 {
			t.Errorf("within one moment the key was asked %d times", n)
		}
		key.away.Store(false)
		time.Sleep(5 * time.Second)
		for range 3 {
			if err := w.CheckKey(); err != nil {
				t.Errorf("CheckKey = %v after the key is back", err)
			}
			time.Sleep(time.Minute)
		}
		if n := key.asked.Load(); n != 2 {
			t.Errorf("the key was asked %d times; want no more once it can be used", n)
		}
	})
}

// TestWitnessWithoutMLDSA has an Ed25519 key alone.
func TestWitnessWithoutMLDSA(t *testing.T) {
	l := newTestLog(t, origin)
	l.grow(t, 5, "entry")
	k := testKeys(t)
	both := k.VKeys()
	k.MLDSAPublic = nil
	if got := k.VKeys(); len(got) != 1 || got[0] != both[0] {
		t.Fatalf("vkeys %q; want the first of %q", got, both)
	}
	w := serveOptions(t, witness.Options{Keys: k, Bucket: mem.New(), Now: newClock().now,
		Logs: []witness.Log{{Origin: origin, Keys: logKeys(l)}}})
	lines := w.mustAdd(t, l.request(t, 0, 5))
	if strings.Count(lines, "\n") != 1 {
		t.Errorf("answered\n%s; want one line", lines)
	}
	p, err := policy.Parse([]byte("log " + l.key.String() + "\nwitness ed " + both[0] + "\nquorum ed\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Open([]byte(l.checkpoint(t, 5) + lines)); err != nil {
		t.Error(err)
	}
	body, _ := l.subtreeRequest(t, 0, 4, 5, l.checkpoint(t, 5)+lines)
	if a := do(t, http.MethodPost, w.url+"/sign-subtree", body); a.status != http.StatusNotFound || !strings.Contains(a.body, "no ML-DSA-44 key") {
		t.Errorf("sign-subtree: %d %q", a.status, a.body)
	}
	status := do(t, http.MethodGet, w.url+"/status.json", "").body
	if !strings.Contains(status, both[0]) || strings.Contains(status, both[1]) {
		t.Errorf("status.json:\n%s", status)
	}
}
