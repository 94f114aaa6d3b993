package ca

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"tallywood/ca/oidc"
)

// An Issuance is what a CA records of a certificate before it signs anything for it. Its JSON is a
// line of the record.
type Issuance struct {
	Time     time.Time `json:"time"` // when it begins to be valid, UTC
	NotAfter time.Time `json:"not_after"`
	Serial   string    `json:"serial"` // hex
	// Certificate is "sha256:" and the hash, in hex, of the to-be-signed bytes without SCTs: those that
	// certificate, precertificate and certificate log have in common.
	Certificate string `json:"certificate"`
	Subject     string `json:"subject"` // subject alternative name
	Issuer      string `json:"issuer"`  // OpenID Connect issuer that vouched for it
}

// A Recorder keeps a record of what a CA issues. Record returns once the issuance is durable; after
// an error nothing is issued. A record of a certificate that was not issued after all, because a later
// step failed, is harmless. It is called concurrently.
type Recorder interface {
	Record(ctx context.Context, i Issuance) error
}

// An AuditFile is a Recorder that appends lines of JSON to a file. The file is opened for each of
// them, so that it may be moved away at any time.
type AuditFile struct {
	path string
	mu   sync.Mutex
}

var _ Recorder = (*AuditFile)(nil)

// NewAuditFile checks that lines can be appended to the file at path, if it exists, or that its
// directory does. It makes nothing.
func NewAuditFile(path string) (*AuditFile, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if errors.Is(err, os.ErrNotExist) {
		var dir os.FileInfo
		if dir, err = os.Stat(filepath.Dir(path)); err == nil && !dir.IsDir() {
			err = fmt.Errorf("%s is not a directory", filepath.Dir(path))
		}
	} else if err == nil {
		err = errors.Join(regular(f), f.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("opening record of certificates: %w", err)
	}
	return &AuditFile{path: path}, nil
}

func regular(f *os.File) error {
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", f.Name())
	}
	return err
}

// Record implements Recorder.
func (a *AuditFile) Record(_ context.Context, i Issuance) error {
	line, err := json.Marshal(i)
	if err != nil {
		return fmt.Errorf("encoding record of certificate: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.append(append(line, '\n')); err != nil {
		return fmt.Errorf("recording certificate: %w", err)
	}
	return nil
}

// append writes a line. What a process left that died in the middle of one is ended before it.
func (a *AuditFile) append(line []byte) error {
	f, err := os.OpenFile(a.path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if size := info.Size(); size > 0 {
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, size-1); err != nil {
			return errors.Join(err, f.Close())
		}
		if last[0] != '\n' {
			line = append([]byte{'\n'}, line...)
		}
	}
	_, err = f.Write(line)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil || info.Size() > 0 {
		return err
	}
	dir, err := os.Open(filepath.Dir(a.path)) // it may be new there
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// record has the issuance of p recorded, before it exists.
func (c *CA) record(ctx context.Context, p *profile, id oidc.Identity) error {
	if c.recorder == nil {
		return nil
	}
	sum := sha256.Sum256(p.tbs(extension{}))
	return c.recorder.Record(ctx, Issuance{Time: p.notBefore.UTC(), NotAfter: p.notAfter.UTC(), Serial: hex.EncodeToString(p.serial),
		Certificate: "sha256:" + hex.EncodeToString(sum[:]), Subject: id.SAN.Value, Issuer: id.Issuer})
}
