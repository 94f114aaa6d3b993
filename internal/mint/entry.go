package mint

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"

	"tallywood/log/entry"
)

// An Entry says what an entry of a signature log is to hold: a certificate and a signature that its
// key has made.
type Entry struct {
	Certificate

	Content []byte // what is signed; nil: something that no other entry signs
	Bare    bool   // the entry holds the key alone, not the certificate
	Forged  bool   // the signature is over something else
	Bytes   []byte // if set, they are all that the entry is
}

// Made is an entry of a signature log, and the certificate in it.
type Made struct {
	Bytes  []byte // of the entry
	Digest []byte // what it says was signed; nil with Entry.Bytes
	*Issued
}

// Make makes an entry. Its certificate is entry index of the certificate log; see Issue.
func (w *World) Make(e Entry, index int64) (Made, error) {
	issued, err := w.Issue(e.Certificate, index)
	if err != nil {
		return Made{}, err
	}
	if e.Bytes != nil {
		return Made{e.Bytes, nil, issued}, nil
	}
	if e.Content == nil {
		e.Content = fmt.Appendf(nil, "content %d", index)
	}
	m, err := issued.Sign(e)
	if err != nil {
		return Made{}, fmt.Errorf("making entry with certificate %d: %w", index, err)
	}
	return m, nil
}

// Sign makes another entry with an issued certificate: that of e is not looked at, its content is
// what it is.
func (i *Issued) Sign(e Entry) (Made, error) {
	digest := hashOf(i.kind.Hash(), e.Content)
	signed := digest
	if e.Forged {
		signed = hashOf(i.kind.Hash(), append([]byte("not "), e.Content...))
	}
	sig, err := signDigest(i.key, i.kind.Hash(), signed)
	if err != nil {
		return Made{}, err
	}
	s := entry.Signature{Content: sig, Certificate: i.DER, KeyDetails: i.kind}
	if e.Bare {
		s.Certificate, s.PublicKey = nil, i.spki
	}
	canonical, err := entry.Canonical(digest, s)
	return Made{canonical, digest, i}, err
}

func hashOf(h crypto.Hash, content []byte) []byte {
	sum := h.New()
	sum.Write(content)
	return sum.Sum(nil)
}

func hashOfText(text string) [32]byte { return sha256.Sum256([]byte(text)) }

// signDigest signs as verifiers of each kind of key expect it.
func signDigest(key crypto.Signer, h crypto.Hash, digest []byte) ([]byte, error) {
	switch key := key.(type) {
	case ed25519.PrivateKey:
		return key.Sign(nil, digest, &ed25519.Options{Hash: crypto.SHA512})
	case *rsa.PrivateKey:
		return rsa.SignPKCS1v15(rand.Reader, key, h, digest)
	}
	return key.Sign(nil, digest, h) // ECDSA, by RFC 6979
}

// KeyHash returns the SHA-256 of the SubjectPublicKeyInfo of the key of that name.
func (w *World) KeyHash(k entry.KeyDetails, name string) ([32]byte, error) {
	key, err := w.key(k, "key "+name)
	if err != nil {
		return [32]byte{}, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return [32]byte{}, fmt.Errorf("encoding key %q: %w", name, err)
	}
	return sha256.Sum256(spki), nil
}
