package authorize

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"tallywood/log/verify"
	"tallywood/monitor"
	"tallywood/monitor/rule"
	"tallywood/witness/policy"
)

// A Verifier says whose signature counts on a manifest: that of one of some keys, or a Sigstore
// bundle's.
type Verifier struct {
	keys   []policy.Key
	bundle *verify.Verifier
	name   string // tells verifiers apart
}

// noteAlgorithm is the type of keys that sign manifests: Ed25519 over the text of a note.
const noteAlgorithm = 0x01

// NewKeys returns a Verifier of notes that one of the keys has signed: verifier keys (vkeys) of
// Ed25519.
func NewKeys(vkeys []string) (*Verifier, error) {
	if len(vkeys) == 0 {
		return nil, errors.New("no keys that may sign manifests")
	}
	v := &Verifier{name: "keys"}
	for _, text := range vkeys {
		k, err := policy.ParseVKey(text)
		if err != nil {
			return nil, err
		}
		if k.Alg() != noteAlgorithm {
			return nil, fmt.Errorf("key %s is of type %#02x; manifests are signed with Ed25519 keys, of type 0x01", k.Name(), k.Alg())
		}
		v.keys = append(v.keys, k)
		v.name += " " + text
	}
	return v, nil
}

// NewBundle returns a Verifier of manifests that a Sigstore bundle beside them signs.
func NewBundle(o verify.Options) (*Verifier, error) {
	b, err := verify.New(o)
	if err != nil {
		return nil, err
	}
	// Hashed, not named: another trusted root makes another verifier.
	sum := sha256.Sum256(o.TrustedRoot)
	return &Verifier{bundle: b, name: fmt.Sprintf("bundle %q %q %x", o.Identity, o.Issuer, sum)}, nil
}

// ParseKeys reads a file of verifier keys, one a line; empty lines and those that begin with # are
// left out.
func ParseKeys(data []byte) ([]string, error) {
	var out []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			out = append(out, line)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("it holds no verifier key")
	}
	return out, nil
}

// Verified is a manifest that its owner has signed. Only [Verifier.Open] makes one.
type Verified struct {
	manifest   Manifest
	own        string // digest of the manifest, if it is a bundle that signs it: the owner's signature too
	statements map[string]Statement
	digests    []monitor.Authorized
}

// Manifest returns what was signed.
func (v *Verified) Manifest() Manifest { return v.manifest }

// Open verifies a manifest, and the bundle that signs it, empty for a note, before it is read.
func (v *Verifier) Open(manifest, bundle []byte) (*Verified, error) {
	if len(manifest) > MaxManifest {
		return nil, fmt.Errorf("%d bytes are more than %d", len(manifest), MaxManifest)
	}
	out := &Verified{statements: map[string]Statement{}}
	text := string(manifest)
	if v.bundle != nil {
		if _, err := v.bundle.Bundle(bundle, bytes.NewReader(manifest)); err != nil {
			return nil, fmt.Errorf("its bundle does not verify: %w", err)
		}
		sum := sha256.Sum256(manifest)
		out.own = "sha256:" + hex.EncodeToString(sum[:])
	} else {
		n, err := policy.ParseNote(manifest)
		if err != nil {
			return nil, err
		}
		if text = n.Text; !v.signed(n) {
			return nil, errors.New("none of the keys has signed it")
		}
	}
	var err error
	if out.manifest, err = Parse(text); err != nil {
		return nil, err
	}
	for _, s := range out.manifest.Statements {
		out.statements[s.key()] = s
		if s.Kind == Digest {
			out.digests = append(out.digests, monitor.Authorized{Digest: s.Value, Added: s.Added, Expires: s.Expires})
		}
	}
	return out, nil
}

// signed reports whether one of the keys has signed n. A signature of one that does not verify is
// damage, whatever the others say.
func (v *Verifier) signed(n policy.Note) bool {
	good := false
	for _, s := range n.Signatures {
		for _, k := range v.keys {
			if !k.Matches(s) {
				continue
			}
			if _, err := k.Verify(n.Text, s.Sig); err != nil {
				return false
			}
			good = true
		}
	}
	return good
}

// explains reports whether a statement explains an entry that was logged at a time: its digest, its
// run, or its commit and ref together.
func (v *Verified) explains(f rule.Facts, at time.Time) bool {
	has := func(k Kind, value string) bool {
		s, ok := v.statements[string(k)+" "+value]
		return ok && s.in(at)
	}
	return has(Digest, f.Digest) || v.own != "" && v.own == f.Digest || has(Run, f.Run) ||
		has(Commit, strings.ToLower(f.Commit)) && has(Tag, f.Ref)
}
