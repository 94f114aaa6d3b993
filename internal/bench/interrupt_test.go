package bench_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"tallywood/internal/bench"
	"tallywood/internal/mint"
	"tallywood/storage"
	"tallywood/storage/mem"
)

// An endingBucket calls end when it is put to for the nth time.
type endingBucket struct {
	storage.Bucket
	left atomic.Int64
	end  func()
}

func (b *endingBucket) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	if b.left.Add(-1) == 0 {
		b.end()
	}
	return b.Bucket.Put(ctx, key, data, o)
}

// TestInterruptedStorageIsNoResult: it says so, whenever that is, and the log is gone.
func TestInterruptedStorageIsNoResult(t *testing.T) {
	for _, puts := range []int64{1, 2, 3, 5, 8, 13, 40} {
		ctx, cancel := context.WithCancel(t.Context())
		store := mem.New()
		b := &endingBucket{Bucket: store, end: cancel}
		b.left.Store(puts)
		r, err := bench.Storage(ctx, bench.StorageOptions{Bucket: b, Batch: 16, Duration: 5 * time.Minute, Warmup: 10 * time.Millisecond})
		if r != nil || !errors.Is(err, context.Canceled) {
			t.Errorf("at write %d: %+v, %v", puts, r, err)
		}
		for key := range store.List(t.Context(), "") {
			t.Errorf("at write %d: %s is left", puts, key)
		}
		cancel()
	}
}

// TestInterruptedMonitorIsNoFailure: what its process says when it is told to end does not count.
func TestInterruptedMonitorIsNoFailure(t *testing.T) {
	dir := t.TempDir()
	if _, err := bench.MakeMonitorLog(t.Context(), bench.MonitorLogOptions{Dir: dir, Kind: mint.Rekor, Entries: 20}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := bench.Monitor(ctx, bench.MonitorOptions{Dir: dir, Peer: `sh -c 'touch "$LOG_DIR/started"; exec sleep 600'`})
		ended <- err
	}()
	for {
		if _, err := os.Stat(filepath.Join(dir, "started")); err == nil {
			break
		}
		select {
		case err := <-ended:
			t.Fatalf("it ended before it was told to, with %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
}

// TestInterruptedAbuseIsNoFailure of the attackers, which a terminal interrupts too.
func TestInterruptedAbuseIsNoFailure(t *testing.T) {
	url, _ := serve(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := bench.MeasureAbuse(ctx, bench.AbuseOptions{URL: url, Clients: 1, Rate: 50, Duration: 20 * time.Millisecond, Settle: time.Millisecond,
		Start: func(context.Context, []string) (func() (map[string]int, error), error) {
			cancel()
			return func() (map[string]int, error) { return nil, errors.New("signal: interrupt") }, nil
		}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
}

// TestInterruptedRequests end at once and as what they are, with servers that do not answer and with such
// as close the connection at that moment.
func TestInterruptedRequests(t *testing.T) {
	for _, hangs := range []bool{true, false} {
		var end atomic.Pointer[context.CancelFunc]
		wrap := func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body) // only then does a server see that its client has gone
				(*end.Load())()
				if hangs {
					<-r.Context().Done()
				} else if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
					conn.Close()
				}
			})
		}
		url, _ := serve(t, wrap)
		target := serveWitness(t, nil, wrap)
		for range 10 {
			ctx, cancel := context.WithCancel(t.Context())
			end.Store(&cancel)
			o := short(url)
			o.Timeout = 5 * time.Minute
			if _, err := bench.Log(ctx, o); !errors.Is(err, context.Canceled) {
				t.Errorf("a log: %v", err)
			}
			ctx, cancel = context.WithCancel(t.Context())
			end.Store(&cancel)
			w := shortWitness()
			w.Timeout = 5 * time.Minute
			if _, err := bench.Witness(ctx, target, w); !errors.Is(err, context.Canceled) {
				t.Errorf("a witness: %v", err)
			}
		}
	}
}
