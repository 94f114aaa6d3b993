package monitor_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tallywood/log/entry"
	"tallywood/monitor"
	"tallywood/monitor/authorize"
	"tallywood/monitor/rule"
	"tallywood/storage/mem"
)

const (
	releaseCommit = "2fd4e1c67a2d28fced849ee1bb76e7391b93eb12"
	releaseRun    = "https://github.com/example/tool/actions/runs/7/attempts/1"
)

// built returns an entry, by a certificate of a build with a run, a commit and a ref, and the digest
// that it is a signature of.
func (ca *testCA) built(run, commit, ref string) (canonical []byte, digest string) {
	ca.t.Helper()
	var extra []pkix.Extension
	for n, v := range map[int]string{12: "https://github.com/example/tool", 13: commit, 14: ref, 21: run} {
		der, err := asn1.MarshalWithParams(v, "utf8")
		if err != nil {
			ca.t.Fatal(err)
		}
		extra = append(extra, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, n}, Value: der})
	}
	cert := ca.certificate(alice, goodIssuer, extra...)
	sum := sha256.Sum256(cert)
	sig, err := ecdsa.SignASN1(rand.Reader, ca.key, sum[:])
	if err != nil {
		ca.t.Fatal(err)
	}
	canonical, err = entry.Canonical(sum[:], entry.Signature{Content: sig, Certificate: cert, KeyDetails: entry.ECDSAP256})
	if err != nil {
		ca.t.Fatal(err)
	}
	return canonical, rule.DigestText(crypto.SHA256, sum[:])
}

// TestReleasesOfAPipelineAreExplained has a signed manifest explain what a pipeline signed, each thing
// in another way, and what is next to it not.
func TestReleasesOfAPipelineAreExplained(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	signer, vkey, err := authorize.NewSigner("release.example.org", key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "releases.txt")
	other := strings.TrimSuffix(releaseRun, "1")
	byDigest, digest := ca.built(other+"9", strings.Repeat("0", 40), "refs/heads/main")
	byRun, _ := ca.built(releaseRun, strings.Repeat("0", 40), "refs/heads/main")
	byCommit, _ := ca.built(other+"9", releaseCommit, "refs/tags/v1.0.0")
	anotherRun, _ := ca.built(other+"2", strings.Repeat("0", 40), "refs/heads/main")
	branch, _ := ca.built(other+"9", releaseCommit, "refs/heads/main")
	movedTag, _ := ca.built(other+"9", strings.Repeat("0", 40), "refs/tags/v1.0.0")
	late, lateDigest := ca.built(other+"9", strings.Repeat("0", 40), "refs/heads/main")

	now := time.Now()
	_, err = authorize.Append(authorize.Additions{Path: path, Signer: signer, VKey: vkey, Now: now.Add(-2 * time.Hour), Statements: []authorize.Statement{
		{Kind: authorize.Digest, Value: digest}, {Kind: authorize.Run, Value: releaseRun},
		{Kind: authorize.Commit, Value: releaseCommit}, {Kind: authorize.Tag, Value: "refs/tags/v1.0.0"},
		{Kind: authorize.Digest, Value: lateDigest, Expires: now.Add(-90 * time.Minute).UTC().Truncate(time.Second)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	v, err := authorize.NewKeys([]string{vkey})
	if err != nil {
		t.Fatal(err)
	}
	s := newStation(t, l.config(monitor.KindRekor))
	s.authorized(time.Nanosecond, false)
	if s.options.Authorizations, err = authorize.New(authorize.Options{State: mem.New(),
		Identities: []authorize.Identity{{Name: "me", From: []string{path}, Verifier: v}}}); err != nil {
		t.Fatal(err)
	}
	l.add(byDigest, byRun, byCommit)
	if r := s.expect(rule.Clean); r.Logs[0].Scanned != 3 {
		t.Fatalf("status %+v", r.Logs[0])
	}
	l.add(anotherRun, branch, movedTag, late)
	r := s.expect(rule.IdentityAlert, rule.IDUnauthorized, rule.IDUnauthorized, rule.IDUnauthorized, rule.IDUnauthorized)
	for i, e := range r.Events {
		if e.Index != int64(3+i) || e.RunURL != fmt.Sprint(other, 9-7*max(0, 1-i)) {
			t.Errorf("event %+v", e)
		}
	}
}
