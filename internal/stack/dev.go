package stack

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"tallywood/ca"
	"tallywood/ca/tsa"
	"tallywood/internal/keys"
	"tallywood/storage/posix"
)

//go:embed templates/*.tmpl
var templates embed.FS

// DevWitnesses is how many witnesses a development stack runs; two of them are a quorum.
const DevWitnesses = 3

// devNames are the entries an unfinished first start may have left in a data directory.
var devNames = []string{"keys", "client", "objects", "config.yaml", "issuers.yaml", "monitor.yaml",
	"monitor-state", "events.jsonl", "evidence", "pages", "lost+found"}

// A NotDataDirError reports a directory that `tallywood up` must not touch.
type NotDataDirError struct {
	Dir    string
	Reason string
}

// Error says why and what to do.
func (e *NotDataDirError) Error() string {
	return fmt.Sprintf("%s is not a data directory of \"tallywood up\": %s", e.Dir, e.Reason)
}

// IsDev reports whether dir already holds a development stack, that is, its config.yaml. A
// directory that holds something else is a *NotDataDirError; one that is absent, empty or left
// by a first start that did not finish is fine.
func IsDev(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("reading data directory: %w", err)
	}
	var has = map[string]bool{}
	for _, e := range entries {
		has[e.Name()] = true
		if !slices.Contains(devNames, e.Name()) && !isTemporary(e.Name(), devNames) && !has["config.yaml"] {
			if _, err := os.Stat(filepath.Join(dir, "config.yaml")); err != nil {
				return false, &NotDataDirError{dir, fmt.Sprintf("it has no config.yaml, but holds %q", e.Name())}
			}
		}
	}
	if has["config.yaml"] {
		return true, nil
	}
	states, err := os.ReadDir(filepath.Join(dir, "objects", "state"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("reading data directory: %w", err)
	}
	if slices.ContainsFunc(states, func(e fs.DirEntry) bool { return e.Name() != devLock }) {
		return false, &NotDataDirError{dir, "it holds logs in objects/, but its config.yaml is missing"}
	}
	return false, nil
}

// clientNames are the files of a client directory.
var clientNames = []string{"trusted_root.json", "signing_config.v0.2.json", "policy.txt", "env"}

