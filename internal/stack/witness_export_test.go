package stack

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tallywood/internal/config"
	"tallywood/internal/keys"
	"tallywood/storage/mem"
	"tallywood/witness/policy"
)

// TestWitnessOfAStackExports runs a witness whose export is a directory, and one with the same key
// and other state, which finds that.
func TestWitnessOfAStackExports(t *testing.T) {
	t.Parallel()
	const origin = "log.example.org"
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	dir := t.TempDir()
	seed, export := filepath.Join(dir, "seed"), filepath.Join(dir, "published")
	if err := keys.WriteSeed(seed, sha256.Sum256([]byte("witness"))); err != nil {
		t.Fatal(err)
	}
	signer, err := keys.NoteSigner(origin, key)
	if err != nil {
		t.Fatal(err)
	}
	text := policy.Tree{Origin: origin, Root: sha256.Sum256(nil)}.Text()
	sig, err := signer.Sign([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	request := "old 0\n\n" + text + "\n" + policy.FormatSignature(origin, signer.KeyHash(), sig)

	run := func() string {
		s := &Stack{
			cfg:    &config.Config{Witnesses: []config.Witness{{Name: "witness.example.org", Seed: seed, Export: export}}},
			log:    slog.New(slog.DiscardHandler),
			bucket: mem.New(), metrics: newMetrics(Build{}), limits: &limits{},
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
		t.Cleanup(func() { // when the test has ended it, before its directory goes
			if err := <-ended; err != nil {
				t.Errorf("running: %v", err)
			}
		})
		return "http://" + ln.Addr().String() + "/witness/1"
	}
	// post asks until the answer is not that the lease has not been looked at yet.
	post := func(url string) (status int, body string) {
		for range 3000 {
			resp, err := http.Post(url+"/add-checkpoint", "text/plain", strings.NewReader(request))
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			if status, body = resp.StatusCode, string(data); !strings.Contains(body, "does not know yet") {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		return status, body
	}
	first := run()
	status, lines := post(first)
	if status != http.StatusOK {
		t.Fatalf("answered %d %s", status, lines)
	}
	want := text + "\n" + policy.FormatSignature(origin, signer.KeyHash(), sig) + lines
	hash := sha256.Sum256([]byte(origin))
	path := filepath.Join(export, hex.EncodeToString(hash[:]), "checkpoint")
	var got []byte
	for range 3000 {
		if got, err = os.ReadFile(path); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if string(got) != want {
		t.Errorf("exported is %v\n%s\nwant\n%s", err, got, want)
	}
	if status, body := post(run()); status != http.StatusServiceUnavailable || !strings.Contains(body, "another one has its keys") {
		t.Errorf("with other state: %d %s", status, body)
	}
}
