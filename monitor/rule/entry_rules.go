package rule

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"tallywood/log/entry"
)

// judgeEntry runs the rules about certificates and entries that are on for w on signer i of e.
func (s *Set) judgeEntry(w *watch, f *Finding, e *Entry, i int) {
	signer := &e.Signers[i]
	if w.on(EntryBadSignature) {
		if wrong := signer.wrong(e); wrong != "" {
			f.add(Reason{Rule: EntryBadSignature, Text: fmt.Sprintf("the signature that the log holds for %q %s", f.Subject, wrong)})
		}
	}
	if p, on := w.rule(EntryWeakKey); on {
		allowed := p.Allow
		if len(allowed) == 0 {
			allowed = keyTypes
		}
		if kind := signer.keyType(); !keyAllowed(kind, allowed) {
			f.add(Reason{Rule: EntryWeakKey, Field: "key", Expected: allowed, Seen: kind,
				Text: fmt.Sprintf("%q signed with a key of type %s, which is not on the list", f.Subject, kind)})
		}
	}
	if signer.Certificate != nil {
		s.judgeCertificate(w, f, e, signer.Certificate)
	}
}

// name returns what an event calls a signer that is no watched identity's.
func (s *Signer) name() string {
	switch c := s.Certificate; {
	case c == nil:
		return "sha256:" + hex.EncodeToString(s.KeyHash[:])
	case len(c.Names) > 0:
		return c.Names[0].Value
	}
	sum := s.Certificate.Fingerprint()
	return "sha256:" + hex.EncodeToString(sum[:])
}

// wrong says why s cannot have signed what e says it did, as far as e alone can tell; empty: it can.
// Where what was signed is not in the entry, it can be told of a few that they are no signatures.
func (s *Signer) wrong(e *Entry) string {
	if e.Certified || len(e.Digest) == 0 {
		return "" // nothing was signed
	}
	sig := entry.Signature{Content: s.Signature, PublicKey: s.spki(), KeyDetails: s.Details}
	err := entry.ErrUnverifiable
	if !e.Envelope {
		err = sig.VerifyAnySize(e.Hash, e.Digest) // its size is entry.weak-key's
	}
	switch {
	case err == nil:
		return ""
	case !errors.Is(err, entry.ErrUnverifiable):
		return "does not verify over the entry's digest"
	}
	if err := sig.CheckForm(); err != nil && !errors.Is(err, entry.ErrUnverifiable) {
		return "cannot be one by its key, whatever was signed"
	}
	return ""
}

// spki returns the SubjectPublicKeyInfo of s, nil if it could not be read.
func (s *Signer) spki() []byte {
	if s.Certificate != nil {
		return s.Certificate.spki
	}
	return s.PublicKey
}

// keyTypes are the types of keys that logs of the present take. RSA keys may be longer than it says.
var keyTypes = []string{"ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519", "rsa-2048"}

// keyType returns the type of s's key, in the words of keyTypes.
func (s *Signer) keyType() string {
	key, err := x509.ParsePKIXPublicKey(s.spki())
	if err != nil {
		return "unknown"
	}
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		return "ecdsa-" + strings.ToLower(strings.ReplaceAll(key.Curve.Params().Name, "-", ""))
	case ed25519.PublicKey:
		return "ed25519"
	case *rsa.PublicKey:
		return "rsa-" + strconv.Itoa(key.N.BitLen())
	}
	return "unknown"
}

// keyAllowed reports whether a type of keys is one of those listed, or RSA with more bits.
func keyAllowed(kind string, listed []string) bool {
	bits, isRSA := rsaBits(kind)
	return slices.ContainsFunc(listed, func(l string) bool {
		least, ok := rsaBits(l)
		return l == kind || ok && isRSA && bits >= least
	})
}

func rsaBits(kind string) (int, bool) {
	text, ok := strings.CutPrefix(kind, "rsa-")
	bits, err := strconv.Atoi(text)
	return bits, ok && err == nil
}

// checkKeyTypes says which of the listed types of keys there are not.
func checkKeyTypes(listed []string) error {
	for _, l := range listed {
		if _, ok := rsaBits(l); !ok && !slices.Contains(keyTypes, l) && l != "ecdsa-p224" {
			return fmt.Errorf("key type %q is none of %s, or rsa- and the fewest bits", l, strings.Join(keyTypes, ", "))
		}
	}
	return nil
}
