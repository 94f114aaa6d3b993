package witness_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"tallywood/storage"
	"tallywood/storage/mem"
	"tallywood/storage/posix"
	"tallywood/witness"
)

// BenchmarkAddCheckpoint has a number of logs grow by one entry per request, in a closed loop and
// all at once, past the network. One operation is one cosigned checkpoint of one log.
func BenchmarkAddCheckpoint(b *testing.B) {
	for name, open := range map[string]func(*testing.B) storage.Bucket{
		"mem": func(*testing.B) storage.Bucket { return mem.New() },
		"posix": func(b *testing.B) storage.Bucket {
			bucket, err := posix.Open(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			return bucket
		},
	} {
		for _, n := range []int{1, 16, 256} {
			b.Run(fmt.Sprintf("%s/logs=%d", name, n), func(b *testing.B) { benchmarkAdd(b, open(b), n) })
		}
	}
}

func benchmarkAdd(b *testing.B, bucket storage.Bucket, n int) {
	logs := make([]*testLog, n)
	o := witness.Options{Keys: testKeys(b), Bucket: bucket}
	for i := range logs {
		logs[i] = newTestLog(b, fmt.Sprintf("log%d.example.org", i))
		logs[i].grow(b, 2, "entry")
		o.Logs = append(o.Logs, witness.Log{Origin: logs[i].origin, Keys: logKeys(logs[i])})
	}
	w, err := witness.New(o)
	if err != nil {
		b.Fatal(err)
	}
	h := w.Handler()
	// Alternating growth is not possible, so each log re-signs size 2 after the first request: the
	// same signatures, the same swap; only the proof, some hashes, is missing.
	requests := make([][2]string, n)
	for i, l := range logs {
		requests[i] = [2]string{l.request(b, 0, 2), l.request(b, 2, 2)}
	}
	post := func(body string) {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/add-checkpoint", strings.NewReader(body)))
		if rec.Code != http.StatusOK {
			b.Errorf("%d %s", rec.Code, rec.Body)
		}
	}
	for i := range logs {
		post(requests[i][0])
	}
	b.ResetTimer()
	start := time.Now()
	var wg sync.WaitGroup
	for i := range logs {
		wg.Go(func() {
			for range b.N/n + 1 {
				post(requests[i][1])
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64((b.N/n+1)*n)/time.Since(start).Seconds(), "updates/s")
}
