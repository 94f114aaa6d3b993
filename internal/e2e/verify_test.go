package e2e_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tallywood/internal/loopback"
)

// keyedCosign runs cosign in dir with its keys' password, which is empty, and wants it to succeed.
func keyedCosign(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command(install(t, cosignPackage, cosignVersion), args...)
	cmd.Dir, cmd.Env = dir, cleanEnv(t, "COSIGN_PASSWORD=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cosign %s: %v\n%s", args[0], err, out)
	}
}

// cosignMakes has cosign make a bundle with the stack's services: verb is sign-blob or attest-blob.
func (s *stack) cosignMakes(t *testing.T, dir, verb string, args ...string) {
	t.Helper()
	keyedCosign(t, dir, append([]string{verb, "--yes", "--signing-config", filepath.Join(s.client, "signing_config.v0.2.json"),
		"--trusted-root", filepath.Join(s.client, "trusted_root.json")}, args...)...)
}

// importKey gives cosign a key, as cosign.key and cosign.pub in a new directory.
func importKey(t *testing.T, key crypto.Signer, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writeFile(t, dir, "private.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	keyedCosign(t, dir, "import-key-pair", "--key", "private.pem", "--output-key-prefix", "cosign")
	return dir
}

// TestVerifyManagedKeysOfCosign signs with a key of each kind that cosign keeps, a file and an
// attestation about it.
func TestVerifyManagedKeysOfCosign(t *testing.T) {
	work := t.TempDir()
	s := up(t, filepath.Join(work, "data"))
	file := writeFile(t, work, "artifact.tar", "the artifact")
	writeFile(t, work, "predicate.json", `{"passed":true}`)
	// Ed25519 is missing: cosign signs with the prehashed form, as logs want it, and then refuses its
	// own signature because it is not the pure one.
	keys := map[string]string{}
	for name, curve := range map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		keys[name] = importKey(t, key, err)
	}
	for _, bits := range []int{2048, 4096} {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		keys[fmt.Sprintf("RSA %d", bits)] = importKey(t, key, err)
	}
	for name, dir := range keys {
		t.Run(name, func(t *testing.T) {
			private, public := filepath.Join(dir, "cosign.key"), filepath.Join(dir, "cosign.pub")
			bundle := filepath.Join(dir, "blob.json")
			s.cosignMakes(t, work, "sign-blob", "--key", private, "--bundle", bundle, file)
			out := must(t, work, "tallywood", "verify", file, "--bundle", bundle, "--key", public, "--trust", s.client)
			if !strings.Contains(out, "verified: signed with the key sha256:") || !strings.Contains(out, "cosigned by witness-") {
				t.Errorf("tallywood verify printed:\n%s", out)
			}
			attestation := filepath.Join(dir, "attestation.json")
			s.cosignMakes(t, work, "attest-blob", "--key", private, "--type", "custom",
				"--predicate", "predicate.json", "--bundle", attestation, file)
			out = must(t, work, "tallywood", "verify", file, "--bundle", attestation, "--key", public, "--trust", s.client, "--type", "custom")
			if !strings.Contains(out, "attestation of type https://cosign.sigstore.dev/attestation/v1") {
				t.Errorf("tallywood verify printed:\n%s", out)
			}
		})
	}
	wrongKeys(t, s, work, file, keys)
}

// wrongKeys checks that what must not verify does not.
func wrongKeys(t *testing.T, s *stack, work, file string, keys map[string]string) {
	t.Helper()
	bundle := filepath.Join(keys["P-256"], "blob.json")
	for name, args := range map[string][]string{
		"another key":      {file, "--key", filepath.Join(keys["P-384"], "cosign.pub")},
		"another artifact": {writeFile(t, work, "other.tar", "another artifact"), "--key", filepath.Join(keys["P-256"], "cosign.pub")},
		"no key":           {file, "--certificate-identity", "alice@example.com", "--certificate-oidc-issuer", s.issuer()},
		"no attestation":   {file, "--key", filepath.Join(keys["P-256"], "cosign.pub"), "--type", "custom"},
	} {
		out, code := command(t, work, append([]string{"tallywood", "verify", "--bundle", bundle, "--trust", s.client}, args...)...)
		if code != 1 || !strings.Contains(out, "does not verify") {
			t.Errorf("%s: exit code %d\n%s", name, code, out)
		}
	}
}

