package stack

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tallywood/internal/config"
	"tallywood/internal/keys"
	"tallywood/storage/mem"
	"tallywood/witness/policy"
)

// TestKeysOfAWitnessOfAStackFollowEachOther has one pair of keys that signed until an hour ago, one that
// signs, of two that follow Ed25519 alone, and one that begins in an hour. A peer is told first what signs longest.
func TestKeysOfAWitnessOfAStackFollowEachOther(t *testing.T) {
	t.Parallel()
	const name = "witness.example.org"
	dir, hour := t.TempDir(), time.Hour
	var vkeys []string // of all seeds, Ed25519 and ML-DSA-44
	seed := func(label string) string {
		path, seed := filepath.Join(dir, label), sha256.Sum256([]byte(label))
		w, err := keys.WitnessFromSeed(name, seed)
		if err != nil {
			t.Fatal(err)
		}
		vkeys = append(vkeys, w.VKeys()...)
		if err := keys.WriteSeed(path, seed); err != nil {
			t.Fatal(err)
		}
		return path
	}
	at := func(d time.Duration) config.Time { return config.Time{Time: time.Now().Add(d)} }
	w := config.Witness{Name: name, Seed: seed("old"), NotAfter: at(-hour), Rotation: []config.WitnessKeys{
		{Seed: seed("now"), NotBefore: at(-2 * hour), NotAfter: at(hour)},
		{Seed: seed("next"), Algorithm: keys.OnlyEd25519},
		{Seed: seed("later"), NotBefore: at(hour)},
		{Seed: seed("newest"), NotBefore: at(-hour), Algorithm: keys.OnlyEd25519},
	}}
	gone, err := keys.WitnessFromSeed(name, sha256.Sum256([]byte("gone")))
	if err != nil {
		t.Fatal(err)
	}
	w.PastKeys = gone.VKeys()[:1]
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	c := &config.Config{Witnesses: []config.Witness{w}, Peers: []config.Peer{{
		URL: "https://log.example.org", Logs: []string{keys.VKey("log.example.org", keys.AlgEd25519, key.Public().(ed25519.PublicKey))},
	}}}
	note := signedTree(t, key, "log.example.org", 5)
	code, lines := serveWitnesses(t, c, mem.New())(note)
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, lines)
	}
	n, err := policy.ParseNote([]byte(note + lines))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{vkeys[8], vkeys[4], vkeys[2], vkeys[3]}
	for _, vkey := range want {
		k, err := policy.ParseVKey(vkey)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(n.Signatures, func(s policy.Signature) bool {
			_, err := k.Verify(n.Text, s.Sig)
			return k.Matches(s) && err == nil
		}) {
			t.Errorf("no line of %s in\n%s", vkey, lines)
		}
	}
	if got := strings.Count(lines, "\n"); got != len(want) {
		t.Errorf("%d lines:\n%s", got, lines)
	}
	s := &Stack{cfg: c}
	s.set.Store(&logSet{})
	o, err := s.witnessKeys(w)
	if err != nil {
		t.Fatal(err)
	}
	s.witnesses = []*witnessPart{{cfg: w, keys: append([]keys.Witness{o.Keys}, o.Rotation...), path: "/witness/1"}}
	rec := httptest.NewRecorder()
	s.servePeer(rec, httptest.NewRequest(http.MethodGet, peerPath, nil))
	var info PeerInfo
	if err := json.Unmarshal(rec.Body.Bytes(), &info); err != nil || len(info.Witnesses) != 1 || !slices.Equal(info.Witnesses[0].VKeys, want) {
		t.Errorf("peers are told %s (%v); want %q", rec.Body, err, want)
	}
}

// TestCheckOfAWitnessWithKeysInAKMS knows nothing of two keys, which are not one for that.
func TestCheckOfAWitnessWithKeysInAKMS(t *testing.T) {
	t.Parallel()
	const uri = "awskms:///alias/%?region=eu-west-1"
	c := &config.Config{Dir: t.TempDir(), Limits: &config.Limits{}, Witnesses: []config.Witness{{Name: "witness.example.org",
		Ed25519:  strings.Replace(uri, "%", "old", 1),
		Rotation: []config.WitnessKeys{{Ed25519: strings.Replace(uri, "%", "new", 1)}},
	}}}
	if err := Check(c); err != nil {
		t.Errorf("Check = %v", err)
	}
	c.Witnesses[0].PastKeys = []string{"nonsense"}
	if err := Check(c); err == nil || !strings.Contains(err.Error(), "vkey") {
		t.Errorf("with nonsense for a past key: %v", err)
	}
}
