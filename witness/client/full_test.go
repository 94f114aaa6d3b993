package client_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tallywood/witness/client"
)

// TestFullKeepsWhatComesLate has one of two witnesses answer after the quorum, which is the other.
func TestFullKeepsWhatComesLate(t *testing.T) {
	h := newHistory(t, 20, "entry")
	fast, slow := startWitness(t, "fast"), startWitness(t, "slow")
	gate := make(chan struct{})
	slow.replace(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-gate:
		case <-r.Context().Done():
		}
		slow.witness.ServeHTTP(w, r)
	})
	var ahead atomic.Int64 // seconds by which the clock is
	p := newPolicy(t, 1, fast, slow)
	c, err := client.New(client.Options{Policy: p, Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load()) * time.Second) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	full := func() (size int64, slowToo bool) {
		note := c.Full(origin)
		cp, err := p.Open(note)
		if err != nil {
			t.Fatalf("%v in %q", err, note)
		}
		return cp.Size(), strings.Contains(string(note), "— slow ")
	}
	want := func(size int64, slowToo bool) {
		t.Helper()
		if s, too := full(); s != size || too != slowToo {
			t.Errorf("size %d, slow %v; want %d, %v", s, too, size, slowToo)
		}
	}
	cosign := func(size int64) {
		t.Helper()
		if _, err := c.Cosign(within(t, time.Minute), h.checkpoint(t, size), h.prove); err != nil {
			t.Fatal(err)
		}
	}
	if c.Full(origin) != nil {
		t.Error("a full checkpoint before any")
	}
	cosign(5)
	want(5, false)
	gate <- struct{}{}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if _, too := full(); too || time.Now().After(deadline) {
			break
		}
	}
	want(5, true)

	// A newer one that fewer have cosigned takes its place after a while only.
	cosign(9)
	want(5, true)
	ahead.Store(31)
	want(9, false)
	gate <- struct{}{}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if _, too := full(); too || time.Now().After(deadline) {
			break
		}
	}
	want(9, true)
	close(gate)
}
