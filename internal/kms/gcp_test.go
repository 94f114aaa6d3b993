package kms_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gcpkms "cloud.google.com/go/kms/apiv1"
	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/api/option"

	"tallywood/internal/kms"
)

// TestGCPDoubleIsGoodEnoughForGoogle has Google's own client use the double: what that understands is
// what the service speaks.
func TestGCPDoubleIsGoodEnoughForGoogle(t *testing.T) {
	d := newGCPDouble(t)
	d.set(versionName(1), "EC_SIGN_P256_SHA256", "ENABLED", newECDSA(t, elliptic.P256()))
	d.set(versionName(2), "EC_SIGN_P256_SHA256", "DISABLED", newECDSA(t, elliptic.P256()))
	c, err := gcpkms.NewKeyManagementRESTClient(t.Context(), option.WithEndpoint(d.URL), option.WithoutAuthentication())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	digest := sha256.Sum256([]byte("to be signed"))
	pub, err := c.GetPublicKey(t.Context(), &kmspb.GetPublicKeyRequest{Name: versionName(1)})
	if err != nil {
		t.Fatal(err)
	}
	sig, err := c.AsymmetricSign(t.Context(), &kmspb.AsymmetricSignRequest{Name: versionName(1),
		Digest: &kmspb.Digest{Digest: &kmspb.Digest_Sha256{Sha256: digest[:]}}})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(pub.Pem))
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil || pub.Algorithm != kmspb.CryptoKeyVersion_EC_SIGN_P256_SHA256 {
		t.Fatalf("got %v, %v", pub, err)
	}
	ours, err := kms.Open(t.Context(), d.uri(versionName(1)))
	if err != nil {
		t.Fatal(err)
	}
	if same := ours.Public().(interface{ Equal(crypto.PublicKey) bool }); !same.Equal(key) {
		t.Error("Google's client and ours were told two keys")
	}
	if ec, ok := key.(*ecdsa.PublicKey); !ok || !ecdsa.VerifyASN1(ec, digest[:], sig.Signature) {
		t.Error("the double's signature does not verify")
	}
	var states []string
	for v, err := range c.ListCryptoKeyVersions(t.Context(), &kmspb.ListCryptoKeyVersionsRequest{Parent: doubleKeyName}).All() {
		if err != nil {
			t.Fatal(err)
		}
		states = append(states, v.State.String())
	}
	if got := strings.Join(states, " "); got != "ENABLED DISABLED" {
		t.Errorf("the versions are %s", got)
	}
}

func TestGCPDoubleSignsForEveryPart(t *testing.T) {
	d := newGCPDouble(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	d.set(versionName(1), "EC_SIGN_P256_SHA256", "ENABLED", newECDSA(t, elliptic.P256()))
	d.set(versionName(2), "EC_SIGN_P384_SHA384", "ENABLED", newECDSA(t, elliptic.P384()))
	d.set(versionName(3), "RSA_SIGN_PKCS1_2048_SHA256", "ENABLED", rsaKey)
	d.set(versionName(4), "EC_SIGN_ED25519", "ENABLED", newEd25519(t))
	for n := 1; n <= 4; n++ {
		k, err := kms.Open(t.Context(), d.uri(versionName(n)))
		if err != nil {
			t.Fatal(err)
		}
		wantCertificate(t, k)
	}
	wantNote(t, d.uri(versionName(4)))
}

// TestGCPDoubleNewestVersion opens a key without a version: it is the newest enabled one, and stays it.
func TestGCPDoubleNewestVersion(t *testing.T) {
	d := newGCPDouble(t)
	for n := 1; n <= 12; n++ {
		state := "ENABLED"
		if n == 12 {
			state = "DISABLED"
		}
		d.set(versionName(n), "EC_SIGN_P256_SHA256", state, newECDSA(t, elliptic.P256()))
	}
	k, err := kms.Open(t.Context(), d.uri(doubleKeyName))
	if err != nil {
		t.Fatal(err)
	}
	if k.String() != versionName(11) { // 9 is the largest of them as a text
		t.Errorf("opened %s; want %s", k, versionName(11))
	}
	d.set(versionName(13), "EC_SIGN_P256_SHA256", "ENABLED", newECDSA(t, elliptic.P256()))
	digest := sha256.Sum256([]byte("to be signed"))
	if _, err := k.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
		t.Errorf("after another version was made: %v", err)
	}
	d.set(versionName(11), "EC_SIGN_P256_SHA256", "DESTROYED", newECDSA(t, elliptic.P256()))
	_, err = k.Sign(rand.Reader, digest[:], crypto.SHA256)
	wantFault(t, "destroyed", err, "current state is: DESTROYED", "disabled, destroyed", false)
	d.set(versionName(11), "EC_SIGN_P256_SHA256", "ENABLED", newECDSA(t, elliptic.P256()))
	_, err = k.Sign(rand.Reader, digest[:], crypto.SHA256)
	wantFault(t, "another key", err, "not by the key that was opened", "another key", false)
}

