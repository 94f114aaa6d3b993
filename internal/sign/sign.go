// Package sign makes keyless signatures: a Sigstore bundle for an artifact, from the services a
// signing config names (https://github.com/sigstore/protobuf-specs, SigningConfig v0.2).
//
// In goes an artifact, as a stream, and an OpenID Connect token; out comes a bundle of media type
// v0.3, which this package has verified with [tallywood/log/verify] before anyone sees it: what
// [Sign] returns verifies, witnesses included. [Token] finds or fetches the token, and [Identity]
// tells in advance which name a signature with it makes public for ever; asking whether that is
// wanted is the caller's.
//
// The services are called directly and not through sigstore-go's pkg/sign, which loses the text of
// every 5xx answer and cannot wait for as long as a 503 asks. All of this ends up in front of a
// person, so every error names the service, its address and its own words.
package sign

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	common "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	rekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"google.golang.org/protobuf/encoding/protojson"

	"tallywood/log/verify"
	"tallywood/witness/policy"
)

// mediaType is that of a bundle with one leaf certificate and no chain.
const mediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// Options say what to sign, as whom and where. The first four are mandatory, as is exactly one of
// Policy and NoPolicy; the rest may be zero.
type Options struct {
	Artifact      io.Reader // read once, to its end
	Token         string    // OpenID Connect ID token with audience sigstore, see Token
	SigningConfig []byte    // signing_config.v0.2.json: the services
	TrustedRoot   []byte    // trusted_root.json: what their answers are checked against

	Policy   *policy.Policy // what the log's checkpoint must satisfy
	NoPolicy bool           // do not look at witnesses

	// HTTP makes the requests. Default: a client that gives each 30 s and follows no redirects.
	HTTP *http.Client
	// Patience bounds the retries of one signature, all services together. Default: 1 minute.
	Patience time.Duration
	Now      func() time.Time // picks the services valid now; default: time.Now
	Log      *slog.Logger     // default: discard
}

func (o Options) check() error {
	var errs []error
	if o.Artifact == nil {
		errs = append(errs, errors.New("checking options: Artifact is missing"))
	}
	if (o.Policy == nil) != o.NoPolicy {
		errs = append(errs, errors.New("checking options: exactly one of Policy and NoPolicy must be set"))
	}
	if o.Patience < 0 {
		errs = append(errs, errors.New("checking options: Patience is negative"))
	}
	return errors.Join(errs...)
}

// Sign signs o.Artifact with a fresh P-256 key, and returns the bundle in JSON and what it proves.
// The errors to tell apart are [*InputError], something in o that cannot be used, [*ServiceError],
// a service's refusal, and [*verify.Error], answers that do not make a valid bundle; no bundle is
// returned then, although the log may have an entry.
func Sign(ctx context.Context, o Options) ([]byte, *verify.Result, error) {
	if err := o.check(); err != nil {
		return nil, nil, err
	}
	s, err := newSigner(o)
	if err != nil {
		return nil, nil, &InputError{err}
	}
	// The artifact comes first: reading it may take longer than a certificate is valid.
	h := sha256.New()
	if _, err := io.Copy(h, o.Artifact); err != nil {
		return nil, nil, &InputError{fmt.Errorf("reading artifact: %w", err)}
	}
	digest := [32]byte(h.Sum(nil))
	b, leaf, err := s.bundle(ctx, digest)
	if err != nil {
		return nil, nil, err
	}
	data, err := protojson.Marshal(b)
	if err != nil {
		return nil, nil, fmt.Errorf("encoding bundle: %w", err)
	}
	identity, issuer, err := verify.Signer(leaf)
	if err != nil {
		return nil, nil, fmt.Errorf("reading certificate: %w", err)
	}
	v, err := verify.New(verify.Options{
		TrustedRoot: o.TrustedRoot, Policy: o.Policy, NoPolicy: o.NoPolicy, Identity: identity, Issuer: issuer,
	})
	if err != nil {
		return nil, nil, &InputError{fmt.Errorf("verifying bundle: %w", err)}
	}
	result, err := v.Digest(data, crypto.SHA256, digest[:])
	if err != nil {
		return nil, nil, fmt.Errorf("verifying bundle: %w", err)
	}
	return data, result, nil
}

// An InputError reports a token, a signing config, a trusted root or an artifact that cannot be used.
type InputError struct{ Err error }

func (e *InputError) Error() string { return e.Err.Error() }
func (e *InputError) Unwrap() error { return e.Err }

// A signer makes one signature.
type signer struct {
	client   *client
	services services
	token    string
	claims   claims
}

func newSigner(o Options) (*signer, error) {
	now := time.Now
	if o.Now != nil {
		now = o.Now
	}
	services, err := parseConfig(o.SigningConfig, now())
	if err != nil {
		return nil, err
	}
	c, err := parseToken(o.Token)
	if err != nil {
		return nil, err
	}
	if !c.expires().IsZero() && !now().Before(c.expires()) {
		return nil, fmt.Errorf("checking identity token: it expired at %s", c.expires().UTC().Format(time.RFC3339))
	}
	// What cannot be verified afterwards would be in a log for nothing.
	if _, err := root.NewTrustedRootFromJSON(o.TrustedRoot); err != nil {
		return nil, fmt.Errorf("parsing trusted root: %w", err)
	}
	return &signer{newClient(o.HTTP, o.Patience, o.Log), services, o.Token, c}, nil
}

// bundle asks the services one after the other, each about what the one before has answered:
// certificate, signature, timestamps, log entries.
func (s *signer) bundle(ctx context.Context, digest [32]byte) (*protobundle.Bundle, *x509.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("generating key: %w", err)
	}
	leaf, err := s.certificate(ctx, key)
	if err != nil {
		return nil, nil, fmt.Errorf("requesting certificate: %w", err)
	}
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		return nil, nil, fmt.Errorf("signing artifact: %w", err)
	}
	stamps := new(protobundle.TimestampVerificationData)
	for _, url := range s.services.timestamps {
		stamp, err := s.timestamp(ctx, url, sig)
		if err != nil {
			return nil, nil, fmt.Errorf("requesting timestamp: %w", err)
		}
		stamps.Rfc3161Timestamps = append(stamps.Rfc3161Timestamps, &common.RFC3161SignedTimestamp{SignedTimestamp: stamp})
	}
	var entries []*rekor.TransparencyLogEntry
	for _, url := range s.services.logs {
		entry, err := s.logEntry(ctx, url, leaf, sig, digest)
		if err != nil {
			return nil, nil, fmt.Errorf("adding log entry: %w", err)
		}
		entries = append(entries, entry)
	}
	return &protobundle.Bundle{
		MediaType: mediaType,
		VerificationMaterial: &protobundle.VerificationMaterial{
			Content:                   &protobundle.VerificationMaterial_Certificate{Certificate: &common.X509Certificate{RawBytes: leaf.Raw}},
			TimestampVerificationData: stamps,
			TlogEntries:               entries,
		},
		Content: &protobundle.Bundle_MessageSignature{MessageSignature: &common.MessageSignature{
			MessageDigest: &common.HashOutput{Algorithm: common.HashAlgorithm_SHA2_256, Digest: digest[:]},
			Signature:     sig,
		}},
	}, leaf, nil
}
