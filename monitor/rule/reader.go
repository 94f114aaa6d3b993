package rule

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var (
	oidSAN    = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidPoison = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 3}
)

// Contents of object identifiers, in DER.
var (
	derSAN       = []byte{0x55, 0x1d, 0x11}                                           // 2.5.29.17
	derEKU       = []byte{0x55, 0x1d, 0x25}                                           // 2.5.29.37
	derSCTs      = []byte{0x2b, 0x06, 0x01, 0x04, 0x01, 0xd6, 0x79, 0x02, 0x04, 0x02} // 1.3.6.1.4.1.11129.2.4.2
	derFulcio    = []byte{0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xbf, 0x30, 0x01}       // 1.3.6.1.4.1.57264.1
	derOtherName = append(derFulcio[:len(derFulcio):len(derFulcio)], 7)
)

// lastRawExtension is the last of Fulcio's extensions that hold the bare string; all from 8 on
// hold a DER UTF8String.
const lastRawExtension = 6

var errDER = errors.New("malformed DER")

// fields are parts of a certificate, as they are in it.
type fields struct {
	spki   cryptobyte.String // SubjectPublicKeyInfo, header included
	issuer cryptobyte.String // Name, likewise
	period cryptobyte.String // two times: since when and until when it is valid
	eku    cryptobyte.String // value of the extension; more than one: all

	promised bool // has a list of signed certificate timestamps
}

// A reader walks a certificate and keeps parts of it, without allocating memory for one that is not
// extraordinary: most certificates concern nobody.
type reader struct {
	fields
	names  few[rawName]
	values few[rawValue]
}

// few is a list that needs no memory of its own while it is short.
type few[T any] struct {
	n    int
	room [24]T
	more []T // behind room
}

func (f *few[T]) add(v T) {
	if f.n++; f.n <= len(f.room) {
		f.room[f.n-1] = v
		return
	}
	f.more = append(f.more, v)
}

func (f *few[T]) at(i int) T {
	if i < len(f.room) {
		return f.room[i]
	}
	return f.more[i-len(f.room)]
}

// A rawName is a subject alternative name; IP addresses in binary.
type rawName struct {
	kind  NameType
	value []byte
}

// A rawValue is the value of extension 1.3.6.1.4.1.57264.1.n.
type rawValue struct {
	n     int
	value []byte
}

func (r *reader) read(der []byte) error {
	var cert, tbs cryptobyte.String
	input := cryptobyte.String(der)
	if !input.ReadASN1(&cert, cbasn1.SEQUENCE) || !cert.ReadASN1(&tbs, cbasn1.SEQUENCE) {
		return fmt.Errorf("reading certificate: %w", errDER)
	}
	trailing := len(input) > 0
	err := r.readTBS(tbs)
	switch {
	case err != nil:
		return err
	case trailing:
		return errors.New("reading certificate: data after its end")
	case !cert.SkipASN1(cbasn1.SEQUENCE) || !cert.SkipASN1(cbasn1.BIT_STRING) || len(cert) > 0:
		return fmt.Errorf("reading certificate signature: %w", errDER)
	}
	return nil
}

