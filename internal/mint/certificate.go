package mint

import (
	"cmp"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tallywood/log/ctentry"
	"tallywood/log/entry"
)

// A Certificate says what a certificate is to hold. What is zero is as in Fulcio's certificates.
type Certificate struct {
	Names      []Name
	Extensions map[int]string   // value of 1.3.6.1.4.1.57264.1.N by N
	More       []pkix.Extension // others, as they are

	NotBefore time.Time     // zero: 1970
	Lifetime  time.Duration // zero: ten minutes

	Serial  string                  // makes the serial number, and the key unless it is named; empty: the index does
	Key     string                  // name of the key; empty: one that no other certificate has
	Details entry.KeyDetails        // of the key; zero: P-256
	Usages  []asn1.ObjectIdentifier // extended key usages; nil: code signing

	CA  *CA // nil: the world's
	SCT Promise
	By  *Promiser // of the SCT, if it is Promised; nil: the world's

	// Edit, if set, changes the DER of the certificate when all else is done; of its precertificate
	// too.
	Edit func(der []byte) []byte
}

// A Name is a subject alternative name.
type Name struct {
	Kind  NameKind
	Value string // of an IP address its bytes
}

// A NameKind is the tag of a GeneralName (RFC 5280 section 4.2.1.6).
type NameKind uint8

// The kinds of names. Other is the otherName 1.3.6.1.4.1.57264.1.7.
const (
	Other NameKind = 0
	Email NameKind = 1
	DNS   NameKind = 2
	URI   NameKind = 6
	IP    NameKind = 7
)

// A Promise says which SCT a certificate holds.
type Promise int

// The promises.
const (
	Promised    Promise = iota // one that the world's certificate log has signed over the precertificate
	NoSCT                      // none
	WrongSCT                   // one that it has signed over another certificate
	StrangerSCT                // one of a certificate log that nobody knows
)

// Extended key usages.
var (
	CodeSigning = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 3}
	ServerAuth  = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
)

// The extensions that every certificate has.
var (
	oidKeyUsage    = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidExtKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidSubjectKey  = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidIssuerKey   = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidNames       = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidFulcio      = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1}
	oidOtherName   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 7}
)

// lastRawExtension is the last of Fulcio's extensions that hold the bare string; those from 8 on
// hold a DER UTF8String.
const lastRawExtension = 6

// An Issued certificate, with the key that it is about.
type Issued struct {
	DER []byte

	spec  *Certificate
	ca    *CA
	key   crypto.Signer
	spki  []byte
	kind  entry.KeyDetails
	index int64 // in the certificate log

	head, extensions []byte // of the TBSCertificate, but for the last extension
	entry            ctentry.Entry
}

// Issue makes the certificate that is entry index of its certificate log. Unless c says otherwise, the
// index also picks its serial number and its key, so that no two certificates may have the same.
func (w *World) Issue(c Certificate, index int64) (*Issued, error) {
	i := &Issued{spec: &c, ca: c.CA, index: index, kind: c.Details}
	if i.ca == nil {
		i.ca = w.CA
	}
	if i.kind == 0 {
		i.kind = entry.ECDSAP256
	}
	if c.Serial == "" {
		c.Serial = fmt.Sprint(index)
	}
	name := "key " + c.Key
	if c.Key == "" {
		name = "key of certificate " + c.Serial
	}
	var err error
	if i.key, err = w.key(i.kind, name); err != nil {
		return nil, err
	}
	if i.spki, err = x509.MarshalPKIXPublicKey(i.key.Public()); err != nil {
		return nil, fmt.Errorf("encoding key %q: %w", name, err)
	}
	serial := w.hash("serial " + c.Serial)
	if i.head, err = i.fields(serial[:20]); err != nil {
		return nil, fmt.Errorf("encoding certificate %d: %w", index, err)
	}
	if i.extensions, err = i.common(); err != nil {
		return nil, fmt.Errorf("encoding certificate %d: %w", index, err)
	}
	last, err := i.promise(w)
	if err == nil {
		i.DER, err = i.sign(last)
	}
	if err != nil {
		return nil, fmt.Errorf("issuing certificate %d: %w", index, err)
	}
	return i, nil
}

