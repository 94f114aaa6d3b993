package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestCosignSignsWithEveryAlgorithm has cosign make short-lived keys of each algorithm that it
// offers for the log.
func TestCosignSignsWithEveryAlgorithm(t *testing.T) {
	installClients(t)
	work := t.TempDir()
	s := up(t, filepath.Join(work, "data"))
	file := writeFile(t, work, "artifact.tar", "the artifact")
	var signed []check
	for _, algorithm := range []string{"ecdsa-sha2-256-nistp256", "ecdsa-sha2-384-nistp384", "ecdsa-sha2-512-nistp521",
		"rsa-sign-pkcs1-2048-sha256", "rsa-sign-pkcs1-3072-sha256", "rsa-sign-pkcs1-4096-sha256"} {
		bundle := filepath.Join(work, algorithm+".json")
		out, code := cosign(t, work, "sign-blob", "--yes", "--signing-config", filepath.Join(s.client, "signing_config.v0.2.json"),
			"--trusted-root", filepath.Join(s.client, "trusted_root.json"), "--identity-token", s.token(t, "alice@example.com"),
			"--signing-algorithm", algorithm, "--bundle", bundle, file)
		if code != 0 {
			t.Errorf("cosign with %s: exit code %d\n%s", algorithm, code, out)
			continue
		}
		signed = append(signed, check{Bundle: bundle, File: file, Identity: "alice@example.com", Issuer: s.issuer()})
	}
	for _, c := range clients() {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			expect(t, signed, c.verify(t, s, signed), "")
		})
	}
}

// TestCosignSignsWithKeysOfItsUsers signs and attests with long-lived keys, of which the log has
// only the public key.
func TestCosignSignsWithKeysOfItsUsers(t *testing.T) {
	installClients(t)
	work := t.TempDir()
	s := up(t, filepath.Join(work, "data"))
	file := writeFile(t, work, "artifact.tar", "the artifact")
	other := writeFile(t, work, "other.tar", "another artifact")
	trusted := []string{"--trusted-root", filepath.Join(s.client, "trusted_root.json")}
	run := func(name string, args ...string) (string, int) {
		t.Helper()
		return commandIn(t, work, cleanEnv(t, "COSIGN_PASSWORD=hunter2"), append([]string{"cosign", name}, args...)...)
	}
	sign := func(name, key, bundle string, more ...string) {
		t.Helper()
		args := append([]string{"--yes", "--signing-config", filepath.Join(s.client, "signing_config.v0.2.json"), "--key", key, "--bundle", bundle}, trusted...)
		if out, code := run(name, append(append(args, more...), file)...); code != 0 {
			t.Fatalf("cosign %s --key %s: exit code %d\n%s", name, key, code, out)
		}
	}
	makeKeys(t, work, run)
	for _, name := range []string{"p256", "p384", "p521", "rsa2048", "rsa3072", "rsa4096"} {
		t.Run(name, func(t *testing.T) {
			stranger := "p256.pub"
			if name == "p256" {
				stranger = "rsa2048.pub"
			}
			sign("sign-blob", name+".key", name+".json")
			verifiers := map[string]func(key, file string) (string, int){
				"sigstore-go": func(key, file string) (string, int) {
					return command(t, work, append([]string{"conformance", "verify-bundle", "--bundle", name + ".json", "--key", key}, append(trusted, file)...)...)
				},
				"tallywood": func(key, file string) (string, int) {
					return command(t, work, "tallywood", "verify", file, "--bundle", name+".json", "--key", key, "--trust", s.client)
				},
			}
			// What cosign signs with P-384 and P-521 keys of its users it verifies over SHA-256, which
			// it did not sign.
			if name != "p384" && name != "p521" {
				verifiers["cosign"] = func(key, file string) (string, int) {
					return run("verify-blob", append([]string{"--bundle", name + ".json", "--key", key, file}, trusted...)...)
				}
			}
			for client, verify := range verifiers {
				if out, code := verify(name+".pub", file); code != 0 {
					t.Errorf("%s: exit code %d\n%s", client, code, out)
				}
				if out, code := verify(stranger, file); code == 0 {
					t.Errorf("%s verified with another key:\n%s", client, out)
				}
				if out, code := verify(name+".pub", other); code == 0 || !regexp.MustCompile("signature|artifact was changed").MatchString(out) {
					t.Errorf("%s of another file: exit code %d\n%s", client, code, out)
				}
			}
		})
	}
	sign("attest-blob", "p256.key", "attestation.json", "--type", predicateType, "--predicate", writeFile(t, work, "predicate.json", predicateText))
	if out, code := run("verify-blob-attestation", append([]string{"--bundle", "attestation.json", "--key", "p256.pub", "--type", predicateType, file}, trusted...)...); code != 0 {
		t.Errorf("cosign verify-blob-attestation: exit code %d\n%s", code, out)
	}
	must(t, work, append([]string{"conformance", "verify-bundle", "--bundle", "attestation.json", "--key", "p256.pub"}, append(trusted, file)...)...)
}

