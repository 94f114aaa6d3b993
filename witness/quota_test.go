package witness_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"tallywood/storage"
	"tallywood/storage/mem"
	"tallywood/witness"
	"tallywood/witness/policy"
)

// Addresses of those who reach the witness through a proxy.
const (
	logAddress      = "192.0.2.1"
	strangerAddress = "198.51.100.1"
)

// addFrom sends a request as the proxy in front of the witness does for a client at address.
func (s *server) addFrom(t testing.TB, address, body string) answer {
	t.Helper()
	return doWith(t, http.MethodPost, s.url+"/add-checkpoint", body, http.Header{"X-Forwarded-For": {address}})
}

// serveQuota serves l with a number of requests per day.
func serveQuota(t testing.TB, b storage.Bucket, c *clock, qpd int64, l *testLog, others ...*testLog) *server {
	t.Helper()
	logs := []witness.Log{{Origin: l.origin, Keys: []policy.Key{l.key}, QPD: qpd}}
	for _, o := range others {
		logs = append(logs, witness.Log{Origin: o.origin, Keys: []policy.Key{o.key}})
	}
	return serveOptions(t, witness.Options{Keys: testKeys(t), Bucket: b, Now: c.now, Logs: logs})
}

func TestQuota(t *testing.T) {
	l, other, c := newTestLog(t, origin), newTestLog(t, "other.example.org"), newClock()
	l.grow(t, 60, "entry")
	other.grow(t, 5, "entry")
	w := serveQuota(t, mem.New(), c, 24, l, other)
	for size := range int64(24) { // a day's requests may come at once
		w.mustAdd(t, l.request(t, size, size+1))
	}
	limited := func(what, request string) {
		t.Helper()
		a := w.add(t, request)
		if a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") != "3600" {
			t.Errorf("%s: %d, Retry-After %q", what, a.status, a.header.Get("Retry-After"))
		}
	}
	limited("25th request", l.request(t, 24, 25))
	w.mustAdd(t, other.request(t, 0, 5))
	c.add(time.Hour)
	w.mustAdd(t, l.request(t, 24, 25))
	limited("27th request", l.request(t, 25, 26))
}

// TestStrangersDoNotSpendAQuota has strangers, from ever new addresses, send what needs no key: a
// log's checkpoints are public.
func TestStrangersDoNotSpendAQuota(t *testing.T) {
	l, fork, c := newTestLog(t, origin), newTestLog(t, origin), newClock()
	stranger := newTestLog(t, "stranger.example.org")
	l.grow(t, 60, "entry")
	fork.grow(t, 60, "forged entry")
	w := serveQuota(t, mem.New(), c, 24, l)
	w.mustAdd(t, l.request(t, 0, 5))
	text := l.tree(t, 9).Text()
	for i := range 40 {
		address := fmt.Sprintf("198.51.100.%d", i)
		for what, tc := range map[string]struct {
			body string
			want int
		}{
			"not signed":           {"old 5\n\n" + text + "\n" + strings.SplitAfterN(stranger.sign(t, text), "\n\n", 2)[1], 403},
			"replayed, old 0":      {l.request(t, 0, 5), 409},
			"replayed, old 3":      {l.request(t, 3, 9), 409},
			"replayed, bad proof":  {"old 5\n\n" + l.checkpoint(t, 9), 422},
			"replayed as it is":    {l.request(t, 5, 5), 200},
			"of a log that forked": {fork.request(t, 5, 9), 422},
		} {
			if a := w.addFrom(t, address, tc.body); a.status != tc.want {
				t.Fatalf("%s: %d %s, want %d", what, a.status, a.body, tc.want)
			}
		}
	}
	// Once in a second a replay makes a new cosignature: that is bounded, and takes nothing from the log.
	made := 0
	for i := range 40 {
		c.add(time.Second)
		switch a := w.addFrom(t, fmt.Sprintf("198.51.100.%d", i), l.request(t, 5, 5)); a.status {
		case http.StatusOK:
			made++
		case http.StatusTooManyRequests:
		default:
			t.Fatal(a)
		}
	}
	if made != 24 {
		t.Errorf("%d new cosignatures of one tree, want 24", made)
	}
	for size := int64(5); size < 28; size++ {
		if a := w.addFrom(t, logAddress, l.request(t, size, size+1)); a.status != http.StatusOK {
			t.Fatalf("size %d: %d %s", size+1, a.status, a.body)
		}
	}
}

// writesBucket counts the Puts.
type writesBucket struct {
	storage.Bucket
	mu     sync.Mutex
	writes int
}

func (b *writesBucket) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	b.mu.Lock()
	b.writes++
	b.mu.Unlock()
	return b.Bucket.Put(ctx, key, data, o)
}

