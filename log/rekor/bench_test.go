package rekor_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"tallywood/log"
	"tallywood/log/rekor"
)

// BenchmarkPost posts pre-signed P-256 entries through the handler, on a bucket in memory, with
// so many requests under way at a time.
func BenchmarkPost(b *testing.B) {
	for _, parallel := range []int{1, 64, 512} {
		b.Run(fmt.Sprint(parallel), func(b *testing.B) {
			s := serve(b, nil, func(o *log.Options, _ *rekor.Options) { o.CacheDir = b.TempDir() })
			c := newClient(b)
			requests := make([][]byte, b.N)
			for i := range requests {
				requests[i] = c.request(fmt.Sprint(i))
			}
			b.ReportAllocs()
			b.ResetTimer()
			var next atomic.Int64
			var wg sync.WaitGroup
			for range parallel {
				wg.Go(func() {
					for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
						w := httptest.NewRecorder()
						s.http.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/v2/log/entries", bytes.NewReader(requests[i])))
						if w.Code != http.StatusCreated {
							b.Errorf("%d %s", w.Code, w.Body)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}