// makeKeys has cosign make a key pair of its default kind, and import others.
func makeKeys(t *testing.T, dir string, cosign func(string, ...string) (string, int)) {
	t.Helper()
	if out, code := cosign("generate-key-pair", "--output-key-prefix", "p256"); code != 0 {
		t.Fatalf("cosign generate-key-pair: exit code %d\n%s", code, out)
	}
	for name, generate := range map[string]func() (any, error){
		"p384":    func() (any, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) },
		"p521":    func() (any, error) { return ecdsa.GenerateKey(elliptic.P521(), rand.Reader) },
		"rsa2048": func() (any, error) { return rsa.GenerateKey(rand.Reader, 2048) },
		"rsa3072": func() (any, error) { return rsa.GenerateKey(rand.Reader, 3072) },
		"rsa4096": func() (any, error) { return rsa.GenerateKey(rand.Reader, 4096) },
	} {
		key, err := generate()
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		path := writeFile(t, dir, name+".pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
		if out, code := cosign("import-key-pair", "--key", path, "--output-key-prefix", name); code != 0 {
			t.Fatalf("cosign import-key-pair: exit code %d\n%s", code, out)
		}
	}
}

// TestCosignChecksTheWorkflowOfAToken signs with a token like those of GitHub Actions, and has
// cosign check the workflow that the certificate names.
func TestCosignChecksTheWorkflowOfAToken(t *testing.T) {
	install(t, cosignPackage, cosignVersion)
	work := t.TempDir()
	data := filepath.Join(work, "data")
	up(t, data).stop(t)
	issuers := readFile(t, data, "issuers.yaml")
	writeFile(t, data, "issuers.yaml", strings.Replace(issuers, "type: email", "type: github-workflow", 1))
	s := readStack(t, start(t, 2, "tallywood", "up", "--data", data), data)

	file := writeFile(t, work, "artifact.tar", "the artifact")
	out, code := cosign(t, work, "sign-blob", "--yes", "--signing-config", filepath.Join(s.client, "signing_config.v0.2.json"),
		"--trusted-root", filepath.Join(s.client, "trusted_root.json"), "--identity-token", workflowToken(t, s), "--bundle", "artifact.json", file)
	if code != 0 {
		t.Fatalf("cosign sign-blob: exit code %d\n%s", code, out)
	}
	flags := map[string]string{"trigger": "push", "sha": workflowClaims["sha"], "name": "Release", "repository": "octo-org/octo-app", "ref": "refs/heads/main"}
	verify := func(wrong string) (string, int) {
		t.Helper()
		args := []string{"verify-blob", "--trusted-root", filepath.Join(s.client, "trusted_root.json"), "--bundle", "artifact.json",
			"--certificate-identity", "https://github.com/octo-org/octo-app/.github/workflows/release.yml@refs/heads/main",
			"--certificate-oidc-issuer", s.issuer()}
		for flag, value := range flags {
			if flag == wrong {
				value = "another"
			}
			args = append(args, "--certificate-github-workflow-"+flag, value)
		}
		return cosign(t, work, append(args, file)...)
	}
	if out, code := verify(""); code != 0 {
		t.Errorf("cosign verify-blob: exit code %d\n%s", code, out)
	}
	for flag, value := range flags {
		if out, code := verify(flag); code == 0 || !strings.Contains(out, "another") || !strings.Contains(out, value) {
			t.Errorf("cosign with another workflow %s: exit code %d\n%s", flag, code, out)
		}
	}
}

// workflowClaims are those of a GitHub Actions token, as GitHub documents them.
var workflowClaims = map[string]string{
	"sub": "repo:octo-org/octo-app:ref:refs/heads/main", "ref": "refs/heads/main", "ref_type": "branch",
	"sha":        "7a8c2f3e1b0d4c5a6978877665544332211000ff",
	"repository": "octo-org/octo-app", "repository_id": "74", "repository_owner": "octo-org", "repository_owner_id": "65",
	"repository_visibility": "public", "run_id": "12345678901", "run_attempt": "2", "actor": "octocat", "workflow": "Release",
	"workflow_ref": "octo-org/octo-app/.github/workflows/release.yml@refs/heads/main", "workflow_sha": "7a8c2f3e1b0d4c5a6978877665544332211000ff",
	"job_workflow_ref": "octo-org/octo-app/.github/workflows/release.yml@refs/heads/main", "job_workflow_sha": "7a8c2f3e1b0d4c5a6978877665544332211000ff",
	"event_name": "push", "runner_environment": "github-hosted",
}

// workflowToken gets a development token with the claims of a workflow.
func workflowToken(t *testing.T, s *stack) string {
	t.Helper()
	form := url.Values{}
	for name, value := range workflowClaims {
		form.Set("claim."+name, value)
	}
	return strings.TrimSpace(get(t, s.issuer()+"/token?"+form.Encode(), http.StatusOK))
}
