package verify

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
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

// included checks the log entries of a bundle. Those of logs the trusted root does not know prove
// nothing to us and are passed over, as clients do; every other one must pass, and there must be
// one. The first that passed goes into the result.
func (v *Verifier) included(m *material, seen times, result *Result) error {
	found := false
	for _, e := range m.entries {
		log := v.log(e)
		if log == nil {
			continue
		}
		tree, cosignatures, err := v.entry(m, e, log)
		if err != nil {
			return err
		}
		if err := wasInUse(log, seen, cosignatures); err != nil {
			return refuse(CheckCheckpoint, err)
		}
		if !found {
			found = true
			result.Origin, result.Index, result.Size = tree.Origin, e.GetLogIndex(), tree.Size
			for _, c := range cosignatures {
				result.Witnesses = append(result.Witnesses, c.Witness)
			}
		}
	}
	if !found {
		return refusef(CheckCheckpoint, "the entry is of a log that the trusted root does not know")
	}
	return nil
}

// log returns the log of e, nil if the trusted root does not know it.
func (v *Verifier) log(e *rekor.TransparencyLogEntry) *root.TransparencyLog {
	return v.root.RekorLogs()[hex.EncodeToString(e.GetLogId().GetKeyId())]
}

// wasInUse checks that the log's key was in use when the entry was made. The entry of a managed key
// need not have a trusted time. Then it was there when witnesses cosigned, and without them it is
// there now: a key that was retired meanwhile may be in anyone's hands.
func wasInUse(log *root.TransparencyLog, seen times, cosignatures []policy.Cosignature) error {
	if all := seen.all(); len(all) > 0 {
		return inUse(log, "the signature was timestamped at", all)
	}
	var cosigned []time.Time
	for _, c := range cosignatures {
		cosigned = append(cosigned, c.Time)
	}
	if len(cosigned) > 0 {
		return inUse(log, "the entry, which has no timestamp, was cosigned at", cosigned)
	}
	return inUse(log, "the entry has no timestamp and it is", []time.Time{time.Now()})
}

// entry checks one log entry: that it is this bundle's, in the tree that the log signed, and that
// enough witnesses saw that tree.
func (v *Verifier) entry(m *material, e *rekor.TransparencyLogEntry, log *root.TransparencyLog) (policy.Tree, []policy.Cosignature, error) {
	if err := m.loggedAs(e); err != nil {
		return policy.Tree{}, nil, refuse(CheckBody, err)
	}
	v1, open := isV1(e.GetKindVersion()), openCheckpoint
	if v1 {
		open = openCheckpointV1
	} else if index := e.GetInclusionProof().GetLogIndex(); index != e.GetLogIndex() {
		// A Rekor v1 log counts the entries of all its trees.
		return policy.Tree{}, nil, refusef(CheckInclusion, "for index %d, but the entry has index %d", index, e.GetLogIndex())
	}
	note := e.GetInclusionProof().GetCheckpoint().GetEnvelope()
	tree, err := open(note, log)
	if err != nil {
		return policy.Tree{}, nil, refuse(CheckCheckpoint, err)
	}
	if err := checkInclusion(e.GetInclusionProof(), tree, e.GetCanonicalizedBody()); err != nil {
		return policy.Tree{}, nil, refuse(CheckInclusion, err)
	}
	cosignatures, err := v.witnessed([]byte(note), v1)
	return tree, cosignatures, err
}

// loggedAs checks that e is about m.
//
// > If set, clients MUST verify that the signature referenced in the `canonicalized_body` matches
// > the signature provided in the `Bundle.content`. (dev.sigstore.rekor.v1.TransparencyLogEntry)
//
// Here it must be set, and all of it must match: whoever reads it instead of the rest sees the same.
func (m *material) loggedAs(e *rekor.TransparencyLogEntry) error {
	kind, got := e.GetKindVersion(), e.GetCanonicalizedBody()
	switch {
	case len(got) == 0:
		return errors.New("it is missing")
	case isV1(kind):
		return m.compareV1(kind, got)
	case kind.GetKind() != entry.Kind || kind.GetVersion() != entry.Version:
		return fmt.Errorf("entry of kind %.40q version %.40q, which is not supported", kind.GetKind(), kind.GetVersion())
	}
	body, err := m.body()
	if err != nil {
		return err
	}
	if !bytes.Equal(got, body) {
		return errors.New("it is not the entry of this signature, certificate or key, and digest")
	}
	return nil
}

