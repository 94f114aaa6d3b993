package rule

import (
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// A Name is one subject alternative name, as its bytes are: it may hold NUL or invalid UTF-8.
type Name struct {
	Type  NameType
	Value string // IP addresses in their usual text form
}

// A NameType says which kind of subject alternative name a Name is.
type NameType int

// The kinds of names. Other is the otherName 1.3.6.1.4.1.57264.1.7 of Fulcio certificates.
const (
	Email NameType = iota
	DNS
	URI
	IP
	Other
)

// A Certificate is what the rules look at in a certificate, whether or not the rest of it parses.
type Certificate struct {
	Raw        []byte         // DER
	Names      []Name         // subject alternative names, in order
	Extensions map[int]string // value of 1.3.6.1.4.1.57264.1.N by N, decoded

	spki []byte
}

// Fingerprint returns the SHA-256 of the certificate.
func (c *Certificate) Fingerprint() [sha256.Size]byte { return sha256.Sum256(c.Raw) }

// KeyHash returns the SHA-256 of the SubjectPublicKeyInfo, or of nothing if it could not be read.
func (c *Certificate) KeyHash() [sha256.Size]byte { return sha256.Sum256(c.spki) }

// Issuers returns the OpenID Connect issuers that the certificate states: none, one, or two that
// differ, because there are an old and a new extension for it.
func (c *Certificate) Issuers() []string {
	var out []string
	for _, n := range []int{8, 1} {
		if v, ok := c.Extensions[n]; ok && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

var (
	oidSAN       = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidPoison    = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 3}
	oidFulcio    = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1}
	oidOtherName = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 7}
)

// lastRawExtension is the last of Fulcio's extensions that hold the bare string; all from 8 on
// hold a DER UTF8String.
const lastRawExtension = 6

var errDER = errors.New("malformed DER")

// ParseCertificate reads a DER certificate as far as it goes. The result is never nil and holds
// everything read before the error, if there is one: a name is worth an alert even when the
// certificate around it is broken. crypto/x509 would refuse the whole.
func ParseCertificate(der []byte) (*Certificate, error) {
	c := &Certificate{Raw: der, Extensions: map[int]string{}}
	var cert, tbs cryptobyte.String
	input := cryptobyte.String(der)
	if !input.ReadASN1(&cert, cbasn1.SEQUENCE) || !cert.ReadASN1(&tbs, cbasn1.SEQUENCE) {
		return c, fmt.Errorf("reading certificate: %w", errDER)
	}
	trailing := len(input) > 0
	err := c.readTBS(tbs)
	switch {
	case err != nil:
		return c, err
	case trailing:
		return c, errors.New("reading certificate: data after its end")
	case !cert.SkipASN1(cbasn1.SEQUENCE) || !cert.SkipASN1(cbasn1.BIT_STRING) || len(cert) > 0:
		return c, fmt.Errorf("reading certificate signature: %w", errDER)
	}
	return c, nil
}

