// Package kms signs with private keys that are in a key management service: that of AWS
// (awskms://…) or of Google Cloud (gcpkms://…), named as cosign and other Sigstore programs name
// them.
//
// In goes the URI of a key, out comes a crypto.Signer. The public key is asked for once, when the
// key is opened, and every signature is verified against it before it leaves: what answers later
// with another key, because an alias was moved or the service was restored, signs nothing for us.
// Opening also signs once, so that a missing permission shows at the start and not at the first
// checkpoint.
//
// Each signature is one request to the service, which takes time and costs money. Requests run side
// by side, up to a bound, are repeated while the fault may pass, and end after callTimeout at the
// latest. This package and storage/s3 and storage/gcs are the only ones that know the clouds' SDKs.
package kms

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"io"
	"time"
)

// limits bound the requests for one key.
type limits struct {
	attempt time.Duration // for one request
	call    time.Duration // for a signature: all its requests, and the wait for its turn
	open    time.Duration // for credentials and the public key
	calls   int           // signatures under way
}

// defaultLimits fit the five seconds that npm clients wait for a receipt. A service answers in some
// 20 ms, so that 64 signatures at a time are more per second than the clouds' quotas let pass.
var defaultLimits = limits{attempt: 2 * time.Second, call: 5 * time.Second, open: 10 * time.Second, calls: 64}

// probe is what Open has signed. It is neither a checkpoint, nor a certificate, nor a timestamp.
const probe = "tallywood: this is signed when a key is opened, and means nothing\n"

// A service is one key of a cloud's KMS.
type service interface {
	// publicKey returns the public key, SubjectPublicKeyInfo in DER, and the service's word for
	// its algorithm or kind. It fixes which key sign uses.
	publicKey(ctx context.Context) (der []byte, kind string, err error)
	// sign signs a digest, or for Ed25519 the message itself, and says which key did.
	sign(ctx context.Context, a algorithm, message []byte) (signature []byte, by string, err error)
	// String names the key, and the version of it if there is one.
	String() string
}

// A Key is a private key in a KMS. It is a crypto.Signer, for concurrent use.
type Key struct {
	uri       string
	service   service
	public    crypto.PublicKey
	algorithm algorithm
	limits    limits
	slots     chan struct{} // one taken by each signature under way
}

var _ crypto.Signer = (*Key)(nil)

// Check returns an error unless uri is that of a key in a KMS. It asks nobody.
func Check(uri string) error {
	_, err := parse(uri)
	return err
}

// Open returns the key at uri once it has signed:
//
//	awskms://[HOST]/{KEY_ID|alias/NAME|ARN}[?region=REGION][&endpoint=URL]
//	gcpkms://projects/P/locations/L/keyRings/R/cryptoKeys/K[/cryptoKeyVersions/N][?endpoint=URL]
//
// Of a key of Google without a version it is the newest enabled one, from then on. HOST is spoken to
// by HTTPS, as is the URL unless it is that of a loopback address, which is for emulators. Errors are
// a *[Error].
func Open(ctx context.Context, uri string) (*Key, error) {
	return open(ctx, uri, defaultLimits)
}

func open(ctx context.Context, uri string, l limits) (*Key, error) {
	k, err := load(ctx, uri, l)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, l.call)
	defer cancel()
	if _, err := k.signMessage(ctx, []byte(probe)); err != nil {
		return nil, err
	}
	return k, nil
}

// Public returns the public key of the key at uri, which need not be one that we may sign with.
func Public(ctx context.Context, uri string) (crypto.PublicKey, error) {
	k, err := load(ctx, uri, defaultLimits)
	if err != nil {
		return nil, err
	}
	return k.public, nil
}

// load asks for the public key and finds out how the key signs.
func load(ctx context.Context, uri string, l limits) (*Key, error) {
	r, err := parse(uri)
	if err != nil {
		return nil, err
	}
	k := &Key{uri: uri, limits: l, slots: make(chan struct{}, l.calls)}
	ctx, cancel := context.WithTimeout(ctx, l.open)
	defer cancel()
	if k.service, err = connect(ctx, r, l); err != nil {
		return nil, k.fault("opening", err)
	}
	var der []byte
	var kind string
	err = retry(ctx, l.attempt, func(ctx context.Context) (err error) {
		der, kind, err = k.service.publicKey(ctx)
		return err
	})
	if err != nil {
		return nil, k.fault("reading public key of", err)
	}
	if k.algorithm, err = algorithmOf(r.cloud, kind); err != nil {
		return nil, k.fault("opening", err)
	}
	if k.public, err = x509.ParsePKIXPublicKey(der); err != nil {
		return nil, k.fault("reading public key of", fmt.Errorf("parsing it: %w", err))
	}
	if hash, ok := hashOf(k.public); !ok || hash != k.algorithm.hash {
		return nil, k.fault("opening", fmt.Errorf("its kind is %q, but its public key is another one, a %T", kind, k.public))
	}
	return k, nil
}

// connect returns the service of r.
func connect(ctx context.Context, r ref, l limits) (service, error) {
	if r.cloud == aws {
		return connectAWS(ctx, r, l)
	}
	return connectGCP(ctx, r, l)
}

// Public returns the public key, as it was when the key was opened.
func (k *Key) Public() crypto.PublicKey { return k.public }

// String names the key as the service does, and the version of it that signs.
func (k *Key) String() string { return k.service.String() }

// Sign signs a digest, or for Ed25519 the message itself. The service draws its own randomness.
// The signature has been verified when it is returned; errors of the service are a *[Error].
func (k *Key) Sign(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := k.algorithm.check(message, opts); err != nil {
		return nil, fmt.Errorf("signing with %s: %w", k.uri, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), k.limits.call)
	defer cancel()
	return k.sign(ctx, message)
}

// signMessage signs a message, hashed if the algorithm wants that.
func (k *Key) signMessage(ctx context.Context, message []byte) ([]byte, error) {
	if k.algorithm.hash != 0 {
		h := k.algorithm.hash.New()
		h.Write(message)
		message = h.Sum(nil)
	}
	return k.sign(ctx, message)
}

func (k *Key) sign(ctx context.Context, message []byte) ([]byte, error) {
	select {
	case k.slots <- struct{}{}:
		defer func() { <-k.slots }()
	case <-ctx.Done():
		return nil, k.fault("signing with", errBusy)
	}
	var signature []byte
	var by string
	err := retry(ctx, k.limits.attempt, func(ctx context.Context) (err error) {
		signature, by, err = k.service.sign(ctx, k.algorithm, message)
		return err
	})
	if err == nil && !k.algorithm.verify(k.public, message, signature) {
		err = &failure{hint: hintOtherKey, err: fmt.Errorf("the signature, by %q, is not by the key that was opened, %q", by, k)}
	}
	if err != nil {
		return nil, k.fault("signing with", err)
	}
	return signature, nil
}
