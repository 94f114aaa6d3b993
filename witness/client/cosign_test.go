package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tallywood/internal/bubble"
	"tallywood/internal/loopback"
	"tallywood/witness/client"
	"tallywood/witness/policy"
)

// silent takes a request and never answers, like a host behind a dropping firewall.
func silent(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

func TestCosignFollowsAGrowingLog(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHistory(t, 70, "entry")
		ws := []*witnessServer{newWitness(t, "w1"), newWitness(t, "w2"), newWitness(t, "w3")}
		p := newPolicy(t, 3, ws...)
		c := newMemoryClient(t, p, ws...)
		for _, size := range []int64{0, 1, 5, 5, 64, 70} {
			note, err := c.Cosign(within(t, time.Minute), h.checkpoint(t, size), h.prove)
			if err != nil {
				t.Fatalf("size %d: %v", size, err)
			}
			cp, err := p.Open(note)
			if err != nil || cp.Size() != size {
				t.Fatalf("size %d: Open = %v, %v", size, cp.Size(), err)
			}
			if !bytes.HasPrefix(note, h.checkpoint(t, size)) {
				t.Errorf("size %d: the log's line is not first:\n%s", size, note)
			}
		}
		for _, w := range ws {
			// Five sizes; the second call for size 5 needs nobody.
			if n := w.requests.Load(); n != 5 {
				t.Errorf("%s: %d requests, want 5: its size was known", w.name, n)
			}
		}
	})
}

func TestCosignReturnsAtQuorum(t *testing.T) {
	for name, broken := range map[string]http.HandlerFunc{
		"black hole": silent,
		"garbage":    func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "garbage") },
		"empty":      func(http.ResponseWriter, *http.Request) {},
		"unending": func(w http.ResponseWriter, _ *http.Request) {
			for range 1 << 10 {
				_, _ = w.Write(bytes.Repeat([]byte("— x AAAAAAA=\n"), 1<<10))
			}
		},
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		},
		"internal error": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "broken", 500) },
		"unknown log":    func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "unknown", 404) },
		"gone": func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				conn.Close()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHistory(t, 9, "entry")
			w1, w2, w3 := startWitness(t, "w1"), startWitness(t, "w2"), startWitness(t, "w3")
			w2.replaceAll(broken)
			c := newClient(t, newPolicy(t, 2, w1, w2, w3))
			for _, size := range []int64{5, 9} {
				note, err := c.Cosign(within(t, time.Minute), h.checkpoint(t, size), h.prove)
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(string(note), "— w2 ") {
					t.Errorf("a line of the broken witness:\n%s", note)
				}
			}
		})
	}
}

// TestCosignWaitsForNoMoreThanAQuorum has a witness that never answers, and no time pass.
func TestCosignWaitsForNoMoreThanAQuorum(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHistory(t, 9, "entry")
		w1, w2, w3 := newWitness(t, "w1"), newWitness(t, "w2"), newWitness(t, "w3")
		w2.replaceAll(silent)
		c := newMemoryClient(t, newPolicy(t, 2, w1, w2, w3), w1, w2, w3)
		if d := rounds(t, c, h, 5); d != 0 {
			t.Errorf("the first round took %v", d)
		}
		if d := rounds(t, c, h, 9); d != 0 {
			t.Errorf("the second round took %v", d)
		}
	})
}

