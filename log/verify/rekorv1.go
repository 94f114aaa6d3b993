package verify

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"

	rekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"

	"tallywood/witness/policy"
)

// The entries of Rekor v1 logs that bundles come with (github.com/sigstore/rekor, its pkg/types).
var kindsV1 = map[string]string{"hashedrekord": "0.0.1", "dsse": "0.0.1", "intoto": "0.0.2"}

func isV1(kind *rekor.KindVersion) bool {
	return kind.GetVersion() != "" && kindsV1[kind.GetKind()] == kind.GetVersion()
}

// A bodyV1 is what the three have that a bundle has, too.
type bodyV1 struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Spec       struct {
		Data struct {
			Hash hashV1 `json:"hash"`
		} `json:"data"` // hashedrekord
		Signature struct {
			Content   []byte `json:"content"`
			PublicKey struct {
				Content []byte `json:"content"` // PEM
			} `json:"publicKey"`
		} `json:"signature"` // hashedrekord
		PayloadHash hashV1 `json:"payloadHash"` // dsse
		Signatures  []struct {
			Signature []byte `json:"signature"`
			Verifier  []byte `json:"verifier"` // PEM
		} `json:"signatures"` // dsse
		Content struct {
			Envelope struct {
				Signatures []struct {
					Sig       []byte `json:"sig"`       // base64 once more
					PublicKey []byte `json:"publicKey"` // PEM
				} `json:"signatures"`
			} `json:"envelope"`
			PayloadHash hashV1 `json:"payloadHash"`
		} `json:"content"` // intoto
	} `json:"spec"`
}

type hashV1 struct {
	Algorithm string   `json:"algorithm"`
	Value     hexBytes `json:"value"`
}

// compareV1 checks that body is an entry of the kind it is said to be, and about m: its one
// signature, the certificate or key that verifies it, and the digest. Such entries cannot be
// rebuilt: one kind holds the hash of an envelope as it once was written.
func (m *material) compareV1(said *rekor.KindVersion, body []byte) error {
	var b bodyV1
	if err := json.Unmarshal(body, &b); err != nil {
		return fmt.Errorf("decoding entry: %w", err)
	}
	if b.Kind != said.GetKind() || b.APIVersion != said.GetVersion() {
		return fmt.Errorf("it is of kind %.40q version %.40q, and is said to be %s %s", b.Kind, b.APIVersion, said.GetKind(), said.GetVersion())
	}
	if (b.Kind == "hashedrekord") == (m.bundle.GetDsseEnvelope() != nil) {
		return fmt.Errorf("an entry of kind %s is not about what the bundle holds", b.Kind)
	}
	sig, verifier, hash, err := b.parts()
	if err != nil {
		return err
	}
	algorithm, err := hashNamed(hash.Algorithm)
	if err != nil {
		return err
	}
	var digest []byte
	if msg := m.content.MessageSignatureContent(); msg != nil {
		if named, err := hashNamed(msg.DigestAlgorithm()); err != nil || named != algorithm {
			return fmt.Errorf("its digest is %s, and the bundle's %s", hash.Algorithm, msg.DigestAlgorithm())
		}
		digest = msg.Digest()
	} else {
		h := algorithm.New()
		h.Write(m.bundle.GetDsseEnvelope().GetPayload())
		digest = h.Sum(nil)
	}
	switch {
	case !bytes.Equal(sig, m.content.Signature()):
		return errors.New("it is about another signature")
	case !bytes.Equal(hash.Value, digest):
		return errors.New("it is about another digest")
	case !m.verifiedBy(verifier):
		return errors.New("it is about another certificate or key")
	}
	return nil
}

// parts returns what each kind has in a place of its own.
func (b *bodyV1) parts() (sig, verifier []byte, hash hashV1, err error) {
	s := &b.Spec
	switch b.Kind {
	case "hashedrekord":
		return s.Signature.Content, s.Signature.PublicKey.Content, s.Data.Hash, nil
	case "dsse":
		if len(s.Signatures) != 1 {
			return nil, nil, hashV1{}, fmt.Errorf("it has %d signatures, want exactly one", len(s.Signatures))
		}
		return s.Signatures[0].Signature, s.Signatures[0].Verifier, s.PayloadHash, nil
	}
	signatures := s.Content.Envelope.Signatures
	if len(signatures) != 1 {
		return nil, nil, hashV1{}, fmt.Errorf("it has %d signatures, want exactly one", len(signatures))
	}
	if sig, err = base64.StdEncoding.AppendDecode(nil, signatures[0].Sig); err != nil {
		return nil, nil, hashV1{}, fmt.Errorf("decoding signature: %w", err)
	}
	return sig, signatures[0].PublicKey, s.Content.PayloadHash, nil
}

// verifiedBy reports whether text is the PEM of the bundle's certificate, or of the managed key.
func (m *material) verifiedBy(text []byte) bool {
	block, rest := pem.Decode(text)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return false
	}
	if m.leaf != nil {
		return block.Type == "CERTIFICATE" && bytes.Equal(block.Bytes, m.leaf.Raw)
	}
	spki, err := x509.MarshalPKIXPublicKey(m.key)
	return err == nil && block.Type == "PUBLIC KEY" && bytes.Equal(block.Bytes, spki)
}

// originV1 is the first line of a Rekor v1 checkpoint: host name and tree ID.
var originV1 = regexp.MustCompile(`^.+ - [0-9]+$`)

// openCheckpointV1 returns what log, a Rekor v1 log, signed. Its notes are not quite those of
// c2sp.org/signed-note: the key's name is not the origin, and its ID is the hash of the key alone.
// That there is no line of another key is for sigstore-go to say.
func openCheckpointV1(note string, log *root.TransparencyLog) (policy.Tree, error) {
	public, ok := log.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return policy.Tree{}, fmt.Errorf("the trusted root has a key of type %T for log %s, and Rekor v1 logs sign with ECDSA", log.PublicKey, log.BaseURL)
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return policy.Tree{}, fmt.Errorf("encoding key of log %s: %w", log.BaseURL, err)
	}
	n, err := policy.ParseNote([]byte(note))
	if err != nil {
		return policy.Tree{}, fmt.Errorf("parsing note: %w", err)
	}
	tree, err := policy.ParseTree(n.Text)
	if err != nil {
		return policy.Tree{}, fmt.Errorf("parsing checkpoint: %w", err)
	}
	if !originV1.MatchString(tree.Origin) {
		return policy.Tree{}, fmt.Errorf("checkpoint of %q, and a Rekor v1 log's origin ends in its tree ID", tree.Origin)
	}
	id, digest := sha256.Sum256(spki), sha256.Sum256([]byte(n.Text))
	for _, s := range n.Signatures {
		if s.KeyID != binary.BigEndian.Uint32(id[:4]) {
			continue
		}
		if !ecdsa.VerifyASN1(public, digest[:], s.Sig) {
			return policy.Tree{}, fmt.Errorf("checkpoint of %q: the signature of %s is not valid", tree.Origin, s.Name)
		}
		return tree, nil
	}
	return policy.Tree{}, fmt.Errorf("checkpoint of %q: no signature of the log", tree.Origin)
}