// Key returns the key that the certificate is about.
func (i *Issued) Key() crypto.Signer { return i.key }

// fields encodes the TBSCertificate up to the extensions.
func (i *Issued) fields(serial []byte) ([]byte, error) {
	life := i.spec.Lifetime
	if life == 0 {
		life = 10 * time.Minute
	}
	from := i.spec.NotBefore
	if from.IsZero() {
		from = time.Unix(0, 0)
	}
	serial[0] = serial[0]&0x7f | 0x40 // positive, and of 20 bytes
	b := cryptobyte.NewBuilder(make([]byte, 0, 512))
	b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1Int64(2) })
	b.AddASN1(cbasn1.INTEGER, func(b *cryptobyte.Builder) { b.AddBytes(serial) })
	i.ca.addAlgorithm(b)
	b.AddBytes(i.ca.Intermediate.RawSubject)
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		addTime(b, from)
		addTime(b, from.Add(life))
	})
	b.AddASN1(cbasn1.SEQUENCE, func(*cryptobyte.Builder) {}) // no subject
	b.AddBytes(i.spki)
	return b.Bytes()
}

// addAlgorithm encodes the algorithm that ca signs with.
func (ca *CA) addAlgorithm(b *cryptobyte.Builder) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(ca.algorithm) })
}

func addTime(b *cryptobyte.Builder, t time.Time) {
	if t = t.UTC(); t.Year() >= 2050 || t.Year() < 1950 {
		b.AddASN1GeneralizedTime(t)
		return
	}
	b.AddASN1UTCTime(t)
}

// common encodes the extensions that precertificate and certificate share.
func (i *Issued) common() ([]byte, error) {
	usages := i.spec.Usages
	if usages == nil {
		usages = []asn1.ObjectIdentifier{CodeSigning}
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, 1024))
	addExtension(b, oidKeyUsage, true, func(b *cryptobyte.Builder) {
		b.AddBytes([]byte{3, 2, 7, 0x80}) // BIT STRING: digitalSignature
	})
	if len(usages) > 0 {
		addExtension(b, oidExtKeyUsage, false, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, id := range usages {
					b.AddASN1ObjectIdentifier(id)
				}
			})
		})
	}
	subjectKey := sha256.Sum256(i.spki)
	addExtension(b, oidSubjectKey, false, func(b *cryptobyte.Builder) { b.AddASN1OctetString(subjectKey[:20]) })
	addExtension(b, oidIssuerKey, false, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(i.ca.Intermediate.SubjectKeyId) })
		})
	})
	if len(i.spec.Names) > 0 {
		addExtension(b, oidNames, true, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, n := range i.spec.Names {
					n.add(b)
				}
			})
		})
	}
	i.addFulcio(b)
	for _, e := range i.spec.More {
		addExtension(b, e.Id, e.Critical, func(b *cryptobyte.Builder) { b.AddBytes(e.Value) })
	}
	return b.Bytes()
}

func (i *Issued) addFulcio(b *cryptobyte.Builder) {
	for _, n := range slices.Sorted(maps.Keys(i.spec.Extensions)) {
		value := []byte(i.spec.Extensions[n])
		addExtension(b, append(oidFulcio[:len(oidFulcio):len(oidFulcio)], n), false, func(b *cryptobyte.Builder) {
			if n <= lastRawExtension {
				b.AddBytes(value)
				return
			}
			b.AddASN1(cbasn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes(value) })
		})
	}
}

func addExtension(b *cryptobyte.Builder, id asn1.ObjectIdentifier, critical bool, value func(*cryptobyte.Builder)) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(id)
		if critical {
			b.AddASN1Boolean(true)
		}
		b.AddASN1(cbasn1.OCTET_STRING, value)
	})
}

