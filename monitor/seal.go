package monitor

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/note"

	"tallywood/internal/keys"
	"tallywood/witness/policy"
)

// KeyName is the name of a monitor's own key in notes.
const KeyName = "tallywood-monitor"

// VKey returns the verifier key of a monitor's own key.
func VKey(key crypto.Signer) (string, error) {
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return "", fmt.Errorf("key is a %T; a monitor's is Ed25519", key.Public())
	}
	return keys.VKey(KeyName, keys.AlgEd25519, public), nil
}

// A seal signs the states of one monitor and knows them again: what follows a state is the
// signature part of a note (c2sp.org/signed-note) whose text is made of the state's hash, because
// notes are read whole and states may be large. A nil seal leaves states as they are.
type seal struct {
	signer note.Signer
	key    policy.Key
}

func newSeal(key crypto.Signer) (*seal, error) {
	if key == nil {
		return nil, nil
	}
	vkey, err := VKey(key)
	if err != nil {
		return nil, err
	}
	s := &seal{}
	if s.signer, err = keys.NoteSigner(KeyName, key); err != nil {
		return nil, err
	}
	s.key, err = policy.ParseVKey(vkey)
	return s, err
}

// statement is the text that is signed for a state.
func statement(state []byte) string {
	return fmt.Sprintf("tallywood monitor state\n%x\n", sha256.Sum256(state))
}

// endOfState is what follows a state, which is one line of JSON, before its signature.
const endOfState = "\n\n"

// close returns a state, which ends in LF, with its signature.
func (s *seal) close(state []byte) ([]byte, error) {
	if s == nil {
		return state, nil
	}
	sig, err := s.signer.Sign([]byte(statement(state)))
	if err != nil {
		return nil, fmt.Errorf("signing state: %w", err)
	}
	return append(append(state, '\n'), policy.FormatSignature(KeyName, s.key.ID(), sig)...), nil
}

// open returns the state in an object that close made, with the same key.
func (s *seal) open(object []byte) ([]byte, error) {
	if s == nil {
		return object, nil
	}
	at := bytes.Index(object, []byte(endOfState))
	if at < 0 {
		return nil, errors.New("it is not signed: an older version, or no monitor, wrote it")
	}
	state, signatures := object[:at+1], object[at+1:]
	n, err := policy.ParseNote(append([]byte(statement(state)), signatures...))
	if err != nil {
		return nil, fmt.Errorf("reading its signature: %w", err)
	}
	for _, sig := range n.Signatures {
		if !s.key.Matches(sig) {
			continue
		}
		if _, err := s.key.Verify(n.Text, sig.Sig); err != nil {
			return nil, fmt.Errorf("it is not as this monitor wrote it: %w", err)
		}
		return state, nil
	}
	return nil, fmt.Errorf("it is of another monitor: it is not signed by %s", s.key)
}
