package client_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"tallywood/internal/bubble"
	"tallywood/witness/client"
	"tallywood/witness/policy"
)

// outside is a policy that needs w1 and lists w2, and the ML-DSA key of w1, outside the quorum.
func outside(t testing.TB, w1, w2 *witnessServer) *policy.Policy {
	t.Helper()
	return parsePolicy(t, "log "+logVKey()+"\nwitness w1 "+w1.vkeys[0]+" "+w1.url+"\nwitness w1-pq "+w1.vkeys[1]+" "+w1.url+
		"\nwitness w2 "+w2.vkeys[0]+" "+w2.url+"\nquorum w1\n")
}

// signers returns the cosigners in a note, with their kinds.
func signers(t testing.TB, note []byte) string {
	t.Helper()
	n, err := policy.ParseNote(note)
	if err != nil {
		t.Fatalf("%v in %q", err, note)
	}
	var out []string
	for _, sig := range n.Signatures[1:] {
		kind := "ed"
		if len(sig.Sig) > 100 {
			kind = "pq"
		}
		out = append(out, sig.Name+" "+kind)
	}
	return strings.Join(out, ", ")
}

// TestWitnessesOutsideTheQuorumAreAskedLate has their cosignatures in the full checkpoint alone.
func TestWitnessesOutsideTheQuorumAreAskedLate(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHistory(t, 20, "entry")
		w1, w2 := newWitness(t, "w1"), newWitness(t, "w2")
		w1.replace(func(rw http.ResponseWriter, r *http.Request) {
			time.Sleep(usual)
			if n := w2.requests.Load(); n != 0 {
				t.Errorf("%d requests to the other before there was a quorum", n)
			}
			w1.witness.ServeHTTP(rw, r)
		})
		w2.takes(3 * usual)
		c := newMemoryClient(t, outside(t, w1, w2), w1, w2)
		note, err := c.Cosign(within(t, time.Minute), h.checkpoint(t, 5), h.prove)
		if err != nil {
			t.Fatal(err)
		}
		if got := signers(t, note); got != "w1 ed" {
			t.Errorf("published with %s", got)
		}
		if got := signers(t, c.Full(origin)); got != "w1 ed, w1 pq" {
			t.Errorf("at once the full checkpoint has %s", got)
		}
		time.Sleep(time.Second)
		if got := signers(t, c.Full(origin)); got != "w1 ed, w2 ed, w1 pq" {
			t.Errorf("later the full checkpoint has %s", got)
		}
		// The same checkpoint once more has all of them already, and still publishes what counts.
		note, err = c.Cosign(within(t, time.Minute), h.checkpoint(t, 5), h.prove)
		if got := signers(t, note); err != nil || got != "w1 ed" {
			t.Errorf("published again with %s, %v", got, err)
		}
	})
}

// TestWitnessesOutsideTheQuorumAreNotStarved has rounds come faster than such a witness answers.
func TestWitnessesOutsideTheQuorumAreNotStarved(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHistory(t, 200, "entry")
		w1, w2 := newWitness(t, "w1"), newWitness(t, "w2")
		w1.takes(10 * time.Millisecond)
		w2.takes(45 * time.Millisecond)
		c := newMemoryClient(t, outside(t, w1, w2), w1, w2)
		for size := int64(1); size <= 200; size++ {
			rounds(t, c, h, size)
		}
		if n := w2.requests.Load(); n < 30 || n > 60 {
			t.Errorf("it was asked %d times in 2 s, with 45 ms each", n)
		}
		if w2.most.Load() > 1 {
			t.Error("it was asked twice at once")
		}
		time.Sleep(time.Second)
		full := c.Full(origin)
		if cp, err := outside(t, w1, w2).Open(full); err != nil || cp.Size() != 200 || !strings.Contains(signers(t, full), "w2 ed") {
			t.Errorf("in the end the full checkpoint is %q, %v", full, err)
		}
	})
}

// TestWitnessesOutsideTheQuorumCannotMakeOne has the one that counts away.
func TestWitnessesOutsideTheQuorumCannotMakeOne(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHistory(t, 20, "entry")
		w1, w2 := newWitness(t, "w1"), newWitness(t, "w2")
		w1.replaceAll(silent)
		c := newMemoryClient(t, outside(t, w1, w2), w1, w2)
		_, err := c.Cosign(within(t, 3*time.Second), h.checkpoint(t, 5), h.prove)
		var qe *client.QuorumError
		if !errors.As(err, &qe) || len(qe.Witnesses) != 1 || qe.Witnesses[0].Name != "w1" {
			t.Errorf("Cosign = %v; want a QuorumError that names w1 alone", err)
		}
		if n := w2.requests.Load(); n != 0 {
			t.Errorf("%d requests for what is not published", n)
		}
	})
}

// TestSilentWitnessOutsideTheQuorumCostsNothing has one that never answers.
func TestSilentWitnessOutsideTheQuorumCostsNothing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHistory(t, 100, "entry")
		w1, w2 := newWitness(t, "w1"), newWitness(t, "w2")
		w1.takes(usual)
		w2.replaceAll(silent)
		c := newMemoryClient(t, outside(t, w1, w2), w1, w2)
		for size := int64(1); size <= 100; size++ {
			if d := rounds(t, c, h, size); d > usual && size > 1 {
				t.Fatalf("size %d took %v", size, d)
			}
		}
		if n := w2.requests.Load(); n > 2 {
			t.Errorf("%d requests to it", n)
		}
	})
}
