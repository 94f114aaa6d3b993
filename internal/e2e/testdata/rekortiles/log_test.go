package rekortiles

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	common "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/rekor-tiles/v2/pkg/client/read"
	"github.com/sigstore/rekor-tiles/v2/pkg/client/write"
	rekor "github.com/sigstore/rekor-tiles/v2/pkg/generated/protobuf"
	rekornote "github.com/sigstore/rekor-tiles/v2/pkg/note"
	"github.com/sigstore/sigstore/pkg/signature"
	cosignature "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

// A log is the log under test as the clients see it.
type log struct {
	url       string
	origin    string
	id        []byte // what entries name it by
	verifier  signature.Verifier
	own       note.Verifier
	witnesses []note.Verifier
	writer    write.Client
}

// env reads a variable that must be set.
func env(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set; the end-to-end tests run this", name)
	}
	return value
}

// openLog reads the files that the log hands to its clients.
func openLog(t *testing.T) *log {
	t.Helper()
	l := &log{url: env(t, "LOG_URL")}
	client := env(t, "LOG_CLIENT")
	l.readTrustedRoot(t, filepath.Join(client, "trusted_root.json"))
	l.readPolicy(t, filepath.Join(client, "policy.txt"))
	var err error
	if l.writer, err = write.NewWriter(l.url); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *log) readTrustedRoot(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var root struct {
		Tlogs []struct {
			BaseURL   string
			PublicKey struct{ RawBytes []byte }
			LogID     struct{ KeyID []byte }
		}
	}
	if err := json.Unmarshal(text, &root); err != nil || len(root.Tlogs) != 1 {
		t.Fatalf("trusted root: %v, %d logs; want one", err, len(root.Tlogs))
	}
	l.origin = strings.TrimPrefix(root.Tlogs[0].BaseURL, "https://")
	key, err := x509.ParsePKIXPublicKey(root.Tlogs[0].PublicKey.RawBytes)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := key.(ed25519.PublicKey); !ok {
		t.Fatalf("the log's key is a %T; want Ed25519", key)
	}
	if l.verifier, err = signature.LoadDefaultVerifier(key); err != nil {
		t.Fatal(err)
	}
	if l.own, err = rekornote.NewNoteVerifier(l.origin, l.verifier); err != nil {
		t.Fatal(err)
	}
	if _, l.id, err = rekornote.KeyHash(l.origin, key); err != nil {
		t.Fatal(err)
	}
	if string(l.id) != string(root.Tlogs[0].LogID.KeyID) {
		t.Errorf("the trusted root names the log %x; its key's hash is %x", root.Tlogs[0].LogID.KeyID, l.id)
	}
}

func (l *log) readPolicy(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) < 3 || words[0] != "witness" {
			continue
		}
		witness, err := cosignature.NewVerifierForCosignatureV1(words[2])
		if err != nil {
			t.Fatal(err)
		}
		l.witnesses = append(l.witnesses, witness)
	}
	if len(l.witnesses) != 3 {
		t.Fatalf("%d witnesses in the policy; want 3", len(l.witnesses))
	}
}

// reader reads the log below a prefix of its URL.
func (l *log) reader(t *testing.T, prefix string) read.Client {
	t.Helper()
	r, err := read.NewReader(l.url+prefix, l.origin, l.verifier)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A signer makes requests with one key.
type signer struct {
	key    *ecdsa.PrivateKey
	public []byte
}

func newSigner(t *testing.T) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return &signer{key, public}
}

// digest is what request n is about.
func digest(n int) []byte {
	d := sha256.Sum256(fmt.Appendf(nil, "artifact %d", n))
	return d[:]
}

// request makes request n.
func (s *signer) request(n int) (*rekor.HashedRekordRequestV002, error) {
	sig, err := ecdsa.SignASN1(rand.Reader, s.key, digest(n))
	if err != nil {
		return nil, err
	}
	return &rekor.HashedRekordRequestV002{Digest: digest(n), Signature: &rekor.Signature{Content: sig, Verifier: &rekor.Verifier{
		KeyDetails: common.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256,
		Verifier:   &rekor.Verifier_PublicKey{PublicKey: &rekor.PublicKey{RawBytes: s.public}},
	}}}, nil
}
