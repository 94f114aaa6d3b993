package client_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tallywood/internal/bubble"
	"tallywood/witness/client"
)

// usual is what the witnesses of these tests take.
const usual = 20 * time.Millisecond

// takes makes the witness take d for each request.
func (s *witnessServer) takes(d time.Duration) {
	s.replaceAll(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(d):
			s.witness.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	})
}

// loses makes the witness give no answer to the next n requests for cosignatures, and take its usual
// time for those after them.
func (s *witnessServer) loses(n int64) {
	s.takes(usual)
	answer := *s.submit.Load()
	var seen atomic.Int64
	s.replace(func(w http.ResponseWriter, r *http.Request) {
		if seen.Add(1) <= n {
			silent(w, r)
			return
		}
		answer.ServeHTTP(w, r)
	})
}

// rounds has the sizes cosigned one after the other, and returns how long the last one took.
func rounds(t *testing.T, c *client.Client, h *history, sizes ...int64) time.Duration {
	t.Helper()
	var began time.Time
	for _, size := range sizes {
		began = time.Now()
		if _, err := c.Cosign(within(t, time.Minute), h.checkpoint(t, size), h.prove); err != nil {
			t.Fatalf("size %d: %v", size, err)
		}
	}
	return time.Since(began)
}

func TestOverdueAnswerIsAskedForAgain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHistory(t, 20, "entry")
		w := newWitness(t, "w1")
		w.takes(usual)
		var hedges atomic.Int64
		c := newClientWith(t, client.Options{
			Policy: newPolicy(t, 1, w), HTTP: &http.Client{Transport: memoryNet{"w1": w}},
			Observe: func(x client.Exchange) {
				if x.Hedge {
					hedges.Add(1)
				}
			},
		})
		if d := rounds(t, c, h, 1, 2, 3, 4, 5, 6); d != usual || w.requests.Load() != 6 {
			t.Fatalf("a round took %v, after %d requests", d, w.requests.Load())
		}
		w.loses(1)
		// A quarter of a second is overdue for a witness of 20 ms.
		if d := rounds(t, c, h, 7); d != 250*time.Millisecond+usual || w.requests.Load() != 8 {
			t.Errorf("with one answer lost a round took %v, after %d requests", d, w.requests.Load())
		}
		if n := hedges.Load(); n != 1 {
			t.Errorf("told of %d hedges", n)
		}
		if d := rounds(t, c, h, 8); d != usual {
			t.Errorf("the next round took %v", d)
		}
	})
}

// TestTwoLostAnswersAreNotWaitedFor has the hedge lost, too. A round of two seconds has time for more.
func TestTwoLostAnswersAreNotWaitedFor(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHistory(t, 20, "entry")
		w := newWitness(t, "w1")
		w.takes(usual)
		c := newMemoryClient(t, newPolicy(t, 1, w), w)
		rounds(t, c, h, 1, 2, 3, 4, 5, 6)
		w.loses(2)
		if d := rounds(t, c, h, 7); d > 600*time.Millisecond {
			t.Errorf("with two answers lost a round took %v", d)
		}
		w.loses(4)
		if d := rounds(t, c, h, 8); d > 2*time.Second {
			t.Errorf("with four answers lost a round took %v", d)
		}
	})
}

// TestSlowWitnessIsNotHedged has a witness that always takes a second: that is usual.
func TestSlowWitnessIsNotHedged(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHistory(t, 20, "entry")
		w := newWitness(t, "w1")
		w.takes(900 * time.Millisecond)
		c := newMemoryClient(t, newPolicy(t, 1, w), w)
		if rounds(t, c, h, 1, 2, 3, 4, 5, 6); w.requests.Load() != 6 {
			t.Errorf("%d requests for 6 rounds", w.requests.Load())
		}
	})
}

// TestNobodyWaitsNobodyHedges has the quorum met without a witness that does not answer.
func TestNobodyWaitsNobodyHedges(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHistory(t, 20, "entry")
		w1, w2 := newWitness(t, "w1"), newWitness(t, "w2")
		w1.takes(usual)
		w2.replaceAll(silent)
		c := newMemoryClient(t, newPolicy(t, 1, w1, w2), w1, w2)
		if d := rounds(t, c, h, 1); d != 2*usual { // the monitoring prefix, then the request
			t.Errorf("the round took %v", d)
		}
		time.Sleep(9 * time.Second)
		if n := w2.requests.Load(); n != 1 {
			t.Errorf("%d requests to the silent witness", n)
		}
	})
}

