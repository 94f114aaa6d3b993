package stack

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"tallywood/internal/config"
	"tallywood/internal/faultbucket"
	"tallywood/internal/keys"
	"tallywood/storage/mem"
	"tallywood/witness/policy"
)

// TestStackEndsWithAWitnessThatKeepsNoState has a witness without lists whose bucket breaks.
func TestStackEndsWithAWitnessThatKeepsNoState(t *testing.T) {
	t.Parallel()
	const origin = "log.example.org"
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	seed := filepath.Join(t.TempDir(), "seed")
	if err := keys.WriteSeed(seed, sha256.Sum256([]byte("witness"))); err != nil {
		t.Fatal(err)
	}
	b := faultbucket.New(mem.New())
	b.FailWhen(faultbucket.On(faultbucket.Put, "state/"), faultbucket.Broken)
	s := &Stack{
		cfg:    &config.Config{Witnesses: []config.Witness{{Name: "witness.example.org", Seed: seed}}},
		log:    slog.New(slog.DiscardHandler),
		bucket: b, metrics: newMetrics(Build{}), limits: &limits{},
	}
	s.set.Store(&logSet{logs: []*logPart{{
		cfg:  config.Log{Origin: origin},
		vkey: keys.VKey(origin, keys.AlgEd25519, key.Public().(ed25519.PublicKey)),
	}}})
	mux := http.NewServeMux()
	if err := s.openWitnesses(mux); err != nil {
		t.Fatal(err)
	}
	s.handler = mux
	s.set.Store(&logSet{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(t.Context(), ln, nil, func() {}) }()

	text := policy.Tree{Origin: origin, Root: sha256.Sum256(nil)}.Text()
	signer, err := keys.NoteSigner(origin, key)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := signer.Sign([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post("http://"+ln.Addr().String()+"/witness/1/add-checkpoint", "text/plain",
		strings.NewReader("old 0\n\n"+text+"\n"+policy.FormatSignature(origin, signer.KeyHash(), sig)))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("answered %d", resp.StatusCode)
	}
	if err := <-ended; !errors.Is(err, faultbucket.ErrInjected) || !strings.Contains(err.Error(), "witness.example.org") {
		t.Errorf("Run = %v", err)
	}
}
