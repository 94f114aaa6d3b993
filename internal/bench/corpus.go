package bench

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"tallywood/internal/mint"
	"tallywood/log/entry"
)

// corpusKeys is how many signers there are: enough that a server cannot live off one parsed key.
const corpusKeys = 64

// The kinds of entries that a corpus has.
const (
	Keys         = "key"         // with one of 64 P-256 keys
	Certificates = "certificate" // each with a P-256 key and a certificate of its own, such as Fulcio issues
)

// A corpus is an endless list of valid, different hashedrekord entries that a seed determines:
// P-256 keys derived from it, and RFC 6979 signatures, which take no randomness.
type corpus struct {
	seed  [8]byte
	keys  [corpusKeys]*ecdsa.PrivateKey
	spki  [corpusKeys][]byte
	world *mint.World  // that certifies, of Certificates; else nil
	next  atomic.Int64 // the first entry nobody has taken

	// Of a log that has the first known entries already, nearly all entries are one of those.
	known int64
	salt  uint64

	first    int64 // of prepared, which is written between phases only
	prepared []signed
}

// A signed entry is everything a request holds.
type signed struct {
	digest      [32]byte
	sig         []byte
	raw         []byte // SPKI or certificate
	certificate bool
}

func newCorpus(seed uint64, kind string) (*corpus, error) {
	c := &corpus{salt: rand.Uint64()}
	binary.BigEndian.PutUint64(c.seed[:], seed)
	for i := range c.keys {
		key, err := c.key(fmt.Sprintf("key %d", i))
		if err != nil {
			return nil, err
		}
		c.keys[i] = key
		if c.spki[i], err = x509.MarshalPKIXPublicKey(key.Public()); err != nil {
			return nil, fmt.Errorf("encoding corpus key: %w", err)
		}
	}
	switch kind {
	case Keys:
		return c, nil
	case Certificates:
		var err error
		if c.world, err = mint.New(seed); err != nil {
			return nil, err
		}
		_, err = c.certify(0) // what fails would fail always
		return c, err
	}
	return nil, fmt.Errorf("corpus %q is neither %q nor %q", kind, Keys, Certificates)
}

// key derives the key of that name.
func (c *corpus) key(name string) (*ecdsa.PrivateKey, error) {
	for attempt := 0; ; attempt++ { // a hash is no valid scalar once in 2^32 times
		scalar := sha256.Sum256(fmt.Appendf(c.seed[:8:8], "%s.%d", name, attempt))
		key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar[:])
		if err == nil {
			return key, nil
		}
		if attempt == 8 {
			return nil, fmt.Errorf("deriving corpus key: %w", err)
		}
	}
}

// make signs entry i.
func (c *corpus) make(i int64) signed {
	s, err := c.certify(i)
	if err != nil {
		panic(err) // the first one made no error, and the others differ in their numbers only
	}
	return s
}

func (c *corpus) certify(i int64) (s signed, err error) {
	s.digest = sha256.Sum256(fmt.Appendf(c.seed[:8:8], "entry %d", i))
	var key crypto.Signer = c.keys[i%corpusKeys]
	s.raw = c.spki[i%corpusKeys]
	if c.world != nil {
		issued, err := c.world.Issue(workflow, i)
		if err != nil {
			return s, err
		}
		s.certificate, s.raw, key = true, issued.DER, issued.Key()
	}
	s.sig, err = key.Sign(nil, s.digest[:], crypto.SHA256)
	return s, err
}

// workflow is a certificate such as Fulcio's for a workflow, as short as those are.
var workflow = func() mint.Certificate {
	c := mint.Run{Repository: "example/project", Commit: "0123456789abcdef0123456789abcdef01234567"}.GitHub()
	maps.DeleteFunc(c.Extensions, func(n int, _ string) bool { return n > 12 })
	c.NotBefore = time.Unix(1_790_000_000, 0)
	return c
}()

// number returns which entry the ith is. If the log has some, seven of eight are one of those, at
// random; the eighth is one that no other run has posted.
func (c *corpus) number(i int64) int64 {
	if c.known == 0 {
		return i
	}
	r := rand.New(rand.NewPCG(c.salt, uint64(i)))
	if i%8 == 7 {
		return c.known + r.Int64N(math.MaxInt64-c.known)
	}
	return r.Int64N(c.known)
}

// prepare signs the next n entries, with all cores.
func (c *corpus) prepare(ctx context.Context, n int) error {
	first, entries := c.next.Load(), make([]signed, n)
	if err := parallel(ctx, n, func(i int) { entries[i] = c.make(c.number(first + int64(i))) }); err != nil {
		return err
	}
	c.first, c.prepared = first, entries
	return nil
}

// entry returns the ith entry, signing it now if it was not prepared.
func (c *corpus) entry(i int64) signed {
	if at := i - c.first; at >= 0 && at < int64(len(c.prepared)) {
		return c.prepared[at]
	}
	return c.make(c.number(i))
}

// json is the body of the request for s, of 412 bytes or, with a certificate, 1,880 or so.
func (s signed) json() []byte {
	arm := "publicKey"
	if s.certificate {
		arm = "x509Certificate"
	}
	b := make([]byte, 0, 512+2*len(s.raw))
	b = append(b, `{"hashedRekordRequestV002":{"digest":"`...)
	b = base64.StdEncoding.AppendEncode(b, s.digest[:])
	b = append(b, `","signature":{"content":"`...)
	b = base64.StdEncoding.AppendEncode(b, s.sig)
	b = append(b, `","verifier":{"`+arm+`":{"rawBytes":"`...)
	b = base64.StdEncoding.AppendEncode(b, s.raw)
	b = append(b, `"},"keyDetails":"PKIX_ECDSA_P256_SHA_256"}}}}`...)
	return b
}

// canonical is what the log must have made of it.
func (s signed) canonical() ([]byte, error) {
	e := entry.Signature{Content: s.sig, PublicKey: s.raw, KeyDetails: entry.ECDSAP256}
	if s.certificate {
		e.Certificate, e.PublicKey = s.raw, nil
	}
	return entry.Canonical(s.digest[:], e)
}
