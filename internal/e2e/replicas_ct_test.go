package e2e_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"tallywood/log/ctentry"
)

const (
	certificateOrigin = "ct.example.org"
	certificateAdders = 3
)

// certificates are what the world remembers of a certificate log, and the authority whose
// certificates go into it.
type certificates struct {
	*memory // no receipts: such a log promises by SCTs
	dir     string
	vkey    string
	key     *ecdsa.PrivateKey   // of the log
	issuer  *ecdsa.PrivateKey   // of chain[0]
	chain   []*x509.Certificate // intermediate, root

	// Guarded by memory.mu.
	scts  map[string]ctentry.SCT // by certificate
	heads []treeHead             // those in the bucket, in order
}

// A treeHead is a size and the time that the log signed with it.
type treeHead struct{ size, time int64 }

// newCertificates writes the keys and chain of a log and an authority into dir.
func newCertificates(t *testing.T, dir string, client *http.Client) *certificates {
	t.Helper()
	c := &certificates{memory: newMemory(t, 0), dir: dir, scts: map[string]ctentry.SCT{},
		vkey: generateKey(t, dir, "ct-note.pem", certificateOrigin), key: p256(t), issuer: p256(t)}
	c.client = client
	rootKey := p256(t)
	template := func(name string, n int64) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(n), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
	}
	root := issue(t, template("root", 1), nil, rootKey, rootKey)
	middle := template("intermediate", 2)
	middle.MaxPathLenZero = true
	middle.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	c.chain = []*x509.Certificate{issue(t, middle, root, c.issuer, rootKey), root}
	var chain []byte
	for _, cert := range c.chain {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	writeFile(t, dir, "ca-chain.pem", string(chain))
	for name, key := range map[string]*ecdsa.PrivateKey{"ct.pem": c.key, "ca.pem": c.issuer} {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, dir, "issuers.yaml", "oidc-issuers:\n  https://issuer.example.org:\n"+
		"    issuer-url: https://issuer.example.org\n    client-id: sigstore\n    type: email\n")
	return c
}

// config is the part of a replica's configuration that is about certificates; it follows the logs.
func (c *certificates) config(policy string) string {
	return "  - {name: certificates, kind: ct, origin: " + certificateOrigin + ", key: file:ct.pem, note_key: file:ct-note.pem, policy: " + policy + "}\n" +
		"ca: {chain: ca-chain.pem, key: file:ca.pem, ct_log: certificates, issuers: issuers.yaml}\n"
}