func TestGCPDoubleFaults(t *testing.T) {
	d := newGCPDouble(t)
	d.set(versionName(1), "EC_SIGN_P256_SHA256", "ENABLED", newECDSA(t, elliptic.P256()))
	d.set(versionName(2), "RSA_SIGN_PSS_2048_SHA256", "ENABLED", newECDSA(t, elliptic.P256()))
	// With less time a request that is late would be repeated.
	k, err := kms.OpenWithin(t.Context(), d.uri(versionName(1)), time.Minute, time.Minute, 4)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("to be signed"))
	d.called()
	d.fail(gcpFault{429, "RESOURCE_EXHAUSTED", "quota"}, gcpFault{503, "UNAVAILABLE", "later"}, gcpFault{500, "INTERNAL", "oops"})
	if _, err := k.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
		t.Errorf("after three faults that pass: %v", err)
	}
	if n := d.called(); n != 4 {
		t.Errorf("three faults that pass and an answer took %d requests", n)
	}
	denied := gcpFault{403, "PERMISSION_DENIED", "Permission 'cloudkms.cryptoKeyVersions.useToSign' denied"}
	d.fail(denied)
	_, err = k.Sign(rand.Reader, digest[:], crypto.SHA256)
	wantFault(t, "no permission", err, "useToSign", "roles/cloudkms.signerVerifier", false)
	d.fail(denied)
	_, err = kms.Open(t.Context(), d.uri(versionName(1)))
	wantFault(t, "no permission to look", err, "reading public key of", "roles/cloudkms.signerVerifier", false)
	_, err = kms.Open(t.Context(), d.uri(versionName(9)))
	wantFault(t, "no such version", err, "not found", "key ring", false)
	_, err = kms.Open(t.Context(), d.uri(versionName(2)))
	wantFault(t, "PSS", err, "RSA_SIGN_PSS_2048_SHA256", "Ed25519", false)
	_, err = kms.Open(t.Context(), d.uri("projects/p/locations/global/keyRings/r/cryptoKeys/none"))
	wantFault(t, "no version", err, "no version of the key is enabled", "enable one", false)
}

// TestGCPCredentials has Google's library find a service account's credentials and get a token with
// them, over TLS.
func TestGCPCredentials(t *testing.T) {
	d := newGCPDouble(t)
	d.token = "token-of-the-service-account"
	d.set(versionName(1), "EC_SIGN_ED25519", "ENABLED", newEd25519(t))
	tls := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/token" {
			d.Config.Handler.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":3600}`, d.token)
	}))
	t.Cleanup(tls.Close)
	uri := "gcpkms://" + versionName(1) + "?endpoint=" + tls.URL
	account := filepath.Join(t.TempDir(), "account.json")
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", account)
	_, err := kms.Open(t.Context(), uri)
	wantFault(t, "no credentials", err, "finding credentials", "GOOGLE_APPLICATION_CREDENTIALS", false)
	writeAccount(t, account, tls.URL+"/token")
	k, err := kms.Open(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Sign(rand.Reader, []byte("to be signed"), crypto.Hash(0)); err != nil {
		t.Error(err)
	}
	d.token = "another"
	_, err = k.Sign(rand.Reader, []byte("to be signed"), crypto.Hash(0))
	wantFault(t, "token no longer taken", err, "401 UNAUTHENTICATED", "does not take these credentials", false)
}

// writeAccount writes the key file of a service account.
func writeAccount(t *testing.T, path, tokenURL string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(map[string]string{"type": "service_account", "project_id": "p", "private_key_id": "1", "client_id": "1",
		"client_email": "log@p.iam.gserviceaccount.com", "token_uri": tokenURL,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))})
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
