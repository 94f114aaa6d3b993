package witness

import (
	"bytes"

	"tallywood/witness/policy"
)

// Steps of add-checkpoint that benchmarks do by themselves.

// Authenticate parses and verifies the note of a request.
func Authenticate(w *Witness, origin string, body []byte) error {
	_, note, _ := bytes.Cut(body, []byte("\n\n"))
	_, err := w.authenticate(w.lookup(origin), addRequest{note: note})
	return err
}

// Cosign signs a checkpoint with all keys, or with Ed25519 alone.
func Cosign(w *Witness, text string, all bool) error {
	tree, err := policy.ParseTree(text)
	if err != nil {
		return err
	}
	const now = 1_800_000_000
	var of []*ownKey
	for _, k := range w.signer.validAt(now) {
		if all || k.Alg() == policy.AlgCosignatureV1 {
			of = append(of, k)
		}
	}
	_, err = w.signer.cosign(of, text, tree, now)
	return err
}

// EncodeState encodes the state that follows from a request.
func EncodeState(w *Witness, origin string, body []byte) error {
	_, note, _ := bytes.Cut(body, []byte("\n\n"))
	_, err := state{
		Counter: 17, Instance: w.instance, Origin: origin, Size: 1, Timestamp: 1_800_000_000, Keys: []string{"01234567", "89abcdef"}, Note: string(note),
	}.encode()
	return err
}
