package client_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tallywood/internal/bubble"
	"tallywood/witness/client"
)

// failures are ways in which a witness fails at once.
var failures = map[string]http.HandlerFunc{
	"broken":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
	"refuses": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) },
	"ahead":   conflictWith("4611686018427387904"),
	"behind":  conflictWith("1"),
	"busy":    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
	"garbage": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("garbage")) },
}

// conflictWith answers 409 with a size, whatever is asked.
func conflictWith(size string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = []string{"text/x.tlog.size"}
		w.WriteHeader(http.StatusConflict)
		_, _ = w.Write([]byte(size + "\n"))
	}
}

// TestFailingWitnessIsAskedSeldom runs four hundred rounds, a hundred a second, with one of two
// witnesses failing, and then has it back.
func TestFailingWitnessIsAskedSeldom(t *testing.T) {
	for name, failure := range failures {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				const all = 400
				h := newHistory(t, all+400, "entry")
				good, bad := newWitness(t, "good"), newWitness(t, "bad")
				good.takes(10 * time.Millisecond)
				bad.replaceAll(failure)
				c := newMemoryClient(t, newPolicy(t, 1, good, bad), good, bad)
				size := int64(1)
				for ; size <= all; size++ {
					if d := rounds(t, c, h, size); d > 10*time.Millisecond && size > 1 {
						t.Fatalf("size %d took %v", size, d)
					}
				}
				if n := bad.requests.Load(); n < 5 || n > all/10 {
					t.Errorf("%d of %d rounds asked the failing witness", n, all)
				}
				if f := c.Failing(); !f["bad"] || f["good"] {
					t.Errorf("Failing = %v", f)
				}
				bad.replaceAll(nil)
				began := time.Now()
				for !strings.Contains(string(c.Full(origin)), "— bad ") {
					rounds(t, c, h, size)
					size++
				}
				if d := time.Since(began); d > 2500*time.Millisecond {
					t.Errorf("it took %v to notice that the witness is back", d)
				}
				synctest.Wait()
				if f := c.Failing(); f["bad"] {
					t.Errorf("after its return: Failing = %v", f)
				}
			})
		})
	}
}

// TestNeededWitnessIsTriedOften has the only witness away for a minute.
func TestNeededWitnessIsTriedOften(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHistory(t, 9, "entry")
		w := newWitness(t, "w1")
		var at atomic.Pointer[time.Time]
		w.replaceAll(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusBadGateway) })
		time.AfterFunc(time.Minute, func() {
			now := time.Now()
			at.Store(&now)
			w.replaceAll(nil)
		})
		c := newMemoryClient(t, newPolicy(t, 1, w), w)
		var err error
		for range 100 {
			if _, err = c.Cosign(within(t, 3*time.Second), h.checkpoint(t, 9), h.prove); err == nil {
				break
			}
		}
		if err != nil || at.Load() == nil {
			t.Fatal(err)
		}
		if d := time.Since(*at.Load()); d > 600*time.Millisecond {
			t.Errorf("it took %v to notice that the witness is back", d)
		}
		if n := w.requests.Load(); n > 300 {
			t.Errorf("%d requests in a minute", n)
		}
	})
}

// TestFailingWitnessesDoNotHoldTheErrorBack has no quorum, and witnesses that refuse.
func TestFailingWitnessesDoNotHoldTheErrorBack(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHistory(t, 9, "entry")
		w1, w2 := newWitness(t, "w1"), newWitness(t, "w2")
		w2.replaceAll(failures["refuses"])
		c := newMemoryClient(t, newPolicy(t, 2, w1, w2), w1, w2)
		for range 10 {
			began := time.Now()
			_, err := c.Cosign(within(t, time.Minute), h.checkpoint(t, 9), h.prove)
			var refused *client.RefusedError
			if d := time.Since(began); !errors.As(err, &refused) || d > 500*time.Millisecond {
				t.Errorf("Cosign = %v after %v", err, d)
			}
		}
	})
}

// TestSizesAsksAFailingWitness has the gate ask whatever happened before.
func TestSizesAsksAFailingWitness(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHistory(t, 9, "entry")
		w := newWitness(t, "w1")
		w.replaceAll(failures["broken"])
		c := newMemoryClient(t, newPolicy(t, 1, w), w)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := c.Cosign(ctx, h.checkpoint(t, 9), h.prove); err == nil {
			t.Fatal("cosigned by a broken witness")
		}
		w.replaceAll(nil)
		s, err := c.Sizes(within(t, 10*time.Second), h.checkpoint(t, 9))
		if err != nil || s[0].Err != nil {
			t.Errorf("Sizes = %+v, %v", s, err)
		}
	})
}
