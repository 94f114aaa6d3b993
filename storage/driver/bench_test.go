package driver_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"

	"tallywood/storage"
	"tallywood/storage/driver"
	"tallywood/storage/mem"
	"tallywood/storage/posix"
)

// entrySize is about that of a signature entry with a public key.
const entrySize = 500

// benchmarkAdd measures adds from the call to the published checkpoint and the proof.
func benchmarkAdd(b *testing.B, bucket storage.Bucket, parallelism int, cosign time.Duration) {
	o := options(b, bucket)
	if cosign > 0 {
		o.Cosign = func(ctx context.Context, checkpoint []byte, _ driver.ProofFunc) ([]byte, error) {
			time.Sleep(cosign)
			return checkpoint, nil
		}
	}
	l := open(b, o)
	stop := lead(b, l)
	var n atomic.Int64
	work := make(chan struct{}, parallelism)
	done := make(chan struct{})
	b.ReportAllocs()
	b.ResetTimer()
	for range parallelism {
		go func() {
			for range work {
				data := make([]byte, entrySize)
				binary.BigEndian.PutUint64(data, uint64(n.Add(1)))
				if err := addOne(l, data); err != nil {
					b.Error(err)
				}
			}
			done <- struct{}{}
		}()
	}
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	for range parallelism {
		<-done
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	quit(b, l, stop)
}

func addOne(l *driver.Log, data []byte) error {
	ctx := context.Background()
	index, err := l.Add(ctx, tessera.NewEntry(data))()
	if err != nil {
		return err
	}
	p, err := l.Await(ctx, int64(index.Index)+1)
	if err != nil {
		return err
	}
	_, err = l.InclusionProof(ctx, int64(index.Index), p.Size)
	return err
}

func BenchmarkAdd(b *testing.B) {
	for _, clients := range []int{1, 64, 512} {
		b.Run(fmt.Sprint("mem/", clients), func(b *testing.B) { benchmarkAdd(b, mem.New(), clients, 0) })
		b.Run(fmt.Sprint("posix/", clients), func(b *testing.B) { benchmarkAdd(b, directory(b), clients, 0) })
		b.Run(fmt.Sprint("posix+5ms/", clients), func(b *testing.B) {
			benchmarkAdd(b, directory(b), clients, 5*time.Millisecond)
		})
	}
}

func directory(t testing.TB) storage.Bucket {
	t.Helper()
	b, err := posix.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return b
}
