package s3_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"k8s.io/klog/v2"

	"tallywood/internal/bubble"
	"tallywood/internal/trial"
	"tallywood/storage"
)

var (
	faultEvery = flag.Int("fault.every", 4*raceFactor, "TestRequestsFailSingly tries one in so many faults")
	faultPairs = flag.Int("fault.pairs", 40/raceFactor, "number of pairs TestRequestsFailInPairs tries")
	faultFirst = flag.Uint64("fault.first", 1, "seed of the first of them")
)

// TestRequestsFailSingly makes each request of a short story over the real client fail in each way a
// store or a network has. All of them:
//
//	go test ./storage/s3 -run '^TestRequestsFailSingly$' -v -fault.every 1
func TestRequestsFailSingly(t *testing.T) {
	credentials(t)
	requests := suffers(t, misfortune{story: (*trial.Trial).Short})
	if len(requests) < 50 {
		t.Fatalf("only %d requests", len(requests))
	}
	tried, at := 0, 0
	for _, r := range requests {
		for _, mode := range trial.HTTPModes(r) {
			if at++; at%*faultEvery == 0 && !t.Failed() {
				tried++
				suffers(t, misfortune{story: (*trial.Trial).Short, land: at % 3, decide: func(q trial.Request) trial.HTTPMode {
					if q.N == r.N {
						return mode
					}
					return trial.Pass
				}})
			}
		}
	}
	t.Logf("%d faults of %d at %d requests", tried, at, len(requests))
}

// TestRequestsFailInPairs makes two requests of a long story fail, in which everything occurs that a
// log asks of a store. The long run:
//
//	go test ./storage/s3 -run '^TestRequestsFailInPairs$' -v -timeout 1h -fault.pairs 2000 -fault.first 1000
func TestRequestsFailInPairs(t *testing.T) {
	credentials(t)
	var ops []string
	for _, r := range suffers(t, misfortune{story: (*trial.Trial).Long}) {
		ops = append(ops, string(r.Verb)+" "+r.Key)
	}
	for seed := *faultFirst; seed < *faultFirst+uint64(*faultPairs); seed++ {
		r := rand.New(rand.NewPCG(seed, 0))
		pair := trial.DrawPair(r, ops)
		suffers(t, misfortune{story: (*trial.Trial).Long, land: r.IntN(5), decide: func(q trial.Request) trial.HTTPMode {
			if !pair.Falls(q.N, string(q.Verb)+" "+q.Key) {
				return trial.Pass
			}
			of := trial.HTTPModes(q)
			return of[r.IntN(len(of))]
		}})
		if t.Failed() {
			t.Fatalf("repeat this by: go test ./storage/s3 -run '^TestRequestsFailInPairs$' -fault.first %d -fault.pairs 1", seed)
		}
	}
	t.Logf("%d pairs of faults at %d requests", *faultPairs, len(ops))
}

// A misfortune says what becomes of each request of a story. What is delayed lands after part land of
// it, at the earliest.
type misfortune struct {
	story  func(*trial.Trial)
	decide func(trial.Request) trial.HTTPMode
	land   int
	client func(storage.Bucket) storage.Bucket // what the driver is given; nil: the real client
}

// TestBadClientsAreFound has clients that make the wrong thing of a failure, which one fault must show.
func TestBadClientsAreFound(t *testing.T) {
	credentials(t)
	requests := suffers(t, misfortune{story: (*trial.Trial).Short})
	for name, client := range map[string]func(storage.Bucket) storage.Bucket{
		"believes that what it put is there":    func(b storage.Bucket) storage.Bucket { return believing{b} },
		"takes what it does not get for absent": func(b storage.Bucket) storage.Bucket { return hasty{b} },
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range requests {
				_, violation := misfortune{story: (*trial.Trial).Short, client: client, decide: func(q trial.Request) trial.HTTPMode {
					if q.N == r.N {
						return trial.Forbidden
					}
					return trial.Pass
				}}.trial(t)
				if violation != "" {
					t.Logf("found by %v: %s", r, violation)
					return
				}
			}
			t.Errorf("no fault of %d shows it", len(requests))
		})
	}
}

type believing struct{ storage.Bucket }

func (b believing) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	v, err := b.Bucket.Put(ctx, key, data, o)
	if err != nil && !errors.Is(err, storage.ErrPrecondition) {
		return "1", nil
	}
	return v, err
}

type hasty struct{ storage.Bucket }

func (h hasty) Get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	data, v, err := h.Bucket.Get(ctx, key, r)
	if err != nil {
		return nil, "", fs.ErrNotExist
	}
	return data, v, nil
}

