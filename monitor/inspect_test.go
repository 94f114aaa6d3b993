package monitor_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"tallywood/log/ctentry"
	"tallywood/log/entry"
	"tallywood/monitor"
	"tallywood/witness/policy"
)

// promised returns the entry of a signature whose certificate has an SCT of ct; damage, if set,
// changes the SCT before it is embedded.
func (ca *testCA) promised(email string, ct *ecdsa.PrivateKey, damage func([]byte)) []byte {
	ca.t.Helper()
	// The SCT is over the certificate without it, so that this is made twice with the same serial, of the
	// same second.
	ca.made, ca.lives = time.Now().Add(-time.Minute), 11*time.Minute
	defer func() { ca.made, ca.lives = time.Time{}, 0 }()
	ca.n++
	n := ca.n
	bare := ca.certificate(email, goodIssuer)
	tbs, err := ctentry.TBS(bare)
	if err != nil {
		ca.t.Fatal(err)
	}
	e := ctentry.Entry{Precert: true, IssuerKeyHash: sha256.Sum256(ca.cert.RawSubjectPublicKeyInfo), Certificate: tbs}
	id, err := ctentry.LogID(ct.Public())
	if err != nil {
		ca.t.Fatal(err)
	}
	s := ctentry.SCT{LogID: id, Timestamp: time.Now().UnixMilli(), Hash: ctentry.HashSHA256, Algorithm: ctentry.SignatureECDSA}
	if s.Extensions, err = ctentry.MarshalExtensions(7); err != nil {
		ca.t.Fatal(err)
	}
	e.Timestamp, e.Extensions = s.Timestamp, s.Extensions
	signed, err := e.MerkleTreeLeaf() // what an SCT signs has the same bytes
	if err != nil {
		ca.t.Fatal(err)
	}
	digest := sha256.Sum256(signed)
	if s.Signature, err = ecdsa.SignASN1(rand.Reader, ct, digest[:]); err != nil {
		ca.t.Fatal(err)
	}
	raw, err := s.Marshal()
	if err != nil {
		ca.t.Fatal(err)
	}
	if damage != nil {
		damage(raw)
	}
	list, err := ctentry.MarshalSCTList([][]byte{raw})
	if err != nil {
		ca.t.Fatal(err)
	}
	value, err := asn1.Marshal(list)
	if err != nil {
		ca.t.Fatal(err)
	}
	ca.n = n
	cert := ca.certificate(email, goodIssuer, pkix.Extension{Id: ctentry.OIDSCTList, Value: value})
	return ca.sign(cert, []byte("artifact of "+email))
}

// sign returns the entry of a signature with a certificate for the CA's own key.
func (ca *testCA) sign(cert, artifact []byte) []byte {
	ca.t.Helper()
	digest := sha256.Sum256(artifact)
	sig, err := ecdsa.SignASN1(rand.Reader, ca.key, digest[:])
	if err != nil {
		ca.t.Fatal(err)
	}
	canonical, err := entry.Canonical(digest[:], entry.Signature{Content: sig, Certificate: cert, KeyDetails: entry.ECDSAP256})
	if err != nil {
		ca.t.Fatal(err)
	}
	return canonical
}

func newCTKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// inspect inspects an entry and wants it to be shown.
func inspect(t *testing.T, l *testLog, index int64, trust monitor.Trust) *monitor.Inspection {
	t.Helper()
	i, err := monitor.Inspect(t.Context(), l.server.URL, index, trust, nil)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// failed returns what did not pass.
func failed(checks []monitor.Check) []string {
	out := []string{}
	for _, c := range checks {
		if c.Result == monitor.Failed {
			out = append(out, c.What)
		}
	}
	return out
}

func TestInspectShowsWhoSignedWhatAndWhen(t *testing.T) {
	t.Parallel()
	ca, l, ct := newTestCA(t), newTestLog(t, "log.localhost"), newCTKey(t)
	l.add(filler(ca, 255)...)
	l.add(ca.promised(alice, ct, nil))
	l.add(filler(ca, 44)...)
	l.add(ca.promised(bob, ct, nil))
	trust := monitor.Trust{Policy: l.policy, CAs: []*x509.Certificate{ca.cert}, CTLogs: []crypto.PublicKey{ct.Public()}}
	for index, who := range map[int64]string{255: alice, 300: bob} {
		i := inspect(t, l, index, trust)
		if !i.Verified || len(failed(i.Checks)) > 0 || len(i.Checks) != 5 {
			t.Errorf("entry %d: %+v", index, i.Checks)
		}
		digest := sha256.Sum256([]byte("artifact of " + who))
		by := i.Statement.Signers[0]
		if by.Names[0].Text != who || by.Issuers[0] != goodIssuer || by.Chain[0] != "CN=test CA" || by.Key != "ECDSA P-256" ||
			!strings.HasSuffix(i.Statement.Digest, hex.EncodeToString(digest[:])) || by.NotAfter.Sub(by.NotBefore) != 11*time.Minute {
			t.Errorf("entry %d: %+v", index, i.Statement)
		}
		if i.Origin != "log.localhost" || i.Size != 301 || len(i.Cosignatures) != 3 || time.Since(i.LoggedBefore).Abs() > time.Minute {
			t.Errorf("entry %d: %+v", index, i.Checks)
		}
		wantProof(t, l, i)
	}
}

// wantProof checks the tlog-proof of an inspection as verifiers do.
func wantProof(t *testing.T, l *testLog, i *monitor.Inspection) {
	t.Helper()
	p, err := policy.ParseProof(i.Proof.Format())
	if err != nil {
		t.Fatal(err)
	}
	cp, err := l.policy.Open(p.Checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	var hashes tlog.RecordProof
	for _, h := range p.Hashes {
		hashes = append(hashes, h)
	}
	if err := tlog.CheckRecord(hashes, cp.Size(), cp.Root(), i.Index, tlog.RecordHash(i.Leaf)); err != nil {
		t.Error(err)
	}
}

func TestInspectChecksWhatAnEntryStates(t *testing.T) {
	t.Parallel()
	ca, other, ct, otherCT := newTestCA(t), newTestCA(t), newCTKey(t), newCTKey(t)
	good := ca.promised(alice, ct, nil)
	changed := bytes.Replace(good, []byte(`"digest":"`), []byte(`"digest":"AAAA`), 1)
	at := bytes.Index(changed, []byte(`"digest":"AAAA`)) + len(`"digest":"AAAA`)
	changed = slices.Delete(changed, at, at+4)
	for name, tc := range map[string]struct {
		entry []byte
		want  []string
	}{
		"good":                      {good, []string{}},
		"another's certificate":     {other.promised(alice, ct, nil), []string{"certificate"}},
		"no SCT":                    {ca.entry(alice, goodIssuer), []string{"SCT"}},
		"SCT of an unknown log":     {ca.promised(alice, otherCT, nil), []string{"SCT"}},
		"SCT with another time":     {ca.promised(alice, ct, func(sct []byte) { sct[40] ^= 1 }), []string{"SCT"}},
		"signature over other data": {changed, []string{"signature"}},
		"other spelling":            {append([]byte(" "), good...), []string{"form"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newTestLog(t, "log.localhost")
			l.add(tc.entry)
			i := inspect(t, l, 0, monitor.Trust{Policy: l.policy, CAs: []*x509.Certificate{ca.cert}, CTLogs: []crypto.PublicKey{ct.Public()}})
			if got := failed(i.Checks); !slices.Equal(got, tc.want) || i.Verified != (len(tc.want) == 0) {
				t.Errorf("failed: %q, verified: %v; want %q\n%+v", got, i.Verified, tc.want, i.Checks)
			}
		})
	}
}

func TestInspectReadsLogsOfAnything(t *testing.T) {
	t.Parallel()
	l := newTestLog(t, "log.localhost")
	l.add([]byte("\x1b[2Jhello"), nil)
	for index := range int64(2) {
		i := inspect(t, l, index, monitor.Trust{Policy: l.policy})
		if i.Kind != monitor.KindTlog || !i.Verified || len(i.Statement.Signers) > 0 {
			t.Errorf("%+v", i.Checks)
		}
		wantProof(t, l, i)
	}
}

func TestInspectReadsCertificateLogs(t *testing.T) {
	t.Parallel()
	ca, other, l := newTestCA(t), newTestCA(t), newTestLog(t, "ct.localhost")
	l.ct = true
	l.add(ca.tileLeaf(alice, goodIssuer, 0), ca.tileLeaf(bob, goodIssuer, 1))
	i := inspect(t, l, 1, monitor.Trust{Policy: l.policy, CAs: []*x509.Certificate{other.cert, ca.cert}})
	if !i.Verified || i.Kind != monitor.KindCT || i.Statement.Signers[0].Names[0].Text != bob || time.Since(i.Statement.Promised) > time.Minute {
		t.Errorf("%+v", i.Checks)
	}
	wantProof(t, l, i)
	if got := failed(inspect(t, l, 1, monitor.Trust{Policy: l.policy, CAs: []*x509.Certificate{other.cert}}).Checks); !slices.Equal(got, []string{"certificate"}) {
		t.Errorf("with another authority %q failed", got)
	}
	// Without authorities of our own the log's word on who issued it is looked at, and not believed.
	l.replace("issuer/"+hex.EncodeToString(sum(ca.cert.Raw)), ca.cert.Raw)
	if i := inspect(t, l, 1, monitor.Trust{Policy: l.policy}); len(failed(i.Checks)) > 0 || len(i.Statement.Signers[0].Chain) != 1 {
		t.Errorf("%+v", i.Checks)
	}
	l.replace("issuer/"+hex.EncodeToString(sum(ca.cert.Raw)), other.cert.Raw)
	if i := inspect(t, l, 1, monitor.Trust{Policy: l.policy}); len(i.Statement.Signers[0].Chain) != 0 {
		t.Errorf("another certificate was taken for the issuer's: %+v", i.Checks)
	}
}

// flawless reports whether no check of an entry failed.
func flawless(i *monitor.Inspection) bool { return len(failed(i.Checks)) == 0 }

func sum(b []byte) []byte { s := sha256.Sum256(b); return s[:] }

func TestInspectRefusesWhatTheLogDoesNotProve(t *testing.T) {
	t.Parallel()
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	l.add(filler(ca, 3)...)
	path := tilePath("entries", 0, 3)
	swapped := l.file(path)
	n := len(swapped) / 3
	swapped = append(append(bytes.Clone(swapped[n:2*n]), swapped[:n]...), swapped[2*n:]...)
	other, err := policy.Parse([]byte("log " + newTestLogKey("log.localhost", "another") + "\nquorum none\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		do    func() (undo func())
		index int64
		trust monitor.Trust
		want  string
	}{
		"swapped entries":  {func() func() { return l.replace(path, swapped) }, 0, monitor.Trust{Policy: l.policy}, "does not hash into the tree"},
		"the same, unsafe": {func() func() { return l.replace(path, swapped) }, 0, monitor.Trust{Unverified: true}, "does not hash into the tree"},
		"cut short":        {func() func() { return l.replace(path, swapped[:n]) }, 2, monitor.Trust{Policy: l.policy}, "does not hash into the tree"},
		"wrong tile":       {func() func() { return l.replace(tilePath("0", 0, 3), bytes.Repeat([]byte{7}, 96)) }, 0, monitor.Trust{Policy: l.policy}, "does not hash into the tree"},
		"beyond the end":   {nil, 3, monitor.Trust{Policy: l.policy}, "there is no entry 3: the log has 3"},
		"another key":      {nil, 0, monitor.Trust{Policy: other}, "no signature of the log"},
		"no witnesses": {func() func() {
			return l.setCheckpoint([]byte(strings.SplitAfter(string(l.file("checkpoint")), "\n\n")[0] +
				strings.SplitAfter(strings.SplitAfter(string(l.file("checkpoint")), "\n\n")[1], "\n")[0]))
		}, 0, monitor.Trust{Policy: l.policy}, "no quorum"},
		"no checkpoint at all": {func() func() { return l.setCheckpoint([]byte("hello")) }, 0, monitor.Trust{Unverified: true}, "reading checkpoint"},
	} {
		undo := func() {}
		if tc.do != nil {
			undo = tc.do()
		}
		_, err := monitor.Inspect(t.Context(), l.server.URL, tc.index, tc.trust, nil)
		if _, refused := errors.AsType[*monitor.VerifyError](err); !refused || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v; want %q", name, err, tc.want)
		}
		undo()
	}
	if i := inspect(t, l, 1, monitor.Trust{Unverified: true}); i.Verified || !flawless(i) {
		t.Errorf("without a key: %+v", i.Checks)
	}
	for _, trust := range []monitor.Trust{{}, {Policy: l.policy, Unverified: true}} {
		if _, err := monitor.Inspect(t.Context(), l.server.URL, 0, trust, nil); err == nil {
			t.Errorf("%+v was accepted", trust)
		}
	}
}

func TestInspectTellsAnAbsentLogFromALyingOne(t *testing.T) {
	t.Parallel()
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	l.add(filler(ca, 300)...)
	trust := monitor.Trust{Policy: l.policy}
	for _, path := range []string{"checkpoint", tilePath("entries", 0, 256), tilePath("0", 0, 256)} {
		undo := l.replace(path, nil)
		_, err := monitor.Inspect(t.Context(), l.server.URL, 1, trust, nil)
		if _, refused := errors.AsType[*monitor.VerifyError](err); err == nil || refused {
			t.Errorf("without %s: %v", path, err)
		}
		undo()
	}
	// A cache that is behind, or wrong, is asked to ask the log.
	old := tilePath("entries", 0, 256)
	l.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, old) && r.Header.Get("Cache-Control") == "" {
			w.Write(make([]byte, 512))
			return true
		}
		return false
	})
	if i := inspect(t, l, 1, trust); !flawless(i) {
		t.Errorf("%+v", i.Checks)
	}
	// A partial bundle that was replaced by the full one is cut from it.
	l.intercept(nil)
	cp := l.file("checkpoint")
	l.add(filler(ca, 212)...)
	l.setCheckpoint(cp)
	l.replace(tilePath("entries", 1, 44), nil)
	l.replace(tilePath("0", 1, 44), nil)
	if i := inspect(t, l, 299, trust); !flawless(i) || i.Size != 300 {
		t.Errorf("%+v", i.Checks)
	}
}

