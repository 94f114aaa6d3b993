package e2e_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The programs of sigstore-go that the tests install and use unmodified, of the newest version that
// builds and of the last that sent the log envelopes (dsseRequestV002) instead of their digests.
const (
	conformancePackage = "github.com/sigstore/sigstore-go/test/conformance"
	conformanceVersion = "v1.3.0"
	oldSigningPackage  = "github.com/sigstore/sigstore-go/examples/sigstore-go-signing"
	oldVersion         = "v1.1.4"
)

// Attestations of the tests are in-toto statements with this predicate.
const (
	statementMediaType = "application/vnd.in-toto+json"
	predicateType      = "https://slsa.dev/provenance/v1"
	predicateText      = `{"buildDefinition":{"buildType":"https://example.com/build"},"runDetails":{"builder":{"id":"https://example.com/builder"}}}`
)

// A client is an unmodified program that signs or verifies.
type client struct {
	name string
	// sign writes the bundle of a file, attest that of a statement about it; nil if it cannot.
	sign, attest func(t *testing.T, s *stack, g signing)
	verify       func(t *testing.T, s *stack, checks []check) []outcome
	blind        bool // it verifies what an envelope says, but not which file that is about
	// What it says of a wrong signer, of a file that is not the one signed, and of an envelope
	// whose payload was changed: regular expressions.
	saysIdentity, saysFile, saysPayload string
}

// A signing is what a client is asked to sign.
type signing struct {
	dir, file, bundle string
	config            string // path of the signing config
	token             string
}

// A check is a question to a client that verifies.
type check struct {
	Bundle   string `json:"bundle"`
	File     string `json:"file,omitempty"` // what was signed, or what the attestation is about
	Identity string `json:"identity"`
	Issuer   string `json:"issuer"`
	attested bool
}

// An outcome is a client's answer to a check.
type outcome struct {
	Verified bool   `json:"verified"`
	Said     string `json:"said"`
}

// clients are all that sign and verify without more than a trusted root and a signing config.
func clients() []client {
	return []client{
		{
			name: "cosign", sign: cosignSign, attest: cosignAttest, verify: oneByOne(cosignCheck),
			saysIdentity: `expected SAN value "mallory@example\.com", got "alice@example\.com"|none of the expected identities matched`,
			saysFile:     `invalid signature|digests? do(es)? not match`,
			saysPayload:  `could not verify envelope|verifying inclusion: calculated root`,
		},
		sigstoreGo("sigstore-go", "conformance", conformanceSign, conformanceAttest),
		sigstoreGo("old sigstore-go", oldVersion+"/conformance", oldSign, oldAttest),
		{
			name: "npm", sign: npmSign, attest: npmAttest, verify: npmVerify, blind: true,
			saysIdentity: `PolicyError UNTRUSTED_SIGNER_ERROR: certificate identity error`,
			saysFile:     `VerificationError SIGNATURE_ERROR`,
			saysPayload:  `VerificationError TLOG_BODY_ERROR: digest mismatch`,
		},
		{
			name: "tallywood", sign: tallywoodSign, verify: oneByOne(tallywoodCheck),
			saysIdentity: `mallory@example\.com`,
			saysFile:     `the artifact was changed`,
			saysPayload:  `does not verify: signature: `,
		},
	}
}

// sigstoreGo is a version of sigstore-go; program verifies as its authors' tests do.
func sigstoreGo(name, program string, sign, attest func(*testing.T, *stack, signing)) client {
	return client{
		name: name, sign: sign, attest: attest,
		verify: oneByOne(func(t *testing.T, s *stack, c check) (string, int) {
			t.Helper()
			return command(t, t.TempDir(), program, "verify-bundle", "--bundle", c.Bundle, "--certificate-identity", c.Identity,
				"--certificate-oidc-issuer", c.Issuer, "--trusted-root", filepath.Join(s.client, "trusted_root.json"), c.File)
		}),
		saysIdentity: `expected SAN value "mallory@example\.com", got "alice@example\.com"`,
		saysFile:     `invalid signature|digests? do(es)? not match`,
		saysPayload:  `could not verify envelope|verifying inclusion: calculated root`, // the entry is made of the payload
	}
}

func conformanceSign(t *testing.T, s *stack, g signing) {
	t.Helper()
	must(t, g.dir, "conformance", "sign-bundle", "--identity-token", g.token, "--signing-config", g.config,
		"--trusted-root", filepath.Join(s.client, "trusted_root.json"), "--bundle", g.bundle, g.file)
}