// TestCosignRefusesForgedAnswers has a quorum that only the forger could complete.
func TestCosignRefusesForgedAnswers(t *testing.T) {
	h := newHistory(t, 9, "entry")
	forged := newHistory(t, 9, "forged entry")
	for name, change := range map[string]func(w2 *witnessServer, body string) string{
		"no line by its key":         func(*witnessServer, string) string { return "— other AAAAAAAAAAA=\n" },
		"line by another witness":    func(_ *witnessServer, s string) string { return strings.ReplaceAll(s, "— w2 ", "— w1 ") },
		"forged line after the true": func(_ *witnessServer, s string) string { return s + flip(s) },
		"forged line before it":      func(_ *witnessServer, s string) string { return flip(s) + s },
		"text before the lines":      func(_ *witnessServer, s string) string { return "hello\n\n" + s },
		"lines without line feed":    func(_ *witnessServer, s string) string { return strings.TrimSuffix(s, "\n") },
		"101 lines":                  func(_ *witnessServer, s string) string { return s + strings.Repeat("— x AAAAAAA=\n", 100) },
		"answer over the limit":      func(_ *witnessServer, s string) string { return s + "— x " + strings.Repeat("AAAA", 1<<15) + "\n" },
		"cosignature of another tree": func(w2 *witnessServer, _ string) string {
			r, _ := http.NewRequest(http.MethodPost, "/add-checkpoint", strings.NewReader("old 0\n\n"+string(forged.checkpoint(t, 5))))
			return newWitness(t, "w2").ask(r).Body.String()
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) { refusesForged(t, h, change) })
		})
	}
}

// refusesForged has w2 change what it answers, without a network: it is waited for to the end.
func refusesForged(t *testing.T, h *history, change func(w2 *witnessServer, body string) string) {
	t.Helper()
	w1, w2 := newWitness(t, "w1"), newWitness(t, "w2")
	honest := sync.OnceValue(func() string { // what w2 really answers
		r, _ := http.NewRequest(http.MethodPost, "/add-checkpoint", strings.NewReader("old 0\n\n"+string(h.checkpoint(t, 5))))
		return w2.ask(r).Body.String()
	})
	w2.replace(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, change(w2, honest())) })
	c := newMemoryClient(t, newPolicy(t, 2, w1, w2), w1, w2)
	note, err := c.Cosign(within(t, time.Minute), h.checkpoint(t, 5), h.prove)
	var qe *client.QuorumError
	if !errors.As(err, &qe) || note != nil {
		t.Fatalf("Cosign = %q, %v, want a QuorumError", note, err)
	}
	if !slices.Equal(qe.Cosigned, []string{"w1"}) || len(qe.Witnesses) != 1 || qe.Witnesses[0].Name != "w2" {
		t.Errorf("QuorumError = %+v", qe)
	}
	if !strings.Contains(err.Error(), "w1: cosigned") || !strings.Contains(err.Error(), "w2: ") {
		t.Errorf("error %q does not name the witnesses' states", err)
	}
}

// flip changes a bit in the signature of the first line.
func flip(lines string) string {
	line, _, _ := strings.Cut(lines, "\n")
	if line == "" {
		return ""
	}
	b := []byte(line)
	i := max(0, len(b)-10)
	if b[i] != 'A' {
		b[i] = 'A'
	} else {
		b[i] = 'B'
	}
	return string(b) + "\n"
}

func TestCosignCopiesNoDuplicateAndNoStranger(t *testing.T) {
	h := newHistory(t, 9, "entry")
	w1 := startWitness(t, "w1")
	w1.replace(func(w http.ResponseWriter, r *http.Request) {
		lines := w1.ask(r).Body.String()
		fmt.Fprint(w, lines+lines+"— stranger AAAAAAA=\n")
	})
	note, err := newClient(t, newPolicy(t, 1, w1)).Cosign(within(t, time.Minute), h.checkpoint(t, 5), h.prove)
	if err != nil {
		t.Fatal(err)
	}
	// The log's line and one Ed25519 line: the ML-DSA key is not in this policy.
	if n, err := policy.ParseNote(note); err != nil || len(n.Signatures) != 2 {
		t.Errorf("note has %d lines, %v:\n%s", len(n.Signatures), err, note)
	}
}