func TestRepetitionWithinASecondWritesNothing(t *testing.T) {
	l, c := newTestLog(t, origin), newClock()
	l.grow(t, 9, "entry")
	b := &writesBucket{Bucket: mem.New()}
	w := serve(t, b, c, l)
	first := w.mustAdd(t, l.request(t, 0, 5))
	for range 3 {
		if again := w.mustAdd(t, l.request(t, 5, 5)); again != first {
			t.Errorf("in the same second:\n%s\nwas\n%s", again, first)
		}
	}
	if b.writes != 1 || w.stored(t, l) != l.checkpoint(t, 5)+first {
		t.Errorf("%d writes; stored\n%s", b.writes, w.stored(t, l))
	}
	// Another text of the same tree is none.
	tree := l.tree(t, 5)
	tree.Extensions = []string{"extension"}
	w.mustAdd(t, "old 5\n\n"+l.sign(t, tree.Text()))
	w.mustAdd(t, l.request(t, 5, 5))
	c.add(time.Second)
	if next := w.mustAdd(t, l.request(t, 5, 5)); next == first || b.writes != 4 {
		t.Errorf("a second later: %d writes, the same lines: %t", b.writes, next == first)
	}
}

func TestRequestsInVainAreLimitedByAddress(t *testing.T) {
	l, c := newTestLog(t, origin), newClock()
	l.grow(t, 9, "entry")
	w := serve(t, mem.New(), c, l)
	w.mustAdd(t, l.request(t, 0, 5))
	bodies := []string{"nonsense", l.request(t, 0, 5), l.request(t, 5, 5)}
	limited := 0
	for i := range 600 {
		a := w.addFrom(t, strangerAddress, bodies[i%len(bodies)])
		if a.status == http.StatusTooManyRequests {
			limited++
			if a.header.Get("Retry-After") == "" {
				t.Error("429 without Retry-After")
			}
		}
	}
	if limited != 100 {
		t.Errorf("%d of 600 were limited, want 100", limited)
	}
	if a := w.addFrom(t, strangerAddress, l.request(t, 5, 9)); a.status != http.StatusTooManyRequests {
		t.Errorf("a good request from there: %d", a.status)
	}
	if a := w.addFrom(t, logAddress, l.request(t, 5, 9)); a.status != http.StatusOK {
		t.Errorf("the log: %d %s", a.status, a.body)
	}
	for range 600 { // our own network is not limited: who sends is not known, or known well
		if a := w.add(t, "nonsense"); a.status != http.StatusBadRequest {
			t.Fatal(a)
		}
	}
	c.add(2 * time.Second)
	if a := w.addFrom(t, strangerAddress, l.request(t, 9, 9)); a.status != http.StatusOK {
		t.Errorf("two seconds later: %d", a.status)
	}
}

// gatedBucket holds the first Put after arm until it is released.
type gatedBucket struct {
	storage.Bucket
	mu      sync.Mutex
	entered chan struct{} // closed by the Put; nil: not armed
	release chan struct{}
}

func (b *gatedBucket) arm() (entered, release chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entered, b.release = make(chan struct{}), make(chan struct{})
	return b.entered, b.release
}

func (b *gatedBucket) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	b.mu.Lock()
	entered := b.entered
	b.entered = nil
	b.mu.Unlock()
	if entered != nil {
		close(entered)
		<-b.release
	}
	return b.Bucket.Put(ctx, key, data, o)
}

// TestReplaysDoNotCrowdOutTheLog has more replays from one address than may wait, all while a slow
// write has the lock.
func TestReplaysDoNotCrowdOutTheLog(t *testing.T) {
	l, c := newTestLog(t, origin), newClock()
	l.grow(t, 9, "entry")
	b := &gatedBucket{Bucket: mem.New()}
	w := serve(t, b, c, l)
	w.mustAdd(t, l.request(t, 0, 5))
	c.add(time.Second)
	entered, release := b.arm()
	open := sync.OnceFunc(func() { close(release) })
	t.Cleanup(open)
	replay := l.request(t, 5, 5)
	var wg sync.WaitGroup
	wg.Go(func() { w.addFrom(t, strangerAddress, replay) })
	<-entered
	const replays, waiting = 200, 8
	refused := make(chan int, replays)
	for range replays {
		wg.Go(func() { refused <- w.addFrom(t, strangerAddress, replay).status })
	}
	for range replays - waiting { // those that wait do not answer before the release
		select {
		case status := <-refused:
			if status != http.StatusTooManyRequests {
				t.Errorf("a replay too many: %d", status)
			}
		case <-time.After(time.Minute):
			t.Fatal("replays wait for the lock without limit")
		}
	}
	wg.Go(func() {
		if a := w.addFrom(t, logAddress, l.request(t, 5, 9)); a.status != http.StatusOK {
			t.Errorf("the log's own request: %d %s", a.status, a.body)
		}
	})
	open()
	wg.Wait()
}
