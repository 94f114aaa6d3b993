package rule_test

import (
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"testing"
	"time"

	"tallywood/log/ctentry"
	"tallywood/monitor/rule"
)

// lasting issues a certificate for a@b.c that is valid for d.
func (ca *issuer) lasting(d time.Duration) []byte {
	ca.t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(8), EmailAddresses: []string{"a@b.c"},
		NotBefore: time.Unix(1e9, 0), NotAfter: time.Unix(1e9, 0).Add(d), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, ca.key.Public(), ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	return der
}

func TestLongLived(t *testing.T) {
	ca := newIssuer(t)
	for name, tc := range map[string]struct {
		der    []byte
		params rule.Params
		long   bool
	}{
		"ten minutes":                  {ca.lasting(10 * time.Minute), rule.Params{}, false},
		"eleven minutes":               {ca.lasting(11 * time.Minute), rule.Params{}, true},
		"eleven minutes are tolerated": {ca.lasting(11 * time.Minute), rule.Params{Window: time.Minute}, false},
		"a second more":                {ca.lasting(11*time.Minute + time.Second), rule.Params{Window: time.Minute}, true},
		"until 2060":                   {ca.lasting(60 * 366 * 24 * time.Hour), rule.Params{}, true}, // GeneralizedTime
	} {
		t.Run(name, func(t *testing.T) {
			s := newSet(t, rule.Identity{Email: "a@b.c", Rules: map[rule.ID]rule.Params{rule.CertLongLived: tc.params, rule.IDSeen: {Off: true}}})
			got := findings(s, parse(t, tc.der))
			if len(got) == 1 != tc.long || tc.long && (got[0].Rule != rule.CertLongLived || got[0].Reasons[0].Seen == "") {
				t.Errorf("findings %+v, want one: %v", got, tc.long)
			}
		})
	}
}

func TestBadEKU(t *testing.T) {
	ca := newIssuer(t)
	code, client := x509.ExtKeyUsageCodeSigning, x509.ExtKeyUsageClientAuth
	any := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: []byte{0x30, 6, 6, 4, 0x55, 0x1d, 0x25, 0}}
	for name, tc := range map[string]struct {
		usages []x509.ExtKeyUsage
		extra  []pkix.Extension
		bad    bool
		seen   string
	}{
		"code signing":          {[]x509.ExtKeyUsage{code}, nil, false, ""},
		"none":                  {nil, nil, true, ""},
		"clients":               {[]x509.ExtKeyUsage{client}, nil, true, "1.3.6.1.5.5.7.3.2"},
		"code signing and more": {[]x509.ExtKeyUsage{code, client}, nil, true, "1.3.6.1.5.5.7.3.3, 1.3.6.1.5.5.7.3.2"},
		"any":                   {nil, []pkix.Extension{any}, true, "2.5.29.37.0"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSet(t, rule.Identity{Email: "a@b.c", Rules: map[rule.ID]rule.Params{rule.CertBadEKU: {}, rule.IDSeen: {Off: true}}})
			got := findings(s, parse(t, ca.issue(&x509.Certificate{EmailAddresses: []string{"a@b.c"}, ExtKeyUsage: tc.usages, ExtraExtensions: tc.extra})))
			if len(got) == 1 != tc.bad || tc.bad && (got[0].Rule != rule.CertBadEKU || got[0].Reasons[0].Seen != tc.seen) {
				t.Errorf("findings %+v, want one: %v", got, tc.bad)
			}
		})
	}
}

// promised issues a certificate for a@b.c with a timestamp of a log whose key is given, over its
// precertificate. change damages the timestamp.
func (ca *issuer) promised(log crypto.Signer, change func(*ctentry.SCT)) []byte {
	ca.t.Helper()
	template := func(extra ...pkix.Extension) *x509.Certificate {
		return &x509.Certificate{EmailAddresses: []string{"a@b.c"}, ExtraExtensions: extra}
	}
	pre := ca.issue(template(pkix.Extension{Id: ctentry.OIDPoison, Critical: true, Value: asn1.NullBytes}))
	tbs, err := ctentry.PrecertTBS(pre)
	if err != nil {
		ca.t.Fatal(err)
	}
	extensions, err := ctentry.MarshalExtensions(7)
	if err != nil {
		ca.t.Fatal(err)
	}
	e := ctentry.Entry{Timestamp: 1e12, Precert: true, IssuerKeyHash: sha256.Sum256(ca.cert.RawSubjectPublicKeyInfo), Certificate: tbs, Extensions: extensions}
	leaf, err := e.MerkleTreeLeaf()
	if err != nil {
		ca.t.Fatal(err)
	}
	digest := sha256.Sum256(leaf)
	sig, err := log.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		ca.t.Fatal(err)
	}
	id, err := ctentry.LogID(log.Public())
	if err != nil {
		ca.t.Fatal(err)
	}
	sct := ctentry.SCT{LogID: id, Timestamp: e.Timestamp, Extensions: extensions, Hash: ctentry.HashSHA256, Algorithm: ctentry.SignatureECDSA, Signature: sig}
	if change != nil {
		change(&sct)
	}
	encoded, err := sct.Marshal()
	if err != nil {
		ca.t.Fatal(err)
	}
	value, err := ctentry.MarshalSCTExtension([][]byte{encoded})
	if err != nil {
		ca.t.Fatal(err)
	}
	return ca.issue(template(pkix.Extension{Id: ctentry.OIDSCTList, Value: value}))
}

