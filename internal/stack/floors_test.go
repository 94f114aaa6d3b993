package stack

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"tallywood/internal/config"
	"tallywood/internal/keys"
	"tallywood/storage"
	"tallywood/storage/mem"
	"tallywood/witness/policy"
)

// signedTree returns a checkpoint of that size, which the log has signed.
func signedTree(t testing.TB, key ed25519.PrivateKey, origin string, size int64) string {
	t.Helper()
	tree := policy.Tree{Origin: origin, Size: size, Root: sha256.Sum256(nil)}
	if size > 0 {
		tree.Root = sha256.Sum256(fmt.Append(nil, size))
	}
	signer, err := keys.NoteSigner(origin, key)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := signer.Sign([]byte(tree.Text()))
	if err != nil {
		t.Fatal(err)
	}
	return tree.Text() + "\n" + policy.FormatSignature(origin, signer.KeyHash(), sig)
}

// serveWitnesses serves the witnesses of a configuration, and returns what asks the first to cosign.
func serveWitnesses(t testing.TB, c *config.Config, b storage.Bucket) (add func(note string) (int, string)) {
	t.Helper()
	s := &Stack{cfg: c, log: slog.New(slog.DiscardHandler), bucket: b}
	s.openKeys(t.Context(), true)
	if err := s.readLogs(); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	if err := s.openWitnesses(mux); err != nil {
		t.Fatal(err)
	}
	return func(note string) (int, string) {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/witness/1/add-checkpoint", strings.NewReader("old 0\n\n"+note)))
		return w.Code, w.Body.String()
	}
}

// TestFloorOfAWitnessOfAStack has the state of a witness restored from an old copy, which freezes a log,
// and sets its floor while the witness serves.
func TestFloorOfAWitnessOfAStack(t *testing.T) {
	t.Parallel()
	const origin = "log.example.org"
	dir := t.TempDir()
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	vkey := keys.VKey(origin, keys.AlgEd25519, key.Public().(ed25519.PublicKey))
	listed := ed25519.NewKeyFromSeed([]byte("0123456789abcdef0123456789abcdef"))
	list := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "logs/v0\nvkey %s\nqpd 86400\ncontact x\n", keys.VKey("listed.example.org", keys.AlgEd25519, listed.Public().(ed25519.PublicKey)))
	}))
	defer list.Close()
	c := &config.Config{
		Witnesses: []config.Witness{{Name: "witness.example.org", Seed: filepath.Join(dir, "seed"), Lists: []string{list.URL}}},
		Peers:     []config.Peer{{URL: "https://log.example.org", Logs: []string{vkey}}},
	}
	if err := keys.WriteSeed(c.Witnesses[0].Seed, sha256.Sum256([]byte("witness"))); err != nil {
		t.Fatal(err)
	}
	bucket, old := mem.New(), mem.New()
	if code, body := serveWitnesses(t, c, old)(signedTree(t, key, origin, 0)); code != http.StatusOK {
		t.Fatalf("the empty tree: %d %s", code, body)
	}
	nine := signedTree(t, key, origin, 9)
	code, lines := serveWitnesses(t, c, bucket)(nine)
	if code != http.StatusOK {
		t.Fatalf("nine entries: %d %s", code, lines)
	}

	add := serveWitnesses(t, c, old) // the copy takes the place of what has seen nine entries
	if code, body := add(nine + lines); code != http.StatusServiceUnavailable || !strings.Contains(body, "frozen") {
		t.Fatalf("what the copy does not know: %d %s", code, body)
	}
	floors, err := OpenFloors(t.Context(), c, old, "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := floors.Set(t.Context(), origin, []byte(signedTree(t, key, origin, 7))); err == nil || !strings.Contains(err.Error(), "size 7 is below 9") {
		t.Errorf("a floor below what was cosigned: %v", err)
	}
	if tree, err := floors.Set(t.Context(), origin, nil); err != nil || tree.Size != 9 {
		t.Fatalf("Set = %v, %v", tree, err)
	}
	if code, body := add(signedTree(t, key, origin, 12)); code != http.StatusConflict || body != "9\n" {
		t.Errorf("after it: %d %s", code, body)
	}
	if _, err := floors.Set(t.Context(), "listed.example.org", nil); err == nil || errors.Is(err, ErrUnknownLog) {
		t.Errorf("a log of a list: %v", err)
	}
	if _, err := floors.Set(t.Context(), "other.example.org", nil); !errors.Is(err, ErrUnknownLog) {
		t.Errorf("a log of nobody: %v", err)
	}
}

func TestOpenFloorsWantsOneWitness(t *testing.T) {
	t.Parallel()
	two := []config.Witness{{Name: "a.example.org", Seed: "/nowhere/a"}, {Name: "b.example.org", Seed: "/nowhere/b"}}
	for _, tc := range []struct {
		witnesses  []config.Witness
		name, want string
	}{
		{nil, "", "has no witnesses"},
		{two, "", "several witnesses: want one of a.example.org, b.example.org"},
		{two, "c.example.org", `no witness "c.example.org": want one of a.example.org, b.example.org`},
		{two[:1], "c.example.org", `no witness "c.example.org": want one of a.example.org`},
		{two, "b.example.org", `opening witness "b.example.org": reading seed`},
		{two[:1], "", `opening witness "a.example.org": reading seed`},
	} {
		_, err := OpenFloors(t.Context(), &config.Config{Witnesses: tc.witnesses}, mem.New(), tc.name, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q of %d: %v; want %q", tc.name, len(tc.witnesses), err, tc.want)
		}
	}
}
