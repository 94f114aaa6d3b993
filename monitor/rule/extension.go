package rule

import (
	"bytes"
	"encoding/asn1"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// An Extension is a certificate extension that has one of some values.
type Extension struct {
	ID     string   // object identifier, such as 1.3.6.1.4.1.57264.1.18
	Values []string // as text, compared exactly; at least one
}

// fulcioArc is what the extensions in [Certificate].Extensions are below.
const fulcioArc = "1.3.6.1.4.1.57264.1."

// byExtension matches certificates in which the extension has one of the values: as a string of
// ASN.1, or as its bytes are.
func (w *watch) byExtension(v Extension) error {
	id, err := parseOID(v.ID)
	if err != nil {
		return fmt.Errorf("extension %q: %w", v.ID, err)
	}
	if len(v.Values) == 0 || slices.Contains(v.Values, "") {
		return fmt.Errorf("extension %q: no values, or an empty one", v.ID)
	}
	n, fulcio := 0, false
	if rest, ok := strings.CutPrefix(v.ID, fulcioArc); ok {
		n, err = strconv.Atoi(rest)
		fulcio = err == nil
	}
	is := func(value []byte) (string, bool) {
		for _, text := range extensionTexts(value) {
			if slices.Contains(v.Values, text) {
				return text, true
			}
		}
		return "", false
	}
	w.match = func(e *Signer) (string, bool) {
		c := e.Certificate
		switch {
		case c == nil:
			return "", false
		case fulcio:
			return is([]byte(c.Extensions[n]))
		}
		for _, value := range extensionValues(c.Raw, id) {
			if text, ok := is(value); ok {
				return text, true
			}
		}
		return "", false
	}
	w.inBytes = func(b []byte) bool {
		return slices.ContainsFunc(v.Values, func(text string) bool {
			return len(text) >= minLiteral && bytes.Contains(b, bytes.ToLower([]byte(text)))
		})
	}
	if fulcio {
		w.needle = needle{words: words(v.Values...), extension: n}
	}
	return nil
}

// extensionTexts returns what the value of an extension may mean as text.
func extensionTexts(value []byte) []string {
	texts := []string{string(value)}
	var text string
	if rest, err := asn1.Unmarshal(value, &text); err == nil && len(rest) == 0 {
		texts = append(texts, text)
	}
	return texts
}

// extensionValues returns the values of an extension, as far as the certificate can be read.
func extensionValues(der []byte, id asn1.ObjectIdentifier) [][]byte {
	var cert, tbs, extensions, list, ext cryptobyte.String
	input := cryptobyte.String(der)
	if !input.ReadASN1(&cert, cbasn1.SEQUENCE) || !cert.ReadASN1(&tbs, cbasn1.SEQUENCE) {
		return nil
	}
	tag := cbasn1.Tag(3).Constructed().ContextSpecific()
	for !tbs.Empty() && !tbs.PeekASN1Tag(tag) {
		var skipped cryptobyte.String
		var any cbasn1.Tag
		if !tbs.ReadAnyASN1(&skipped, &any) {
			return nil
		}
	}
	if !tbs.ReadASN1(&extensions, tag) || !extensions.ReadASN1(&list, cbasn1.SEQUENCE) {
		return nil
	}
	var values [][]byte
	for list.ReadASN1(&ext, cbasn1.SEQUENCE) {
		var is asn1.ObjectIdentifier
		var value cryptobyte.String
		if ext.ReadASN1ObjectIdentifier(&is) && ext.SkipOptionalASN1(cbasn1.BOOLEAN) && ext.ReadASN1(&value, cbasn1.OCTET_STRING) && is.Equal(id) {
			values = append(values, value)
		}
	}
	return values
}

func parseOID(text string) (asn1.ObjectIdentifier, error) {
	var id asn1.ObjectIdentifier
	for part := range strings.SplitSeq(text, ".") {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil || strconv.FormatUint(n, 10) != part {
			return nil, fmt.Errorf("%q is not an object identifier", text)
		}
		id = append(id, int(n))
	}
	if len(id) < 3 || id[0] > 2 || id[0] < 2 && id[1] > 39 {
		return nil, fmt.Errorf("%q is not the object identifier of an extension; those of Fulcio begin with %s", text, fulcioArc)
	}
	return id, nil
}

// extensionNames are the names, for people, of the certificate extensions 1.3.6.1.4.1.57264.1.N
// (Fulcio's list of object identifiers).
var extensionNames = map[int]string{
	1: "issuer (old form)", 2: "trigger (old form)", 3: "commit (old form)", 4: "workflow name (old form)",
	5: "repository (old form)", 6: "ref (old form)", 8: "issuer", 9: "signer workflow",
	10: "signer workflow digest", 11: "runner", 12: "source repository", 13: "source commit", 14: "source ref",
	15: "source repository ID", 16: "source repository owner", 17: "source repository owner ID",
	18: "build workflow", 19: "build workflow digest", 20: "build trigger", 21: "run", 22: "source visibility",
	23: "deployment environment", 24: "token subject",
}

// ExtensionName returns the name, for people, of certificate extension 1.3.6.1.4.1.57264.1.n, or its
// object identifier if it has none.
func ExtensionName(n int) string {
	if name, ok := extensionNames[n]; ok {
		return name
	}
	return fmt.Sprintf("1.3.6.1.4.1.57264.1.%d", n)
}

// String returns what kind of name it is, in a few words.
func (t NameType) String() string {
	switch t {
	case Email:
		return "mail address"
	case DNS:
		return "DNS name"
	case URI:
		return "URI"
	case IP:
		return "IP address"
	}
	return "name"
}
