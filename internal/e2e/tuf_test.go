package e2e_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// A tufRepository is a TUF repository in a directory, served over loopback.
type tufRepository struct {
	url, root string // mirror, and path of the first root

	mu    sync.Mutex
	asked []string // paths of requests with the status they got
}

// serveTUF makes a repository of targets, all of whose roles have one key.
func serveTUF(t *testing.T, targets map[string]string) *tufRepository {
	t.Helper()
	dir := t.TempDir()
	if err := writeTUF(dir, targets); err != nil {
		t.Fatal(err)
	}
	r := &tufRepository{root: filepath.Join(dir, "1.root.json")}
	files := http.FileServer(http.Dir(dir)) // what is missing is answered with 404, as clients want it
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		files.ServeHTTP(&remembering{w, func(status int) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.asked = append(r.asked, fmt.Sprintf("%s %d", req.URL.Path, status))
		}}, req)
	}))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

// lacks says which of requests, paths with a status, were not made.
func (r *tufRepository) lacks(requests ...string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(requests, func(q string) bool { return slices.Contains(r.asked, q) })
}

// remembering passes on the status of an answer.
type remembering struct {
	http.ResponseWriter
	status func(int)
}

func (r *remembering) WriteHeader(status int) {
	r.status(status)
	r.ResponseWriter.WriteHeader(status)
}

// writeTUF writes a repository with consistent snapshots, good for a day.
func writeTUF(dir string, targets map[string]string) error {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	signer, err := signature.LoadSigner(private, crypto.Hash(0))
	if err != nil {
		return err
	}
	key, err := metadata.KeyFromPublicKey(private.Public())
	if err != nil {
		return err
	}
	expires := time.Now().UTC().Add(24 * time.Hour).Truncate(time.Second)
	root, files := metadata.Root(expires), metadata.Targets(expires)
	for _, role := range []string{metadata.ROOT, metadata.TARGETS, metadata.SNAPSHOT, metadata.TIMESTAMP} {
		if err := root.Signed.AddKey(key, role); err != nil {
			return err
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "targets"), 0o755); err != nil {
		return err
	}
	for name, text := range targets {
		target, err := metadata.TargetFile().FromBytes(name, []byte(text), "sha256")
		if err != nil {
			return err
		}
		files.Signed.Targets[name] = target
		path := filepath.Join(dir, "targets", hex.EncodeToString(target.Hashes["sha256"])+"."+name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	snapshot, timestamp := metadata.Snapshot(expires), metadata.Timestamp(expires)
	if err := signTUF(signer, filepath.Join(dir, "1.root.json"), root); err != nil {
		return err
	}
	if err := signTUF(signer, filepath.Join(dir, "1.targets.json"), files); err != nil {
		return err
	}
	if err := signTUF(signer, filepath.Join(dir, "1.snapshot.json"), snapshot); err != nil {
		return err
	}
	return signTUF(signer, filepath.Join(dir, "timestamp.json"), timestamp)
}

// signTUF signs a role's metadata and writes it.
func signTUF[T metadata.Roles](signer signature.Signer, path string, m *metadata.Metadata[T]) error {
	if _, err := m.Sign(signer); err != nil {
		return err
	}
	return m.ToFile(path, true)
}

// clientFiles are the targets that clients look for, by their names.
func clientFiles(t *testing.T, s *stack) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, name := range []string{"trusted_root.json", "signing_config.v0.2.json"} {
		files[name] = readFile(t, s.client, name)
	}
	return files
}

// TestClientsTakeTheirTrustFromATUFRepository signs and verifies with clients that are told
// nothing but a mirror and its first root.
func TestClientsTakeTheirTrustFromATUFRepository(t *testing.T) {
	install(t, cosignPackage, cosignVersion)
	work := t.TempDir()
	s := up(t, filepath.Join(work, "data"))
	repository := serveTUF(t, clientFiles(t, s))
	file := writeFile(t, work, "artifact.tar", "the artifact")
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	run := func(args ...string) string {
		t.Helper()
		out, code := commandIn(t, work, env, append([]string{"cosign"}, args...)...)
		if code != 0 {
			t.Fatalf("cosign %s: exit code %d\n%s", args[0], code, out)
		}
		return out
	}
	if out := run("initialize", "--mirror", repository.url, "--root", repository.root); strings.Contains(out, "WARNING") {
		t.Errorf("cosign initialize printed:\n%s", out)
	}
	if missed := repository.lacks("/2.root.json 404", "/timestamp.json 200", "/1.snapshot.json 200", "/1.targets.json 200"); len(missed) > 0 {
		t.Errorf("cosign did not ask for %q", missed)
	}
	identity := []string{"--certificate-identity", "alice@example.com", "--certificate-oidc-issuer", s.issuer()}
	run("sign-blob", "--yes", "--identity-token", s.token(t, "alice@example.com"), "--bundle", "blob.json", file)
	run(append([]string{"verify-blob", "--bundle", "blob.json", file}, identity...)...)
	run("attest-blob", "--yes", "--identity-token", s.token(t, "alice@example.com"), "--type", predicateType,
		"--predicate", writeFile(t, work, "predicate.json", predicateText), "--bundle", "attestation.json", file)
	run(append([]string{"verify-blob-attestation", "--type", predicateType, "--bundle", "attestation.json", file}, identity...)...)

	signed := []check{
		{Bundle: filepath.Join(work, "blob.json"), File: file, Identity: "alice@example.com", Issuer: s.issuer()},
		{Bundle: filepath.Join(work, "attestation.json"), File: file, Identity: "alice@example.com", Issuer: s.issuer(), attested: true},
	}
	foreign := slices.Clone(signed)
	for i := range foreign {
		foreign[i].Identity = "mallory@example.com"
	}
	other := writeFile(t, work, "other.tar", "another artifact")
	swapped := []check{{Bundle: signed[0].Bundle, File: other, Identity: "alice@example.com", Issuer: s.issuer()}}
	for name, verify := range map[string]func(*testing.T, *tufRepository, []check) []outcome{
		"sigstore": npmVerifyByTUF, "@sigstore/cli": npmCommandVerify,
	} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			expect(t, signed, verify(t, repository, signed), "")
			expect(t, foreign, verify(t, repository, foreign), "certificate identity error")
			expect(t, swapped, verify(t, repository, swapped), "SIGNATURE_ERROR")
		})
	}
}

// npmVerifyByTUF verifies with the npm package sigstore.
func npmVerifyByTUF(t *testing.T, r *tufRepository, checks []check) []outcome {
	t.Helper()
	return npmOutcomes(t, "sigstore.cjs", map[string]any{
		"mirror": r.url, "root": r.root, "cache": t.TempDir(), "checks": withoutStatedFiles(checks)})
}

// npmCommandVerify verifies with the command of the npm package @sigstore/cli.
func npmCommandVerify(t *testing.T, r *tufRepository, checks []check) []outcome {
	t.Helper()
	cache := t.TempDir()
	return oneByOne(func(t *testing.T, _ *stack, c check) (string, int) {
		args := []string{"node_modules/@sigstore/cli/bin/run", "verify", "--tuf-mirror-url", r.url, "--tuf-root-path", r.root, "--tuf-cache-path", cache,
			"--certificate-identity-email", c.Identity, "--certificate-issuer", c.Issuer, c.Bundle}
		if c.File != "" {
			args = append(args, "--blob-file", c.File)
		}
		out, said, code := node(t, t.TempDir(), nil, args...)
		return out + said, code
	})(t, nil, withoutStatedFiles(checks))
}
