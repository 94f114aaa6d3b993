package kms_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"tallywood/internal/keys"
	"tallywood/internal/kms"
	"tallywood/internal/loopback"
	"tallywood/log/ctentry"
)

// A deployment is a tallywood process all of whose keys are in a KMS, and where they are: those for
// ECDSA in the emulator, those for Ed25519 in the doubles, since the emulator has none.
type deployment struct {
	dir, program, url string
	emulator          *emulator
	far               *distance // before the emulator, for the certificate log's key
	aws               *awsDouble
	gcp               *gcpDouble
	ct                string // ID of the certificate log's key

	root    *x509.Certificate
	rootKey *ecdsa.PrivateKey

	cmd    *exec.Cmd
	stderr *lockedBuffer
	exited chan struct{}
}

// newDeployment makes the keys, chains and configuration. Nothing runs yet but the services.
func newDeployment(t *testing.T) *deployment {
	t.Helper()
	awsCredentials(t)
	d := &deployment{dir: t.TempDir(), emulator: startLocalKMS(t), aws: newAWSDouble(t), gcp: newGCPDouble(t)}
	d.far = newDistance(t, d.emulator.endpoint)
	var err error
	if d.program, err = program(); err != nil {
		t.Fatal(err)
	}
	d.ct = d.emulator.signer(t, "ct", types.KeySpecEccNistP256)
	d.emulator.signer(t, "ca", types.KeySpecEccNistP384)
	d.emulator.signer(t, "tsa", types.KeySpecEccNistP256)
	d.aws.set("alias/ct-note", "ECC_NIST_EDWARDS25519", newEd25519(t))
	d.gcp.set(versionName(1), "EC_SIGN_ED25519", "ENABLED", newEd25519(t))
	d.writeChains(t)
	d.write(t, "policy.txt", "log "+d.vkey(t, d.gcp.uri(versionName(1)), "log.example.org")+
		"\nlog "+d.vkey(t, d.aws.uri("alias/ct-note"), "ct.example.org")+"\nquorum none\n")
	address := loopback.Address(t)
	d.url = "http://" + address
	d.write(t, "issuers.yaml", "oidc-issuers:\n  "+d.url+"/dev/oidc:\n    issuer-url: "+d.url+"/dev/oidc\n    client-id: sigstore\n    type: email\n")
	d.write(t, "config.yaml", fmt.Sprintf(`
address: %s
storage: file:./objects
client_dir: client
logs:
  - {name: signatures, kind: rekor, origin: log.example.org, key: %q, policy: policy.txt}
  - {name: certificates, kind: ct, origin: ct.example.org, key: %q, note_key: %q, policy: policy.txt}
ca: {chain: ca-chain.pem, key: %q, ct_log: certificates, issuers: issuers.yaml}
tsa: {chain: tsa-chain.pem, key: %q}
dev_oidc: {path: /dev/oidc}
`, address, d.gcp.uri(versionName(1)), d.far.uri("alias/ct"), d.aws.uri("alias/ct-note"), d.emulator.uri("alias/ca"), d.emulator.uri("alias/tsa")))
	return d
}

func (d *deployment) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// vkey has the program ask a KMS for the public key of a log, as its operator does for the policy.
func (d *deployment) vkey(t *testing.T, uri, origin string) string {
	t.Helper()
	out := d.must(t, "key", "show", uri, "--origin", origin)
	_, vkey, ok := strings.Cut(out, "\nvkey ")
	if !ok {
		t.Fatalf("key show printed:\n%s", out)
	}
	return strings.TrimSpace(vkey)
}

// writeChains certifies the authorities' keys by a root that is in no KMS.
func (d *deployment) writeChains(t *testing.T) {
	t.Helper()
	d.rootKey = newECDSA(t, elliptic.P384())
	now := time.Now() // of all: none may outlive its issuer, not by the second that passes between two
	root := template("root", 1, now)
	d.root = certify(t, root, root, d.rootKey.Public(), d.rootKey)
	authority := template("issuer", 2, now)
	authority.MaxPathLenZero, authority.ExtKeyUsage = true, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	stamps := template("timestamps", 3, now)
	stamps.IsCA, stamps.KeyUsage = false, x509.KeyUsageDigitalSignature
	stamps.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true,
		Value: []byte{0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 8}}} // timeStamping; package x509 does not make it critical
	for name, leaf := range map[string]*x509.Certificate{"ca": authority, "tsa": stamps} {
		pub, err := kms.Public(t.Context(), d.emulator.uri("alias/"+name))
		if err != nil {
			t.Fatal(err)
		}
		chain := []*x509.Certificate{certify(t, leaf, d.root, pub, d.rootKey), d.root}
		if err := keys.WriteChain(filepath.Join(d.dir, name+"-chain.pem"), chain); err != nil {
			t.Fatal(err)
		}
	}
}

func template(name string, serial int64, now time.Time) *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour),
		NotAfter: now.AddDate(5, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
}

