package entry

import (
	"errors"
)

// The messages of dev.sigstore.rekor.v2, their fields in the order the decoders number them.
var (
	requestMembers = []member{
		{hashedArm, "hashed_rekord_request_v002"}, {dsseArm, "dsse_request_v002"},
	}
	hashedMembers    = []member{{"digest", "digest"}, {"signature", "signature"}}
	signatureMembers = []member{{"content", "content"}, {"verifier", "verifier"}}
	verifierMembers  = []member{
		{"publicKey", "public_key"}, {"x509Certificate", "x509_certificate"}, {"keyDetails", "key_details"},
	}
	rawMembers           = []member{{"rawBytes", "raw_bytes"}}
	dsseMembers          = []member{{"envelope", "envelope"}, {"verifiers", "verifiers"}}
	envelopeMembers      = []member{{"payload", "payload"}, {"payloadType", "payloadType"}, {"signatures", "signatures"}}
	dsseSignatureMembers = []member{{"sig", "sig"}, {"keyid", "keyid"}}
	entryMembers         = []member{{"apiVersion", "api_version"}, {"kind", "kind"}, {"spec", "spec"}}
	specMembers          = []member{{"hashedRekordV002", "hashed_rekord_v002"}, {"dsseV002", "dsse_v002"}}
	hashedEntryMembers   = []member{{"data", "data"}, {"signature", "signature"}}
	dsseEntryMembers     = []member{{"payloadHash", "payloadHash"}, {"signatures", "signatures"}}
	hashMembers          = []member{{"algorithm", "algorithm"}, {"digest", "digest"}}
)

const (
	hashedArm = "hashedRekordRequestV002"
	dsseArm   = "dsseRequestV002"
)

