package bench_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"
	"golang.org/x/mod/sumdb/tlog"

	"tallywood/internal/bench"
	"tallywood/internal/keys"
	"tallywood/storage/mem"
	"tallywood/witness"
	"tallywood/witness/policy"
)

const testSeed = 7

// serveWitness runs a witness in memory, which knows some logs of testSeed, behind wrap.
func serveWitness(t *testing.T, now func() time.Time, wrap func(http.Handler) http.Handler) bench.WitnessTarget {
	t.Helper()
	k, err := keys.WitnessFromSeed("witness.example.org", sha256.Sum256([]byte("witness")))
	if err != nil {
		t.Fatal(err)
	}
	logs, err := witness.ParseList([]byte(bench.WitnessList(testSeed, 8)))
	if err != nil {
		t.Fatal(err)
	}
	w, err := witness.New(witness.Options{Keys: k, Bucket: mem.New(), Logs: logs, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	h := w.Handler()
	if wrap != nil {
		h = wrap(h)
	}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	target := bench.WitnessTarget{URL: server.URL + "/"}
	for _, vkey := range k.VKeys() {
		key, err := policy.ParseVKey(vkey)
		if err != nil {
			t.Fatal(err)
		}
		target.Keys = append(target.Keys, key)
	}
	return target
}

// shortWitness are options for a run of a fraction of a second.
func shortWitness() bench.WitnessOptions {
	return bench.WitnessOptions{Logs: 4, Duration: 150 * time.Millisecond, Warmup: 50 * time.Millisecond, Seed: testSeed}
}

func TestWitnessMeasuresOurs(t *testing.T) {
	target := serveWitness(t, nil, nil)
	if runtime.GOOS == "linux" {
		target.PIDs = []int{os.Getpid()}
	}
	for _, logs := range []int{1, 8, 4} { // the later ones go on where those before ended
		o := shortWitness()
		o.Logs = logs
		r, err := bench.Witness(t.Context(), target, o)
		if err != nil {
			t.Fatal(err)
		}
		if r.Updates == 0 || r.PerSecond <= 0 || r.Limited != 0 || len(r.Errors) != 0 || r.Logs != logs || r.Name != target.URL {
			t.Errorf("got %+v", r)
		}
		if l := r.Latency; l.P50 <= 0 || l.P50 > l.P95 || l.P95 > l.P99 || l.P99 > l.Max {
			t.Errorf("latencies are out of order: %+v", l)
		}
		if runtime.GOOS == "linux" && (r.Server == nil || r.Server.RSS < 1<<20) {
			t.Errorf("the server's process: %+v", r.Server)
		}
		if text := r.String(); !strings.Contains(text, "updates/s") || !strings.Contains(text, "0 × status 429; besides, no errors; seed 7") {
			t.Errorf("report %q", text)
		}
		var back bench.WitnessResult
		if data, err := json.Marshal(r); err != nil || json.Unmarshal(data, &back) != nil || back.Seed != testSeed {
			t.Errorf("JSON %s does not give back the result", data)
		}
	}
}

// answered changes every nth answer of status 200 from the nth on.
func answered(nth int64, change func(w http.ResponseWriter, body []byte)) func(http.Handler) http.Handler {
	var n atomic.Int64
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			if rec.Code == http.StatusOK && n.Add(1)%nth == 0 {
				change(w, rec.Body.Bytes())
				return
			}
			for name, values := range rec.Header() {
				w.Header()[name] = values
			}
			w.WriteHeader(rec.Code)
			io.Copy(w, rec.Body)
		})
	}
}