func TestCosignRefusesTimestampsFarFromOurClock(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHistory(t, 5, "entry")
		w1 := newWitness(t, "w1")
		for _, skew := range []time.Duration{-6 * time.Minute, 6 * time.Minute, 4 * time.Minute} {
			c := newClientWith(t, client.Options{
				Policy: newPolicy(t, 1, w1), HTTP: &http.Client{Transport: memoryNet{"w1": w1}},
				Now: func() time.Time { return time.Now().Add(skew) },
			})
			wrong := skew.Abs() > 5*time.Minute // then it is asked until the end
			_, err := c.Cosign(within(t, 10*time.Second), h.checkpoint(t, 5), h.prove)
			if (err != nil) != wrong || wrong && !strings.Contains(err.Error(), "of our clock") {
				t.Errorf("clock off by %v: %v", skew, err)
			}
		}
	})
}

func TestCosignOrdersLinesAndTakesBothKeysOfAURL(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHistory(t, 5, "entry")
		w1, w2 := newWitness(t, "w1"), newWitness(t, "w2")
		p := parsePolicy(t, "log "+logVKey()+
			"\nwitness pq2 "+w2.vkeys[1]+" "+w2.url+"/\nwitness pq1 "+w1.vkeys[1]+" "+w1.url+
			"\nwitness ed2 "+w2.vkeys[0]+" "+w2.url+"\nwitness ed1 "+w1.vkeys[0]+" "+w1.url+
			"\ngroup g all pq2 pq1 ed2 ed1\nquorum g\n")
		note, err := newMemoryClient(t, p, w1, w2).Cosign(within(t, time.Minute), h.checkpoint(t, 5), h.prove)
		if err != nil {
			t.Fatal(err)
		}
		n, err := policy.ParseNote(note)
		if err != nil {
			t.Fatal(err)
		}
		var order []string
		for _, sig := range n.Signatures {
			kind := "ed"
			if len(sig.Sig) > 100 {
				kind = "pq"
			}
			order = append(order, sig.Name+" "+kind)
		}
		if want := []string{origin + " ed", "w2 ed", "w1 ed", "w2 pq", "w1 pq"}; !slices.Equal(order, want) {
			t.Errorf("lines are of %q, want %q", order, want)
		}
		if w1.requests.Load() != 1 || w2.requests.Load() != 1 {
			t.Errorf("%d and %d requests; one answers for both keys", w1.requests.Load(), w2.requests.Load())
		}
	})
}

func TestCosignRecoversFromConflict(t *testing.T) {
	h := newHistory(t, 9, "entry")
	w1, w2 := startWitness(t, "w1"), startWitness(t, "w2")
	p := newPolicy(t, 2, w1, w2)
	if _, err := newClient(t, newPolicy(t, 1, w1)).Cosign(within(t, time.Minute), h.checkpoint(t, 5), h.prove); err != nil {
		t.Fatal(err)
	}
	if _, err := newClient(t, newPolicy(t, 1, w2)).Cosign(within(t, time.Minute), h.checkpoint(t, 5), h.prove); err != nil {
		t.Fatal(err)
	}
	// A new process knows no sizes and cannot read them: both answer 409, and one proof serves both.
	w1.hideMonitor()
	w2.hideMonitor()
	proofs := atomic.Int64{}
	prove := func(ctx context.Context, old, size int64) ([][]byte, error) {
		proofs.Add(1)
		return h.prove(ctx, old, size)
	}
	if _, err := newClient(t, p).Cosign(within(t, time.Minute), h.checkpoint(t, 9), prove); err != nil {
		t.Fatal(err)
	}
	if n := proofs.Load(); n != 1 {
		t.Errorf("%d proofs built, want 1", n)
	}
}

