package bench_test

import (
	"crypto/ed25519"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"tallywood/internal/bench"
	"tallywood/internal/keys"
	"tallywood/storage/mem"
	"tallywood/witness"
	"tallywood/witness/policy"
)

const floorOrigin = "floor.example.org"

// floorLog returns options for a floor whose n witnesses run here, behind wrap.
func floorLog(t *testing.T, n int, wrap func(http.Handler) http.Handler) bench.FloorOptions {
	t.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	vkey := keys.VKey(floorOrigin, keys.AlgEd25519, public)
	known, err := policy.ParseVKey(vkey)
	if err != nil {
		t.Fatal(err)
	}
	text, group := "log "+vkey+"\n", fmt.Sprintf("group all-of-them %d", 2*n)
	for i := range n {
		name := fmt.Sprintf("w%d.example.org", i+1)
		k, err := keys.WitnessFromSeed(name, [32]byte{byte(i)})
		if err != nil {
			t.Fatal(err)
		}
		w, err := witness.New(witness.Options{Keys: k, Bucket: mem.New(), Logs: []witness.Log{{Origin: floorOrigin, Keys: []policy.Key{known}}}})
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(wrap(w.Handler()))
		t.Cleanup(server.Close)
		for j, vkey := range k.VKeys() {
			text += fmt.Sprintf("witness w%d-%d %s %s\n", i, j, vkey, server.URL)
			group += fmt.Sprintf(" w%d-%d", i, j)
		}
	}
	p, err := policy.Parse([]byte(text + group + "\nquorum all-of-them\n"))
	if err != nil {
		t.Fatal(err)
	}
	return bench.FloorOptions{Dir: t.TempDir(), Origin: floorOrigin, Key: key, Policy: p, Rounds: 5}
}

// TestFloorAsksRealWitnesses, and again: they remember the tree that they saw.
func TestFloorAsksRealWitnesses(t *testing.T) {
	o := floorLog(t, 2, func(h http.Handler) http.Handler { return h })
	for range 2 {
		r, err := bench.Floor(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if r.Rounds != 5 || r.Sync.P50 <= 0 || r.Cosign.P50 <= 0 || r.Both.Max < r.Sync.P50+r.Cosign.P50 {
			t.Errorf("got %+v", r)
		}
		if text := r.String(); !strings.Contains(text, "one sync p50") || !strings.Contains(text, "both p50") {
			t.Errorf("report %q", text)
		}
	}
}

// TestFloorWantsCosignatures: an answer that is none does not count.
func TestFloorWantsCosignatures(t *testing.T) {
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"nothing":    {func(w http.ResponseWriter, _ *http.Request) {}, "checking cosignatures"},
		"refusal":    {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "unknown log", http.StatusNotFound) }, "404 Not Found: \"unknown log"},
		"other size": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusConflict); fmt.Fprintln(w, 3) }, "do not agree"},
		"no size":    {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "x", http.StatusConflict) }, "409 with a size"},
		"large sizes": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusConflict)
			fmt.Fprintln(w, int64(1)<<40)
		}, "too large"},
	} {
		o := floorLog(t, 1, func(http.Handler) http.Handler { return c.answer })
		if _, err := bench.Floor(t.Context(), o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	if _, err := bench.Floor(t.Context(), bench.FloorOptions{}); err == nil {
		t.Error("nothing was enough")
	}
}