func p256(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func issue(t *testing.T, template, parent *x509.Certificate, key, parentKey crypto.Signer) *x509.Certificate {
	t.Helper()
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// certifySomewhere posts a certificate to one replica after the other until one gives an SCT.
func (c *cluster) certifySomewhere(ctx context.Context, n int64, _ signedEntry) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1000 + n), EmailAddresses: []string{"alice@example.com"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.certs.chain[0], c.certs.key.Public(), c.certs.issuer)
	if err != nil {
		c.fault(err)
		return
	}
	for turn := n; ctx.Err() == nil; turn++ {
		r := c.replicas[turn%int64(len(c.replicas))]
		var sct ctentry.SCT
		if c.attempt(ctx, r, fmt.Sprintf("certificate %d", n), func(ctx context.Context) (err error) {
			sct, err = c.certs.add(ctx, r.url, der)
			return err
		}) {
			c.certs.keep(der, sct)
			pause(ctx, 2*replicaPace)
			return
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// add posts a certificate and returns the SCT, verified.
func (c *certificates) add(ctx context.Context, base string, der []byte) (sct ctentry.SCT, err error) {
	chain := [][]byte{der, c.chain[0].Raw, c.chain[1].Raw}
	body, err := json.Marshal(map[string][][]byte{"chain": chain})
	if err != nil {
		return sct, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/ct/ct/v1/add-chain", bytes.NewReader(body))
	if err != nil {
		return sct, err
	}
	res, err := c.client.Do(req)
	if err != nil {
		return sct, err
	}
	defer res.Body.Close()
	if body, err = io.ReadAll(res.Body); err != nil {
		return sct, err
	}
	if res.StatusCode != http.StatusOK {
		return sct, &statusError{res.StatusCode, res.Header.Get("Retry-After"), string(body)}
	}
	var reply struct {
		ID, Extensions, Signature []byte
		Timestamp                 int64
	}
	if err := json.Unmarshal(body, &reply); err != nil {
		return sct, fmt.Errorf("SCT %s: %w", body, err)
	}
	if len(reply.ID) != len(sct.LogID) || len(reply.Signature) < 4 {
		return sct, fmt.Errorf("SCT %s is none", body)
	}
	sct = ctentry.SCT{LogID: [32]byte(reply.ID), Timestamp: reply.Timestamp, Extensions: reply.Extensions,
		Hash: reply.Signature[0], Algorithm: reply.Signature[1], Signature: reply.Signature[4:]}
	return sct, sct.Verify(c.key.Public(), ctentry.Entry{Timestamp: sct.Timestamp, Certificate: der})
}

func (c *certificates) keep(der []byte, sct ctentry.SCT) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.scts[string(der)] = sct
}

// sawHead takes in the time of a tree head in the bucket: the log's times only grow.
func (c *certificates) sawHead(size int64, note string) error {
	_, signatures, _ := strings.Cut(note, "\n\n")
	for line := range strings.Lines(signatures) {
		text, ours := strings.CutPrefix(strings.TrimSpace(line), "— "+certificateOrigin+" ")
		sig, err := base64.StdEncoding.DecodeString(text)
		if !ours || err != nil || len(sig) <= 4+64 { // an Ed25519 signature is shorter
			continue
		}
		head := treeHead{size, int64(binary.BigEndian.Uint64(sig[4:]))}
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.heads) > 0 {
			last := c.heads[len(c.heads)-1]
			if head == last {
				return nil
			}
			if head.time <= last.time {
				return fmt.Errorf("tree head %+v after %+v", head, last)
			}
		}
		c.heads = append(c.heads, head)
		return nil
	}
	return fmt.Errorf("no tree head in\n%s", note)
}

// look reads the certificate log at base as a stranger would.
func (c *certificates) look(base string) (*view, error) {
	note, err := fetch(c.client, base+"/checkpoint")
	if err != nil {
		return nil, err
	}
	cp, err := c.policy.Open(note)
	if err != nil {
		return nil, fmt.Errorf("published checkpoint: %w\n%s", err, note)
	}
	v := &view{tree: tree{cp.Size(), cp.Root()}}
	v.hashes = tlog.TileHashReader(tlog.Tree{N: v.tree.size, Hash: v.tree.root}, &tiles{client: c.client, base: base, cache: map[string][]byte{}})
	for first := int64(0); first < v.tree.size; first += 256 {
		tile := tlog.Tile{H: 8, L: 0, N: first / 256, W: int(min(256, v.tree.size-first))}
		path := strings.Replace(tile.Path(), "tile/8/0/", "/tile/data/", 1)
		data, err := fetch(c.client, base+path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		leaves, err := ctentry.Split(data)
		if err != nil || len(leaves) != tile.W {
			return nil, fmt.Errorf("%s holds %d entries (%v); want %d", path, len(leaves), err, tile.W)
		}
		v.entries = append(v.entries, leaves...)
	}
	for i, leaf := range v.entries {
		hash, err := ctentry.LeafHash(leaf)
		if err != nil {
			return nil, err
		}
		stored, err := v.hashes.ReadHashes([]int64{tlog.StoredHashIndex(0, int64(i))})
		if err != nil || stored[0] != tlog.Hash(hash) {
			return nil, fmt.Errorf("entry %d does not hash into the tree (%v)", i, err)
		}
	}
	return v, nil
}

// promised returns how many entries the log must come to have, soon, by the SCTs it has given.
func (c *certificates) promised(t *testing.T) (most int64) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, sct := range c.scts {
		index, err := sct.Index()
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, index+1)
	}
	return most
}

// verify checks every SCT and every tree head against the log at base.
func (c *certificates) verify(t *testing.T, base string) {
	t.Helper()
	v := c.verifyView(t, c.promised(t), func() (*view, error) { return c.look(base) })
	c.mu.Lock()
	defer c.mu.Unlock()
	latest := []int64{0} // the latest time among the first entries, by their number
	for i, leaf := range v.entries {
		e, err := ctentry.Parse(leaf)
		if err != nil {
			t.Fatal(err)
		}
		latest = append(latest, max(latest[i], e.Timestamp))
		if sct, ok := c.scts[string(e.Certificate)]; ok {
			if index, err := sct.Index(); err != nil || index != int64(i) || sct.Timestamp != e.Timestamp {
				t.Errorf("entry %d of time %d has an SCT for index %d (%v), time %d", i, e.Timestamp, index, err, sct.Timestamp)
			}
			delete(c.scts, string(e.Certificate))
		}
	}
	for _, head := range c.heads {
		if head.time < latest[head.size] {
			t.Errorf("tree head %+v covers an entry of time %d", head, latest[head.size])
		}
	}
	if len(c.scts) > 0 {
		t.Errorf("%d certificates with an SCT are not in the log", len(c.scts))
	}
	t.Logf("certificates: %d in the log, %d tree heads seen in the bucket", v.tree.size, len(c.heads))
}
