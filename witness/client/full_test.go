package client_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tallywood/internal/bubble"
	"tallywood/witness/client"
)

// TestFullKeepsWhatComesLate has one of two witnesses answer after the quorum, which is the other.
func TestFullKeepsWhatComesLate(t *testing.T) {
	h := newHistory(t, 20, "entry")
	bubble.Test(t, func(t *testing.T) { keepsWhatComesLate(t, h) })
}

func keepsWhatComesLate(t *testing.T, h *history) {
	fast, slow := newWitness(t, "fast"), newWitness(t, "slow")
	gate := make(chan struct{})
	slow.replace(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-gate:
			slow.witness.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	})
	var ahead atomic.Int64 // seconds by which the clock is
	p := newPolicy(t, 1, fast, slow)
	c := newClientWith(t, client.Options{
		Policy: p,
		HTTP:   &http.Client{Transport: memoryNet{"fast": fast, "slow": slow}},
		Now:    func() time.Time { return time.Now().Add(time.Duration(ahead.Load()) * time.Second) },
	})
	want := func(size int64, slowToo bool) {
		t.Helper()
		note := c.Full(origin)
		cp, err := p.Open(note)
		if err != nil {
			t.Fatalf("%v in %q", err, note)
		}
		if too := strings.Contains(string(note), "— slow "); cp.Size() != size || too != slowToo {
			t.Errorf("size %d, slow %v; want %d, %v", cp.Size(), too, size, slowToo)
		}
	}
	cosign := func(size int64) {
		t.Helper()
		if _, err := c.Cosign(within(t, time.Minute), h.checkpoint(t, size), h.prove); err != nil {
			t.Fatal(err)
		}
	}
	slowAnswers := func() {
		gate <- struct{}{}
		synctest.Wait()
	}
	if c.Full(origin) != nil {
		t.Error("a full checkpoint before any")
	}
	cosign(5)
	want(5, false)
	slowAnswers()
	want(5, true)

	// A newer one that fewer have cosigned takes its place after a while only.
	cosign(9)
	want(5, true)
	ahead.Store(31)
	want(9, false)
	slowAnswers()
	want(9, true)
	close(gate)
}
