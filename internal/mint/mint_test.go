package mint_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"tallywood/internal/mint"
	"tallywood/log/ctentry"
	"tallywood/log/entry"
	"tallywood/witness/policy"
)

// A pair of logs, filled.
type pair struct {
	world                    *mint.World
	signatures, certificates mint.Memory
	logs                     [2]*mint.Log
}

func fill(t testing.TB, seed uint64, n int64, planted map[int64]mint.Entry) *pair {
	t.Helper()
	p := &pair{world: world(t, seed)}
	for i, to := range []struct {
		kind  mint.Kind
		files *mint.Memory
	}{{mint.Rekor, &p.signatures}, {mint.CT, &p.certificates}} {
		l, err := p.world.Log(string(to.kind)+".example.org", to.kind, to.files)
		if err != nil {
			t.Fatal(err)
		}
		p.logs[i] = l
	}
	err := p.world.Fill(t.Context(), mint.FillOptions{Entries: n, Planted: planted, Signatures: p.logs[0], Certificates: p.logs[1]})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func world(t testing.TB, seed uint64) *mint.World {
	t.Helper()
	w, err := mint.New(seed)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestLogsAreWhatVerifiersWant opens the checkpoints with their policy, and reads every hash of every
// level by the tiles alone.
func TestLogsAreWhatVerifiersWant(t *testing.T) {
	const size = 256*256 + 300 // a tile of level 1 is full
	w := world(t, 1)
	var files mint.Memory
	l, err := w.Log("log.example.org", mint.Rekor, &files)
	if err != nil {
		t.Fatal(err)
	}
	for i := range size {
		if err := l.Append(fmt.Appendf(nil, "entry %d", i)); err != nil {
			t.Fatal(err)
		}
		if i%50_000 == 777 { // publishing in between leaves no trace in what comes later
			if err := l.Publish(time.Unix(1, 0)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.Publish(time.Unix(1_800_000_000, 0)); err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse([]byte(l.Policy()))
	if err != nil {
		t.Fatal(err)
	}
	cp, err := p.Open(files.Get("checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	if cp.Size() != size || len(cp.Cosignatures()) != 3 || !cp.Cosignatures()[0].Time.Equal(time.Unix(1_800_000_000, 0)) {
		t.Errorf("checkpoint of size %d with cosignatures %v", cp.Size(), cp.Cosignatures())
	}
	reader := tlog.TileHashReader(tlog.Tree{N: size, Hash: cp.Root()}, tiles{t, &files})
	var indexes []int64
	for i := range int64(size) {
		indexes = append(indexes, tlog.StoredHashIndex(0, i))
	}
	hashes, err := reader.ReadHashes(indexes)
	if err != nil {
		t.Fatal(err)
	}
	for i, h := range hashes {
		if h != tlog.RecordHash(fmt.Appendf(nil, "entry %d", i)) {
			t.Fatalf("leaf %d is another entry's", i)
		}
	}
	last := files.Get("tile/entries/257.p/44")
	if want := []byte("\x00\x0bentry 65835"); !bytes.HasSuffix(last, want) || files.Get("tile/entries/256") == nil {
		t.Errorf("the last bundle ends with %q, want %q", last[max(0, len(last)-13):], want)
	}
}

// tiles reads the tiles of c2sp.org/tlog-tiles.
type tiles struct {
	t     *testing.T
	files *mint.Memory
}

func (r tiles) Height() int                     { return 8 }
func (r tiles) SaveTiles([]tlog.Tile, [][]byte) {}
func (r tiles) ReadTiles(want []tlog.Tile) ([][]byte, error) {
	var out [][]byte
	for _, tile := range want {
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		data := r.files.Get(path)
		if data == nil {
			return nil, fmt.Errorf("no file %s", path)
		}
		out = append(out, data)
	}
	return out, nil
}

// entriesOf returns the entries of the first bundle of a log.
func (p *pair) entriesOf(t *testing.T, kind mint.Kind, n int) [][]byte {
	t.Helper()
	if kind == mint.CT {
		entries, err := ctentry.Split(p.certificates.Get(fmt.Sprintf("tile/data/000.p/%d", n)))
		if err != nil || len(entries) != n {
			t.Fatalf("%d entries: %v", len(entries), err)
		}
		return entries
	}
	var entries [][]byte
	for b := p.signatures.Get(fmt.Sprintf("tile/entries/000.p/%d", n)); len(b) > 0; {
		size := int(b[0])<<8 | int(b[1])
		entries, b = append(entries, b[2:2+size]), b[2+size:]
	}
	if len(entries) != n {
		t.Fatalf("%d entries; want %d", len(entries), n)
	}
	return entries
}

// TestEveryEntryVerifies checks chain, promise and signature of each entry, with nothing of this
// package but the authority's certificates and the certificate log's key.
func TestEveryEntryVerifies(t *testing.T) {
	const n = 120
	planted := map[int64]mint.Entry{
		3: {Certificate: mint.Certificate{Details: entry.ECDSAP384}},
		4: {Certificate: mint.Certificate{Details: entry.ECDSAP521}},
		5: {Certificate: mint.Certificate{Details: entry.Ed25519ph}},
		6: {Certificate: mint.Certificate{Details: entry.RSA2048, Key: "rsa"}},
		7: {Bare: true},
		8: {Certificate: mint.Certificate{Usages: []asn1.ObjectIdentifier{mint.ServerAuth}, Lifetime: 24 * time.Hour, Key: "rsa", Details: entry.RSA2048}},
		9: {Certificate: mint.Certificate{Names: []mint.Name{{mint.Other, "me"}, {mint.DNS, "a.example"}, {mint.IP, "\x01\x01\x01\x01"}}}},
	}
	p := fill(t, 7, n, planted)
	total := 0
	digests, serials := map[string]bool{}, map[string]bool{}
	leaves := p.entriesOf(t, mint.CT, n)
	for i, e := range p.entriesOf(t, mint.Rekor, n) {
		total += len(e)
		b, err := entry.Parse(e)
		if err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
		s := b.Signatures[0]
		digests[string(b.Digest)] = true
		if i == 7 {
			key, err := x509.ParsePKIXPublicKey(s.PublicKey)
			if err != nil || s.Certificate != nil || !verifies(key, b.HashAlg, b.Digest, s.Content) {
				t.Errorf("the bare key's signature does not verify: %v", err)
			}
			continue
		}
		c, err := x509.ParseCertificate(s.Certificate)
		if err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
		serials[c.SerialNumber.String()] = true
		if !verifies(c.PublicKey, b.HashAlg, b.Digest, s.Content) {
			t.Errorf("entry %d: the signature does not verify", i)
		}
		chains(t, p.world.CA, c)
		promised(t, p.world, c, leaves[i], int64(i))
	}
	if len(digests) != n || len(serials) != n-1 {
		t.Errorf("%d digests and %d serial numbers, all are to differ", len(digests), len(serials))
	}
	if mean := total / n; mean < 2200 || mean > 2600 {
		t.Errorf("entries have %d bytes; those of the public log have about 2,400", mean)
	}
}

func verifies(key crypto.PublicKey, h crypto.Hash, digest, sig []byte) bool {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(key, digest, sig)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(key, h, digest, sig) == nil
	case ed25519.PublicKey:
		return ed25519.VerifyWithOptions(key, digest, sig, &ed25519.Options{Hash: h}) == nil
	}
	return false
}

func chains(t *testing.T, ca *mint.CA, c *x509.Certificate) {
	t.Helper()
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(ca.Root)
	between.AddCert(ca.Intermediate)
	c.UnhandledCriticalExtensions = nil // names that the library does not know
	_, err := c.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: c.NotBefore,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		t.Errorf("certificate of %v %v: %v", c.URIs, c.EmailAddresses, err)
	}
}

// promised checks that c's SCT is a promise of the entry that is in the certificate log.
func promised(t *testing.T, w *mint.World, c *x509.Certificate, leaf []byte, index int64) {
	t.Helper()
	e, err := ctentry.Parse(leaf)
	if err != nil {
		t.Fatal(err)
	}
	if at, err := e.Index(); err != nil || at != index {
		t.Errorf("entry %d of the certificate log calls itself %d: %v", index, at, err)
	}
	if err := e.Check(w.CA.Intermediate); err != nil {
		t.Errorf("entry %d of the certificate log: %v", index, err)
	}
	tbs, err := ctentry.PrecertTBS(c.Raw)
	if err != nil || !bytes.Equal(tbs, e.Certificate) {
		t.Errorf("entry %d of the certificate log is not that of the certificate: %v", index, err)
	}
	scts, err := ctentry.SCTs(c.Raw)
	if err != nil || len(scts) != 1 {
		t.Fatalf("%d SCTs: %v", len(scts), err)
	}
	if err := scts[0].Verify(w.CT.Public(), e); err != nil {
		t.Errorf("certificate %d: %v", index, err)
	}
}

// TestWhatIsAskedToBeWrongIs checks each way in which an entry may be wrong.
func TestWhatIsAskedToBeWrongIs(t *testing.T) {
	w := world(t, 1)
	other, err := w.Authority("another")
	if err != nil {
		t.Fatal(err)
	}
	make := func(e mint.Entry) (mint.Made, entry.Body) {
		t.Helper()
		m, err := w.Make(e, 1)
		if err != nil {
			t.Fatal(err)
		}
		b, err := entry.Parse(m.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return m, b
	}
	made, b := make(mint.Entry{Forged: true})
	if verifies(made.Key().Public(), b.HashAlg, b.Digest, b.Signatures[0].Content) {
		t.Error("a forged signature verifies")
	}
	for _, p := range []mint.Promise{mint.Promised, mint.NoSCT, mint.WrongSCT, mint.StrangerSCT} {
		made, _ = make(mint.Entry{Certificate: mint.Certificate{SCT: p}})
		leaf, err := made.TileLeaf()
		if err != nil {
			t.Fatal(err)
		}
		e, err := ctentry.Parse(leaf)
		if err != nil {
			t.Fatal(err)
		}
		scts, err := ctentry.SCTs(made.DER)
		if err != nil || (len(scts) == 0) != (p == mint.NoSCT) {
			t.Fatalf("promise %d: %d SCTs, %v", p, len(scts), err)
		}
		if p == mint.NoSCT {
			continue
		}
		if good := scts[0].Verify(w.CT.Public(), e) == nil; good != (p == mint.Promised) || (scts[0].LogID == w.CT.ID) != (p != mint.StrangerSCT) {
			t.Errorf("promise %d: verifies %v, of the known log %v", p, good, scts[0].LogID == w.CT.ID)
		}
	}
	made, _ = make(mint.Entry{Certificate: mint.Certificate{CA: other}})
	c, err := x509.ParseCertificate(made.DER)
	if err != nil || c.CheckSignatureFrom(w.CA.Intermediate) == nil || c.CheckSignatureFrom(other.Intermediate) != nil {
		t.Errorf("a certificate of another authority: %v", err)
	}
	made, _ = make(mint.Entry{Certificate: mint.Certificate{Edit: func(der []byte) []byte { return der[:100] }}})
	if len(made.DER) != 100 {
		t.Errorf("a certificate cut to 100 bytes has %d", len(made.DER))
	}
	raw, err := w.Make(mint.Entry{Bytes: []byte("{")}, 1)
	if err != nil || string(raw.Bytes) != "{" {
		t.Errorf("an entry that is a brace is %q: %v", raw.Bytes, err)
	}
}

func TestSeedMakesTheLog(t *testing.T) {
	one, again, other := files(t, 1), files(t, 1), files(t, 2)
	if !maps.Equal(one, again) {
		t.Error("the same seed made other files")
	}
	for path := range one {
		if strings.HasPrefix(path, "tile/") && one[path] == other[path] {
			t.Errorf("another seed made the same %s", path)
		}
	}
}

// files returns what logs of 300 entries are, by path.
func files(t *testing.T, seed uint64) map[string]string {
	t.Helper()
	p := fill(t, seed, 300, nil)
	out := map[string]string{}
	for _, m := range []*mint.Memory{&p.signatures, &p.certificates} {
		for _, path := range m.Paths() {
			out[path] = string(m.Get(path))
		}
	}
	want := []string{"checkpoint", "tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1", "tile/data/000", "tile/data/001.p/44", "tile/entries/000", "tile/entries/001.p/44"}
	for path := range out {
		if strings.HasPrefix(path, "issuer/") {
			want = append(want, path)
		}
	}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(out)); len(want) != 10 || !slices.Equal(got, want) {
		t.Fatalf("files are %q; want %q", got, want)
	}
	return out
}

func BenchmarkFill(b *testing.B) {
	w := world(b, 1)
	for i := int64(0); b.Loop(); i++ {
		if _, err := w.Make(w.Anybody(i), i); err != nil {
			b.Fatal(err)
		}
	}
}

// TestPlanIsPlanted reads every key of a plan, and says what is wrong with one that makes no sense.
func TestPlanIsPlanted(t *testing.T) {
	w := world(t, 1)
	p, err := mint.ReadPlan([]byte(`
identities: [{name: me, email: me@example.com}]
entries:
  - {index: 1, email: me@example.com, uri: "https://e.example", dns: "*.example.com", ip: "2001:db8::1", username: me,
     issuer: "https://i.example", extensions: {8: "", 12: "https://r.example"}, not_before: 2026-01-02T03:04:05Z, lifetime: 1h,
     key: k, key_type: P-384, ca: other, sct: stranger, usages: [server, code signing], content: c}
  - {index: -1, quiet: true, github: {repository: a/b, run_id: 7, environment: prod}, cut: 200}
  - {index: 0, bytes: e30=}
`))
	if err != nil {
		t.Fatal(err)
	}
	planted, loud, err := p.Place(w, 10)
	if err != nil || len(planted) != 3 || !loud[0] || !loud[1] || loud[9] {
		t.Fatalf("planted %d, of which one is to be told of %v: %v", len(planted), loud, err)
	}
	made, err := w.Make(planted[1], 1)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(made.DER)
	if err != nil {
		t.Fatal(err)
	}
	if c.EmailAddresses[0] != "me@example.com" || c.DNSNames[0] != "*.example.com" || c.URIs[0].Host != "e.example" || c.IPAddresses[0].String() != "2001:db8::1" ||
		c.NotBefore.Format(time.RFC3339) != "2026-01-02T03:04:05Z" || c.NotAfter.Sub(c.NotBefore) != time.Hour ||
		len(c.ExtKeyUsage) != 2 || c.PublicKey.(*ecdsa.PublicKey).Params().BitSize != 384 || c.Issuer.CommonName != "other-intermediate" {
		t.Errorf("the certificate is %+v", c)
	}
	made, err = w.Make(planted[9], 9)
	if err != nil || len(made.DER) != 200 {
		t.Errorf("a certificate cut to 200 bytes has %d: %v", len(made.DER), err)
	}
	for text, want := range map[string]string{
		"entries: [{index: 10}]":                           "not in a log of 10 entries",
		"entries: [{index: 3}, {index: -7}]":               "another one at index 3",
		"entries: [{index: 1, ip: x}]":                     "no address",
		"entries: [{index: 1, key_type: DSA}]":             "none of P-256",
		"entries: [{index: 1, sct: x}]":                    "none of none, wrong, stranger",
		"entries: [{index: 1, usages: [x]}]":               "neither",
		"entries: [{index: 1, bytes: '!'}]":                "not base64",
		"entries: [{index: 1, github: {}, gitlab: {}}]":    "both",
		"entries: [{index: 1, colour: red}]":               "colour",
		"entries: []\n---\nentries: []":                    "follows",
		"entries: [{index: 1, github: {repositories: x}}]": "repositories",
	} {
		p, err := mint.ReadPlan([]byte(text))
		if err == nil {
			_, _, err = p.Place(w, 10)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", text, err, want)
		}
	}
}

// TestAuthorityOfP384 has an authority of the other curve certify.
func TestAuthorityOfP384(t *testing.T) {
	w := world(t, 1)
	ca, err := w.Authority384("public")
	if err != nil {
		t.Fatal(err)
	}
	made, err := w.Make(mint.Entry{Certificate: mint.Certificate{CA: ca, NotBefore: time.Unix(1_800_000_000, 0)}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(made.DER)
	if err != nil || c.SignatureAlgorithm != x509.ECDSAWithSHA384 || ca.Root.PublicKey.(*ecdsa.PublicKey).Params().BitSize != 384 {
		t.Fatalf("signed by %v: %v", c.SignatureAlgorithm, err)
	}
	chains(t, ca, c)
}
