package verify

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"time"

	rekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"golang.org/x/mod/sumdb/tlog"

	"tallywood/internal/keys"
	"tallywood/log/entry"
	"tallywood/witness/policy"
)

// included checks the log entries of a bundle that was timestamped at times. Those of logs the
// trusted root does not know prove nothing to us and are passed over, as clients do; every other
// one must pass, and there must be one. The first that passed goes into the result.
func (v *Verifier) included(m *material, times []time.Time, result *Result) error {
	body, err := m.rebuild()
	if err != nil {
		return refuse(CheckBody, err)
	}
	found := false
	for _, e := range m.entries {
		key, err := v.logKey(e, times)
		if err != nil {
			return refuse(CheckCheckpoint, err)
		}
		if key == nil {
			continue
		}
		tree, witnesses, err := v.entry(e, *key, body)
		if err != nil {
			return err
		}
		if !found {
			found = true
			result.Origin, result.Index, result.Size = tree.Origin, e.GetLogIndex(), tree.Size
			result.Witnesses = witnesses
		}
	}
	if !found {
		return refusef(CheckCheckpoint, "the entry is of a log that the trusted root does not know")
	}
	return nil
}

// entry checks one log entry: that it is this bundle's, in the tree that the log signed, and that
// enough witnesses saw that tree.
func (v *Verifier) entry(e *rekor.TransparencyLogEntry, log policy.Key, body []byte) (policy.Tree, []string, error) {
	// > If set, clients MUST verify that the signature referenced in the `canonicalized_body` matches
	// > the signature provided in the `Bundle.content`. (dev.sigstore.rekor.v1.TransparencyLogEntry)
	// Here it must be set, and all of it must match: whoever reads it instead of the rest sees the same.
	switch got := e.GetCanonicalizedBody(); {
	case len(got) == 0:
		return policy.Tree{}, nil, refusef(CheckBody, "it is missing")
	case e.GetKindVersion().GetKind() != entry.Kind || e.GetKindVersion().GetVersion() != entry.Version:
		return policy.Tree{}, nil, refusef(CheckBody, "entry of kind %.40q version %.40q, and only %s %s can be rebuilt",
			e.GetKindVersion().GetKind(), e.GetKindVersion().GetVersion(), entry.Kind, entry.Version)
	case !bytes.Equal(got, body):
		return policy.Tree{}, nil, refusef(CheckBody, "it is not the entry of this signature, certificate and digest")
	}
	note := e.GetInclusionProof().GetCheckpoint().GetEnvelope()
	tree, err := openCheckpoint(note, log)
	if err != nil {
		return policy.Tree{}, nil, refuse(CheckCheckpoint, err)
	}
	if err := checkInclusion(e, tree, body); err != nil {
		return policy.Tree{}, nil, refuse(CheckInclusion, err)
	}
	witnesses, err := v.witnessed([]byte(note))
	if err != nil {
		return policy.Tree{}, nil, err
	}
	return tree, witnesses, nil
}

// rebuild renders the log entry of the bundle's signature.
func (m *material) rebuild() ([]byte, error) {
	details, err := entry.KeyDetailsFor(m.leaf.PublicKey)
	if err != nil {
		return nil, err
	}
	s := entry.Signature{Content: m.content.Signature(), Certificate: m.leaf.Raw, KeyDetails: details}
	if msg := m.content.MessageSignatureContent(); msg != nil {
		return entry.Canonical(msg.Digest(), s)
	}
	envelope, h := m.bundle.GetDsseEnvelope(), details.Hash().New()
	// > PAE(type, body) = "DSSEv1" + SP + LEN(type) + SP + type + SP + LEN(body) + SP + body
	// (DSSE protocol, Signature Definition)
	fmt.Fprintf(h, "DSSEv1 %d %s %d ", len(envelope.GetPayloadType()), envelope.GetPayloadType(), len(envelope.GetPayload()))
	h.Write(envelope.GetPayload())
	return entry.Canonical(h.Sum(nil), s)
}

// logKey returns the key with which the log of e signs checkpoints, nil for an unknown log. It must
// have been in use at all of times.
func (v *Verifier) logKey(e *rekor.TransparencyLogEntry, times []time.Time) (*policy.Key, error) {
	log := v.root.RekorLogs()[hex.EncodeToString(e.GetLogId().GetKeyId())]
	if log == nil {
		return nil, nil
	}
	if err := inUse(log, times); err != nil {
		return nil, err
	}
	public, ok := log.PublicKey.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("the trusted root has a key of type %T for log %s, and only Ed25519 keys sign for witnesses", log.PublicKey, log.BaseURL)
	}
	u, err := url.Parse(log.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("reading origin of log in trusted root: %w", err)
	}
	// > The base URL … SHOULD match the origin on the log checkpoint (TransparencyLogInstance).
	// Clients take its host name and nothing else for the origin.
	origin := u.Hostname()
	key, err := policy.ParseVKey(keys.VKey(origin, keys.AlgEd25519, public))
	if err != nil {
		return nil, fmt.Errorf("reading key of log %q in trusted root: %w", origin, err)
	}
	return &key, nil
}

