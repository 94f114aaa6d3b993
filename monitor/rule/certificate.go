package rule

import (
	"crypto/sha256"
	"net/netip"
	"slices"
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

	fields
	skip *Set // in which it concerns nobody, so that names and extensions were not kept
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

// values returns the different values that the extensions of the given numbers have, but for empty ones.
func (c *Certificate) values(ns ...int) []string {
	var out []string
	for _, n := range ns {
		if v := c.Extensions[n]; v != "" && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// ParseCertificate reads a DER certificate as far as it goes. The result is never nil and holds
// everything read before the error, if there is one: a name is worth an alert even when the
// certificate around it is broken. crypto/x509 would refuse the whole.
func ParseCertificate(der []byte) (*Certificate, error) {
	var r reader
	err := r.read(der)
	return r.certificate(der), err
}

// certificate returns what was read, in a form of its own.
func (r *reader) certificate(der []byte) *Certificate {
	c := &Certificate{Raw: der, fields: r.fields, Extensions: make(map[int]string, r.values.n)}
	if r.names.n > 0 {
		c.Names = make([]Name, r.names.n)
	}
	for i := range c.Names {
		n := r.names.at(i)
		c.Names[i] = Name{n.kind, string(n.value)}
		if a, ok := netip.AddrFromSlice(n.value); n.kind == IP && ok {
			c.Names[i].Value = a.Unmap().String()
		}
	}
	for i := range r.values.n {
		v := r.values.at(i)
		text := string(v.value)
		// Whoever reads the first or the second of the same number must not be misled.
		if first, ok := c.Extensions[v.n]; ok {
			text = first + "\x00" + text
		}
		c.Extensions[v.n] = text
	}
	return c
}