func certify(t testing.TB, template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// run runs the program to its end and returns its output and exit code.
func (d *deployment) run(t *testing.T, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, d.program, args...)
	cmd.Dir, cmd.Env = d.dir, append(os.Environ(), "HOME="+d.dir)
	out, err := cmd.CombinedOutput()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		t.Fatalf("%v: %v", args, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func (d *deployment) must(t *testing.T, args ...string) string {
	t.Helper()
	out, code := d.run(t, args...)
	if code != 0 {
		t.Fatalf("%v: exit code %d\n%s", args, code, out)
	}
	return out
}

// serve starts the server and waits until it is ready. It ends with the test.
func (d *deployment) serve(t *testing.T) {
	t.Helper()
	d.cmd = exec.Command(d.program, "serve", "--config", "config.yaml")
	d.cmd.Dir = d.dir
	d.stderr, d.exited = new(lockedBuffer), make(chan struct{})
	d.cmd.Stderr = d.stderr
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan bool, 1)
	go func(cmd *exec.Cmd, exited chan struct{}) {
		sc := bufio.NewScanner(out)
		for sc.Scan() {
			if strings.HasPrefix(sc.Text(), "ready ") {
				ready <- true
			}
		}
		_ = cmd.Wait() // stop looks at the exit code
		close(exited)
	}(d.cmd, d.exited)
	t.Cleanup(func() { d.stop(t) })
	select {
	case <-ready:
	case <-d.exited:
		t.Fatalf("the server ended before it was ready\n%s", d.stderr)
	case <-time.After(time.Minute):
		t.Fatalf("the server was not ready in time\n%s", d.stderr)
	}
}

// stop ends the server as an operator would.
func (d *deployment) stop(t *testing.T) {
	t.Helper()
	_ = d.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-d.exited:
	case <-time.After(time.Minute):
		_ = d.cmd.Process.Kill()
		<-d.exited
		t.Error("the server did not end in time")
	}
	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the server ended with exit code %d", code)
	}
	if t.Failed() {
		t.Logf("the server said:\n%s", d.stderr)
	}
}

// post sends a JSON request and returns status and body.
func (d *deployment) post(path string, body any) (int, []byte, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	res, err := http.Post(d.url+path, "application/json", bytes.NewReader(data))
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if res.StatusCode == http.StatusServiceUnavailable && res.Header.Get("Retry-After") == "" {
		err = fmt.Errorf("POST %s: 503 without Retry-After", path)
	}
	return res.StatusCode, answer, err
}

// addEntry adds a new entry to the signature log.
func (d *deployment) addEntry() (int, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return 0, nil, err
	}
	digest := sha256.Sum256([]byte(rand.Text()))
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		return 0, nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return 0, nil, err
	}
	return d.post("/api/v2/log/entries", map[string]any{"hashedRekordRequestV002": map[string]any{"digest": digest[:],
		"signature": map[string]any{"content": sig, "verifier": map[string]any{
			"publicKey": map[string]any{"rawBytes": spki}, "keyDetails": "PKIX_ECDSA_P256_SHA_256"}}}})
}

// addChain adds a new precertificate under the root to the certificate log, and checks the SCT.
func (d *deployment) addChain(log crypto.PublicKey) (int, []byte, error) {
	serial := new(big.Int).SetBytes([]byte(rand.Text()[:16]))
	leaf := &x509.Certificate{SerialNumber: serial, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
		EmailAddresses: []string{"a@example.org"}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		ExtraExtensions: []pkix.Extension{{Id: ctentry.OIDPoison, Critical: true, Value: asn1.NullBytes}}}
	der, err := x509.CreateCertificate(rand.Reader, leaf, d.root, d.rootKey.Public(), d.rootKey)
	if err != nil {
		return 0, nil, err
	}
	status, body, err := d.post("/ct/ct/v1/add-pre-chain", map[string]any{"chain": [][]byte{der, d.root.Raw}})
	if status != http.StatusOK || err != nil {
		return status, body, err
	}
	return status, body, checkSCT(log, der, d.root, body)
}

// checkSCT checks the SCT of a precertificate in an answer to add-pre-chain.
func checkSCT(log crypto.PublicKey, precert []byte, issuer *x509.Certificate, body []byte) error {
	var in struct {
		ID         []byte `json:"id"`
		Timestamp  int64  `json:"timestamp"`
		Extensions []byte `json:"extensions"`
		Signature  []byte `json:"signature"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(precert)
	if err != nil {
		return err
	}
	tbs, err := ctentry.RemoveExtension(cert.RawTBSCertificate, ctentry.OIDPoison)
	if err != nil {
		return err
	}
	if len(in.ID) != 32 || len(in.Signature) < 5 {
		return fmt.Errorf("SCT %s", body)
	}
	s := ctentry.SCT{LogID: [32]byte(in.ID), Timestamp: in.Timestamp, Extensions: in.Extensions,
		Hash: in.Signature[0], Algorithm: in.Signature[1], Signature: in.Signature[4:]}
	return s.Verify(log, ctentry.Entry{Precert: true, Timestamp: in.Timestamp, Certificate: tbs, Extensions: in.Extensions,
		IssuerKeyHash: sha256.Sum256(issuer.RawSubjectPublicKeyInfo)})
}

// certificate asks the CA for a certificate.
func (d *deployment) certificate(token string) (int, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return 0, nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return 0, nil, err
	}
	digest := sha256.Sum256([]byte("a@example.org"))
	proof, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		return 0, nil, err
	}
	return d.post("/api/v2/signingCert", map[string]any{"credentials": map[string]any{"oidcIdentityToken": token},
		"publicKeyRequest": map[string]any{"proofOfPossession": proof, "publicKey": map[string]any{"algorithm": "ECDSA",
			"content": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))}}})
}

// stamp asks for a timestamp.
func (d *deployment) stamp() (int, []byte, error) {
	digest := sha256.Sum256([]byte(rand.Text()))
	return d.post("/api/v1/timestamp", map[string]any{"artifactHash": digest[:], "hashAlgorithm": "sha256"})
}