// inUse checks times against the validity of the key of log. sigstore-go compares it with the
// integrated time alone, which entries of this kind do not have (CVE-2026-54787).
//
// > Optional validity period for this key, *inclusive* of the endpoints. (dev.sigstore.common.v1.PublicKey)
func inUse(log *root.TransparencyLog, times []time.Time) error {
	for _, t := range times {
		switch start, end := log.ValidityPeriodStart, log.ValidityPeriodEnd; {
		case t.Before(start):
			return fmt.Errorf("the key of log %s is in use since %s, and the signature was timestamped at %s",
				log.BaseURL, start.UTC().Format(time.RFC3339), t.Format(time.RFC3339))
		case !end.IsZero() && t.After(end):
			return fmt.Errorf("the key of log %s was retired at %s, and the signature was timestamped at %s",
				log.BaseURL, end.UTC().Format(time.RFC3339), t.Format(time.RFC3339))
		}
	}
	return nil
}

// openCheckpoint returns what log signed. It is policy.OpenLog for the trusted root's key instead
// of a policy's.
func openCheckpoint(note string, log policy.Key) (policy.Tree, error) {
	n, err := policy.ParseNote([]byte(note))
	if err != nil {
		return policy.Tree{}, fmt.Errorf("parsing note: %w", err)
	}
	// Extension lines of the text are covered: the key's type is 0x01.
	if _, err := policy.VerifyLog(n, []policy.Key{log}); err != nil {
		return policy.Tree{}, err
	}
	tree, err := policy.ParseTree(n.Text)
	if err != nil {
		return policy.Tree{}, fmt.Errorf("parsing checkpoint: %w", err)
	}
	if tree.Origin != log.Name() {
		return policy.Tree{}, fmt.Errorf("checkpoint of %q, but the entry says it is in %q", tree.Origin, log.Name())
	}
	return tree, nil
}

// checkInclusion computes the root hash of tree from the entry and its proof. The proof repeats
// index, size and root hash outside the checkpoint; some clients read them there, so they must be
// the same.
func checkInclusion(e *rekor.TransparencyLogEntry, tree policy.Tree, body []byte) error {
	p := e.GetInclusionProof()
	switch {
	case p.GetLogIndex() != e.GetLogIndex():
		return fmt.Errorf("for index %d, but the entry has index %d", p.GetLogIndex(), e.GetLogIndex())
	case p.GetTreeSize() != tree.Size:
		return fmt.Errorf("for size %d, but the checkpoint has size %d", p.GetTreeSize(), tree.Size)
	case !bytes.Equal(p.GetRootHash(), tree.Root[:]):
		return errors.New("for another root hash than the checkpoint's")
	case tree.Size > policy.MaxSize:
		return fmt.Errorf("no log has %d entries", tree.Size)
	case e.GetLogIndex() < 0 || e.GetLogIndex() >= tree.Size:
		return fmt.Errorf("index %d is not in a tree of size %d", e.GetLogIndex(), tree.Size)
	}
	proof := make(tlog.RecordProof, 0, len(p.GetHashes()))
	for i, h := range p.GetHashes() {
		if len(h) != tlog.HashSize {
			return fmt.Errorf("hash %d has %d bytes", i, len(h))
		}
		proof = append(proof, tlog.Hash(h))
	}
	if err := tlog.CheckRecord(proof, tree.Size, tlog.Hash(tree.Root), e.GetLogIndex(), tlog.RecordHash(body)); err != nil {
		return fmt.Errorf("it does not lead from the entry to the checkpoint's root hash: %w", err)
	}
	return nil
}

// witnessed evaluates the policy on the exact bytes of the bundle's checkpoint, and returns which
// witnesses cosigned it.
func (v *Verifier) witnessed(note []byte) ([]string, error) {
	if v.policy == nil {
		return nil, nil
	}
	checkpoint, err := v.policy.Open(note)
	var quorum *policy.QuorumError
	var wrong *policy.SignatureError
	switch {
	case errors.As(err, &quorum):
		return nil, refuse(CheckQuorum, err)
	case errors.As(err, &wrong) && wrong.Name != "" && wrong.Name != wrong.Origin:
		return nil, refuse(CheckQuorum, err) // a cosignature was changed
	case err != nil:
		return nil, refuse(CheckCheckpoint, err)
	}
	var names []string
	for _, c := range checkpoint.Cosignatures() {
		names = append(names, c.Witness)
	}
	return names, nil
}