func TestVerifyAttestationsOfCosign(t *testing.T) {
	work := t.TempDir()
	s := up(t, filepath.Join(work, "data"))
	file := writeFile(t, work, "artifact.tar", "the artifact")
	writeFile(t, work, "predicate.json", `{"buildDefinition":{"buildType":"https://example.com/build"},"runDetails":{"builder":{"id":"https://example.com/builder"}}}`)
	s.cosignMakes(t, work, "attest-blob", "--type", "slsaprovenance1", "--predicate", "predicate.json",
		"--identity-token", s.token(t, "alice@example.com"), "--bundle", "attestation.json", file)
	verify := []string{"tallywood", "verify", "--bundle", "attestation.json", "--trust", s.client,
		"--certificate-identity", "alice@example.com", "--certificate-oidc-issuer", s.issuer()}
	out := must(t, work, append(verify, file)...)
	if !strings.Contains(out, "attestation of type https://slsa.dev/provenance/v1") {
		t.Errorf("tallywood verify printed:\n%s", out)
	}
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("the artifact")))
	var result map[string]any
	out = must(t, work, append(verify, "--type", "slsaprovenance1", "--json", digest)...)
	if err := json.Unmarshal([]byte(out), &result); err != nil || result["predicate_type"] != "https://slsa.dev/provenance/v1" || result["identity"] != "alice@example.com" {
		t.Errorf("tallywood verify --json printed %v\n%s", err, out)
	}
	verifyWithLibrary(t, s, filepath.Join(work, "attestation.json"), file, "alice@example.com")
	for name, args := range map[string][]string{
		"another type":          {"--type", "slsaprovenance02", file},
		"another file":          {writeFile(t, work, "other.tar", "another artifact")},
		"another digest":        {fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("another artifact")))},
		"digest it has not got": {fmt.Sprintf("sha512:%x", sha512.Sum512([]byte("the artifact")))},
	} {
		out, code := command(t, work, append(verify, args...)...)
		if code != 1 || !strings.Contains(out, "does not verify") {
			t.Errorf("%s: exit code %d\n%s", name, code, out)
		}
	}
}

// TestVerifyPage does what docs/verify.md says, after what the README says.
func TestVerifyPage(t *testing.T) {
	install(t, cosignPackage, cosignVersion)
	p := openPage(t, "docs/verify.md")
	lines, _ := p.server(t, "tallywood up --address "+loopback.Address(t), 2)
	p.shell(t, lines[1]) // which makes hello.txt
	p.shell(t, `. ./tallywood-data/client/env
cosign sign-blob --yes --signing-config "$TALLYWOOD_TRUST/signing_config.v0.2.json" \
  --trusted-root "$TALLYWOOD_TRUST/trusted_root.json" --bundle hello.bundle \
  --identity-token "$(curl -s "$TALLYWOOD_OIDC_ISSUER/token?email=you@example.com")" hello.txt`)
	env := p.next(t, "sh", ". ./tallywood-data/client/env\n")
	if out := p.shell(t, env); !strings.Contains(out, "verified: signed by you@example.com") {
		t.Errorf("the digest: %s", out)
	}
	sourced, _, _ := strings.Cut(env, "\n")
	if out := p.shell(t, sourced+"\n"+p.next(t, "sh", "export COSIGN_PASSWORD=")); !strings.Contains(out, "verified: signed with the key sha256:") {
		t.Errorf("the managed key: %s", out)
	}
	if out := p.shell(t, sourced+"\n"+p.next(t, "sh", "echo ")); !strings.Contains(out, "attestation of type https://example.com/test-result/v1") {
		t.Errorf("the attestation: %s", out)
	}
	p.done(t)
}
