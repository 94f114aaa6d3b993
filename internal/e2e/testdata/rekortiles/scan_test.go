package rekortiles

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sigstore/rekor-tiles/v2/pkg/client/read"
	rekor "github.com/sigstore/rekor-tiles/v2/pkg/generated/protobuf"
	"github.com/sigstore/rekor-tiles/v2/pkg/verifier/certificate"
	"github.com/sigstore/rekor-tiles/v2/pkg/verifier/publickey"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/api/layout"
	"google.golang.org/protobuf/encoding/protojson"
)

// TestScan stands in for rekor-monitor where that cannot be had: it goes over a whole log as its version
// 2 does, with the libraries that it is made of. It reads all entries into memory, bundle by bundle;
// then, of each, it parses the certificate, reads the files of the authorities, verifies the chain,
// compiles the expression that is watched and compares the names with it. It does not hash entries.
//
// "tallywood bench monitor --against" runs it:
//
//	LOG_URL, LOG_ORIGIN, LOG_VKEY  the log
//	LOG_DIR                        has authority.pem, the intermediate certificate first
//	LOG_WATCH                      expression of names
func TestScan(t *testing.T) {
	_, encoded, _ := strings.Cut(strings.TrimPrefix(env(t, "LOG_VKEY"), env(t, "LOG_ORIGIN")+"+"), "+")
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(key) != 33 {
		t.Fatalf("verifier key %q: %v", env(t, "LOG_VKEY"), err)
	}
	verifier := ed25519Verifier(t, key[1:])
	reader, err := read.NewReader(env(t, "LOG_URL"), env(t, "LOG_ORIGIN"), verifier)
	if err != nil {
		t.Fatal(err)
	}
	checkpoint, _, err := reader.ReadCheckpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var entries []*rekor.Entry
	for first := uint64(0); first < checkpoint.Size; first += layout.TileWidth {
		n := min(layout.TileWidth, checkpoint.Size-first)
		entries = append(entries, protoEntries(t, reader, first/layout.TileWidth, uint8(n%layout.TileWidth))...)
	}
	roots, intermediates := authorityFiles(t)
	found := 0
	for i, e := range entries {
		names, certificates, err := identitiesOf(e)
		if err != nil {
			fmt.Printf("entry %d: %v\n", i, err)
			continue
		}
		if !chained(t, certificates, roots, intermediates) {
			continue
		}
		watched, err := regexp.Compile(env(t, "LOG_WATCH"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if watched.MatchString(name) {
				fmt.Printf("found %s at %d\n", name, i)
				found++
			}
		}
	}
	fmt.Printf("found %d names in %d entries\n", found, len(entries))
}

func ed25519Verifier(t *testing.T, key []byte) signature.Verifier {
	t.Helper()
	// As a SubjectPublicKeyInfo, which is what trust material has.
	der := append([]byte{0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00}, key...)
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		t.Fatal(err)
	}
	v, err := signature.LoadDefaultVerifier(public)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// protoEntries reads one entry bundle.
func protoEntries(t *testing.T, reader read.Client, index uint64, partial uint8) []*rekor.Entry {
	t.Helper()
	data, err := reader.ReadEntryBundle(t.Context(), index, partial)
	if err != nil {
		t.Fatal(err)
	}
	var bundle api.EntryBundle
	if err := bundle.UnmarshalText(data); err != nil {
		t.Fatal(err)
	}
	var out []*rekor.Entry
	for _, text := range bundle.Entries {
		e := new(rekor.Entry)
		if err := protojson.Unmarshal(text, e); err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

// authorityFiles writes the authorities as the two files that rekor-monitor is told of.
func authorityFiles(t *testing.T) (roots, intermediates string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(env(t, "LOG_DIR"), "authority.pem"))
	if err != nil {
		t.Fatal(err)
	}
	first, rest := pem.Decode(text)
	if first == nil {
		t.Fatal("authority.pem is not PEM")
	}
	dir := t.TempDir()
	roots, intermediates = filepath.Join(dir, "roots.pem"), filepath.Join(dir, "intermediates.pem")
	for path, data := range map[string][]byte{roots: rest, intermediates: pem.EncodeToMemory(first)} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return roots, intermediates
}

// identitiesOf returns the names in an entry, and the certificates.
func identitiesOf(e *rekor.Entry) (names []string, certificates []*x509.Certificate, err error) {
	held := e.GetSpec().GetHashedRekordV002().GetSignature().GetVerifier()
	if key := held.GetPublicKey(); key != nil {
		v, err := publickey.NewVerifier(bytes.NewReader(key.GetRawBytes()))
		if err == nil {
			_, err = v.Identity()
		}
		return nil, nil, err
	}
	v, err := certificate.NewVerifier(bytes.NewReader(held.GetX509Certificate().GetRawBytes()))
	if err != nil {
		return nil, nil, err
	}
	identity, err := v.Identity() // its fingerprint too
	if err != nil {
		return nil, nil, err
	}
	c, ok := identity.Crypto.(*x509.Certificate)
	if !ok {
		return nil, nil, nil
	}
	return cryptoutils.GetSubjectAlternateNames(c), []*x509.Certificate{c}, nil
}

// chained verifies certificates with the authorities in two files, which it reads.
func chained(t *testing.T, certificates []*x509.Certificate, roots, intermediates string) bool {
	t.Helper()
	for _, c := range certificates {
		_, err := c.Verify(x509.VerifyOptions{CurrentTime: c.NotBefore, Roots: readPool(t, roots), Intermediates: readPool(t, intermediates),
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}})
		if err == nil {
			return true
		}
	}
	return len(certificates) == 0
}

func readPool(t *testing.T, path string) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(path)
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(text) {
		t.Fatalf("%s: %v", path, err)
	}
	return pool
}