// TestInspectThatIsEndedAccusesNobody ends it when it has seen what a cache has, which is wrong.
func TestInspectThatIsEndedAccusesNobody(t *testing.T) {
	t.Parallel()
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	l.add(filler(ca, 3)...)
	path := tilePath("entries", 0, 3)
	bundle := l.file(path)
	l.replace(path, bundle[:len(bundle)-1])
	ctx, cancel := context.WithCancel(t.Context())
	client := &http.Client{Transport: endingTransport{cancel, path}}
	_, err := monitor.Inspect(ctx, l.server.URL, 1, monitor.Trust{Policy: l.policy}, client)
	if _, refused := errors.AsType[*monitor.VerifyError](err); refused || !errors.Is(err, context.Canceled) {
		t.Errorf("ended in between: %v", err)
	}
}

// endingTransport calls end when the body of a path has been read.
type endingTransport struct {
	end  context.CancelFunc
	path string
}

func (e endingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && strings.HasSuffix(r.URL.Path, e.path) {
		res.Body = endingBody{res.Body, e.end}
	}
	return res, err
}

type endingBody struct {
	io.ReadCloser
	end context.CancelFunc
}

func (b endingBody) Close() error {
	b.end()
	return b.ReadCloser.Close()
}

// FuzzInspect: no entry makes the reader panic, or passes without the key it names.
func FuzzInspect(f *testing.F) {
	ca, ct := newTestCA(f), newCTKey(f)
	f.Add(ca.promised(alice, ct, nil), false)
	f.Add(ca.entry(alice, ""), false)
	f.Add(ca.tileLeaf(alice, goodIssuer, 0), true)
	f.Add([]byte(`{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{}}`), false)
	trust := monitor.Trust{Unverified: true, CAs: []*x509.Certificate{ca.cert}, CTLogs: []crypto.PublicKey{ct.Public()}}
	f.Fuzz(func(t *testing.T, raw []byte, certificates bool) {
		kind := monitor.KindRekor
		if certificates {
			kind = monitor.KindCT
		}
		i := monitor.Describe(kind, 0, raw, trust)
		if i.Verified {
			t.Error("verified without a checkpoint")
		}
		for _, s := range i.Statement.Signers {
			if len(s.Chain) > 0 && s.Authority != ca.cert.Subject.String() {
				t.Errorf("%q was found to be issued by %q", s.Authority, s.Chain)
			}
		}
	})
}