func TestTimestamps(t *testing.T) {
	ca, log, stranger := newIssuer(t), ecdsaKey(t, elliptic.P256()), ecdsaKey(t, elliptic.P256())
	id := rule.Identity{Name: "me", Email: "a@b.c", Rules: map[rule.ID]rule.Params{rule.IDSeen: {Off: true},
		rule.CertNoSCT: {}, rule.CertBadSCT: {}, rule.CertUnknownSCTLog: {}}}
	set := func(issuers ...*x509.Certificate) *rule.Set {
		s, err := rule.New(rule.Options{Identities: []rule.Identity{id}, Promises: rule.Promises{Logs: []crypto.PublicKey{log.Public()}, Issuers: issuers}})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	known, other := set(ca.cert), newIssuer(t)
	unreadable := ca.issue(&x509.Certificate{EmailAddresses: []string{"a@b.c"}, ExtraExtensions: []pkix.Extension{{Id: ctentry.OIDSCTList, Value: []byte{4, 1, 0}}}})
	none := ca.issue(&x509.Certificate{EmailAddresses: []string{"a@b.c"}})
	for name, tc := range map[string]struct {
		set       *rule.Set
		der       []byte
		certified bool
		want      rule.ID
	}{
		"of a known log":             {known, ca.promised(log, nil), false, ""},
		"by one of two issuers":      {set(other.cert, ca.cert), ca.promised(log, nil), false, ""},
		"none":                       {known, none, false, rule.CertNoSCT},
		"none in a certificate log":  {known, none, true, ""},
		"another time":               {known, ca.promised(log, func(s *ctentry.SCT) { s.Timestamp++ }), false, rule.CertBadSCT},
		"another signature":          {known, ca.promised(log, func(s *ctentry.SCT) { s.Signature[9] ^= 1 }), false, rule.CertBadSCT},
		"of an unknown issuer":       {set(other.cert), ca.promised(log, nil), false, rule.CertBadSCT},
		"of an unknown log":          {known, ca.promised(stranger, nil), false, rule.CertUnknownSCTLog},
		"in the name of a known log": {known, ca.promised(stranger, func(s *ctentry.SCT) { s.LogID, _ = ctentry.LogID(log.Public()) }), false, rule.CertBadSCT},
		"unreadable":                 {known, unreadable, false, rule.CertBadSCT},
	} {
		t.Run(name, func(t *testing.T) {
			got := report(tc.set, &rule.Entry{Signers: parse(t, tc.der), Certified: tc.certified})
			if want := slices.DeleteFunc([]rule.ID{tc.want}, func(id rule.ID) bool { return id == "" }); !slices.Equal(fired(got), want) {
				t.Errorf("findings %+v, want %q", got, want)
			}
		})
	}
	if _, err := rule.New(rule.Options{Identities: []rule.Identity{id}, Promises: rule.Promises{Logs: []crypto.PublicKey{log.Public()}}}); err == nil {
		t.Error("timestamps without any issuer were accepted")
	}
}

// TestFactsOfACertificate: what a log promised and what was issued have the same hash.
func TestFactsOfACertificate(t *testing.T) {
	ca := newIssuer(t)
	final := ca.promised(ecdsaKey(t, elliptic.P256()), nil)
	tbs, err := ctentry.PrecertTBS(final)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := ctentry.WrapTBS(tbs)
	if err != nil {
		t.Fatal(err)
	}
	s := newSet(t, rule.Identity{Email: "a@b.c"})
	hash := func(der []byte) string { return s.Match(&rule.Entry{Signers: parse(t, der)})[0].Facts.Certificate }
	if a, b := hash(final), hash(wrapped); a == "" || a != b {
		t.Errorf("hash of the certificate %q, of what is in the log %q", a, b)
	}
}
