package e2e_test

import (
	"encoding/json"
	"path/filepath"
	"testing"
)

// TestBenchMonitorBesideAnother measures the monitor and what stands in for rekor-monitor on one log:
// both find who is watched, the one by no more than the name, the other by all that was planted.
func TestBenchMonitorBesideAnother(t *testing.T) {
	work := t.TempDir()
	peerTests(t, work) // builds it
	must(t, work, "tallywood", "bench", "monitor", "log", "--generate", "--entries", "1500", "--seed", "5", "--p384")
	peer := filepath.Join(bin, "rekortiles") + " -test.v -test.run ^TestScan$"
	out, code := commandIn(t, work, cleanEnv(t, `LOG_WATCH=planted@watched\.example`), "tallywood", "bench", "monitor", "log", "--json", "--against", peer)
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, out)
	}
	var results []struct {
		Entries, Found           int
		Missed, Doubled          []int
		User                     float64 `json:"user_seconds"`
		Requests, Peak_rss_bytes int64
	}
	if err := json.Unmarshal([]byte(out), &results); err != nil || len(results) != 2 {
		t.Fatalf("%v in %s", err, out)
	}
	ours, other := results[0], results[1]
	if ours.Entries != 1500 || ours.Found < 10 || len(ours.Missed)+len(ours.Doubled) > 0 || ours.Requests < 6 || ours.Peak_rss_bytes == 0 {
		t.Errorf("ours: %+v", ours)
	}
	if other.Found < 3 || other.User == 0 || other.Requests < 6 {
		t.Errorf("the other: %+v", other)
	}
}
