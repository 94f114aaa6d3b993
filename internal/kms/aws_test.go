package kms_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"golang.org/x/mod/sumdb/note"

	"tallywood/internal/keys"
	"tallywood/internal/kms"
)

// awsCredentials gives the test credentials of AWS, and none of its user's.
func awsCredentials(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	t.Setenv("AWS_REGION", "")
}

// wantFault wants err to be a *kms.Error with text in it and in its hint.
func wantFault(t *testing.T, what string, err error, text, hint string, temporary bool) {
	t.Helper()
	e, ok := errors.AsType[*kms.Error](err)
	if !ok || !strings.Contains(err.Error(), text) || !strings.Contains(e.Hint, hint) || e.Temporary() != temporary {
		t.Errorf("%s: got %v; want one with %q and the hint %q, temporary %v", what, err, text, hint, temporary)
		if ok {
			t.Logf("hint %q, temporary %v", e.Hint, e.Temporary())
		}
	}
}

// TestAWSEmulatorSignsForEveryPart signs with keys of the emulator as logs and authorities do.
func TestAWSEmulatorSignsForEveryPart(t *testing.T) {
	awsCredentials(t)
	e := startLocalKMS(t)
	for _, c := range []struct {
		spec types.KeySpec
		hash crypto.Hash
		bits int // of the curve; 0 for RSA
	}{
		{types.KeySpecEccNistP256, crypto.SHA256, 256}, {types.KeySpecEccNistP384, crypto.SHA384, 384},
		{types.KeySpecEccNistP521, crypto.SHA512, 521}, {types.KeySpecRsa2048, crypto.SHA256, 0},
	} {
		id, arn := e.create(t, c.spec, types.KeyUsageTypeSignVerify)
		k, err := kms.Open(t.Context(), e.uri(id))
		if err != nil {
			t.Fatalf("%s: %v", c.spec, err)
		}
		if k.String() != arn {
			t.Errorf("%s: the key is named %s; want %s", c.spec, k, arn)
		}
		h := c.hash.New()
		h.Write([]byte("to be signed"))
		digest := h.Sum(nil)
		sig, err := k.Sign(rand.Reader, digest, c.hash)
		if err != nil {
			t.Fatalf("%s: %v", c.spec, err)
		}
		switch pub := k.Public().(type) {
		case *ecdsa.PublicKey:
			if pub.Params().BitSize != c.bits || !ecdsa.VerifyASN1(pub, digest, sig) {
				t.Errorf("%s: signature by a key of %d bits does not verify", c.spec, pub.Params().BitSize)
			}
		case *rsa.PublicKey:
			if c.bits != 0 || rsa.VerifyPKCS1v15(pub, c.hash, digest, sig) != nil {
				t.Errorf("%s: RSA signature does not verify", c.spec)
			}
		default:
			t.Errorf("%s: the public key is a %T", c.spec, pub)
		}
		wantCertificate(t, k)
		for what, opts := range map[string]crypto.SignerOpts{"no hash": crypto.Hash(0), "another hash": crypto.SHA3_256} {
			if _, err := k.Sign(rand.Reader, digest, opts); err == nil {
				t.Errorf("%s: signed with %s", c.spec, what)
			}
		}
		if _, err := k.Sign(rand.Reader, digest[1:], c.hash); err == nil {
			t.Errorf("%s: signed a digest that is too short", c.spec)
		}
		// The same key by its other names, and for those who only look.
		e.signer(t, strings.ToLower(string(c.spec)), c.spec)
		for _, name := range []string{arn, "alias/" + strings.ToLower(string(c.spec))} {
			if _, err := kms.Open(t.Context(), e.uri(name)); err != nil {
				t.Errorf("%s as %s: %v", c.spec, name, err)
			}
		}
		pub, err := kms.Public(t.Context(), e.uri(arn))
		if same, ok := k.Public().(interface{ Equal(crypto.PublicKey) bool }); err != nil || !ok || !same.Equal(pub) {
			t.Errorf("%s: its public key is %v, %v", c.spec, pub, err)
		}
	}
}

// wantCertificate has key sign a certificate for itself, which checks the signature.
func wantCertificate(t *testing.T, key crypto.Signer) {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err == nil {
		err = cert.CheckSignatureFrom(cert)
	}
	if err != nil {
		t.Errorf("its own certificate: %v", err)
	}
}

