package gcs_test

import (
	"bytes"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"tallywood/internal/trial"
	"tallywood/storage"
	"tallywood/storage/storagetest"
)

var (
	faultRuns  = flag.Int("fault.runs", 20, "number of faults, and of pairs of faults, that are tried")
	faultFirst = flag.Uint64("fault.first", 1, "seed of the first of them")
)

// atATime is how many stories are under way at a time: most of their time they wait.
const atATime = 20

// TestRequestsFail plays a short story with the real client on a real server while single requests
// fail, and pairs of them. The long run:
//
//	go test ./storage/gcs -run '^TestRequestsFail$' -v -timeout 1h -fault.runs 1000 -fault.first 1000
func TestRequestsFail(t *testing.T) {
	endpoint := server(t)
	var ops []string
	for _, r := range play(t, endpoint, "undisturbed", func(trial.Request) trial.HTTPMode { return trial.Pass }) {
		ops = append(ops, string(r.Verb)+" "+r.Key)
	}
	if len(ops) < 50 {
		t.Fatalf("only %d requests", len(ops))
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	goroutines := runtime.NumGoroutine()
	var g errgroup.Group
	g.SetLimit(atATime)
	for seed := *faultFirst; seed < *faultFirst+uint64(*faultRuns); seed++ {
		for faults := range 2 {
			r := rand.New(rand.NewPCG(seed, uint64(faults)))
			pair, left := trial.DrawPair(r, ops), faults+1
			g.Go(func() error {
				play(t, endpoint, fmt.Sprintf("%d-%d", seed, faults), func(q trial.Request) trial.HTTPMode {
					if left == 0 || !pair.Falls(q.N, string(q.Verb)+" "+q.Key) {
						return trial.Pass
					}
					left--
					of := trial.HTTPModes(q)
					return of[r.IntN(len(of))]
				})
				return nil
			})
		}
	}
	_ = g.Wait() // none fails so
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	for end := time.Now().Add(time.Minute); runtime.NumGoroutine() > goroutines; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines are left of %d", runtime.NumGoroutine(), goroutines)
		}
	}
	t.Logf("%d faults and %d pairs of faults at %d requests", *faultRuns, *faultRuns, len(ops))
}

// TestOneWriteASecond has the store refuse what it does refuse: a second write of an object within a
// second. The first repetition of each is refused in any case, however slow this machine is.
func TestOneWriteASecond(t *testing.T) {
	wrote, refused := map[string]time.Time{}, map[string]bool{}
	requests := play(t, server(t), "limited", func(r trial.Request) trial.HTTPMode {
		if r.Verb != trial.Put {
			return trial.Pass
		}
		last, again := wrote[r.Key]
		if again && (!refused[r.Key] || time.Since(last) < time.Second) {
			refused[r.Key] = true
			return trial.TooMany
		}
		wrote[r.Key] = time.Now()
		return trial.Pass
	})
	if len(refused) == 0 {
		t.Errorf("none of %d requests was refused", len(requests))
	}
}

// server starts a server with a bucket and returns its endpoint.
func server(t *testing.T) string {
	t.Helper()
	klog.SetSlogLogger(slog.New(slog.DiscardHandler)) // what Tessera says
	endpoint := storagetest.FakeGCSServer(t)
	res, err := http.Post(endpoint+"/storage/v1/b?project=test", "application/json", bytes.NewReader([]byte(`{"name":"bucket"}`)))
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("creating a bucket: %v, %v", res, err)
	}
	res.Body.Close()
	return endpoint
}

// play plays the short story below a prefix of its own, in which nothing may be violated, and returns
// its requests.
func play(t *testing.T, endpoint, prefix string, decide func(trial.Request) trial.HTTPMode) []trial.Request {
	w := trial.New(t)
	w.Pace, w.Options.GCInterval = 20*time.Millisecond, 100*time.Millisecond
	p := &trial.Proxy{Referee: w.Referee, Dialect: trial.GCS("bucket", prefix), Store: trial.Forward(endpoint)}
	p.Decide = func(r trial.Request) trial.HTTPMode {
		mode := decide(r)
		if mode.Lingers() {
			w.Stray()
		}
		return mode
	}
	var fronts sync.WaitGroup
	w.Open = func(who string) (storage.Bucket, func()) {
		front := p.As(who)
		s := httptest.NewServer(front)
		return open(t, s.URL, "bucket", prefix), func() {
			front.Cut()
			s.CloseClientConnections()
			fronts.Go(s.Close) // which waits for the requests under way
		}
	}
	w.Between = func(int) { p.Land() }
	w.Healed = func() {
		p.Heal()
		p.Land()
	}
	w.Short()
	fronts.Wait()
	if v := w.Violation(); v != "" {
		t.Errorf("%s: %v: violation: %s", prefix, suffered(p.Requests()), v)
	}
	return p.Requests()
}

// suffered are the requests that failed.
func suffered(requests []trial.Request) []trial.Request {
	var failed []trial.Request
	for _, r := range requests {
		if r.Mode != trial.Pass {
			failed = append(failed, r)
		}
	}
	return failed
}
