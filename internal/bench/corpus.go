package bench

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"tallywood/log/entry"
)

// corpusKeys is how many signers there are: enough that a server cannot live off one parsed key.
const corpusKeys = 64

// A corpus is an endless list of valid, different hashedrekord entries that a seed determines:
// P-256 keys derived from it, and RFC 6979 signatures, which take no randomness.
type corpus struct {
	seed [8]byte
	keys [corpusKeys]*ecdsa.PrivateKey
	spki [corpusKeys][]byte
	next atomic.Int64 // the first entry nobody has taken

	first    int64 // of prepared, which is written between phases only
	prepared []signed
}

// A signed entry is everything a request holds.
type signed struct {
	digest [32]byte
	sig    []byte
	spki   []byte
}

func newCorpus(seed uint64) (*corpus, error) {
	c := new(corpus)
	binary.BigEndian.PutUint64(c.seed[:], seed)
	for i := range c.keys {
		// A hash is no valid scalar once in 2^32 times.
		for attempt := 0; c.keys[i] == nil; attempt++ {
			scalar := sha256.Sum256(fmt.Appendf(c.seed[:8:8], "key %d.%d", i, attempt))
			key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar[:])
			if err != nil && attempt < 8 {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("deriving corpus key: %w", err)
			}
			c.keys[i] = key
		}
		spki, err := x509.MarshalPKIXPublicKey(c.keys[i].Public())
		if err != nil {
			return nil, fmt.Errorf("encoding corpus key: %w", err)
		}
		c.spki[i] = spki
	}
	return c, nil
}

// make signs entry i.
func (c *corpus) make(i int64) signed {
	s := signed{digest: sha256.Sum256(fmt.Appendf(c.seed[:8:8], "entry %d", i)), spki: c.spki[i%corpusKeys]}
	sig, err := c.keys[i%corpusKeys].Sign(nil, s.digest[:], crypto.SHA256)
	if err != nil {
		panic(err) // a valid key and a digest of the right length leave nothing to fail
	}
	s.sig = sig
	return s
}

// prepare signs the next n entries, with all cores.
func (c *corpus) prepare(n int) {
	c.first, c.prepared = c.next.Load(), make([]signed, n)
	var wg sync.WaitGroup
	for w := range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := w; i < n; i += runtime.GOMAXPROCS(0) {
				c.prepared[i] = c.make(c.first + int64(i))
			}
		})
	}
	wg.Wait()
}

// entry returns entry i, signing it now if it was not prepared.
func (c *corpus) entry(i int64) signed {
	if at := i - c.first; at >= 0 && at < int64(len(c.prepared)) {
		return c.prepared[at]
	}
	return c.make(i)
}

// json is the body of the request for s, of 412 bytes or so.
func (s signed) json() []byte {
	b := make([]byte, 0, 512)
	b = append(b, `{"hashedRekordRequestV002":{"digest":"`...)
	b = base64.StdEncoding.AppendEncode(b, s.digest[:])
	b = append(b, `","signature":{"content":"`...)
	b = base64.StdEncoding.AppendEncode(b, s.sig)
	b = append(b, `","verifier":{"publicKey":{"rawBytes":"`...)
	b = base64.StdEncoding.AppendEncode(b, s.spki)
	b = append(b, `"},"keyDetails":"PKIX_ECDSA_P256_SHA_256"}}}}`...)
	return b
}

// canonical is what the log must have made of it.
func (s signed) canonical() ([]byte, error) {
	return entry.Canonical(s.digest[:], entry.Signature{Content: s.sig, PublicKey: s.spki, KeyDetails: entry.ECDSAP256})
}