func TestAWSEmulatorRefusalsAreExplained(t *testing.T) {
	awsCredentials(t)
	e := startLocalKMS(t)
	for what, c := range map[string]struct {
		spec        types.KeySpec
		usage       types.KeyUsageType
		spoil       func(id string) error
		text, hint  string
		publicFails bool
	}{
		"symmetric": {types.KeySpecSymmetricDefault, types.KeyUsageTypeEncryptDecrypt, nil, "UnsupportedOperation", "SIGN_VERIFY", true},
		"decrypts":  {types.KeySpecRsa2048, types.KeyUsageTypeEncryptDecrypt, nil, "ENCRYPT_DECRYPT", "SIGN_VERIFY", true},
		"secp256k1": {types.KeySpecEccSecgP256k1, types.KeyUsageTypeSignVerify, nil, "ECC_SECG_P256K1", "Ed25519", true},
		"disabled": {types.KeySpecEccNistP256, types.KeyUsageTypeSignVerify, func(id string) error {
			_, err := e.client.DisableKey(t.Context(), &awskms.DisableKeyInput{KeyId: &id})
			return err
		}, "DisabledException", "enable the key", true},
		"pending deletion": {types.KeySpecEccNistP256, types.KeyUsageTypeSignVerify, func(id string) error {
			_, err := e.client.ScheduleKeyDeletion(t.Context(), &awskms.ScheduleKeyDeletionInput{KeyId: &id})
			return err
		}, "pending deletion", "pending deletion", true},
	} {
		id, _ := e.create(t, c.spec, c.usage)
		if c.spoil != nil {
			if err := c.spoil(id); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
		_, err := kms.Open(t.Context(), e.uri(id))
		wantFault(t, what, err, c.text, c.hint, false)
		if _, err := kms.Public(t.Context(), e.uri(id)); (err != nil) != c.publicFails {
			t.Errorf("%s: asked for its public key: %v", what, err)
		}
	}
	_, err := kms.Open(t.Context(), e.uri("alias/nobody"))
	wantFault(t, "no such alias", err, "alias/nobody is not found", "look at its alias", false)
}

// TestAWSEmulatorKeySwapIsRefused moves an alias to another key while the key is in use: what that
// signs never leaves.
func TestAWSEmulatorKeySwapIsRefused(t *testing.T) {
	awsCredentials(t)
	e := startLocalKMS(t)
	own := e.signer(t, "log", types.KeySpecEccNistP256)
	other := e.signer(t, "other", types.KeySpecEccNistP256)
	k, err := kms.Open(t.Context(), e.uri("alias/log"))
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("to be signed"))
	e.point(t, "log", other)
	sig, err := k.Sign(rand.Reader, digest[:], crypto.SHA256)
	wantFault(t, "another key", err, other, "another key than at the start", false)
	if sig != nil {
		t.Errorf("the signature of the other key left: %x", sig)
	}
	e.point(t, "log", own)
	if _, err := k.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
		t.Errorf("with its own key again: %v", err)
	}
}

func TestAWSEmulatorKilledAndStartedAgain(t *testing.T) {
	awsCredentials(t)
	e := startLocalKMS(t)
	e.signer(t, "log", types.KeySpecEccNistP256)
	k, err := kms.OpenWithin(t.Context(), e.uri("alias/log"), time.Minute, time.Minute, 4)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("to be signed"))
	e.kill()
	kms.Limit(k, time.Second, time.Second)
	_, err = k.Sign(rand.Reader, digest[:], crypto.SHA256)
	wantFault(t, "killed", err, "connection refused", "did not answer", true)
	_, err = kms.OpenWithin(t.Context(), e.uri("alias/log"), time.Second, time.Second, 4)
	wantFault(t, "opened while it is killed", err, "connection refused", "did not answer", true)
	e.start(t)
	kms.Limit(k, time.Minute, time.Minute)
	if _, err := k.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
		t.Errorf("after its restart: %v", err)
	}
}

// TestAWSDoubleSignsCheckpoints signs notes with Ed25519, which the emulator lacks; see awsDouble.
func TestAWSDoubleSignsCheckpoints(t *testing.T) {
	awsCredentials(t)
	d := newAWSDouble(t)
	d.set("alias/log", "ECC_NIST_EDWARDS25519", newEd25519(t))
	wantNote(t, d.uri("alias/log"))
	if n := d.called("Sign"); n != 2 { // the first at opening
		t.Errorf("one signature took %d requests", n-1)
	}
}