func TestCosignIsStrictAboutConflicts(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHistory(t, 9, "entry")
		for name, tc := range map[string]struct{ contentType, body string }{
			"charset":         {"text/x.tlog.size; charset=utf-8", "5\n"},
			"no content type": {"", "5\n"},
			"no line feed":    {"text/x.tlog.size", "5"},
			"leading zero":    {"text/x.tlog.size", "05\n"},
			"not a number":    {"text/x.tlog.size", "five\n"},
			"2^64":            {"text/x.tlog.size", "18446744073709551616\n"},
			"two lines":       {"text/x.tlog.size", "5\n6\n"},
		} {
			w1 := newWitness(t, "w1")
			w1.replace(func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = []string{tc.contentType}
				w.WriteHeader(http.StatusConflict)
				fmt.Fprint(w, tc.body)
			})
			c := newMemoryClient(t, newPolicy(t, 1, w1), w1)
			proved := false
			_, err := c.Cosign(within(t, 5*time.Second), h.checkpoint(t, 9), func(ctx context.Context, old, size int64) ([][]byte, error) {
				proved = true
				return h.prove(ctx, old, size)
			})
			if err == nil || !strings.Contains(err.Error(), "answered 409 with ") || proved {
				t.Errorf("%s: err = %v, a proof was built: %t", name, err, proved)
			}
		}
	})
}

func TestCosignEndsAFlappingConflict(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHistory(t, 9, "entry")
		w1 := newWitness(t, "w1")
		sizes := atomic.Int64{}
		w1.replace(func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = []string{"text/x.tlog.size"}
			w.WriteHeader(http.StatusConflict)
			fmt.Fprintf(w, "%d\n", 1+sizes.Add(1)%8)
		})
		_, err := newMemoryClient(t, newPolicy(t, 1, w1), w1).Cosign(within(t, 10*time.Second), h.checkpoint(t, 9), h.prove)
		if err == nil || w1.requests.Load() > 4 {
			t.Errorf("err = %v after %d requests", err, w1.requests.Load())
		}
	})
}

func TestCosignReportsAWitnessAhead(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHistory(t, 9, "entry")
		w1 := newWitness(t, "w1")
		p := newPolicy(t, 1, w1)
		if _, err := newMemoryClient(t, p, w1).Cosign(within(t, time.Minute), h.checkpoint(t, 9), h.prove); err != nil {
			t.Fatal(err)
		}
		// The log was rolled back to 5.
		_, err := newMemoryClient(t, p, w1).Cosign(within(t, 5*time.Second), h.checkpoint(t, 5), h.prove)
		var ahead *client.AheadError
		if !errors.As(err, &ahead) || ahead.Size != 9 {
			t.Errorf("Cosign = %v, want an AheadError of size 9", err)
		}
	})
}

func TestCosignReportsAForkAtOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h, fork := newHistory(t, 9, "entry"), newHistory(t, 9, "forged entry")
		w1 := newWitness(t, "w1")
		c := newMemoryClient(t, newPolicy(t, 1, w1), w1)
		if _, err := c.Cosign(within(t, time.Minute), h.checkpoint(t, 5), h.prove); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, err := c.Cosign(within(t, time.Minute), fork.checkpoint(t, 9), fork.prove)
		var refused *client.RefusedError
		if !errors.As(err, &refused) || refused.Status != http.StatusUnprocessableEntity || time.Since(start) != 0 {
			t.Errorf("Cosign = %v after %v", err, time.Since(start))
		}
	})
}

// TestCosignSeesAWitnessReturn has no quorum, until a witness that refused connections is back.
func TestCosignSeesAWitnessReturn(t *testing.T) {
	h := newHistory(t, 5, "entry")
	address := loopback.Address(t)
	w1 := newWitness(t, "w1").clone("http://" + address)
	var m meter
	c := newClientWith(t, client.Options{Policy: newPolicy(t, 1, w1), HTTP: m.client()})
	cosigned := make(chan error, 1)
	go func() {
		_, err := c.Cosign(within(t, time.Minute), h.checkpoint(t, 5), h.prove)
		cosigned <- err
	}()
	for m.dials.Load() < 3 { // so that two were refused
		select {
		case err := <-cosigned:
			t.Fatalf("nobody listens, and Cosign = %v after %d attempts", err, m.dials.Load())
		case <-time.After(time.Millisecond):
		}
	}
	srv := &http.Server{Handler: w1}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = srv.Serve(ln) }() // until it is closed
	t.Cleanup(func() { _ = srv.Close() })
	if err := <-cosigned; err != nil {
		t.Error(err)
	}
}

