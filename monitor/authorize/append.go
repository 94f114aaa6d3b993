package authorize

import (
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"

	"tallywood/internal/disk"
	"tallywood/internal/keys"
	"tallywood/witness/policy"
)

// Additions are statements for a manifest, and who signs it.
type Additions struct {
	Path       string      // of the manifest; one that is not there is begun
	Signer     note.Signer // of an Ed25519 key; nil: the manifest gets no signature, a bundle will be it
	VKey       string      // of Signer: what is there must be signed with it
	Statements []Statement // Added is set by Append
	Drop       bool        // statements that have expired are taken out
	Now        time.Time
}

// An Outcome is what Append has done.
type Outcome struct {
	Manifest Manifest    // as it is now
	Created  bool        // there was none
	Added    []Statement // new, or with another expiry
	There    []Statement // that were there already, so that nothing was changed for them
	Dropped  []Statement // taken out
}

// Append adds statements to a manifest and signs it again. Readers see the old one or the new one,
// and of two that run at once one waits for the other. When all statements are there already, the
// file is left as it is.
func Append(a Additions) (Outcome, error) {
	unlock, err := lock(filepath.Dir(a.Path))
	if err != nil {
		return Outcome{}, fmt.Errorf("manifest %s: %w", a.Path, err)
	}
	defer unlock()
	m, err := a.read()
	out := Outcome{Created: errors.Is(err, fs.ErrNotExist)}
	if err != nil && !out.Created {
		return out, fmt.Errorf("manifest %s: %w", a.Path, err)
	}
	now := whole(a.Now)
	if now.Before(m.Signed) {
		return out, fmt.Errorf("manifest %s was signed at %s, which is not yet: one of two clocks is wrong", a.Path, m.Signed.Format(timeLayout))
	}
	if a.Drop {
		m.Statements = slices.DeleteFunc(m.Statements, func(s Statement) bool {
			if s.in(now) {
				return false
			}
			out.Dropped = append(out.Dropped, s)
			return true
		})
	}
	for _, s := range a.Statements {
		if s.Added = now; s.Check() != nil {
			return out, s.Check()
		}
		if m.add(&s) {
			out.Added = append(out.Added, s)
		} else {
			out.There = append(out.There, s)
		}
	}
	if len(m.Statements) > MaxStatements {
		return out, fmt.Errorf("manifest %s would have %d statements, more than %d; take out those that have expired, or begin another one and give the monitor both", a.Path, len(m.Statements), MaxStatements)
	}
	if out.Manifest = m; len(out.Added)+len(out.Dropped) == 0 && !out.Created {
		return out, nil
	}
	m.Serial++
	m.Signed = now
	out.Manifest = m
	return out, a.write(m)
}

// add adds s, or gives the statement that is there another expiry; it returns whether it did. An
// expired statement begins anew.
func (m *Manifest) add(s *Statement) bool {
	i := slices.IndexFunc(m.Statements, func(o Statement) bool { return o.key() == s.key() })
	if i < 0 {
		m.Statements = append(m.Statements, *s)
		return true
	}
	old := m.Statements[i]
	if old.Expires.Equal(s.Expires) {
		*s = old
		return false
	}
	if old.in(s.Added) {
		s.Added = old.Added
	}
	m.Statements[i] = *s
	return true
}

// read returns the manifest that is there, which must be signed with the same key: what somebody
// else put there is not signed along.
func (a Additions) read() (Manifest, error) {
	f, err := os.Open(a.Path)
	if err != nil {
		return Manifest{}, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return Manifest{}, errors.Join(errors.New("it is not a regular file"), err)
	}
	data, err := readLimited(f, MaxManifest)
	if err != nil {
		return Manifest{}, err
	}
	_, noteErr := policy.ParseNote(data)
	if a.Signer == nil {
		if noteErr == nil {
			return Manifest{}, errors.New("it is signed with a note key, and was to get no signature")
		}
		return Parse(string(data))
	}
	if errors.Is(noteErr, policy.ErrNoSignatures) {
		return Manifest{}, errors.New("it has no signature, so that a bundle must be it, and was to be signed with a note key")
	}
	v, err := NewKeys([]string{a.VKey})
	if err != nil {
		return Manifest{}, err
	}
	verified, err := v.Open(data, nil)
	if err != nil {
		return Manifest{}, err
	}
	return verified.manifest, nil
}

// write signs m and puts it in place.
func (a Additions) write(m Manifest) (err error) {
	data := []byte(m.Text())
	if a.Signer != nil {
		if data, err = note.Sign(&note.Note{Text: m.Text()}, a.Signer); err != nil {
			return fmt.Errorf("signing manifest: %w", err)
		}
	}
	if len(data) > MaxManifest {
		return fmt.Errorf("manifest %s would have %d bytes, more than %d; begin another one, and give the monitor both", a.Path, len(data), MaxManifest)
	}
	if _, err := Parse(m.Text()); err != nil {
		return fmt.Errorf("checking new manifest: %w", err)
	}
	if err := disk.Replace(a.Path, data); err != nil { // readable for all, if it is new: it is to be published
		return fmt.Errorf("writing manifest: %w", err)
	}
	return nil
}

// NewSigner returns what signs manifests with a key, and the verifier key that a monitor needs.
func NewSigner(name string, key crypto.Signer) (note.Signer, string, error) {
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, "", fmt.Errorf("it is a %T; manifests are signed with Ed25519", key.Public())
	}
	s, err := keys.NoteSigner(name, key)
	if err != nil {
		return nil, "", err
	}
	return s, keys.VKey(name, keys.AlgEd25519, public), nil
}

// SignerName returns the name that a key has in the signature of the manifest at path.
func SignerName(path string, key crypto.Signer) (string, error) {
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return "", fmt.Errorf("it is a %T; manifests are signed with Ed25519", key.Public())
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := readLimited(f, MaxManifest)
	if err != nil {
		return "", err
	}
	n, err := policy.ParseNote(data)
	if err != nil {
		return "", err
	}
	for _, s := range n.Signatures {
		if s.KeyID == keys.KeyID(s.Name, keys.AlgEd25519, public) {
			return s.Name, nil
		}
	}
	return "", errors.New("it has no signature of this key")
}
