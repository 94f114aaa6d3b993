package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/ctonly"
	tposix "github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"

	"tallywood/internal/keys"
	"tallywood/internal/loopback"
)

// The log server of another author, over a directory.
const (
	rekorServerPackage = "github.com/sigstore/rekor-tiles/v2/cmd/rekor-server/posix"
	rekorServerVersion = "v2.3.0"
)

// An otherLog has `monitor check` run on a log that is not ours.
type otherLog struct {
	dir, config string
}

// watchOther serves the static files in files and writes the configuration of a monitor for them.
func watchOther(t *testing.T, files, origin, kind, vkey string) *otherLog {
	t.Helper()
	srv := httptest.NewServer(http.FileServer(http.Dir(files)))
	t.Cleanup(srv.Close)
	w := &otherLog{dir: t.TempDir()}
	w.config = writeFile(t, w.dir, "monitor.yaml", fmt.Sprintf(`state: ./state
logs:
  - {origin: %q, kind: %s, url: %q, vkey: %q, policy: none}
identities:
  - {name: alice, email: alice@example.com, expect: {issuers: ["https://accounts.example.com"]}}
notify:
  all: {jsonl: events.jsonl}
`, origin, kind, srv.URL, vkey))
	return w
}

// check wants an exit code, and lines of the output.
func (w *otherLog) check(t *testing.T, code int, lines ...string) {
	t.Helper()
	out, got := command(t, w.dir, "tallywood", "monitor", "check", "--config", w.config)
	if got != code {
		t.Fatalf("exit code %d; want %d\n%s", got, code, out)
	}
	for _, want := range lines {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// flipBit changes one bit of a file.
func flipBit(t *testing.T, path string, at int) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[at] ^= 1
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestMonitorFollowsTheLogOfRekorTiles watches a log that rekor-tiles' own server writes.
func TestMonitorFollowsTheLogOfRekorTiles(t *testing.T) {
	program := install(t, rekorServerPackage, rekorServerVersion)
	dir := t.TempDir()
	const origin = "rekor.example.org"
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.WriteSigner(filepath.Join(dir, "key.pem"), private); err != nil {
		t.Fatal(err)
	}
	var port []string
	for range 3 {
		_, p, err := net.SplitHostPort(loopback.Address(t))
		if err != nil {
			t.Fatal(err)
		}
		port = append(port, p)
	}
	files := filepath.Join(dir, "log")
	cmd := exec.Command(program, "serve", "--hostname", origin, "--storage-dir", files, "--signer-filepath", filepath.Join(dir, "key.pem"),
		"--http-port", port[0], "--grpc-port", port[1], "--http-metrics-port", port[2], "--checkpoint-interval", "100ms", "--batch-max-age", "10ms")
	stderr := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = stderr, stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // whatever it is doing
		_ = cmd.Wait()
	})
	url := "http://127.0.0.1:" + port[0]
	add := func(issuer string) {
		t.Helper()
		eventually(t, "entry in the log of rekor-tiles", func() bool {
			resp, err := http.Post(url+"/api/v2/log/entries", "application/json", strings.NewReader(foreignEntry(t, issuer)))
			if err != nil {
				return false
			}
			resp.Body.Close()
			return resp.StatusCode == http.StatusCreated
		})
	}
	for range 3 {
		add("https://accounts.example.com")
	}
	w := watchOther(t, files, origin, "rekor", keys.VKey(origin, keys.AlgEd25519, public))
	w.check(t, 0, origin+": 3 of 3 entries verified")
	add("https://accounts.evil.example")
	w.check(t, 3, "critical: id.unexpected-issuer", "entry 3", origin+": 4 of 4 entries verified")
	add("https://accounts.example.com")
	flipBit(t, filepath.Join(files, "tile/entries/000.p/5"), 100)
	w.check(t, 4, "critical: log.bundle-mismatch")
}

