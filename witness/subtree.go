package witness

import (
	"errors"
	"net/http"

	"filippo.io/torchwood"

	"tallywood/witness/policy"
)

// signSubtree answers the body of a sign-subtree request with a line of each of our ML-DSA keys that
// is valid now, with timestamp 0. It has no state: any checkpoint that we ever cosigned, with
// whichever ML-DSA key, vouches for its subtrees.
func (w *Witness) signSubtree(body []byte) (string, error) {
	if !w.signer.signsSubtrees() {
		return "", refuse(http.StatusNotFound, "this witness has no ML-DSA-44 key, and signs no subtrees")
	}
	r, err := parseSubtree(body)
	if err != nil {
		return "", refuse(http.StatusBadRequest, "malformed request: %w", err)
	}
	if !torchwood.ValidSubtree(r.start, r.end) {
		return "", refuse(http.StatusBadRequest, "[%d, %d) is not the range of a subtree", r.start, r.end)
	}
	if _, err := w.serving(r.originUnsigned); err != nil {
		return "", err
	}
	n, err := policy.ParseNote(r.note)
	switch {
	case errors.Is(err, policy.ErrNoSignatures):
		return "", refuse(http.StatusForbidden, "%w", err)
	case err != nil:
		return "", refuse(http.StatusBadRequest, "malformed note: %w", err)
	}
	// > The witness MUST verify that the checkpoint includes a valid cosignature from one of its own keys.
	// A broken Ed25519 key must not buy statements by the other one: the line must be ML-DSA's. One of
	// sign-subtree about [0, size) is as good: it says of that tree all that a subtree needs.
	if own := w.signer.own(n); !own.pq && !own.untimed || own.bogus > 0 {
		return "", refuse(http.StatusForbidden, "the reference checkpoint has no valid ML-DSA-44 cosignature of this witness")
	}
	tree, err := policy.ParseTree(n.Text)
	if err != nil {
		return "", refuse(http.StatusBadRequest, "malformed checkpoint: %w", err)
	}
	if r.end > tree.Size {
		return "", refuse(http.StatusBadRequest, "end %d is above the checkpoint's size %d", r.end, tree.Size)
	}
	if err := torchwood.CheckSubtree(r.proof, tree.Size, tree.Root, r.start, r.end, r.hash); err != nil {
		return "", refuse(http.StatusUnprocessableEntity, "subtree proof does not verify")
	}
	if err := w.mayWork(); err != nil {
		return "", err
	}
	now := w.now().Unix()
	if !w.signer.anyValidAt(now, policy.AlgMLDSA44) {
		return "", w.noKey()
	}
	return w.signer.subtree(now, tree.Origin, r.start, r.end, r.hash)
}
