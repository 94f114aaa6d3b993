package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"tallywood/internal/bench"
	"tallywood/internal/keys"
	"tallywood/storage/mem"
	"tallywood/witness"
)

// serveBenchWitness runs a witness that knows the logs of a list, and returns its URL and the lines for
// it in a policy.
func serveBenchWitness(t *testing.T, list, name string) (url, lines string) {
	t.Helper()
	text, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	logs, err := witness.ParseList(text)
	if err != nil {
		t.Fatal(err)
	}
	k, err := keys.WitnessFromSeed(name+".example.org", sha256.Sum256([]byte(name)))
	if err != nil {
		t.Fatal(err)
	}
	w, err := witness.New(witness.Options{Keys: k, Bucket: mem.New(), Logs: logs})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(w.Handler())
	t.Cleanup(server.Close)
	for i, vkey := range k.VKeys() {
		lines += fmt.Sprintf("witness %s%d %s %s/\n", name, i, vkey, server.URL)
	}
	return server.URL, lines
}

// TestBenchWitness measures a witness by itself, and then in turns with another.
func TestBenchWitness(t *testing.T) {
	dir := t.TempDir()
	list, policyFile := filepath.Join(dir, "logs.txt"), filepath.Join(dir, "witnesses.txt")
	tallywood := func(want int, args ...string) (string, string) {
		t.Helper()
		var out, errs strings.Builder
		if code := run(append([]string{"bench", "witness"}, args...), strings.NewReader(""), &out, &errs); code != want {
			t.Fatalf("%q ended with %d, not %d: %s", args, code, want, errs.String())
		}
		return out.String(), errs.String()
	}
	tallywood(exitFine, "--write-list", list, "--logs", "1,3", "--seed", "9")
	a, aLines := serveBenchWitness(t, list, "a")
	b, bLines := serveBenchWitness(t, list, "b")
	if err := os.WriteFile(policyFile, []byte(aLines+bLines+"quorum none\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	common := []string{"--policy", policyFile, "--seed", "9", "--duration", "60ms", "--warmup", "20ms"}
	pid := strconv.Itoa(os.Getpid())

	out, _ := tallywood(exitFine, append(common, a, "--logs", "3", "--pid", pid+"+"+pid, "--json")...)
	var r bench.WitnessResult
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if r.Updates == 0 || r.Logs != 3 || r.Name != "a0" || r.Seed != 9 || r.Server == nil || r.Server.RSS == 0 {
		t.Errorf("got %+v", r)
	}

	out, _ = tallywood(exitFine, append(common, a, "--against", b, "--logs", "1,3", "--against-pid", pid)...)
	for _, want := range []string{"| logs | | a0 | b0 | ratio |", "| 1 | updates/s |", "| 3 | p99 ms |"} {
		if !strings.Contains(out, want) {
			t.Errorf("the table has no %q:\n%s", want, out)
		}
	}

	// A key that the witness does not have: its answers do not hold.
	other := strings.Replace(aLines, a, "http://elsewhere.example.org", 1)
	if err := os.WriteFile(policyFile, []byte(other+strings.ReplaceAll(bLines, b, a)+"quorum none\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, errs := tallywood(exitNegative, append(common, a)...); !strings.Contains(errs, "there is no line of b.example.org") {
		t.Errorf("answers that do not hold: %s", errs)
	}
	if _, errs := tallywood(exitUsage, append(common, b, "--against", a, "--against-pid", "1,2")...); !strings.Contains(errs, "names 2 servers, and --against has 1 URLs") {
		t.Errorf("too many processes: %s", errs)
	}
}