// TestHedgesAreTwoAtMost has a witness that nothing comes back from.
func TestHedgesAreTwoAtMost(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHistory(t, 20, "entry")
		w := newWitness(t, "w1")
		w.replaceAll(silent)
		c := newMemoryClient(t, newPolicy(t, 1, w), w)
		var wg sync.WaitGroup
		for size := int64(1); size <= 20; size++ {
			wg.Go(func() {
				var qe *client.QuorumError
				if _, err := c.Cosign(within(t, 9*time.Second), h.checkpoint(t, size), h.prove); !errors.As(err, &qe) {
					t.Errorf("size %d: %v", size, err)
				}
			})
			time.Sleep(500 * time.Millisecond)
		}
		wg.Wait()
		if most := w.most.Load(); most != 2 {
			t.Errorf("%d requests to one witness at once", most)
		}
	})
}

// TestHungRequestOfAMetRoundBlocksNobody has a witness whose connection goes silent while the others
// are enough, and then is needed.
func TestHungRequestOfAMetRoundBlocksNobody(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHistory(t, 20, "entry")
		w1, w2 := newWitness(t, "w1"), newWitness(t, "w2")
		w1.takes(usual)
		w2.takes(usual)
		c := newMemoryClient(t, newPolicy(t, 1, w1, w2), w1, w2)
		rounds(t, c, h, 1, 2, 3)
		time.Sleep(time.Second)
		w2.loses(1)
		rounds(t, c, h, 4)
		w1.replaceAll(silent)
		if d := rounds(t, c, h, 5); d > 400*time.Millisecond {
			t.Errorf("the round that needed it took %v", d)
		}
	})
}

// TestHedgeHasAConnectionOfItsOwn has a server that answers nothing any more on the connection that it is
// asked over, as after a middlebox forgot it. It speaks HTTP/2, where a request that is given up leaves its connection
// to the next one.
func TestHedgeHasAConnectionOfItsOwn(t *testing.T) {
	h := newHistory(t, 20, "entry")
	w := newWitness(t, "w1")
	srv := httptest.NewUnstartedServer(w)
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	w.url = srv.URL
	transport := client.NewTransport()
	transport.TLSClientConfig = srv.Client().Transport.(*http.Transport).TLSClientConfig
	c := newClientWith(t, client.Options{Policy: newPolicy(t, 1, w), HTTP: &http.Client{Transport: transport}})
	var mu sync.Mutex
	lost, over := false, ""
	w.replace(func(rw http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("asked by %s", r.Proto)
		}
		mu.Lock()
		if lost && over == "" {
			over = r.RemoteAddr
		}
		hang := r.RemoteAddr == over
		mu.Unlock()
		if hang {
			silent(rw, r)
			return
		}
		w.witness.ServeHTTP(rw, r)
	})
	rounds(t, c, h, 1, 2, 3)
	mu.Lock()
	lost = true
	mu.Unlock()
	rounds(t, c, h, 4)
}

func TestRetryAfterIsHonoured(t *testing.T) {
	for _, status := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		bubble.Test(t, func(t *testing.T) {
			h := newHistory(t, 9, "entry")
			w := newWitness(t, "w1")
			later := func(seconds string) http.HandlerFunc {
				return func(rw http.ResponseWriter, _ *http.Request) {
					rw.Header().Set("Retry-After", seconds)
					rw.WriteHeader(status)
				}
			}
			c := newMemoryClient(t, newPolicy(t, 1, w), w)
			w.replace(later("2"))
			time.AfterFunc(time.Second, func() { w.replace(nil) })
			if d := rounds(t, c, h, 5); d != 2*time.Second || w.requests.Load() != 2 {
				t.Errorf("%d requests in %v", w.requests.Load(), d)
			}
			// Beyond the deadline there is no use in waiting.
			w.replace(later("30"))
			began := time.Now()
			if _, err := c.Cosign(within(t, 5*time.Second), h.checkpoint(t, 9), h.prove); err == nil || time.Since(began) != 0 {
				t.Errorf("err = %v after %v", err, time.Since(began))
			}
			// A year is a lie: after a minute it is asked all the same, and until then not at all.
			w.replace(later("31536000"))
			time.Sleep(31 * time.Second)
			if _, err := c.Cosign(within(t, 5*time.Second), h.checkpoint(t, 9), h.prove); err == nil {
				t.Error("cosigned by a witness that does not")
			}
			w.replace(nil)
			time.Sleep(5 * time.Second)
			before := w.requests.Load()
			if d := rounds(t, c, h, 9); d > time.Minute || d < 50*time.Second || w.requests.Load() != before+1 {
				t.Errorf("%d requests in %v", w.requests.Load()-before, d)
			}
		})
	}
}