func TestWrongCosignaturesFailTheRun(t *testing.T) {
	var last atomic.Pointer[string]
	write := func(w http.ResponseWriter, text string) { io.WriteString(w, text) }
	for name, c := range map[string]struct {
		now    func() time.Time
		change func(w http.ResponseWriter, body []byte)
		want   string
	}{
		"one key is missing": {nil, func(w http.ResponseWriter, body []byte) {
			write(w, string(body[:bytes.IndexByte(body, '\n')+1]))
		}, "there is no line of witness.example.org"},
		"nothing": {nil, func(w http.ResponseWriter, _ []byte) { write(w, "") }, "no signature lines"},
		"those of another checkpoint": {nil, func(w http.ResponseWriter, body []byte) {
			text := string(body)
			if other := last.Swap(&text); other != nil {
				text = *other
			}
			write(w, text)
		}, "signature does not verify"},
		"one line is damaged": {nil, func(w http.ResponseWriter, body []byte) {
			at := bytes.IndexByte(body, '\n') - 5
			body[at] ^= 1
			if body[at] == ' ' || body[at] == '\n' {
				body[at] = 'A'
			}
			write(w, string(body))
		}, ""},
		"a second line of a key is forged": {nil, func(w http.ResponseWriter, body []byte) {
			line := string(body[:bytes.IndexByte(body, '\n')+1])
			write(w, string(body)+strings.Replace(line, "AAA", "AAB", 1))
		}, ""},
		"text before the lines": {nil, func(w http.ResponseWriter, body []byte) {
			write(w, "well\n\n"+string(body))
		}, "not signature lines alone"},
		"no lines at all": {nil, func(w http.ResponseWriter, _ []byte) { write(w, "done\n") }, "signature line 1"},
		"of an hour ago": {func() time.Time { return time.Now().Add(-time.Hour) },
			func(w http.ResponseWriter, body []byte) { write(w, string(body)) }, "it was signed at"},
	} {
		target := serveWitness(t, c.now, answered(3, c.change))
		_, err := bench.Witness(t.Context(), target, shortWitness())
		var wrong *bench.WrongError
		if !errors.As(err, &wrong) || wrong.Answers == 0 || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// TestWitnessCountsRefusals has a witness that answers 429 although it has stored the update, as one
// peer does, and one that fails otherwise.
func TestWitnessCountsRefusals(t *testing.T) {
	for _, c := range []struct {
		status  int
		limited bool
		class   string
	}{{429, true, "status 409"}, {503, false, "status 503"}} {
		target := serveWitness(t, nil, answered(6, func(w http.ResponseWriter, _ []byte) { w.WriteHeader(c.status) }))
		o := shortWitness()
		r := bench.WitnessResult{}
		for o.Duration = 400 * time.Millisecond; r.Updates < 40; o.Duration *= 4 { // a busy machine takes longer
			var err error
			if r, err = bench.Witness(t.Context(), target, o); err != nil {
				t.Fatal(err)
			}
		}
		if c.limited != (r.Limited > 0) || r.Errors[c.class] == 0 || r.Errors["status 429"] != 0 || r.Updates == 0 {
			t.Errorf("status %d: %d limited, %v, %d updates", c.status, r.Limited, r.Errors, r.Updates)
		}
		if r.Latency.Max < 10 {
			t.Errorf("status %d: the latency of %v ms does not have the wait after a refusal in it", c.status, r.Latency.Max)
		}
	}
}

func TestWitnessSaysWhatIsMissing(t *testing.T) {
	target := serveWitness(t, nil, nil)
	o := shortWitness()
	o.Seed++
	if _, err := bench.Witness(t.Context(), target, o); err == nil || !strings.Contains(err.Error(), "--write-list") {
		t.Errorf("of logs that it does not know: %v", err)
	}
	o = shortWitness()
	o.Timeout = -1
	if _, err := bench.Witness(t.Context(), bench.WitnessTarget{URL: "witness"}, o); err == nil ||
		!strings.Contains(err.Error(), "not an http") || !strings.Contains(err.Error(), "no key") || !strings.Contains(err.Error(), "negative") {
		t.Errorf("of wrong options: %v", err)
	}
	_, err := bench.CompareWitnesses(t.Context(), bench.WitnessCompareOptions{
		Targets: []bench.WitnessTarget{target, target}, Pairs: 4, Load: shortWitness(),
	})
	if err == nil || !strings.Contains(err.Error(), "4 pairs") || !strings.Contains(err.Error(), "two witnesses have the name") {
		t.Errorf("of wrong pairs: %v", err)
	}
	if _, err := bench.CompareWitnesses(t.Context(), bench.WitnessCompareOptions{Targets: []bench.WitnessTarget{target}}); err == nil {
		t.Error("a witness is compared with nothing")
	}
}

func TestCompareWitnessesInTurns(t *testing.T) {
	var turns []string
	named := func(name string, by time.Duration) bench.WitnessTarget {
		var n atomic.Int64
		target := serveWitness(t, nil, slowed(by, &n))
		target.Name = name
		return target
	}
	o := shortWitness()
	o.Duration, o.Warmup = 60*time.Millisecond, 20*time.Millisecond
	c, err := bench.CompareWitnesses(t.Context(), bench.WitnessCompareOptions{
		Targets: []bench.WitnessTarget{named("ours", 0), named("slow", 20*time.Millisecond), named("third", 0)}, Logs: []int{1, 2}, Load: o,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range c.Rows {
		for i := range 5 {
			for _, runs := range row.Runs {
				turns = append(turns, fmt.Sprint(row.Logs, runs[i].Name, runs[i].Logs))
			}
		}
	}
	if len(turns) != 30 || turns[0] != "1ours1" || turns[1] != "1slow1" || turns[2] != "1third1" || turns[15] != "2ours2" {
		t.Errorf("turns %q", turns)
	}
	// The best runs of each: any may have met with a machine that was busy.
	best := func(runs []bench.WitnessResult) (perSecond float64) {
		for _, r := range runs {
			perSecond = max(perSecond, r.PerSecond)
		}
		return perSecond
	}
	if a, b := best(c.Rows[0].Runs[0]), best(c.Rows[0].Runs[1]); a <= b || b > 50 {
		t.Errorf("%.0f updates/s without delay, %.0f with 20 ms", a, b)
	}
}

func TestWitnessTable(t *testing.T) {
	run := func(perSecond float64, limited int) bench.WitnessResult {
		return bench.WitnessResult{
			PerSecond: perSecond, Updates: 75, Limited: limited, Latency: bench.Latency{P50: 1, P99: 1000 / perSecond},
			Server: &bench.Server{CPU: 100 / perSecond, RSS: 25e6},
		}
	}
	c := bench.WitnessComparison{Names: []string{"ours", "a", "b"}, Rows: []bench.WitnessRow{{Logs: 16, Runs: [][]bench.WitnessResult{
		{run(100, 0), run(400, 0), run(300, 0)},
		{run(50, 25), run(100, 25), run(100, 0)},
		{run(200, 0), run(200, 0), run(200, 0)},
	}}}}
	want := `| logs | | ours | a | ratio | b | ratio |
| ---: | --- | ---: | ---: | --- | ---: | --- |
| 16 | updates/s | 300 | 100 | 3.00 (2.00–4.00) | 200 | 1.50 (0.500–2.00) |
| 16 | p50 ms | 1.00 | 1.00 | 1.00 (1.00–1.00) | 1.00 | 1.00 (1.00–1.00) |
| 16 | p99 ms | 3.33 | 10.0 | 0.333 (0.250–0.500) | 5.00 | 0.667 (0.500–2.00) |
| 16 | CPU ms/update | 0.333 | 1.00 | 0.333 (0.250–0.500) | 0.500 | 0.667 (0.500–2.00) |
| 16 | peak RSS MB | 25.0 | 25.0 | 1.00 (1.00–1.00) | 25.0 | 1.00 (1.00–1.00) |
| 16 | 429, % of requests | 0.000 | 25.0 | 0.000 (0.000–0.000) | 0.000 | – |
`
	if got := c.Markdown(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestWitnessListsNameTheSameLogs(t *testing.T) {
	logs, err := witness.ParseList([]byte(bench.WitnessList(3, 20)))
	if err != nil || len(logs) != 20 {
		t.Fatalf("%d logs, %v", len(logs), err)
	}
	var y struct {
		Logs []struct {
			Origin    string `yaml:"Origin"`
			PublicKey string `yaml:"PublicKey"`
			URL       string `yaml:"URL"`
			Feeder    string `yaml:"Feeder"`
		} `yaml:"Logs"`
	}
	if err := yaml.Unmarshal([]byte(bench.WitnessYAML(3, 20)), &y); err != nil {
		t.Fatal(err)
	}
	if len(y.Logs) != len(logs) {
		t.Fatalf("%d logs in YAML", len(y.Logs))
	}
	for i, l := range logs {
		if o := y.Logs[i]; o.Origin != l.Origin || o.PublicKey != l.Keys[0].String() || o.Feeder != "none" || o.URL == "" {
			t.Errorf("log %d is %q in one, %+v in the other", i, l.Origin, o)
		}
	}
	if bench.WitnessList(4, 20) == bench.WitnessList(3, 20) {
		t.Error("two seeds have the same logs")
	}
}

// TestEqualEntriesAreATree compares the tree that takes no memory with one that has its hashes.
func TestEqualEntriesAreATree(t *testing.T) {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, x := range indexes {
			out = append(out, stored[x])
		}
		return out, nil
	})
	roots := map[int64]tlog.Hash{}
	for n := range int64(70) {
		more, err := tlog.StoredHashes(n, []byte("entry"), reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, more...)
		root, err := tlog.TreeHash(n+1, reader)
		if err != nil {
			t.Fatal(err)
		}
		if roots[n+1] = root; root != bench.EqualRoot(n+1) {
			t.Errorf("the root hash of %d entries is another", n+1)
		}
	}
	for size := range roots {
		for old := range roots {
			if old >= size {
				continue
			}
			if err := tlog.CheckTree(bench.EqualProof(old, size), size, roots[size], old, roots[old]); err != nil {
				t.Errorf("proof from %d to %d: %v", old, size, err)
			}
		}
	}
	if n := len(bench.EqualProof(1_000_003, 1_000_013)); n < 10 {
		t.Errorf("the proof in a long log has %d hashes", n)
	}
}
