//go:build !race

package monitor_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"testing"
	"time"

	"tallywood/internal/mint"
	"tallywood/monitor"
	"tallywood/monitor/rule"
	"tallywood/witness/policy"
)

// mintedLog makes a log of certificates on disk, some of them alice's, and serves it.
func mintedLog(t testing.TB, size int64, planted map[int64]mint.Entry) monitor.Log {
	t.Helper()
	w, err := mint.New(1)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	l, err := w.Log("log.example.org", mint.Rekor, mint.Dir(dir))
	if err != nil {
		t.Fatal(err)
	}
	o := mint.FillOptions{Entries: size, Signatures: l, Planted: planted}
	if err := w.Fill(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse([]byte(l.Policy()))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(server.Close)
	return monitor.Log{Origin: l.Origin, URL: server.URL, Kind: monitor.KindRekor, VKey: l.VKey, Policy: p, End: o.End()}
}

// TestALongBacklogTakesLittleMemory follows a log of 20,000 certificates, each another one, and wants
// every planted entry told of once, and memory in use that does not grow with the log: its entries alone
// are 48 MB.
func TestALongBacklogTakesLittleMemory(t *testing.T) {
	const size, most = 20_000, 24 << 20
	want := map[int64]rule.ID{}
	planted := map[int64]mint.Entry{}
	for _, i := range []int64{0, 255, 256, 7777, 13_000, size - 1} {
		want[i], planted[i] = rule.IDSeen, mint.Entry{Certificate: mint.ForEmail(alice, goodIssuer)}
	}
	for _, i := range []int64{1, 511, 512, 7778, 19_967, 19_968} {
		want[i], planted[i] = rule.IDUnexpected, mint.Entry{Certificate: mint.ForEmail(alice, evilIssuer)}
	}
	planted[2] = mint.Entry{Certificate: mint.ForEmail(alice+".example.org", goodIssuer)} // a near miss
	s := newStation(t, mintedLog(t, size, planted))
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	peak := watchHeap()
	r := s.check()
	largest := peak()
	runtime.ReadMemStats(&after)
	got := map[int64]rule.ID{}
	for _, e := range s.sink.all() {
		if got[e.Index] != "" {
			t.Errorf("entry %d is told of twice", e.Index)
		}
		got[e.Index] = e.Rule
	}
	if !maps.Equal(got, want) || r.Logs[0].Scanned != size {
		t.Errorf("told of %v at %v; want %v", got, slices.Sorted(maps.Keys(got)), want)
	}
	perEntry := (after.TotalAlloc - before.TotalAlloc) / size
	t.Logf("%.1f MB in use at most, %d bytes allocated for each entry", float64(largest)/1e6, perEntry)
	if largest > before.HeapAlloc+most {
		t.Errorf("%d MB were in use; %d MB are enough for any log", largest>>20, most>>20)
	}
	if perEntry > 5_000 {
		t.Errorf("%d bytes were allocated for each entry", perEntry)
	}
}

// watchHeap looks at what collections of garbage leave until the function it returns is called, which
// returns the most. How much garbage there is between two of them depends on the processors.
func watchHeap() (stop func() uint64) {
	var peak uint64
	var watching sync.WaitGroup
	done := make(chan struct{})
	look := func() {
		sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(sample)
		peak = max(peak, sample[0].Value.Uint64())
	}
	watching.Go(func() {
		for {
			look()
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	return func() uint64 {
		close(done)
		watching.Wait()
		return peak
	}
}

// BenchmarkBacklog follows a log of unique certificates from its beginning, as after a long outage,
// over loopback HTTP.
func BenchmarkBacklog(b *testing.B) {
	const size = 20_000
	l := mintedLog(b, size, map[int64]mint.Entry{size / 2: {Certificate: mint.ForEmail(alice, evilIssuer)}})
	b.ReportAllocs()
	for b.Loop() {
		s := newStation(b, l)
		s.options.EvidenceDir = filepath.Join(b.TempDir(), "evidence")
		if r := s.check(); len(r.Events) != 1 || r.Logs[0].Scanned != size {
			b.Fatalf("%+v", r)
		}
	}
	b.ReportMetric(float64(size)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}
