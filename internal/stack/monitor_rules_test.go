package stack_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tallywood/internal/config"
	"tallywood/internal/keys"
	"tallywood/internal/stack"
)

// trustFiles writes an authority and a certificate log's key, in PEM and as a trusted root, and
// returns the directory.
func trustFiles(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA", Organization: []string{"x"}}, IsCA: true,
		BasicConstraintsValid: true, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	id := sha256.Sum256(spki)
	b64 := base64.StdEncoding.EncodeToString
	since := `"validFor": {"start": "2020-01-01T00:00:00Z"}`
	for name, text := range map[string]string{
		"ca.pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})),
		"ct.pem": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})),
		"empty":  "",
		"root.json": fmt.Sprintf(`{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
			"certificateAuthorities": [{"subject": {"organization": "x", "commonName": "CA"}, "uri": "https://ca.example.org",
				"certChain": {"certificates": [{"rawBytes": %q}]}, %s}],
			"ctlogs": [{"baseUrl": "https://ct.example.org", "hashAlgorithm": "SHA2_256",
				"publicKey": {"rawBytes": %q, "keyDetails": "PKIX_ECDSA_P256_SHA_256", %s}, "logId": {"keyId": %q}}]}`,
			b64(cert), since, b64(spki), since, b64(id[:])),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// monitorOf parses the configuration of a monitor of one log with some lines of its own.
func monitorOf(t *testing.T, dir, lines string) (*config.Monitor, error) {
	t.Helper()
	vkey := keys.VKey("log.example.org", keys.AlgEd25519, make([]byte, ed25519.PublicKeySize))
	return config.ParseMonitor(fmt.Appendf(nil, "state: state\nlogs: [{origin: log.example.org, url: \"http://127.0.0.1:1\", vkey: %q, policy: none}]\n"+
		"notify: {all: {jsonl: e}}\n%s\n", vkey, lines), dir, func(string) (string, bool) { return "", false })
}

func TestRulesOfAConfiguration(t *testing.T) {
	dir := trustFiles(t)
	me := "identities: [{name: me, email: a@b.c}]\n"
	for lines, want := range map[string]string{ // an empty one: accepted
		me + "rules: {cert.bad-sct: {}, cert.no-sct: {}}\nct_keys: [root.json]":     "",
		me + "rules: {cert.bad-sct: {}}\nct_keys: [ct.pem]\ncas: ca.pem":            "",
		me + "rules: {cert.sct-unknown-log: {}}\nct_keys: [ct.pem]\ncas: root.json": "",
		me + "rules: {cert.bad-sct: {}}\nct_keys: [ct.pem]":                         `rule "cert.bad-sct" needs cas, or a trusted root among ct_keys`,
		me + "rules: {cert.bad-sct: {}}":                                            `rule "cert.bad-sct" needs ct_keys`,
		me + "ct_keys: [ca.pem]":                                                    `PEM block of type "CERTIFICATE"; want PUBLIC KEY`,
		me + "ct_keys: [empty]":                                                     "no key in it",
		me + "ct_keys: [nowhere.pem]":                                               "reading ct_keys: open ",
		me + "ct_keys: [\"\"]":                                                      "ct_keys: file 1 has no name",
		me + "cas: ct.pem":                                                          "want CERTIFICATE",
		me + "rules: {id.burts: {max: 2}}":                                          `unknown rule "id.burts"; is "id.burst" meant?`,
		me + "rules: {log.behind: {max: 100}, id.lookalike: {allow: [b.d]}}":        "",
		me + "rules: {log.rollback: {off: true}}":                                   `rule "log.rollback" is always on`,
		me + "rules: {log.behind: {grace: 1s}}":                                     `rule "log.behind" does not take "grace"; it takes max, after`,
		"identities: []\nrules: {log.behind: {max: 100}}":                           "",
		"identities: []\nrules: {id.lookalike: {}}":                                 `rule "id.lookalike" is about identities, and none is watched`,
		"identities: []\naudit: true\nrules: {cert.bad-eku: {}}":                    "",
		"identities: [{name: me, github: a/b, repository_id: 123456789}]":           "",
		"identities: [{name: me, github: a/b, repository_id: b}]":                   `repository_id "b" is not a number`,
		"identities: [{name: me, github: a/b, expect: {ref: [x]}}]":                 `unknown key "ref"`,
	} {
		m, err := monitorOf(t, dir, lines)
		if err == nil {
			err = stack.CheckMonitor(m)
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s\nerror %v, want %q", lines, err, want)
		}
	}
}

func TestSilentRulesAreExplained(t *testing.T) {
	m, err := monitorOf(t, t.TempDir(), "identities: [{name: tool, github: a/b, expect: {issuers: [x], workflows: [x/x.yml], triggers: [push], runner: self-hosted}}]\nrules: {id.unexpected-env: {off: true}}")
	if err != nil {
		t.Fatal(err)
	}
	lines, err := stack.ExplainMonitor(m)
	want := "silent, for want of something to compare with: tool: id.unknown-ca (cas), id.unexpected-ref (expect.refs), " +
		"id.repo-id-mismatch (repository_id or owner_id), id.unauthorized (expect.authorize)"
	if err != nil || len(lines) != 1 || lines[0] != want {
		t.Errorf("lines %q, error %v, want %q", lines, err, want)
	}
}