// add encodes n as a GeneralName.
func (n Name) add(b *cryptobyte.Builder) {
	tag := cbasn1.Tag(n.Kind).ContextSpecific()
	if n.Kind != Other {
		b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(n.Value)) })
		return
	}
	b.AddASN1(tag.Constructed(), func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidOtherName)
		b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(n.Value)) })
		})
	})
}

// tbs encodes the TBSCertificate with a last extension, which may be empty.
func (i *Issued) tbs(last []byte) ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, len(i.head)+len(i.extensions)+len(last)+16))
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(i.head)
		b.AddASN1(cbasn1.Tag(3).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddBytes(i.extensions)
				b.AddBytes(last)
			})
		})
	})
	return b.Bytes()
}

// sign returns the certificate with a last extension.
func (i *Issued) sign(last []byte) ([]byte, error) {
	tbs, err := i.tbs(last)
	if err != nil {
		return nil, err
	}
	sig, err := i.ca.key.Sign(nil, hashOf(i.ca.hash, tbs), i.ca.hash)
	if err != nil {
		return nil, err
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, len(tbs)+len(sig)+32))
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		i.ca.addAlgorithm(b)
		b.AddASN1BitString(sig)
	})
	der, err := b.Bytes()
	if err == nil && i.spec.Edit != nil {
		der = i.spec.Edit(der)
	}
	return der, err
}

// promise makes the entry of the certificate log, and returns the extension with the SCT.
func (i *Issued) promise(w *World) ([]byte, error) {
	tbs, err := i.tbs(nil)
	if err != nil {
		return nil, err
	}
	i.entry = ctentry.Entry{Timestamp: i.spec.NotBefore.UnixMilli(), Precert: true, IssuerKeyHash: i.ca.keyHash, Certificate: tbs}
	if i.spec.NotBefore.IsZero() {
		i.entry.Timestamp = 0
	}
	if i.entry.Extensions, err = ctentry.MarshalExtensions(i.index); err != nil {
		return nil, err
	}
	signed, by := i.entry, cmp.Or(i.spec.By, w.CT)
	switch i.spec.SCT {
	case NoSCT:
		return nil, nil
	case WrongSCT:
		signed.Certificate = append([]byte{0x30, 0x80}, tbs...)
	case StrangerSCT:
		by = w.stranger
	}
	sct, err := by.sign(signed)
	if err != nil {
		return nil, err
	}
	value, err := ctentry.MarshalSCTExtension([][]byte{sct})
	if err != nil {
		return nil, err
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, len(value)+16))
	addExtension(b, ctentry.OIDSCTList, false, func(b *cryptobyte.Builder) { b.AddBytes(value) })
	return b.Bytes()
}

// sign returns the SCT for e.
func (p *Promiser) sign(e ctentry.Entry) ([]byte, error) {
	leaf, err := e.MerkleTreeLeaf() // the same bytes as an SCT signs
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(leaf)
	sig, err := p.key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("signing SCT: %w", err)
	}
	return ctentry.SCT{LogID: p.ID, Timestamp: e.Timestamp, Extensions: e.Extensions,
		Hash: ctentry.HashSHA256, Algorithm: ctentry.SignatureECDSA, Signature: sig}.Marshal()
}

// TileLeaf returns the entry of the certificate log: it holds the precertificate, signed by the CA.
func (i *Issued) TileLeaf() ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, 32))
	addExtension(b, ctentry.OIDPoison, true, func(b *cryptobyte.Builder) { b.AddBytes(asn1.NullBytes) })
	poison, err := b.Bytes()
	if err == nil {
		i.entry.UnverifiedPrecertificate, err = i.sign(poison)
	}
	if err != nil {
		return nil, fmt.Errorf("signing precertificate %d: %w", i.index, err)
	}
	i.entry.UnverifiedFingerprints = [][32]byte{sha256.Sum256(i.ca.Intermediate.Raw), sha256.Sum256(i.ca.Root.Raw)}
	return i.entry.TileLeaf()
}