func conformanceAttest(t *testing.T, s *stack, g signing) {
	t.Helper()
	must(t, g.dir, "conformance", "sign-bundle", "--in-toto", "--identity-token", g.token, "--signing-config", g.config,
		"--trusted-root", filepath.Join(s.client, "trusted_root.json"), "--bundle", g.bundle, writeStatement(t, g))
}

func oldSign(t *testing.T, s *stack, g signing) {
	t.Helper()
	oldMake(t, s, g, "-id-token", g.token, g.file)
}

func oldAttest(t *testing.T, s *stack, g signing) {
	t.Helper()
	oldMake(t, s, g, "-id-token", g.token, "-in-toto", writeStatement(t, g))
}

// oldMake runs the old signing program, which prints the bundle as its last line.
func oldMake(t *testing.T, s *stack, g signing, args ...string) {
	t.Helper()
	out := must(t, g.dir, append([]string{oldVersion + "/sigstore-go-signing", "-tsa", "-rekor", "-signing-config", g.config,
		"-trusted-root", filepath.Join(s.client, "trusted_root.json")}, args...)...)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	writeFile(t, "", g.bundle, lines[len(lines)-1])
}

// installClients installs what clients() runs.
func installClients(t *testing.T) {
	t.Helper()
	install(t, cosignPackage, cosignVersion)
	install(t, conformancePackage, conformanceVersion)
	installIn(t, filepath.Join(bin, oldVersion), conformancePackage, oldVersion)
	installIn(t, filepath.Join(bin, oldVersion), oldSigningPackage, oldVersion)
	npmClients(t)
}

// oneByOne runs a program for each check.
func oneByOne(run func(*testing.T, *stack, check) (string, int)) func(*testing.T, *stack, []check) []outcome {
	return func(t *testing.T, s *stack, checks []check) []outcome {
		t.Helper()
		outcomes := make([]outcome, len(checks))
		for i, c := range checks {
			out, code := run(t, s, c)
			outcomes[i] = outcome{Verified: code == 0, Said: out}
		}
		return outcomes
	}
}

func cosignSign(t *testing.T, s *stack, g signing) {
	t.Helper()
	must(t, g.dir, "cosign", "sign-blob", "--yes", "--signing-config", g.config, "--trusted-root", filepath.Join(s.client, "trusted_root.json"),
		"--identity-token", g.token, "--bundle", g.bundle, g.file)
}

func cosignAttest(t *testing.T, s *stack, g signing) {
	t.Helper()
	must(t, g.dir, "cosign", "attest-blob", "--yes", "--signing-config", g.config, "--trusted-root", filepath.Join(s.client, "trusted_root.json"),
		"--identity-token", g.token, "--predicate", writeFile(t, g.dir, "predicate.json", predicateText), "--type", predicateType,
		"--bundle", g.bundle, g.file)
}

func cosignCheck(t *testing.T, s *stack, c check) (string, int) {
	t.Helper()
	args := []string{"cosign", "verify-blob"}
	if c.attested {
		args = []string{"cosign", "verify-blob-attestation", "--type", predicateType}
	}
	return command(t, t.TempDir(), append(args, "--trusted-root", filepath.Join(s.client, "trusted_root.json"), "--bundle", c.Bundle,
		"--certificate-identity", c.Identity, "--certificate-oidc-issuer", c.Issuer, c.File)...)
}

func tallywoodSign(t *testing.T, s *stack, g signing) {
	t.Helper()
	must(t, g.dir, "tallywood", "sign", g.file, "--yes", "--trust", s.client, "--identity-token", g.token, "--bundle", g.bundle)
}

func tallywoodCheck(t *testing.T, s *stack, c check) (string, int) {
	t.Helper()
	return command(t, t.TempDir(), "tallywood", "verify", c.File, "--bundle", c.Bundle, "--trust", s.client,
		"--certificate-identity", c.Identity, "--certificate-oidc-issuer", c.Issuer)
}

// writeStatement writes the in-toto statement about the file of g and returns its path.
func writeStatement(t *testing.T, g signing) string {
	t.Helper()
	return writeFile(t, g.dir, "statement.json", fmt.Sprintf(
		`{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":%q,"digest":{"sha256":"%x"}}],"predicateType":%q,"predicate":%s}`,
		filepath.Base(g.file), sha256.Sum256([]byte(readFile(t, "", g.file))), predicateType, predicateText))
}