// TestAnswersThatStandStill reads objects whose bodies stop in the middle, with the connection left
// open, and begins again.
func TestAnswersThatStandStill(t *testing.T) {
	credentials(t)
	bubble.Test(t, func(t *testing.T) {
		stalls := 0
		wire := trial.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"1"`)
			w.Header().Set("Content-Length", "8")
			_, _ = w.Write([]byte("half")) // the client checks
			if stalls--; stalls >= 0 {
				_ = http.NewResponseController(w).Flush() // the client checks
				<-r.Context().Done()
				return
			}
			_, _ = w.Write([]byte("half"))
		}))
		b := open(t, "http://store.example", "bucket", "log")
		b.SetDial(wire.Dial)
		for n, want := range []string{"halfhalf", "halfhalf", "halfhalf", "halfhalf", ""} {
			stalls = n
			begun := time.Now()
			data, _, err := b.Get(t.Context(), "logs/x", storage.Range{})
			if string(data) != want || (err == nil) != (want != "") {
				t.Errorf("after %d answers that stand still: %q, %v", n, data, err)
			}
			if d := time.Since(begun); d > time.Duration(n+1)*20*time.Second {
				t.Errorf("%d answers that stand still took %v", n, d)
			}
		}
		wire.End()
		b.Idle()
	})
}

// TestAnswersThatDoNotBegin asks a store that takes requests and says nothing, and asks again.
func TestAnswersThatDoNotBegin(t *testing.T) {
	credentials(t)
	bubble.Test(t, func(t *testing.T) {
		silent := 0
		wire := trial.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if silent--; silent >= 0 {
				<-r.Context().Done()
				return
			}
			w.Header().Set("ETag", `"1"`)
			_, _ = w.Write([]byte("data")) // the client checks
		}))
		b := open(t, "http://store.example", "bucket", "log")
		b.SetDial(wire.Dial)
		for n, want := range []string{"data", "data", "data", "data", ""} {
			silent = n
			data, _, err := b.Get(t.Context(), "logs/x", storage.Range{})
			if string(data) != want || (err == nil) != (want != "") {
				t.Errorf("after %d requests without an answer: %q, %v", n, data, err)
			}
		}
		silent = 1
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		if _, _, err := b.Get(ctx, "logs/x", storage.Range{}); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > time.Second {
			t.Errorf("after %v, where the caller waits for one second: %v", time.Since(begun), err)
		}
		wire.End()
		b.Idle()
	})
}

// suffers plays a story, in which nothing may be violated, and returns its requests.
func suffers(t *testing.T, m misfortune) []trial.Request {
	t.Helper()
	requests, violation := m.trial(t)
	var suffered []string
	for _, r := range requests {
		if r.Mode != trial.Pass {
			suffered = append(suffered, fmt.Sprint(r))
		}
	}
	if violation != "" {
		t.Errorf("%q, landing after %d: violation: %s", suffered, m.land, violation)
	}
	return requests
}

// trial plays the story between the real client and a store in this process, and returns the requests
// and what was violated. The bubble does not end while an answer is not read to its end or a
// connection is left open.
func (m misfortune) trial(t *testing.T) (requests []trial.Request, violation string) {
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	bubble.Test(t, func(t *testing.T) {
		backend := s3mem.New()
		if err := backend.CreateBucket("bucket"); err != nil {
			t.Fatal(err)
		}
		w := trial.New(t)
		p := &trial.Proxy{Referee: w.Referee, Dialect: trial.S3("bucket", "log"), Store: gofakes3.New(backend).Server()}
		p.Decide = func(r trial.Request) trial.HTTPMode {
			if m.decide == nil {
				return trial.Pass
			}
			mode := m.decide(r)
			if mode.Lingers() {
				w.Stray()
			}
			return mode
		}
		w.Open = func(who string) (storage.Bucket, func()) {
			front := p.As(who)
			wire := trial.Serve(front)
			b := open(t, "http://store.example", "bucket", "log")
			b.SetDial(wire.Dial)
			cut := func() {
				front.Cut()
				wire.End()
				b.Idle()
			}
			if m.client != nil {
				return m.client(b), cut
			}
			return b, cut
		}
		w.Between = func(part int) {
			if part >= m.land {
				p.Land()
			}
		}
		w.Healed = func() {
			p.Heal()
			p.Land()
			requests = p.Requests()
		}
		m.story(w)
		violation = w.Violation()
	})
	return requests, violation
}
