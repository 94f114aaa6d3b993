package conformance_test

import (
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tallywood/internal/keys"
	"tallywood/storage/mem"
	"tallywood/witness"
	"tallywood/witness/conformance"
	"tallywood/witness/policy"
)

func witnessKeys(t testing.TB) keys.Witness {
	t.Helper()
	k, err := keys.WitnessFromSeed("witness.example.org", sha256.Sum256([]byte("witness")))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func throwAway(t testing.TB) *conformance.Logs {
	t.Helper()
	logs, err := conformance.NewLogs("conformance.invalid/test", sha256.Sum256([]byte("logs")))
	if err != nil {
		t.Fatal(err)
	}
	return logs
}

// all are the kinds of logs that our witness can be told about.
var all = conformance.Every()

// ours returns the handler of a new witness of ours that knows the logs.
func ours(t testing.TB, logs *conformance.Logs) http.Handler {
	t.Helper()
	return oursAt(t, logs, time.Now)
}

func oursAt(t testing.TB, logs *conformance.Logs, now func() time.Time) http.Handler {
	t.Helper()
	o := witness.Options{Keys: witnessKeys(t), Bucket: mem.New(), Now: now}
	for _, l := range logs.All() {
		log := witness.Log{Origin: l.Origin}
		for _, vkey := range l.VKeys {
			key, err := policy.ParseVKey(vkey)
			if err != nil {
				t.Fatal(err)
			}
			log.Keys = append(log.Keys, key)
		}
		o.Logs = append(o.Logs, log)
	}
	w, err := witness.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return w.Handler()
}

// run runs the suite against a handler.
func run(t testing.TB, h http.Handler, o conformance.Options) conformance.Report {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	o.URL, o.VKeys, o.Timeout = server.URL, witnessKeys(t).VKeys(), time.Minute
	report, err := conformance.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// TestOursPasses runs everything but restarts, which internal/e2e has with the real program.
func TestOursPasses(t *testing.T) {
	logs := throwAway(t)
	report := run(t, ours(t, logs), conformance.Options{Logs: logs, Kinds: all})
	var text strings.Builder
	if err := report.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + text.String())
	if report.Count(conformance.Failed)+report.Count(conformance.Differs) > 0 {
		t.Error("our witness fails, or is not as the suite says that it is")
	}
	for _, r := range report.With(conformance.Skipped) {
		if r.Topic() != "restart" {
			t.Errorf("%s was skipped: %s", r.ID, r.Detail)
		}
	}
	if n := report.Count(conformance.Passed); n < 400 {
		t.Errorf("only %d cases", n)
	}
}
