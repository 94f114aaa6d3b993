// Package keys reads, writes and derives the keys of every part: PKCS#8 files, certificate
// chains, witness seeds, bearer tokens, and the names C2SP gives to keys in signed notes
// (c2sp.org/signed-note, c2sp.org/tlog-cosignature).
//
// Private keys on disk are PKCS#8 PEM or a witness seed, mode 0600. A file that others can read
// is refused, but for one that root hands to this process through a group or an access list, mode
// 0440, as systemd's credentials and secrets of Kubernetes are. No function here replaces an existing file: a key that is overwritten is an
// identity that is gone.
package keys

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

// ReadSigner returns the private key in the PKCS#8 PEM file at path: Ed25519, ECDSA or RSA.
// A file readable by group or others is an error.
func ReadSigner(path string) (crypto.Signer, error) {
	block, err := readPEM(path, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(block)
	if err != nil {
		return nil, fmt.Errorf("parsing private key %s: %w", path, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("private key %s is a %T, which cannot sign", path, key)
	}
	return signer, nil
}

// ReadPublic returns the public key in the PEM file at path, a SubjectPublicKeyInfo: Ed25519,
// ECDSA or RSA.
func ReadPublic(path string) (crypto.PublicKey, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	const kind = "PUBLIC KEY"
	block, rest := pem.Decode(data)
	switch {
	case block == nil:
		return nil, fmt.Errorf("%s holds no PEM block; want one %q block", path, kind)
	case block.Type != kind:
		return nil, fmt.Errorf("%s holds a PEM block of type %q; want %q", path, block.Type, kind)
	case len(bytes.TrimSpace(rest)) != 0:
		return nil, fmt.Errorf("%s has data after its PEM block", path)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parsing public key %s: %w", path, err)
	}
	return key, nil
}

// readPEM returns the only PEM block of the private file at path, which must have type kind.
func readPEM(path, kind string) ([]byte, error) {
	data, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(data)
	switch {
	case block == nil:
		return nil, fmt.Errorf("%s holds no PEM block; want one %q block (PKCS#8)", path, kind)
	case block.Type != kind:
		return nil, fmt.Errorf("%s holds a PEM block of type %q; want %q (PKCS#8; convert with \"openssl pkcs8 -topk8 -nocrypt\")", path, block.Type, kind)
	case len(bytes.TrimSpace(rest)) != 0:
		return nil, fmt.Errorf("%s has data after its PEM block", path)
	}
	return block.Bytes, nil
}

// WriteSigner writes key to a new PKCS#8 PEM file at path, mode 0600, and returns once it is
// durable. An existing file is an error that wraps fs.ErrExist.
func WriteSigner(path string, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encoding private key: %w", err)
	}
	return WriteNew(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

// ReadChain returns the certificates of the PEM file at path in file order, at least one.
func ReadChain(path string) ([]*x509.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	chain, err := ParseChain(data)
	if err != nil {
		return nil, fmt.Errorf("reading certificates from %s: %w", path, err)
	}
	return chain, nil
}

// ParseChain returns the certificates of a PEM text in order, at least one. Anything but
// CERTIFICATE blocks is an error.
func ParseChain(data []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for len(bytes.TrimSpace(data)) > 0 {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return nil, errors.New("text that is not a PEM block")
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("PEM block of type %q; want CERTIFICATE", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parsing certificate %d: %w", len(chain)+1, err)
		}
		chain = append(chain, cert)
	}
	if len(chain) == 0 {
		return nil, errors.New("no certificate")
	}
	return chain, nil
}

// FormatChain returns chain as PEM text, in order.
func FormatChain(chain []*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, cert := range chain {
		// Encoding into a buffer has no error to report.
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	}
	return out.Bytes()
}

// WriteChain writes chain as PEM to a new file at path, mode 0644.
func WriteChain(path string, chain []*x509.Certificate) error {
	return WriteNew(path, FormatChain(chain), 0o644)
}

// ReadSeed returns the 32-byte seed written as 64 hexadecimal digits in the file at path.
// A file readable by group or others is an error.
func ReadSeed(path string) ([32]byte, error) {
	data, err := readPrivate(path)
	if err != nil {
		return [32]byte{}, err
	}
	seed, err := ParseSeed(data)
	if err != nil {
		return seed, fmt.Errorf("seed file %s %w", path, err)
	}
	return seed, nil
}

// ParseSeed returns the seed that is the text of a seed file.
func ParseSeed(data []byte) (seed [32]byte, err error) {
	text := bytes.TrimSuffix(data, []byte("\n"))
	switch {
	case bytes.HasSuffix(text, []byte("\r")):
		return seed, fmt.Errorf("ends in CR LF, as files on Windows do; want %d hexadecimal digits and LF", 2*len(seed))
	case len(text) != 2*len(seed):
		return seed, fmt.Errorf("has %d characters; want %d hexadecimal digits", len(text), 2*len(seed))
	}
	if _, err := hex.Decode(seed[:], text); err != nil { // whose text would show what is in there
		return [32]byte{}, fmt.Errorf("has a character that is no hexadecimal digit; want %d of them", 2*len(seed))
	}
	return seed, nil
}

// WriteSeed writes seed as 64 hexadecimal digits and a line feed to a new file at path, mode 0600.
func WriteSeed(path string, seed [32]byte) error {
	return WriteNew(path, append(hex.AppendEncode(nil, seed[:]), '\n'), 0o600)
}

// ReadToken returns the bearer token in the file at path: its text without the space around it. A
// file readable by group or others is an error, and so is a text that is no token:
//
//	> b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"=" (RFC 6750 section 2.1)
func ReadToken(path string) (string, error) {
	data, err := readPrivate(path)
	if err != nil {
		return "", err
	}
	token := string(bytes.TrimSpace(data))
	if token == "" {
		return "", fmt.Errorf("token file %s is empty; want a bearer token (\"openssl rand -hex 32\" makes one)", path)
	}
	if !bearerToken.MatchString(token) {
		return "", fmt.Errorf("token file %s holds no bearer token; want letters, digits and -._~+/ in one line (RFC 6750)", path)
	}
	return token, nil
}

var bearerToken = regexp.MustCompile(`^[A-Za-z0-9._~+/-]+=*$`)

// readPrivate reads a file and refuses one that others than its owner may read, or, where root has
// handed it to this process, others than a group. Windows has no such mode bits; there the
// directory's access list guards the file.
func readPrivate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat() // of what is read, whatever has the name by now
	if err != nil {
		return nil, err
	}
	shared := fs.FileMode(0o077)
	if owner, ok := ownerOf(info); ok && owner == 0 && os.Geteuid() != 0 {
		shared = 0o037
	}
	if perm := info.Mode().Perm(); runtime.GOOS != "windows" && perm&shared != 0 {
		return nil, fmt.Errorf("private file %s has mode %#o; want 0600 (chmod 600 it)", path, perm)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxPrivate+1))
	if err == nil && len(data) > maxPrivate {
		err = fmt.Errorf("private file %s is larger than %d bytes, which no key is", path, maxPrivate)
	}
	return data, err
}

// maxPrivate bounds a private file, in bytes.
const maxPrivate = 1 << 20

// WriteNew creates the file at path with data and mode and returns once file and directory
// entry are durable. It never replaces: an existing file wraps fs.ErrExist. The file appears
// under its name whole or not at all, whenever the process ends: half a key would be taken for a
// damaged one at the next start. What a killed process leaves is a file that IsTemporary knows.
func WriteNew(path string, data []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, tempPrefix+filepath.Base(path)+".*")
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return &fs.PathError{Op: pe.Op, Path: path, Err: pe.Err} // the caller knows no other name
	} else if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode) // the umask must not decide
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Link(f.Name(), path) // unlike a rename it fails where a file is
	}
	if errors.Is(err, fs.ErrExist) {
		err = &fs.PathError{Op: "writing", Path: path, Err: fs.ErrExist}
	} else if err != nil {
		err = fmt.Errorf("writing %s: %w", path, err)
	}
	if err = errors.Join(err, os.Remove(f.Name())); err != nil {
		return err
	}
	return syncDir(dir)
}

// tempPrefix begins the names of files that are still being written.
const tempPrefix = ".tmp-"

// IsTemporary reports whether name is that of a file which WriteNew was writing. One that is left
// after its process has ended is of no use.
func IsTemporary(name string) bool { return strings.HasPrefix(name, tempPrefix) }

// syncDir makes the entries of a directory durable. Windows cannot sync directories.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