// wantNote has the Ed25519 key at uri sign a checkpoint.
func wantNote(t *testing.T, uri string) {
	t.Helper()
	k, err := kms.Open(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	const origin = "log.example.org"
	signer, err := keys.NoteSigner(origin, k)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := note.Sign(&note.Note{Text: origin + "\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"}, signer)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(keys.VKey(origin, keys.AlgEd25519, k.Public().(ed25519.PublicKey)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open(msg, note.VerifierList(v)); err != nil {
		t.Error(err)
	}
	for what, opts := range map[string]crypto.SignerOpts{
		"Ed25519ph": &ed25519.Options{Hash: crypto.SHA512}, "a context": &ed25519.Options{Context: "x"}, "SHA-256": crypto.SHA256,
	} {
		if _, err := k.Sign(rand.Reader, make([]byte, 64), opts); err == nil {
			t.Errorf("signed with %s", what)
		}
	}
}

func newEd25519(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newECDSA(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestAWSDoubleFaults are what the emulator cannot be made to do.
func TestAWSDoubleFaults(t *testing.T) {
	awsCredentials(t)
	d := newAWSDouble(t)
	d.set("alias/log", "ECC_NIST_P256", newECDSA(t, elliptic.P256()))
	d.set("alias/liar", "ECC_NIST_EDWARDS25519", newECDSA(t, elliptic.P521())) // as one emulator had it
	// With less time a request that is late would be repeated.
	k, err := kms.OpenWithin(t.Context(), d.uri("alias/log"), time.Minute, time.Minute, 4)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("to be signed"))
	d.called("Sign")
	d.fail(awsFault{400, "ThrottlingException"}, awsFault{503, "ServiceUnavailableException"}, awsFault{500, "KMSInternalException"})
	if _, err := k.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
		t.Errorf("after three faults that pass: %v", err)
	}
	if n := d.called("Sign"); n != 4 {
		t.Errorf("three faults that pass and an answer took %d requests", n)
	}
	d.fail(awsFault{400, "AccessDeniedException"})
	_, err = k.Sign(rand.Reader, digest[:], crypto.SHA256)
	wantFault(t, "no permission", err, "AccessDeniedException", "kms:Sign", false)
	if n := d.called("Sign"); n != 1 {
		t.Errorf("a refusal was asked for %d times", n)
	}
	d.fail(awsFault{400, "ExpiredTokenException"})
	_, err = kms.Open(t.Context(), d.uri("alias/log"))
	wantFault(t, "expired", err, "ExpiredTokenException", "expired", false)
	_, err = kms.Open(t.Context(), d.uri("alias/liar"))
	wantFault(t, "kind and key differ", err, "its public key is another one, a *ecdsa.PublicKey", "", false)
	// The service was restored with another key under the name of the old one.
	old := d.keys["alias/log"]
	d.set("alias/log", "ECC_NIST_P256", newECDSA(t, elliptic.P256()))
	swapped := d.keys["alias/log"]
	swapped.name = old.name
	d.keys["alias/log"] = swapped
	_, err = k.Sign(rand.Reader, digest[:], crypto.SHA256)
	wantFault(t, "restored", err, "not by the key that was opened", "another key", false)
}

func TestAWSWithoutCredentialsOrRegion(t *testing.T) {
	awsCredentials(t)
	d := newAWSDouble(t)
	d.set("alias/log", "ECC_NIST_EDWARDS25519", newEd25519(t))
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	_, err := kms.Open(t.Context(), d.uri("alias/log"))
	wantFault(t, "no credentials", err, "finding credentials", "AWS_ACCESS_KEY_ID", false)
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	_, err = kms.Open(t.Context(), "awskms:///alias/log?endpoint="+d.URL)
	wantFault(t, "no region", err, "no region", "AWS_REGION", false)
	t.Setenv("AWS_REGION", doubleRegion)
	if _, err := kms.Open(t.Context(), "awskms:///alias/log?endpoint="+d.URL); err != nil {
		t.Errorf("region of the environment: %v", err)
	}
	t.Setenv("AWS_ENDPOINT_URL_KMS", d.URL)
	if _, err := kms.Open(t.Context(), "awskms:///alias/log"); err != nil {
		t.Errorf("endpoint of the environment: %v", err)
	}
}
