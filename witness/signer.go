package witness

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"filippo.io/mldsa"
	"github.com/cloudflare/circl/sign/mldsa/mldsa44"

	"tallywood/internal/keys"
	"tallywood/witness/policy"
)

// A signer holds the keys of a witness.
type signer struct {
	name  string
	ed    crypto.Signer       // may be elsewhere: it can fail, and take its time
	pq    *mldsa44.PrivateKey // nil: the witness has none
	edKey policy.Key          // of type 0x04
	pqKey policy.Key          // of type 0x06
}

func newSigner(k keys.Witness) (*signer, error) {
	if err := keys.CheckName(k.Name); err != nil {
		return nil, fmt.Errorf("witness name: %w", err)
	}
	if k.Ed25519 == nil {
		return nil, errors.New("no Ed25519 key")
	}
	if _, ok := k.Ed25519.Public().(ed25519.PublicKey); !ok {
		return nil, fmt.Errorf("the key is a %T; a witness has an Ed25519 key", k.Ed25519.Public())
	}
	s := &signer{name: k.Name, ed: k.Ed25519}
	vkeys := k.VKeys()
	var err error
	if s.edKey, err = policy.ParseVKey(vkeys[0]); err != nil {
		return nil, fmt.Errorf("parsing own Ed25519 key: %w", err)
	}
	if k.MLDSAPublic == nil {
		return s, nil
	}
	public, private := mldsa44.NewKeyFromSeed((*[mldsa44.SeedSize]byte)(&k.MLDSASeed))
	s.pq = private
	if !bytes.Equal(public.Bytes(), k.MLDSAPublic) {
		return nil, errors.New("ML-DSA-44 public key is not the seed's")
	}
	if s.pqKey, err = policy.ParseVKey(vkeys[1]); err != nil {
		return nil, fmt.Errorf("parsing own ML-DSA-44 key: %w", err)
	}
	return s, s.crossCheck()
}

// keys are the verifier keys, Ed25519 first.
func (s *signer) keys() []policy.Key {
	if s.pq == nil {
		return []policy.Key{s.edKey}
	}
	return []policy.Key{s.edKey, s.pqKey}
}

// crossCheck signs with the implementation we use, which is fast, and verifies with another one:
// a witness that signs what nobody can verify should say so before it is relied on.
func (s *signer) crossCheck() error {
	msg := []byte("tallywood witness start-up check")
	sig, err := s.signPQ(msg)
	if err != nil {
		return err
	}
	public, err := mldsa.NewPublicKey(mldsa.MLDSA44(), s.pqKey.Public())
	if err != nil {
		return fmt.Errorf("parsing own ML-DSA-44 key: %w", err)
	}
	if err := mldsa.Verify(public, msg, sig, nil); err != nil {
		return fmt.Errorf("verifying a signature by the own ML-DSA-44 key: %w", err)
	}
	return nil
}

func (s *signer) signPQ(msg []byte) ([]byte, error) {
	sig := make([]byte, mldsa44.SignatureSize)
	if err := mldsa44.SignTo(s.pq, msg, nil, false, sig); err != nil {
		return nil, fmt.Errorf("signing with ML-DSA-44: %w", err)
	}
	return sig, nil
}

// vkeys returns the vkeys, Ed25519 first.
func (s *signer) vkeys() []string {
	var vkeys []string
	for _, k := range s.keys() {
		vkeys = append(vkeys, k.String())
	}
	return vkeys
}

// cosign returns a signature line of each key for a checkpoint text, Ed25519 first. The time is in
// Unix seconds and not zero. A key that is elsewhere and cannot be used is a *keyError.
func (s *signer) cosign(text string, tree policy.Tree, timestamp int64) (string, error) {
	stamp := binary.BigEndian.AppendUint64(nil, uint64(timestamp))
	ed, err := s.ed.Sign(rand.Reader, policy.CosignatureMessage(timestamp, text), crypto.Hash(0))
	if err != nil {
		return "", &keyError{err}
	}
	line := policy.FormatSignature(s.name, s.edKey.ID(), append(bytes.Clone(stamp), ed...))
	if s.pq == nil {
		return line, nil
	}
	pq, err := s.subtree(timestamp, tree.Origin, 0, tree.Size, tree.Root)
	if err != nil {
		return "", err
	}
	return line + pq, nil
}

// subtree returns the ML-DSA line for a subtree.
func (s *signer) subtree(timestamp int64, origin string, start, end int64, hash [32]byte) (string, error) {
	msg, err := policy.SubtreeMessage(s.name, timestamp, origin, start, end, hash)
	if err != nil {
		return "", fmt.Errorf("encoding subtree: %w", err)
	}
	sig, err := s.signPQ(msg)
	if err != nil {
		return "", err
	}
	stamp := binary.BigEndian.AppendUint64(nil, uint64(timestamp))
	return policy.FormatSignature(s.name, s.pqKey.ID(), append(stamp, sig...)), nil
}

// own reports which of our keys have validly cosigned n. A line of ours that does not verify is
// ignored, and counted in bogus.
func (s *signer) own(n policy.Note) (ed, pq bool, bogus int) {
	for _, sig := range n.Signatures {
		for _, k := range s.keys() {
			if !k.Matches(sig) {
				continue
			}
			t, err := k.Verify(n.Text, sig.Sig)
			switch {
			case err != nil:
				bogus++
			case k.Alg() == policy.AlgCosignatureV1:
				ed = true
			case !t.IsZero(): // else it is an answer of sign-subtree
				pq = true
			}
		}
	}
	return ed, pq, bogus
}
