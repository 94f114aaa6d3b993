package keys_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"tallywood/internal/keys"
)

func TestSignerRoundTrip(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "log.pem")
	if err := keys.WriteSigner(path, ed); err != nil {
		t.Fatal(err)
	}
	got, err := keys.ReadSigner(path)
	if err != nil {
		t.Fatal(err)
	}
	if !ed.Equal(got) {
		t.Error("another key came back")
	}
	if err := keys.WriteSigner(path, ed); !errors.Is(err, fs.ErrExist) {
		t.Errorf("writing over a key: %v; want fs.ErrExist", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.ReadSigner(path); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Errorf("a key others can read: %v; want an error that names the mode", err)
	}
}

// TestWriteNewShowsWholeFilesOnly lets a reader look for a file while it is written again and again:
// what a kill in between would leave is what such a reader may see.
func TestWriteNewShowsWholeFilesOnly(t *testing.T) {
	dir := t.TempDir()
	path, data := filepath.Join(dir, "log.pem"), make([]byte, 1<<20)
	stop, seen := make(chan struct{}), make(chan int, 1)
	go func() {
		short := 0
		for {
			select {
			case <-stop:
				seen <- short
				return
			default:
			}
			if info, err := os.Stat(path); err == nil && info.Size() != int64(len(data)) {
				short++
			}
		}
	}()
	for range 50 {
		if err := keys.WriteNew(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if n := <-seen; n > 0 {
		t.Errorf("half a file was there under its name %d times", n)
	}
	if err := keys.WriteNew(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := keys.WriteNew(path, nil, 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("writing over a file: %v; want fs.ErrExist", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("the directory holds %v (%v); want the file alone", entries, err)
	}
	if !keys.IsTemporary(".tmp-log.pem.123456") || keys.IsTemporary("log.pem") {
		t.Error("IsTemporary does not tell files from those being written")
	}
}

func TestReadSignerRefusesDamage(t *testing.T) {
	for name, text := range map[string]string{
		"empty":     "",
		"other PEM": "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n",
		"bad DER":   "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
	} {
		path := filepath.Join(t.TempDir(), "key.pem")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := keys.ReadSigner(path); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := keys.ReadSigner(filepath.Join(t.TempDir(), "none.pem")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestReadPublic(t *testing.T) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	good := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	read := func(text string) (crypto.PublicKey, error) {
		path := filepath.Join(t.TempDir(), "key.pub")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return keys.ReadPublic(path)
	}
	if got, err := read(good); err != nil || !key.Public().(ed25519.PublicKey).Equal(got) {
		t.Errorf("got %v, %v", got, err)
	}
	for text, want := range map[string]string{
		"":          "holds no PEM block",
		good + "x":  "data after its PEM block",
		good + good: "data after its PEM block",
		strings.ReplaceAll(good, "PUBLIC", "PRIVATE"):                                       `of type "PRIVATE KEY"; want "PUBLIC KEY"`,
		string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der[:len(der)-1]})): "parsing public key",
	} {
		if got, err := read(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, %v; want an error with %q", text, got, err, want)
		}
	}
	if _, err := keys.ReadPublic(filepath.Join(t.TempDir(), "none.pub")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestSeedRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seed")
	seed := [32]byte{1, 2, 31: 255}
	if err := keys.WriteSeed(path, seed); err != nil {
		t.Fatal(err)
	}
	got, err := keys.ReadSeed(path)
	if err != nil || got != seed {
		t.Errorf("got %x, %v", got, err)
	}
	for text, want := range map[string]string{
		"": "has 0 characters; want 64", "00": "has 2 characters", strings.Repeat("0", 64) + "\n\n": "has 65 characters",
		strings.Repeat("g", 64): "no hexadecimal digit; want 64", strings.Repeat("0", 64) + "\r\n": "ends in CR LF",
	} {
		bad := filepath.Join(t.TempDir(), "bad")
		if err := os.WriteFile(bad, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := keys.ReadSeed(bad)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "'g'") {
			t.Errorf("seed %q: %v; want an error with %q, and nothing of the file", text, err, want)
		}
	}
}

func TestReadTokenTakesOneTokenOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "add.token")
	read := func(text string) (string, error) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return keys.ReadToken(path)
	}
	for text, want := range map[string]string{"0a1b\n": "0a1b", " \n\tdG9rZW4tXy9+Lg==\r\n ": "dG9rZW4tXy9+Lg=="} {
		if got, err := read(text); err != nil || got != want {
			t.Errorf("%q: got %q, %v; want %q", text, got, err, want)
		}
	}
	for text, want := range map[string]string{"": "is empty", " \n\t\n": "is empty", "two words": "no bearer token",
		"one\ntwo\n": "no bearer token", "to\x00ken": "no bearer token", "=": "no bearer token", "tökn": "no bearer token"} {
		if got, err := read(text); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: got %q, %v; want an error with %q", text, got, err, want)
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.ReadToken(path); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Errorf("a token others can read: %v; want an error that names the mode", err)
	}
	if _, err := keys.ReadToken(path + ".none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestNoteSignerIsWhatSumdbVerifies(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := keys.NoteSigner("log.example.com", ed)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := note.Sign(&note.Note{Text: "hello\n"}, s)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(keys.VKey("log.example.com", keys.AlgEd25519, ed.Public().(ed25519.PublicKey)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open(msg, note.VerifierList(v)); err != nil {
		t.Error(err)
	}
}

func TestWitnessKeysAreWhatFormatsAccepts(t *testing.T) {
	w, err := keys.WitnessFromSeed("w.example.com", [32]byte{7})
	if err != nil {
		t.Fatal(err)
	}
	for _, vkey := range w.VKeys() {
		v, err := fnote.NewVerifierForCosignatureV1(vkey)
		if err != nil {
			t.Errorf("%.40s…: %v", vkey, err)
			continue
		}
		id := vkey[len("w.example.com+"):][:8]
		if got := v.KeyHash(); strings.TrimLeft(id, "0") != strings.TrimLeft(hex32(got), "0") {
			t.Errorf("key ID %s in the vkey, %08x computed", id, got)
		}
	}
	again, _ := keys.WitnessFromSeed("w.example.com", [32]byte{7})
	other, _ := keys.WitnessFromSeed("v.example.com", [32]byte{7})
	public := w.Ed25519.Public().(ed25519.PublicKey)
	if !public.Equal(again.Ed25519.Public()) {
		t.Error("the same seed and name gave another key")
	}
	if public.Equal(other.Ed25519.Public()) || w.MLDSASeed == other.MLDSASeed {
		t.Error("two names share a key")
	}
}

func hex32(v uint32) string {
	const digits = "0123456789abcdef"
	out := make([]byte, 8)
	for i := range out {
		out[i] = digits[v>>(28-4*i)&15]
	}
	return string(out)
}

func TestOrigins(t *testing.T) {
	for _, good := range []string{"log.localhost", "log2026.example.org", "a"} {
		if err := keys.CheckOrigin(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "https://log.example.org", "log.example.org:443", "log.example.org/x",
		"Log.example.org", "log example - 1234", "log+x", "log..org", "-log", "log.", strings.Repeat("a", 64)} {
		if err := keys.CheckOrigin(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestLogIDByKeyType(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a, err := keys.LogID("a.example.com", ec.Public())
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := keys.LogID("b.example.com", ec.Public()); a != b {
		t.Error("an ECDSA log ID depends on the origin")
	}
	if _, err := keys.LogID("a.example.com", "text"); err == nil {
		t.Error("a string passed for a key")
	}
}