// rebuild renders the log entry of the bundle's signature.
func (m *material) rebuild() ([]byte, error) {
	details, err := entry.KeyDetailsFor(m.key)
	if err != nil {
		return nil, err
	}
	s := entry.Signature{Content: m.content.Signature(), KeyDetails: details}
	if m.leaf != nil {
		s.Certificate = m.leaf.Raw
	} else if s.PublicKey, err = x509.MarshalPKIXPublicKey(m.key); err != nil {
		return nil, err
	}
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

// logKey returns the key with which log signs checkpoints.
func logKey(log *root.TransparencyLog) (policy.Key, error) {
	public, ok := log.PublicKey.(ed25519.PublicKey)
	if !ok {
		return policy.Key{}, fmt.Errorf("the trusted root has a key of type %T for log %s, and only Ed25519 keys sign for witnesses", log.PublicKey, log.BaseURL)
	}
	u, err := url.Parse(log.BaseURL)
	if err != nil {
		return policy.Key{}, fmt.Errorf("reading origin of log in trusted root: %w", err)
	}
	// > The base URL … SHOULD match the origin on the log checkpoint (TransparencyLogInstance).
	// Clients take its host name and nothing else for the origin.
	origin := u.Hostname()
	key, err := policy.ParseVKey(keys.VKey(origin, keys.AlgEd25519, public))
	if err != nil {
		return policy.Key{}, fmt.Errorf("reading key of log %q in trusted root: %w", origin, err)
	}
	return key, nil
}

// openCheckpoint returns what log signed. It is policy.OpenLog for the trusted root's key instead
// of a policy's.
func openCheckpoint(note string, log *root.TransparencyLog) (policy.Tree, error) {
	key, err := logKey(log)
	if err != nil {
		return policy.Tree{}, err
	}
	n, err := policy.ParseNote([]byte(note))
	if err != nil {
		return policy.Tree{}, fmt.Errorf("parsing note: %w", err)
	}
	// Extension lines of the text are covered: the key's type is 0x01.
	if _, err := policy.VerifyLog(n, []policy.Key{key}); err != nil {
		return policy.Tree{}, err
	}
	tree, err := policy.ParseTree(n.Text)
	if err != nil {
		return policy.Tree{}, fmt.Errorf("parsing checkpoint: %w", err)
	}
	if tree.Origin != key.Name() {
		return policy.Tree{}, fmt.Errorf("checkpoint of %q, but the entry says it is in %q", tree.Origin, key.Name())
	}
	return tree, nil
}

// checkInclusion computes the root hash of tree from the entry and its proof. The proof repeats
// size and root hash outside the checkpoint; some clients read them there, so they must be the same.
func checkInclusion(p *rekor.InclusionProof, tree policy.Tree, body []byte) error {
	index := p.GetLogIndex()
	switch {
	case p.GetTreeSize() != tree.Size:
		return fmt.Errorf("for size %d, but the checkpoint has size %d", p.GetTreeSize(), tree.Size)
	case !bytes.Equal(p.GetRootHash(), tree.Root[:]):
		return errors.New("for another root hash than the checkpoint's")
	case tree.Size > policy.MaxSize:
		return fmt.Errorf("no log has %d entries", tree.Size)
	case index < 0 || index >= tree.Size:
		return fmt.Errorf("index %d is not in a tree of size %d", index, tree.Size)
	}
	proof := make(tlog.RecordProof, 0, len(p.GetHashes()))
	for i, h := range p.GetHashes() {
		if len(h) != tlog.HashSize {
			return fmt.Errorf("hash %d has %d bytes", i, len(h))
		}
		proof = append(proof, tlog.Hash(h))
	}
	if err := tlog.CheckRecord(proof, tree.Size, tlog.Hash(tree.Root), index, tlog.RecordHash(body)); err != nil {
		return fmt.Errorf("it does not lead from the entry to the checkpoint's root hash: %w", err)
	}
	return nil
}

// witnessed evaluates the policy on the exact bytes of the bundle's checkpoint, and returns the
// cosignatures of the policy's witnesses.
func (v *Verifier) witnessed(note []byte, v1 bool) ([]policy.Cosignature, error) {
	if v.policy == nil {
		return nil, nil
	}
	if v1 {
		return nil, refuse(CheckQuorum, ErrUnwitnessed)
	}
	checkpoint, err := openWitnessed(v.policy, note)
	if err != nil {
		return nil, err
	}
	return checkpoint.Cosignatures(), nil
}

// openWitnessed is p.Open with an [*Error] that says which check failed.
func openWitnessed(p *policy.Policy, note []byte) (policy.Checkpoint, error) {
	checkpoint, err := p.Open(note)
	var quorum *policy.QuorumError
	var wrong *policy.SignatureError
	switch {
	case errors.As(err, &quorum):
		return policy.Checkpoint{}, refuse(CheckQuorum, err)
	case errors.As(err, &wrong) && wrong.Name != "" && wrong.Name != wrong.Origin:
		return policy.Checkpoint{}, refuse(CheckQuorum, err) // a cosignature was changed
	case err != nil:
		return policy.Checkpoint{}, refuse(CheckCheckpoint, err)
	}
	return checkpoint, nil
}