// CreateDev writes keys, configuration and policy of a development stack into dir, which
// listens on address (with its real port) and watches the mail addresses in watch. config.yaml
// comes last, so that a start that is cut short leaves none and the next one goes on.
func CreateDev(dir, address string, watch []string) (err error) {
	keyDir, clientDir := filepath.Join(dir, "keys"), filepath.Join(dir, "client")
	for _, d := range []struct {
		path string
		mode fs.FileMode
	}{{dir, 0o755}, {clientDir, 0o755}, {keyDir, 0o700}} {
		if err := os.MkdirAll(d.path, d.mode); err != nil {
			return fmt.Errorf("creating data directory: %w", err)
		}
	}
	unlock, err := lockDev(filepath.Join(dir, "objects"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if _, err := os.Stat(filepath.Join(dir, "config.yaml")); err == nil {
		return fmt.Errorf("creating %s: another process has just done so", dir)
	}
	if err := errors.Join(removeTemporary(dir, devNames), removeTemporary(clientDir, clientNames), removeTemporary(keyDir, nil)); err != nil {
		return fmt.Errorf("removing what an unfinished start left: %w", err)
	}
	data, err := createDevKeys(keyDir)
	if err != nil {
		return fmt.Errorf("creating keys: %w", err)
	}
	data.Address, data.URL, data.Watch = address, "http://"+address, watch
	for _, f := range []struct{ path, template string }{
		{"client/policy.txt", "policy.txt.tmpl"},
		{"issuers.yaml", "issuers.yaml.tmpl"},
		{"monitor.yaml", "monitor.yaml.tmpl"},
		{"config.yaml", "config.yaml.tmpl"},
	} {
		if err := writeTemplate(filepath.Join(dir, f.path), f.template, data); err != nil {
			return err
		}
	}
	return nil
}

// devData is what the templates are filled with.
type devData struct {
	Address, URL       string
	Watch              []string
	Signatures         string   // vkey of the signature log
	Certificates       string   // vkey of the certificate log's note key
	Witnesses          []string // names
	WitnessVKeys       []string // Ed25519 vkeys, in the same order
	SignaturesOrigin   string
	CertificatesOrigin string
}

const (
	devSignatures   = "log.localhost"
	devCertificates = "ct.localhost"
)

// createDevKeys makes every key in dir that is not there yet.
func createDevKeys(dir string) (devData, error) {
	d := devData{SignaturesOrigin: devSignatures, CertificatesOrigin: devCertificates}
	var err error
	if d.Signatures, err = devNoteKey(filepath.Join(dir, "signatures.pem"), devSignatures); err != nil {
		return d, err
	}
	if d.Certificates, err = devNoteKey(filepath.Join(dir, "certificates-note.pem"), devCertificates); err != nil {
		return d, err
	}
	if err := devKey(filepath.Join(dir, "certificates.pem"), newSCTKey); err != nil {
		return d, err
	}
	if err := devKey(filepath.Join(dir, "dev-oidc.pem"), newTokenKey); err != nil {
		return d, err
	}
	if err := devChain(dir, "ca", func() ([]*x509.Certificate, crypto.Signer, error) {
		return ca.CreateChain(ca.ChainOptions{Organization: "tallywood development"})
	}); err != nil {
		return d, err
	}
	if err := devChain(dir, "tsa", func() ([]*x509.Certificate, crypto.Signer, error) {
		return tsa.CreateChain("tallywood development", now())
	}); err != nil {
		return d, err
	}
	for i := range DevWitnesses {
		name := fmt.Sprintf("witness-%d.localhost", i+1)
		vkey, err := devSeed(filepath.Join(dir, fmt.Sprintf("witness-%d.seed", i+1)), name)
		if err != nil {
			return d, err
		}
		d.Witnesses, d.WitnessVKeys = append(d.Witnesses, name), append(d.WitnessVKeys, vkey)
	}
	return d, nil
}

func devNoteKey(path, origin string) (string, error) {
	key, err := keys.ReadSigner(path)
	if errors.Is(err, fs.ErrNotExist) {
		_, fresh, gerr := ed25519.GenerateKey(rand.Reader)
		if gerr != nil {
			return "", gerr
		}
		key, err = fresh, keys.WriteSigner(path, fresh)
	}
	if err != nil {
		return "", err
	}
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return "", fmt.Errorf("%s holds a %T; want Ed25519", path, key)
	}
	return keys.VKey(origin, keys.AlgEd25519, pub), nil
}

func newSCTKey() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// devKey makes the key at path unless it is there.
func devKey(path string, create func() (crypto.Signer, error)) error {
	if _, err := keys.ReadSigner(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key, err := create()
	if err != nil {
		return err
	}
	return keys.WriteSigner(path, key)
}

func devSeed(path, name string) (string, error) {
	seed, err := keys.ReadSeed(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := rand.Read(seed[:]); err != nil {
			return "", err
		}
		err = keys.WriteSeed(path, seed)
	}
	if err != nil {
		return "", err
	}
	w, err := keys.WitnessFromSeed(name, seed)
	if err != nil {
		return "", err
	}
	return w.VKeys()[0], nil
}

// devChain makes a chain and its signing key unless both are there. One without the other is
// left by a start that was cut short before anything was signed: both are made anew.
func devChain(dir, name string, create func() ([]*x509.Certificate, crypto.Signer, error)) error {
	chainPath, keyPath := filepath.Join(dir, name+"-chain.pem"), filepath.Join(dir, name+".pem")
	_, cerr := os.Stat(chainPath)
	_, kerr := os.Stat(keyPath)
	if cerr == nil && kerr == nil {
		return nil
	}
	for _, path := range []string{chainPath, keyPath} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	chain, key, err := create()
	if err != nil {
		return err
	}
	if err := keys.WriteChain(chainPath, chain); err != nil {
		return err
	}
	return keys.WriteSigner(keyPath, key)
}

func writeTemplate(path, name string, data devData) error {
	t, err := template.New(name).Funcs(template.FuncMap{"inc": func(i int) int { return i + 1 }}).
		ParseFS(templates, "templates/"+name)
	if err != nil {
		return fmt.Errorf("parsing template %s: %w", name, err)
	}
	var out strings.Builder
	if err := t.Execute(&out, data); err != nil {
		return fmt.Errorf("filling template %s: %w", name, err)
	}
	return replaceFile(path, []byte(out.String()))
}

// devLock is the name below state/ of the lock that guards a data directory.
const devLock = "up"

// lockDev holds the data directory of a development stack with that storage until unlock is
// called: its files must not change under a process that runs it.
func lockDev(storage string) (unlock func() error, err error) {
	b, err := posix.Open(storage)
	if err != nil {
		return nil, fmt.Errorf("opening storage: %w", err)
	}
	return b.Lock("state/" + devLock)
}