func TestCosignHasOneRequestPerWitnessInFlight(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHistory(t, 20, "entry")
		fast, slow := newWitness(t, "fast"), newWitness(t, "slow")
		fast.takes(usual)
		slow.takes(3 * usual)
		c := newMemoryClient(t, newPolicy(t, 1, fast, slow), fast, slow)
		for size := int64(1); size <= 20; size++ {
			rounds(t, c, h, size)
		}
		if slow.most.Load() > 1 {
			t.Error("two requests to one witness at once")
		}
		// The slow witness was not starved: it takes the newest checkpoint whenever it is free.
		for range 2 {
			time.Sleep(3 * usual)
			rounds(t, c, h, 20)
		}
		if !strings.Contains(string(c.Full(origin)), "— slow ") {
			t.Errorf("no late cosignature:\n%s", c.Full(origin))
		}
		if n := slow.requests.Load(); n >= 20 {
			t.Errorf("%d requests to the slow witness; it should get the newest checkpoint only", n)
		}
	})
}

func TestCosignRefusesWhatTheLogDidNotSign(t *testing.T) {
	h := newHistory(t, 5, "entry")
	w1 := startWitness(t, "w1")
	c := newClient(t, newPolicy(t, 1, w1))
	bad := bytes.Replace(h.checkpoint(t, 5), []byte("\n5\n"), []byte("\n6\n"), 1)
	if _, err := c.Cosign(t.Context(), bad, h.prove); err == nil || w1.requests.Load() != 0 {
		t.Errorf("err = %v, %d requests", err, w1.requests.Load())
	}
}

func TestCosignDoesNotBlameWitnessesForAMissingProof(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHistory(t, 9, "entry")
		w1 := newWitness(t, "w1")
		c := newMemoryClient(t, newPolicy(t, 1, w1), w1)
		if _, err := c.Cosign(within(t, time.Minute), h.checkpoint(t, 5), h.prove); err != nil {
			t.Fatal(err)
		}
		broken := errors.New("store is away")
		_, err := c.Cosign(within(t, 5*time.Second), h.checkpoint(t, 9), func(context.Context, int64, int64) ([][]byte, error) { return nil, broken })
		if !errors.Is(err, broken) {
			t.Errorf("Cosign = %v", err)
		}
		if _, err := c.Cosign(within(t, time.Minute), h.checkpoint(t, 9), h.prove); err != nil {
			t.Error(err)
		}
	})
}

func TestNewRefusesAQuorumThatCannotBeAsked(t *testing.T) {
	w1, w2 := startWitness(t, "w1"), startWitness(t, "w2")
	text := "log " + logVKey() + "\nwitness w1 " + w1.vkeys[0] + " " + w1.url + "\nwitness w2 " + w2.vkeys[0] + "\n"
	for quorum, want := range map[string]bool{
		"group g all w1 w2\nquorum g\n": false,
		"quorum w2\n":                   false,
		"group g any w1 w2\nquorum g\n": true,
		"quorum none\n":                 true,
	} {
		_, err := client.New(client.Options{Policy: parsePolicy(t, text+quorum)})
		if (err == nil) != want {
			t.Errorf("%q: New = %v", quorum, err)
		}
	}
	if _, err := client.New(client.Options{}); err == nil {
		t.Error("no policy is taken")
	}
}

func TestCosignWithQuorumNoneAsksAllTheSame(t *testing.T) {
	h := newHistory(t, 5, "entry")
	c := newClient(t, parsePolicy(t, "log "+logVKey()+"\nquorum none\n"))
	note, err := c.Cosign(t.Context(), h.checkpoint(t, 5), h.prove)
	if err != nil || !bytes.Equal(note, h.checkpoint(t, 5)) {
		t.Errorf("Cosign = %q, %v", note, err)
	}
}