func (c *Certificate) readTBS(tbs cryptobyte.String) error {
	var spki, extensions cryptobyte.String
	var hasExtensions bool
	ok := tbs.SkipOptionalASN1(cbasn1.Tag(0).Constructed().ContextSpecific()) && // version
		tbs.SkipASN1(cbasn1.INTEGER) && // serial number
		tbs.SkipASN1(cbasn1.SEQUENCE) && // signature algorithm
		tbs.SkipASN1(cbasn1.SEQUENCE) && // issuer
		tbs.SkipASN1(cbasn1.SEQUENCE) && // validity
		tbs.SkipASN1(cbasn1.SEQUENCE) && // subject
		tbs.ReadASN1Element(&spki, cbasn1.SEQUENCE)
	if !ok {
		return fmt.Errorf("reading certificate fields: %w", errDER)
	}
	c.spki = spki
	ok = tbs.SkipOptionalASN1(cbasn1.Tag(1).ContextSpecific()) && // unique identifiers
		tbs.SkipOptionalASN1(cbasn1.Tag(2).ContextSpecific()) &&
		tbs.ReadOptionalASN1(&extensions, &hasExtensions, cbasn1.Tag(3).Constructed().ContextSpecific())
	if !ok || len(tbs) > 0 {
		return fmt.Errorf("reading certificate fields: %w", errDER)
	}
	if !hasExtensions {
		return nil
	}
	var list cryptobyte.String
	if !extensions.ReadASN1(&list, cbasn1.SEQUENCE) || len(extensions) > 0 {
		return fmt.Errorf("reading certificate extensions: %w", errDER)
	}
	var errs []error
	for len(list) > 0 {
		var ext cryptobyte.String
		if !list.ReadASN1(&ext, cbasn1.SEQUENCE) {
			return errors.Join(append(errs, fmt.Errorf("reading certificate extensions: %w", errDER))...)
		}
		if err := c.readExtension(ext); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (c *Certificate) readExtension(ext cryptobyte.String) error {
	var id asn1.ObjectIdentifier
	var value cryptobyte.String
	if !ext.ReadASN1ObjectIdentifier(&id) || !ext.SkipOptionalASN1(cbasn1.BOOLEAN) ||
		!ext.ReadASN1(&value, cbasn1.OCTET_STRING) || len(ext) > 0 {
		return fmt.Errorf("reading certificate extension: %w", errDER)
	}
	switch {
	case id.Equal(oidSAN):
		return c.readNames(value)
	case len(id) == len(oidFulcio)+1 && id[:len(oidFulcio)].Equal(oidFulcio):
		return c.readFulcio(id[len(oidFulcio)], value)
	}
	return nil
}

// readFulcio keeps the value of extension n. A second one of the same n is an error, but not
// before its value has been kept beside the first: whoever reads either must not be misled.
func (c *Certificate) readFulcio(n int, value cryptobyte.String) error {
	text := string(value)
	var err error
	if n > lastRawExtension {
		var s cryptobyte.String
		if inner := value; inner.ReadASN1(&s, cbasn1.UTF8String) && len(inner) == 0 {
			text = string(s)
		} else {
			err = fmt.Errorf("reading certificate extension 1.3.6.1.4.1.57264.1.%d: %w", n, errDER)
		}
	}
	if first, ok := c.Extensions[n]; ok {
		text = first + "\x00" + text
		err = fmt.Errorf("certificate extension 1.3.6.1.4.1.57264.1.%d is there twice", n)
	}
	c.Extensions[n] = text
	return err
}

// The tags of GeneralName (RFC 5280 section 4.2.1.6) that are matched.
var (
	tagOther = cbasn1.Tag(0).Constructed().ContextSpecific()
	tagEmail = cbasn1.Tag(1).ContextSpecific()
	tagDNS   = cbasn1.Tag(2).ContextSpecific()
	tagURI   = cbasn1.Tag(6).ContextSpecific()
	tagIP    = cbasn1.Tag(7).ContextSpecific()
)

func (c *Certificate) readNames(value cryptobyte.String) error {
	var names cryptobyte.String
	if !value.ReadASN1(&names, cbasn1.SEQUENCE) || len(value) > 0 {
		return fmt.Errorf("reading subject alternative names: %w", errDER)
	}
	for len(names) > 0 {
		var name cryptobyte.String
		var tag cbasn1.Tag
		if !names.ReadAnyASN1(&name, &tag) {
			return fmt.Errorf("reading subject alternative names: %w", errDER)
		}
		switch tag {
		case tagEmail:
			c.Names = append(c.Names, Name{Email, string(name)})
		case tagDNS:
			c.Names = append(c.Names, Name{DNS, string(name)})
		case tagURI:
			c.Names = append(c.Names, Name{URI, string(name)})
		case tagIP:
			a, ok := netip.AddrFromSlice(name)
			if !ok {
				return fmt.Errorf("IP address of %d bytes among the subject alternative names", len(name))
			}
			c.Names = append(c.Names, Name{IP, a.Unmap().String()})
		case tagOther:
			if err := c.readOtherName(name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Certificate) readOtherName(name cryptobyte.String) error {
	var id asn1.ObjectIdentifier
	var value, text cryptobyte.String
	if !name.ReadASN1ObjectIdentifier(&id) ||
		!name.ReadASN1(&value, cbasn1.Tag(0).Constructed().ContextSpecific()) {
		return fmt.Errorf("reading otherName: %w", errDER)
	}
	if !id.Equal(oidOtherName) {
		return nil
	}
	if !value.ReadASN1(&text, cbasn1.UTF8String) {
		return fmt.Errorf("reading otherName: %w", errDER)
	}
	c.Names = append(c.Names, Name{Other, string(text)})
	return nil
}