// TestRetryAfterTakesAnotherConnection has a server whose connections are served by different
// machines, of which one is overloaded.
func TestRetryAfterTakesAnotherConnection(t *testing.T) {
	h := newHistory(t, 9, "entry")
	w := startWitness(t, "w1")
	var mu sync.Mutex
	var overloaded string
	var refused atomic.Int64
	w.replaceAll(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		if overloaded == "" && r.Method == http.MethodPost {
			overloaded = r.RemoteAddr
		}
		busy := r.RemoteAddr == overloaded && r.Method == http.MethodPost
		mu.Unlock()
		if busy {
			refused.Add(1)
			_, _ = io.Copy(io.Discard, r.Body)
			rw.Header().Set("Retry-After", "1")
			rw.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.witness.ServeHTTP(rw, r)
	})
	if rounds(t, newClient(t, newPolicy(t, 1, w)), h, 5); refused.Load() == 0 {
		t.Errorf("of %d requests none came to the machine that is overloaded", w.requests.Load())
	}
}

// TestWitnessThatLosesAnswersIsUsable has a third of all requests to the only witness lost.
func TestWitnessThatLosesAnswersIsUsable(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHistory(t, 200, "entry")
		w := newWitness(t, "w1")
		w.takes(usual)
		answer := *w.submit.Load()
		c := newMemoryClient(t, newPolicy(t, 1, w), w)
		rounds(t, c, h, 1, 2, 3)
		var mu sync.Mutex
		r := rand.New(rand.NewPCG(1, 2))
		w.replace(func(rw http.ResponseWriter, req *http.Request) {
			mu.Lock()
			lost := r.IntN(3) == 0
			mu.Unlock()
			if lost {
				silent(rw, req)
				return
			}
			answer.ServeHTTP(rw, req)
		})
		var all time.Duration
		for size := int64(4); size <= 200; size++ {
			d := rounds(t, c, h, size)
			if all += d; d > 8*time.Second {
				t.Errorf("size %d took %v", size, d)
			}
		}
		if mean := all / 197; mean > 500*time.Millisecond {
			t.Errorf("a round took %v on average", mean)
		}
	})
}

// TestWitnessThatBecomesSlowIsHeard has one that answered at once take four seconds from now on.
func TestWitnessThatBecomesSlowIsHeard(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHistory(t, 60, "entry")
		w := newWitness(t, "w1")
		w.takes(usual)
		c := newMemoryClient(t, newPolicy(t, 1, w), w)
		rounds(t, c, h, 1, 2, 3, 4, 5, 6)
		w.takes(4 * time.Second)
		last := time.Duration(0)
		for size := int64(7); size <= 20; size++ {
			last = rounds(t, c, h, size)
		}
		if last > 9*time.Second {
			t.Errorf("in the end a round took %v", last)
		}
	})
}

// TestCloseEndsHedges closes a client with two requests under way.
func TestCloseEndsHedges(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHistory(t, 9, "entry")
		w := newWitness(t, "w1")
		w.replaceAll(silent)
		c := newMemoryClient(t, newPolicy(t, 1, w), w)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = c.Cosign(ctx, h.checkpoint(t, 5), h.prove)
		}()
		time.Sleep(5 * time.Second)
		cancel()
		<-done
		began := time.Now()
		if err := c.Close(); err != nil || time.Since(began) != 0 {
			t.Errorf("Close: %v, after %v", err, time.Since(began))
		}
	})
}