func decodeRequest(body []byte) (*request, error) {
	s := &scanner{data: body}
	if s.next(); s.pos == len(body) {
		return nil, invalid("request", "is empty")
	}
	var r *request
	err := s.object("request", requestMembers, func(i int) (err error) {
		switch {
		case r != nil:
			return invalid("request", "has both %s and %s", hashedArm, dsseArm)
		case i == 0:
			r, err = s.hashedRequest()
		default:
			r, err = s.dsseRequest()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, invalid("request", "has neither %s nor %s", hashedArm, dsseArm)
	}
	return r, s.end()
}

func (s *scanner) hashedRequest() (*request, error) {
	r := &request{
		arm:          hashedArm,
		contentPath:  hashedArm + ".signature.content",
		verifierPath: hashedArm + ".signature.verifier",
	}
	return r, s.object(hashedArm, hashedMembers, func(i int) (err error) {
		if i == 0 {
			r.digest, err = s.base64(hashedArm + ".digest")
		} else {
			r.content, r.verifier, err = s.signature(hashedArm + ".signature")
		}
		return err
	})
}

// signature reads a message Signature.
func (s *scanner) signature(path string) (content []byte, v verifier, err error) {
	err = s.object(path, signatureMembers, func(i int) (err error) {
		if i == 0 {
			content, err = s.base64(path + ".content")
		} else {
			v, err = s.verifier(path + ".verifier")
		}
		return err
	})
	return content, v, err
}

// verifier reads a message Verifier.
func (s *scanner) verifier(path string) (verifier, error) {
	v := verifier{present: true}
	err := s.object(path, verifierMembers, func(i int) (err error) {
		if i == 2 {
			v.details, err = s.keyDetails(path + ".keyDetails")
			return err
		}
		if v.arm != "" {
			return invalid(path, "has both publicKey and x509Certificate")
		}
		v.arm = verifierMembers[i].json
		path := path + "." + v.arm
		return s.object(path, rawMembers, func(int) (err error) {
			v.raw, err = s.base64(path + ".rawBytes")
			return err
		})
	})
	return v, err
}

func (s *scanner) dsseRequest() (*request, error) {
	r := &request{
		dsse:         &envelope{},
		arm:          dsseArm,
		contentPath:  dsseArm + ".envelope.signatures[0].sig",
		verifierPath: dsseArm + ".verifiers[0]",
	}
	signatures := 0
	err := s.object(dsseArm, dsseMembers, func(i int) error {
		if i == 0 {
			return s.object(dsseArm+".envelope", envelopeMembers, func(i int) error {
				return s.envelopeMember(i, r, &signatures)
			})
		}
		return s.one(dsseArm+".verifiers", func() (err error) {
			r.verifier, err = s.verifier(r.verifierPath)
			return err
		})
	})
	switch {
	case err != nil:
		return nil, err
	case signatures == 0:
		return nil, invalid(dsseArm+".envelope.signatures", "is missing, exactly one is needed")
	case !r.verifier.present:
		return nil, invalid(dsseArm+".verifiers", "is missing, exactly one is needed")
	}
	return r, nil
}

func (s *scanner) envelopeMember(i int, r *request, signatures *int) (err error) {
	const path = dsseArm + ".envelope"
	switch i {
	case 0:
		r.dsse.payload, err = s.base64(path + ".payload")
	case 1:
		var text []byte
		text, err = s.str(path + ".payloadType")
		r.dsse.payloadType = string(text)
	default:
		err = s.one(path+".signatures", func() error {
			*signatures++
			return s.object(path+".signatures[0]", dsseSignatureMembers, func(i int) (err error) {
				if i == 0 {
					r.content, err = s.base64(r.contentPath)
				} else {
					_, err = s.str(path + ".signatures[0].keyid")
				}
				return err
			})
		})
	}
	return err
}

// one reads an array of exactly one element: an entry has one signature and one verifier, and
// no client sends or uses more.
func (s *scanner) one(path string, element func() error) error {
	n := 0
	err := s.array(path, 2, func(i int) error {
		if i > 0 {
			return invalid(path, "has more than one element, exactly one is accepted")
		}
		n++
		return element()
	})
	if err == nil && n == 0 {
		err = invalid(path, "has no element, exactly one is needed")
	}
	return err
}

// Parse decodes canonical bytes of an entry, of this log or of another: hashedrekord 0.0.2 and
// dsse 0.0.2. It verifies no signature, does not demand the canonical form, and makes the
// zero value of an enum name it does not know. Other kinds are an *[UnsupportedError], anything
// malformed is an *[InvalidError].
func Parse(canonical []byte) (Body, error) {
	b, err := parse(canonical)
	var bad *InvalidError
	if errors.As(err, &bad) && bad.Field == "request" {
		bad.Field = "entry"
	}
	return b, err
}

func parse(canonical []byte) (Body, error) {
	s := &scanner{data: canonical, lenient: true}
	var kind, version []byte
	spec := -1
	err := s.object("entry", entryMembers, func(i int) (err error) {
		switch i {
		case 0:
			version, err = s.str("entry.apiVersion")
		case 1:
			kind, err = s.str("entry.kind")
		default:
			spec = s.pos
			err = s.skip(0)
		}
		return err
	})
	if err == nil {
		err = s.end()
	}
	if err != nil {
		return Body{}, err
	}
	b := Body{Kind: string(kind), Version: string(version)}
	arm := map[string]int{"hashedrekord": 0, "dsse": 1}
	want, ok := arm[b.Kind]
	if !ok || b.Version != Version {
		return Body{}, &UnsupportedError{Kind: b.Kind, Version: b.Version}
	}
	if spec < 0 {
		return Body{}, invalid("entry.spec", "is missing")
	}
	s.pos = spec
	found := false
	err = s.object("entry.spec", specMembers, func(i int) error {
		if i != want {
			return invalid("entry.spec", "is not one of kind %s", b.Kind)
		}
		found = true
		if i == 0 {
			return s.hashedEntry("entry.spec.hashedRekordV002", &b)
		}
		return s.dsseEntry("entry.spec.dsseV002", &b)
	})
	if err == nil && !found {
		err = invalid("entry.spec", "is empty")
	}
	if err != nil {
		return Body{}, err
	}
	return b, b.checkParts()
}

// checkParts returns an error if b lacks something every entry has.
func (b *Body) checkParts() error {
	switch {
	case len(b.Digest) == 0:
		return invalid("entry", "has no digest")
	case b.Kind != Kind && b.HashAlg != 0 && len(b.Digest) != b.HashAlg.Size():
		return invalid("entry", "has a payload hash of %d bytes, %s has %d", len(b.Digest), b.HashAlg, b.HashAlg.Size())
	case len(b.Signatures) == 0:
		return invalid("entry", "has no signature")
	}
	for _, sig := range b.Signatures {
		if len(sig.Content) == 0 || len(sig.Certificate)+len(sig.PublicKey) == 0 {
			return invalid("entry", "has a signature without content, key or certificate")
		}
	}
	return nil
}

func (s *scanner) hashedEntry(path string, b *Body) error {
	return s.object(path, hashedEntryMembers, func(i int) error {
		if i == 0 {
			return s.hash(path+".data", b)
		}
		return s.appendSignature(path+".signature", b)
	})
}

func (s *scanner) dsseEntry(path string, b *Body) error {
	const maxSignatures = 10
	return s.object(path, dsseEntryMembers, func(i int) error {
		if i == 0 {
			return s.hash(path+".payloadHash", b)
		}
		return s.array(path+".signatures", maxSignatures, func(int) error {
			return s.appendSignature(path+".signatures", b)
		})
	})
}

func (s *scanner) appendSignature(path string, b *Body) error {
	content, v, err := s.signature(path)
	r := request{content: content, verifier: v}
	b.Signatures = append(b.Signatures, r.signature())
	return err
}

// hash reads a message HashOutput.
func (s *scanner) hash(path string, b *Body) error {
	return s.object(path, hashMembers, func(i int) (err error) {
		if i == 1 {
			b.Digest, err = s.base64(path + ".digest")
			return err
		}
		name, err := s.str(path + ".algorithm")
		b.HashAlg = hashNames[string(name)]
		return err
	})
}
