package sign

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"

	"github.com/digitorus/timestamp"
	rekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"tallywood/log/entry"
	"tallywood/log/verify"
)

// certificate asks the CA for a certificate of key (Fulcio API v2, CreateSigningCertificate). The
// proof of possession is a signature over the name the token is about.
func (s *signer) certificate(ctx context.Context, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("encoding key: %w", err)
	}
	challenge := sha256.Sum256([]byte(s.claims.challenge()))
	proof, err := ecdsa.SignASN1(rand.Reader, key, challenge[:])
	if err != nil {
		return nil, fmt.Errorf("proving possession of key: %w", err)
	}
	type publicKey struct {
		Algorithm string `json:"algorithm"`
		Content   string `json:"content"`
	}
	type publicKeyRequest struct {
		PublicKey publicKey `json:"publicKey"`
		Proof     []byte    `json:"proofOfPossession"`
	}
	body, err := json.Marshal(map[string]publicKeyRequest{"publicKeyRequest": {
		publicKey{"ECDSA", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))}, proof,
	}})
	if err != nil {
		return nil, fmt.Errorf("encoding request: %w", err)
	}
	answer, err := s.client.do(ctx, call{
		service: "certificate authority", url: s.services.ca + "/api/v2/signingCert",
		header: map[string]string{"Content-Type": "application/json", "Authorization": "Bearer " + s.token},
		body:   body, status: []int{http.StatusOK},
	})
	if err != nil {
		return nil, err
	}
	leaf, err := parseCertificate(answer)
	if err != nil {
		return nil, fmt.Errorf("certificate authority %s: %w", s.services.ca, err)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return nil, fmt.Errorf("certificate authority %s: the certificate is of another key", s.services.ca)
	}
	return leaf, s.sameIdentity(leaf)
}

// parseCertificate takes the signing certificate out of a CA's answer.
func parseCertificate(answer []byte) (*x509.Certificate, error) {
	type chain struct {
		Chain struct {
			Certificates []string `json:"certificates"`
		} `json:"chain"`
	}
	var reply struct {
		Embedded chain `json:"signedCertificateEmbeddedSct"`
		Detached chain `json:"signedCertificateDetachedSct"`
	}
	if err := json.Unmarshal(answer, &reply); err != nil {
		return nil, fmt.Errorf("decoding answer: %w", err)
	}
	if len(reply.Embedded.Chain.Certificates) == 0 {
		if len(reply.Detached.Chain.Certificates) > 0 {
			return nil, errors.New("the certificate has no SCT inside, without which no client accepts it")
		}
		return nil, errors.New("there is no certificate in the answer")
	}
	block, _ := pem.Decode([]byte(reply.Embedded.Chain.Certificates[0]))
	if block == nil {
		return nil, errors.New("the certificate is not PEM")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parsing certificate: %w", err)
	}
	return leaf, nil
}

// sameIdentity refuses a certificate for another person than the token's, before it gets into a
// log. What becomes of a workload's name is the CA's to say.
func (s *signer) sameIdentity(leaf *x509.Certificate) error {
	identity, _, err := verify.Signer(leaf)
	if err != nil {
		return fmt.Errorf("reading certificate: %w", err)
	}
	if email := s.claims.verifiedEmail(); email != "" && len(leaf.EmailAddresses) > 0 && identity != email {
		return fmt.Errorf("the certificate is for %q, and the identity token for %q", identity, email)
	}
	return nil
}

// timestamp asks for an RFC 3161 timestamp of sig, as other Go clients do: SHA-256, no nonce (it
// would protect nothing: the signature is new), no certificate (it is in the trusted root).
func (s *signer) timestamp(ctx context.Context, url string, sig []byte) ([]byte, error) {
	digest := sha256.Sum256(sig)
	query := timestamp.Request{HashAlgorithm: crypto.SHA256, HashedMessage: digest[:]}
	body, err := query.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encoding request: %w", err)
	}
	answer, err := s.client.do(ctx, call{
		service: "timestamp authority", url: url,
		header: map[string]string{"Content-Type": "application/timestamp-query"},
		body:   body, status: []int{http.StatusOK, http.StatusCreated},
	})
	if err != nil {
		return nil, err
	}
	if _, err := timestamp.ParseResponse(answer); err != nil {
		return nil, fmt.Errorf("timestamp authority %s: parsing answer: %w", url, err)
	}
	return answer, nil
}

// logEntry adds the signature to a Rekor v2 log. The answer is read strictly, as other Go clients
// read it, and not judged here.
func (s *signer) logEntry(ctx context.Context, url string, leaf *x509.Certificate, sig []byte, digest [32]byte) (*rekor.TransparencyLogEntry, error) {
	type certificate struct {
		RawBytes []byte `json:"rawBytes"`
	}
	type verifier struct {
		Certificate certificate `json:"x509Certificate"`
		KeyDetails  string      `json:"keyDetails"`
	}
	type signature struct {
		Content  []byte   `json:"content"`
		Verifier verifier `json:"verifier"`
	}
	type request struct {
		Digest    []byte    `json:"digest"`
		Signature signature `json:"signature"`
	}
	body, err := json.Marshal(map[string]request{"hashedRekordRequestV002": {
		digest[:], signature{sig, verifier{certificate{leaf.Raw}, entry.ECDSAP256.String()}},
	}})
	if err != nil {
		return nil, fmt.Errorf("encoding request: %w", err)
	}
	answer, err := s.client.do(ctx, call{
		service: "log", url: url + "/api/v2/log/entries",
		header: map[string]string{"Content-Type": "application/json", "Accept": "application/json"},
		body:   body, status: []int{http.StatusCreated},
	})
	if err != nil {
		return nil, err
	}
	tle := new(rekor.TransparencyLogEntry)
	if err := protojson.Unmarshal(answer, tle); err != nil {
		return nil, fmt.Errorf("log %s: decoding answer: %w", url, err)
	}
	return tle, nil
}