// TestEveryClientVerifiesWhatEveryOtherSigned has each client sign a file and attest to it, and
// each verify all of that and refuse what is wrong, for the reason that is wrong with it.
func TestEveryClientVerifiesWhatEveryOtherSigned(t *testing.T) {
	installClients(t)
	work := t.TempDir()
	s := up(t, filepath.Join(work, "data"))
	file := writeFile(t, work, "artifact.tar", "the artifact")
	other := writeFile(t, work, "other.tar", "another artifact")
	signed := signWithAll(t, s, work, file)
	if len(signed) != 9 {
		t.Fatalf("%d bundles were signed; want a blob of 5 clients and an attestation of 4", len(signed))
	}
	var foreign, swapped, changed []check
	for _, c := range signed {
		mallory, another := c, c
		mallory.Identity, another.File = "mallory@example.com", other
		foreign, swapped = append(foreign, mallory), append(swapped, another)
		if c.attested {
			c.Bundle = changePayload(t, c.Bundle)
			changed = append(changed, c)
		}
	}
	for _, c := range clients() {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			expect(t, signed, c.verify(t, s, signed), "")
			expect(t, foreign, c.verify(t, s, foreign), c.saysIdentity)
			expect(t, changed, c.verify(t, s, changed), c.saysPayload)
			about := swapped
			if c.blind { // to what an attestation is about
				about = slices.DeleteFunc(slices.Clone(swapped), func(c check) bool { return c.attested })
			}
			expect(t, about, c.verify(t, s, about), c.saysFile)
		})
	}
}

// signWithAll has every client sign file, and attest to it if it can, as alice.
func signWithAll(t *testing.T, s *stack, work, file string) []check {
	t.Helper()
	var signed []check
	for _, c := range clients() {
		g := signing{dir: work, file: file, config: filepath.Join(s.client, "signing_config.v0.2.json"), token: s.token(t, "alice@example.com")}
		name := filepath.Join(work, strings.ReplaceAll(c.name, " ", "-"))
		done := check{File: file, Identity: "alice@example.com", Issuer: s.issuer()}
		g.bundle, done.Bundle = name+".blob.json", name+".blob.json"
		c.sign(t, s, g)
		signed = append(signed, done)
		if c.attest != nil {
			g.bundle, done.Bundle, done.attested = name+".attestation.json", name+".attestation.json", true
			c.attest(t, s, g)
			signed = append(signed, done)
		}
	}
	return signed
}

// expect checks that all checks came out good, or if there is a reason that all were refused for it.
func expect(t *testing.T, checks []check, outcomes []outcome, reason string) {
	t.Helper()
	if len(outcomes) != len(checks) {
		t.Fatalf("%d of %d checks were answered", len(outcomes), len(checks))
	}
	for i, o := range outcomes {
		bundle := filepath.Base(checks[i].Bundle)
		switch {
		case reason == "" && !o.Verified:
			t.Errorf("%s does not verify:\n%s", bundle, o.Said)
		case reason != "" && o.Verified:
			t.Errorf("%s verifies; want it refused for %q", bundle, reason)
		case reason != "" && !regexp.MustCompile(reason).MatchString(o.Said):
			t.Errorf("%s is refused, but not for %q:\n%s", bundle, reason, o.Said)
		}
	}
}

// changePayload copies the bundle of an attestation with another builder in its payload.
func changePayload(t *testing.T, bundle string) string {
	t.Helper()
	var b map[string]any
	if err := json.Unmarshal([]byte(readFile(t, "", bundle)), &b); err != nil {
		t.Fatal(err)
	}
	envelope, _ := b["dsseEnvelope"].(map[string]any)
	payload, _ := envelope["payload"].(string)
	text, err := base64.StdEncoding.DecodeString(payload)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), "https://example.com/builder", "https://example.com/burglar", 1)
	if changed == string(text) {
		t.Fatalf("the payload of %s does not name the builder: %s", bundle, text)
	}
	envelope["payload"] = base64.StdEncoding.EncodeToString([]byte(changed))
	out, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, filepath.Dir(bundle), strings.TrimSuffix(filepath.Base(bundle), ".json")+".changed.json", string(out))
}
