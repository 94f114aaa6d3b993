package policy_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"

	"filippo.io/mldsa"
	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"

	"tallywood/witness/policy"
)

const origin = "log.example.org"

// seed derives a key's seed from its name, so that every run signs with the same keys.
func seed(name string) []byte {
	s := sha256.Sum256([]byte("seed of " + name))
	return s[:]
}

func edKey(name string) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(seed(name)) }

func mldsaKey(t testing.TB, name string) *mldsa.PrivateKey {
	t.Helper()
	k, err := mldsa.NewPrivateKey(mldsa.MLDSA44(), seed(name))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// logSigner is golang.org/x/mod's signer of type 0x01, and its vkey.
func logSigner(t testing.TB, name string) (note.Signer, string) {
	t.Helper()
	key := edKey("log " + name)
	vkey, err := note.NewEd25519VerifierKey(name, key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	hash := strings.Split(vkey, "+")[1]
	s, err := note.NewSigner("PRIVATE+KEY+" + name + "+" + hash + "+" +
		base64.StdEncoding.EncodeToString(append([]byte{1}, key.Seed()...)))
	if err != nil {
		t.Fatal(err)
	}
	return s, vkey
}

// cosigner is torchwood's cosignature signer of type 0x04 (Ed25519) or 0x06, and its vkey.
func cosigner(t testing.TB, name string, pq bool) (*torchwood.CosignatureSigner, string) {
	t.Helper()
	var key crypto.Signer = edKey("witness " + name)
	if pq {
		key = mldsaKey(t, "witness "+name)
	}
	s, err := torchwood.NewCosignatureSigner(name, key)
	if err != nil {
		t.Fatal(err)
	}
	return s, s.Verifier().String()
}

func mustKey(t testing.TB, vkey string) policy.Key {
	t.Helper()
	k, err := policy.ParseVKey(vkey)
	if err != nil {
		t.Fatalf("ParseVKey(%.80q): %v", vkey, err)
	}
	return k
}

func mustPolicy(t testing.TB, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// body is a checkpoint text of the given size with a root made from it.
func body(size int64, extensions ...string) string {
	return policy.Tree{Origin: origin, Size: size, Root: sha256.Sum256([]byte{byte(size)}), Extensions: extensions}.Text()
}

func sign(t testing.TB, text string, signers ...note.Signer) string {
	t.Helper()
	msg, err := note.Sign(&note.Note{Text: text}, signers...)
	if err != nil {
		t.Fatal(err)
	}
	return string(msg)
}
