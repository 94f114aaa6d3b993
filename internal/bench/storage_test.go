package bench_test

import (
	"strings"
	"testing"
	"time"

	"tallywood/internal/bench"
	"tallywood/storage/mem"
	"tallywood/storage/posix"
)

func TestStorageMeasuresBothInTurnsAndLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	b, err := posix.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	results, err := bench.Storage(t.Context(), bench.StorageOptions{
		Bucket: b, PeerDir: t.TempDir(), Batch: 64, Duration: 200 * time.Millisecond, Warmup: 50 * time.Millisecond, Idle: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != 10 {
		t.Fatalf("%d runs, want five pairs", len(results))
	}
	for i, r := range results {
		if r.Entries == 0 || r.PerSecond <= 0 || r.Durable.P50 <= 0 || r.Published.P50 < r.Durable.P50 {
			t.Errorf("run %d: %+v", i, r)
		}
		if ours := i%2 == 0; ours != (r.Requests.Puts > 0) {
			t.Errorf("run %d of %s: %+v", i, r.Name, r.Requests)
		}
	}
	if table := bench.StorageTable(results); !strings.Contains(table, "| entries/s |") || strings.Count(table, "\n") != 7 {
		t.Errorf("table is\n%s", table)
	}
	if text := results[0].String(); !strings.Contains(text, "per million entries") || !strings.Contains(text, "per idle month") {
		t.Errorf("report is\n%s", text)
	}
	for key := range b.List(t.Context(), "") {
		t.Errorf("%s is left", key)
	}
}

func TestStorageKeepsARateAndALatency(t *testing.T) {
	results, err := bench.Storage(t.Context(), bench.StorageOptions{
		Bucket: mem.New(), Rate: 50, PutLatency: 20 * time.Millisecond, Duration: time.Second, Warmup: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := results[0]; r.Entries > 51 || r.Entries < 20 || r.Durable.P50 < 20 || r.Published.P50 < 40 {
		t.Errorf("at 50 entries a second and 20 ms a Put: %+v", r)
	}
}

func TestStorageChecksOptions(t *testing.T) {
	for name, o := range map[string]bench.StorageOptions{
		"no bucket":   {},
		"few pairs":   {Bucket: mem.New(), PeerDir: t.TempDir(), Pairs: 2},
		"large entry": {Bucket: mem.New(), Size: 70_000},
		"negative":    {Bucket: mem.New(), Rate: -1},
	} {
		if _, err := bench.Storage(t.Context(), o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
