package e2e_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var knownLog = flag.Int64("known-log", 5_000, "how many entries the log has whose entries are posted again")

// TestALongLogKnowsItsEntries: whoever posts an entry again gets the index it has, over HTTP and from a log
// on S3; after a restart, after the loss of the duplicate index, and from another replica. What an
// answer takes is printed; -known-log 1000000 is a million entries.
func TestALongLogKnowsItsEntries(t *testing.T) {
	s, dir := newStore(t), t.TempDir()
	vkey := generateKey(t, dir, "log.pem", longOrigin)
	writeFile(t, dir, "policy.txt", "log "+vkey+"\nquorum none\n")
	configs, urls, _ := s.fill(t, dir, "known", *knownLog)
	first := <-begin(configs[0])
	if first.err != nil {
		t.Fatal(first.err)
	}
	postsKnown(t, urls[0], "as it was made")
	first.process.stop(t)
	process := start(t, 0, "tallywood", "serve", "--config", configs[0])
	postsKnown(t, urls[0], "after a restart")
	process.stop(t)
	if err := os.RemoveAll(filepath.Join(dir, "cache-known-0")); err != nil {
		t.Fatal(err)
	}
	process = start(t, 0, "tallywood", "serve", "--config", configs[0])
	postsKnown(t, urls[0], "after the loss of the index")
	other := start(t, 0, "tallywood", "serve", "--config", configs[1])
	patiently(t, "index of the standby", func() bool {
		return strings.Contains(other.stderr.String(), "duplicate index caught up")
	})
	process.stop(t)
	patiently(t, "leader", func() bool {
		status, _, _ := postEntry(t, urls[1])
		return status == 201
	})
	postsKnown(t, urls[1], "from another replica")
}

// postsKnown posts entries again, and some new ones, and prints what the answers took.
func postsKnown(t *testing.T, url, when string) {
	t.Helper()
	out := must(t, t.TempDir(), "tallywood", "bench", "log", url, "--known", fmt.Sprint(*knownLog), "--concurrency", "8", "--duration", "2s", "--json")
	var r struct {
		Known   int
		Latency struct{ P50, P99 float64 } `json:"known_latency"`
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil || r.Known == 0 {
		t.Fatalf("bench log printed %s: %v", out, err)
	}
	t.Logf("%s: %d entries of %d posted again: p50 %.1f ms, p99 %.1f ms", when, r.Known, *knownLog, r.Latency.P50, r.Latency.P99)
}