func (r *reader) readTBS(tbs cryptobyte.String) error {
	var extensions cryptobyte.String
	var hasExtensions bool
	ok := tbs.SkipOptionalASN1(cbasn1.Tag(0).Constructed().ContextSpecific()) && // version
		tbs.SkipASN1(cbasn1.INTEGER) && // serial number
		tbs.SkipASN1(cbasn1.SEQUENCE) && // signature algorithm
		tbs.ReadASN1Element(&r.issuer, cbasn1.SEQUENCE) &&
		tbs.ReadASN1(&r.period, cbasn1.SEQUENCE) &&
		tbs.SkipASN1(cbasn1.SEQUENCE) && // subject
		tbs.ReadASN1Element(&r.spki, cbasn1.SEQUENCE)
	if !ok {
		return fmt.Errorf("reading certificate fields: %w", errDER)
	}
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
		if err := r.readExtension(ext); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (r *reader) readExtension(ext cryptobyte.String) error {
	var id, value cryptobyte.String
	if !ext.ReadASN1(&id, cbasn1.OBJECT_IDENTIFIER) || !validOID(id) || !ext.SkipOptionalASN1(cbasn1.BOOLEAN) ||
		!ext.ReadASN1(&value, cbasn1.OCTET_STRING) || len(ext) > 0 {
		return fmt.Errorf("reading certificate extension: %w", errDER)
	}
	n, isFulcio := lastArc(id, derFulcio)
	switch {
	case isFulcio:
		return r.readFulcio(n, value)
	case bytes.Equal(id, derSAN):
		return r.readNames(value)
	case bytes.Equal(id, derEKU) && r.eku == nil:
		r.eku = value
	case bytes.Equal(id, derEKU):
		r.eku = append(r.eku[:len(r.eku):len(r.eku)], value...)
	case bytes.Equal(id, derSCTs):
		r.promised = true
	}
	return nil
}

// validOID reports whether b is the content of an object identifier: numbers of base 128, each in its
// shortest form and of at most 31 bits.
func validOID(b []byte) bool {
	start := 0
	for i, c := range b {
		if c&0x80 != 0 {
			if i == start && c == 0x80 {
				return false
			}
			continue
		}
		if n := i - start; n > 4 || n == 4 && b[start] > 0x87 {
			return false
		}
		start = i + 1
	}
	return len(b) > 0 && start == len(b)
}

// lastArc returns the one number that the object identifier id has behind parent.
func lastArc(id, parent []byte) (int, bool) {
	arc, ok := bytes.CutPrefix(id, parent)
	n := 0
	for i, c := range arc {
		n = n<<7 | int(c&0x7f)
		if c&0x80 == 0 {
			return n, ok && i == len(arc)-1
		}
	}
	return 0, false
}

// readFulcio keeps the value of extension n. A second one of the same n is an error, but not
// before its value has been kept beside the first.
func (r *reader) readFulcio(n int, value cryptobyte.String) error {
	var err error
	for i := range r.values.n {
		if r.values.at(i).n == n {
			err = fmt.Errorf("certificate extension 1.3.6.1.4.1.57264.1.%d is there twice", n)
		}
	}
	if n > lastRawExtension {
		var s cryptobyte.String
		if inner := value; inner.ReadASN1(&s, cbasn1.UTF8String) && len(inner) == 0 {
			value = s
		} else if err == nil {
			err = fmt.Errorf("reading certificate extension 1.3.6.1.4.1.57264.1.%d: %w", n, errDER)
		}
	}
	r.values.add(rawValue{n, value})
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

func (r *reader) readNames(value cryptobyte.String) error {
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
			r.names.add(rawName{Email, name})
		case tagDNS:
			r.names.add(rawName{DNS, name})
		case tagURI:
			r.names.add(rawName{URI, name})
		case tagIP:
			if len(name) != 4 && len(name) != 16 {
				return fmt.Errorf("IP address of %d bytes among the subject alternative names", len(name))
			}
			r.names.add(rawName{IP, name})
		case tagOther:
			if err := r.readOtherName(name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *reader) readOtherName(name cryptobyte.String) error {
	var id, value, text cryptobyte.String
	if !name.ReadASN1(&id, cbasn1.OBJECT_IDENTIFIER) || !validOID(id) ||
		!name.ReadASN1(&value, cbasn1.Tag(0).Constructed().ContextSpecific()) {
		return fmt.Errorf("reading otherName: %w", errDER)
	}
	if !bytes.Equal(id, derOtherName) {
		return nil
	}
	if !value.ReadASN1(&text, cbasn1.UTF8String) {
		return fmt.Errorf("reading otherName: %w", errDER)
	}
	r.names.add(rawName{Other, text})
	return nil
}