// newTessera starts a Tessera log in dir with its own POSIX driver.
func newTessera(t *testing.T, dir, origin string, tune func(*tessera.AppendOptions) *tessera.AppendOptions) (a *tessera.Appender, await *tessera.PublicationAwaiter, vkey string) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	driver, err := tposix.New(t.Context(), tposix.Config{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	a, shutdown, reader, err := tessera.NewAppender(t.Context(), driver, tune(tessera.NewAppendOptions().WithCheckpointSigner(signer).
		WithCheckpointInterval(100*time.Millisecond).WithBatching(256, 10*time.Millisecond)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return a, tessera.NewPublicationAwaiter(t.Context(), reader.ReadCheckpoint, 20*time.Millisecond), vkey
}

// published waits until all that was added is under the checkpoint.
func published(t *testing.T, await *tessera.PublicationAwaiter, futures []tessera.IndexFuture) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, f := range futures {
		if _, _, err := await.Await(ctx, f); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMonitorFollowsATesseraLog watches a log of anything that Tessera writes with its own driver.
func TestMonitorFollowsATesseraLog(t *testing.T) {
	dir := t.TempDir()
	const origin = "tessera.example.org/log"
	a, await, vkey := newTessera(t, dir, origin, func(o *tessera.AppendOptions) *tessera.AppendOptions { return o })
	add := func(from, to int) {
		t.Helper()
		var futures []tessera.IndexFuture
		for i := from; i < to; i++ {
			futures = append(futures, a.Add(t.Context(), tessera.NewEntry(fmt.Appendf(nil, "entry %d", i))))
		}
		published(t, await, futures)
	}
	add(0, 300)
	w := watchOther(t, dir, origin, "tlog", vkey)
	w.check(t, 0, origin+": 300 of 300 entries verified")
	add(300, 700)
	w.check(t, 0, origin+": 700 of 700 entries verified")
	add(700, 710)
	flipBit(t, filepath.Join(dir, "tile/entries/002.p/198"), 2000)
	w.check(t, 4, "critical: log.bundle-mismatch")
}

// TestMonitorFollowsACertificateLogOfTessera watches a static-ct log that Tessera writes in the layout
// it has for certificate logs.
func TestMonitorFollowsACertificateLogOfTessera(t *testing.T) {
	dir := t.TempDir()
	const origin = "ct.example.org/2026"
	a, await, vkey := newTessera(t, dir, origin, func(o *tessera.AppendOptions) *tessera.AppendOptions { return o.WithCTLayout() })
	submit := tessera.NewCertificateTransparencyAppender(a)
	add := func(n int, email, issuer string) {
		t.Helper()
		var futures []tessera.IndexFuture
		for range n {
			futures = append(futures, submit(t.Context(), &ctonly.Entry{Timestamp: uint64(time.Now().UnixMilli()),
				Certificate: selfSigned(t, email, issuer), FingerprintsChain: [][32]byte{sha256.Sum256([]byte("root"))}}))
		}
		published(t, await, futures)
	}
	add(300, "bob@example.com", "https://accounts.example.com")
	add(1, "alice@example.com", "https://accounts.example.com")
	w := watchOther(t, dir, origin, "ct", vkey)
	w.check(t, 0, origin+": 301 of 301 entries verified")
	add(1, "alice@example.com", "https://accounts.evil.example")
	w.check(t, 3, "critical: id.unexpected-issuer", "entry 301", origin+": 302 of 302 entries verified")
	add(1, "bob@example.com", "https://accounts.example.com")
	flipBit(t, filepath.Join(dir, "tile/data/001.p/47"), 200)
	w.check(t, 4, "critical: log.bundle-mismatch")
}

// selfSigned returns a certificate for a mail address, on the word of an issuer.
func selfSigned(t *testing.T, email, issuer string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	value, err := asn1.MarshalWithParams(issuer, "utf8")
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(10 * time.Minute),
		EmailAddresses: []string{email}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}, Value: value}}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
