package rule

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// retire sets the keys of id.fingerprint-used, whether it is w's own rule or one of all identities.
// Keys of the latter count for the entries of w alone: those of strangers are nobody's, see newStray.
func (w *watch) retire(own bool) {
	p, on := w.rule(IDFingerprintUsed)
	if !on {
		return
	}
	w.retired, w.foreign = retiredKeys(p), own
}

// retiredKeys returns the keys of p.
func retiredKeys(p Params) map[[32]byte]bool {
	keys := map[[32]byte]bool{}
	for _, k := range p.Keys {
		if sum, err := parseFingerprint(k); err == nil { // else the parameters are refused
			keys[sum] = true
		}
	}
	return keys
}

// newStray returns what looks at entries of strangers for all identities: nil if nothing does. A single
// identity does so itself, as whatever is named is about it.
func (s *Set) newStray(rules map[ID]Params) *watch {
	p, named := rules[IDFingerprintUsed]
	if !named || p.Off {
		return nil
	}
	if len(s.watches) == 1 {
		w := s.watches[0]
		w.foreign = w.retired != nil
		return nil
	}
	return &watch{retired: retiredKeys(p), scope: func(ID) bool { return false }}
}

// judgeStray reports the use of a key that is retired for all, by somebody who is no watched identity,
// unless a match tells of it.
func (s *Set) judgeStray(f *Finding, signer *Signer, told []Match) {
	tells := func(m Match) bool {
		return slices.ContainsFunc(m.Reasons, func(r Reason) bool { return r.Rule == IDFingerprintUsed })
	}
	if s.stray != nil && !slices.ContainsFunc(told, tells) {
		s.stray.judgeRetired(f, signer)
	}
}

// judgeRetired reports the use of a retired key or certificate, whoever it calls itself.
func (w *watch) judgeRetired(f *Finding, signer *Signer) {
	if w.retired == nil {
		return
	}
	sums := [][32]byte{signer.KeyHash}
	if c := signer.Certificate; c != nil {
		sums = [][32]byte{c.KeyHash(), c.Fingerprint()}
	}
	for _, sum := range sums {
		if !w.retired[sum] {
			continue
		}
		seen := "sha256:" + hex.EncodeToString(sum[:])
		if f.Subject == "" {
			f.Subject = Clip(signer.name())
		}
		f.add(Reason{Rule: IDFingerprintUsed, Field: "key", Seen: seen, Text: fmt.Sprintf("retired key or certificate %s was used, by %q", seen, f.Subject)})
		return
	}
}

// parseFingerprint reads a SHA-256 in hex.
func parseFingerprint(v string) ([32]byte, error) {
	sum, err := hex.DecodeString(strings.TrimPrefix(v, "sha256:"))
	if err != nil || len(sum) != 32 {
		return [32]byte{}, fmt.Errorf("key %q is not a SHA-256 in hex", v)
	}
	return [32]byte(sum), nil
}
