package rekortiles

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/sigstore/rekor-tiles/v2/pkg/client/read"
	rekor "github.com/sigstore/rekor-tiles/v2/pkg/generated/protobuf"
	"github.com/sigstore/rekor-tiles/v2/pkg/verifier/certificate"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/tuf"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/client"
	"google.golang.org/protobuf/encoding/protojson"
)

// A position is how far a monitor has come: the tree it last found in order.
type position struct {
	Size uint64
	Root []byte
}

// TestTail reads what the log got since it last ran and prints whose certificates are in it. It
// goes about it as rekor-monitor does, with the libraries that rekor-monitor is made of: the log's
// address and key are those in a TUF repository, the origin is the address without its scheme, and
// the key is the one whose hash begins the first signature line.
func TestTail(t *testing.T) {
	address, trusted := fromTUF(t)
	origin := strings.TrimPrefix(address, "http://")
	reader := openReader(t, address, origin, trusted)
	checkpoint, _, err := reader.ReadCheckpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if checkpoint.Origin != origin {
		t.Fatalf("checkpoint of %q; want %q", checkpoint.Origin, origin)
	}
	last := readPosition(t)
	if last.Size > 0 {
		prover, err := client.NewProofBuilder(t.Context(), checkpoint.Size, reader.ReadTile)
		if err != nil {
			t.Fatal(err)
		}
		hashes, err := prover.ConsistencyProof(t.Context(), last.Size, checkpoint.Size)
		if err != nil {
			t.Fatal(err)
		}
		if err := proof.VerifyConsistency(rfc6962.DefaultHasher, last.Size, checkpoint.Size, hashes, last.Root, checkpoint.Hash); err != nil {
			t.Fatal(err)
		}
	}
	for i := last.Size; i < checkpoint.Size; {
		index := i / layout.TileWidth
		n := min(layout.TileWidth, checkpoint.Size-index*layout.TileWidth)
		entries := entriesOf(t, reader.ReadEntryBundle, index, uint8(n%layout.TileWidth), int(n))
		for ; i < index*layout.TileWidth+n; i++ {
			for _, name := range namesIn(t, entries[i%layout.TileWidth]) {
				fmt.Printf("found %s at %d\n", name, i)
			}
		}
	}
	fmt.Printf("read from %d to %d\n", last.Size, checkpoint.Size)
	text, err := json.Marshal(position{checkpoint.Size, checkpoint.Hash})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(env(t, "LOG_POSITION"), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// fromTUF gets the address of the log that clients write to and the keys to believe from the
// repository LOG_TUF, whose first root is in the file LOG_TUF_ROOT.
func fromTUF(t *testing.T) (string, *root.TrustedRoot) {
	t.Helper()
	first, err := os.ReadFile(env(t, "LOG_TUF_ROOT"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := tuf.New(tuf.DefaultOptions().WithRoot(first).WithRepositoryBaseURL(env(t, "LOG_TUF")).WithCachePath(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := root.GetTrustedRoot(c)
	if err != nil {
		t.Fatal(err)
	}
	config, err := root.GetSigningConfig(c)
	if err != nil {
		t.Fatal(err)
	}
	logs := config.RekorLogURLs()
	if len(logs) != 1 || logs[0].MajorAPIVersion != 2 {
		t.Fatalf("the signing config names the logs %v; want one of version 2", logs)
	}
	return logs[0].URL, trusted
}

// openReader picks the log's key by its checkpoint and returns a client that reads with it.
func openReader(t *testing.T, address, origin string, trusted *root.TrustedRoot) read.Client {
	t.Helper()
	at, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	fetcher, err := client.NewHTTPFetcher(at, nil)
	if err != nil {
		t.Fatal(err)
	}
	checkpoint, err := fetcher.ReadCheckpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(checkpoint), "\n\n— "+origin+" ")
	line, _, _ = strings.Cut(line, "\n")
	sig, err := base64.StdEncoding.DecodeString(line)
	if err != nil || len(sig) < 4 {
		t.Fatalf("the first signature line is not the log's: %v\n%s", err, checkpoint)
	}
	for id, instance := range trusted.RekorLogs() {
		full, err := hex.DecodeString(id)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(full[:4], sig[:4]) {
			continue
		}
		verifier, err := signature.LoadVerifier(instance.PublicKey, instance.HashFunc)
		if err != nil {
			t.Fatal(err)
		}
		r, err := read.NewReader(address, origin, verifier)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	t.Fatalf("no log of the trusted root has a key that begins with %x", sig[:4])
	return nil
}

func readPosition(t *testing.T) position {
	t.Helper()
	var p position
	text, err := os.ReadFile(env(t, "LOG_POSITION"))
	if errors.Is(err, fs.ErrNotExist) {
		return p
	}
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// namesIn lists whom the certificate of an entry names, if it has one.
func namesIn(t *testing.T, text []byte) []string {
	t.Helper()
	var e rekor.Entry
	if err := protojson.Unmarshal(text, &e); err != nil {
		t.Fatal(err)
	}
	held := e.GetSpec().GetHashedRekordV002().GetSignature().GetVerifier().GetX509Certificate()
	if held == nil {
		return nil
	}
	verifier, err := certificate.NewVerifier(bytes.NewReader(held.GetRawBytes()))
	if err != nil {
		t.Fatal(err)
	}
	identity, err := verifier.Identity()
	if err != nil {
		t.Fatal(err)
	}
	return cryptoutils.GetSubjectAlternateNames(identity.Crypto.(*x509.Certificate))
}
