package ca_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tallywood/ca"
	"tallywood/log/ctentry"
)

// newAudited returns a CA with a log and a record.
func newAudited(t *testing.T, r ca.Recorder) (*ca.CA, *memoryLog) {
	t.Helper()
	chain, signer, err := ca.CreateChain(ca.ChainOptions{Organization: "Example", Now: testNow.Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	log := newMemoryLog(t)
	c, err := ca.New(ca.Options{Chain: chain, Signer: signer, CTLog: log, Now: fixedNow, Recorder: r})
	if err != nil {
		t.Fatal(err)
	}
	return c, log
}

func auditFile(t *testing.T, path string) *ca.AuditFile {
	t.Helper()
	f, err := ca.NewAuditFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// issuances reads a record.
func issuances(t *testing.T, path string) []ca.Issuance {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []ca.Issuance
	for _, line := range strings.SplitAfter(string(data), "\n") {
		if line == "" {
			continue
		}
		var i ca.Issuance
		dec := json.NewDecoder(strings.NewReader(line))
		if dec.DisallowUnknownFields(); !strings.HasSuffix(line, "\n") || dec.Decode(&i) != nil {
			t.Fatalf("record has line %q", line)
		}
		out = append(out, i)
	}
	return out
}

// TestWhatIsIssuedIsRecorded: under the hash by which the certificate log has it.
func TestWhatIsIssuedIsRecorded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "issued.jsonl")
	c, log := newAudited(t, auditFile(t, path))
	var wg sync.WaitGroup
	certificates := make([]ca.Certificate, 8)
	for i := range certificates {
		wg.Go(func() {
			var err error
			if certificates[i], err = c.Issue(t.Context(), p256(t).Public(), alice); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	recorded := map[string]ca.Issuance{}
	for _, i := range issuances(t, path) {
		recorded[i.Certificate] = i
	}
	if len(recorded) != len(certificates) || len(log.entries) != len(certificates) {
		t.Fatalf("%d records, %d entries", len(recorded), len(log.entries))
	}
	for _, e := range log.entries {
		if _, ok := recorded[fmt.Sprintf("sha256:%x", sha256.Sum256(e.Certificate))]; !ok {
			t.Error("the log has a certificate that is not in the record")
		}
	}
	for _, issued := range certificates {
		tbs, err := ctentry.PrecertTBS(issued.DER)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(issued.DER)
		if err != nil {
			t.Fatal(err)
		}
		i := recorded[fmt.Sprintf("sha256:%x", sha256.Sum256(tbs))]
		if i.Serial != fmt.Sprintf("%x", cert.SerialNumber) || !i.Time.Equal(cert.NotBefore) || !i.NotAfter.Equal(cert.NotAfter) ||
			i.Subject != alice.SAN.Value || i.Issuer != alice.Issuer {
			t.Errorf("record %+v", i)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("record has mode %v, %v", info.Mode(), err)
	}
}

// failingRecorder is a disk that is full.
type failingRecorder struct{}

func (failingRecorder) Record(context.Context, ca.Issuance) error { return errors.New("disk full") }

func TestNothingIsIssuedWithoutARecord(t *testing.T) {
	c, log := newAudited(t, failingRecorder{})
	if _, err := c.Issue(t.Context(), p256(t).Public(), alice); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("error %v", err)
	}
	if len(log.entries) != 0 {
		t.Error("a precertificate was logged")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "sub", "issued.jsonl")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	c, log = newAudited(t, auditFile(t, path))
	if err := os.Remove(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Issue(t.Context(), p256(t).Public(), alice); err == nil || len(log.entries) != 0 {
		t.Errorf("error %v, %d entries", err, len(log.entries))
	}
	for _, bad := range []string{path, dir} {
		if _, err := ca.NewAuditFile(bad); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}

// TestRecordAfterAWriteThatWasCutOff: the next line is one of its own. And the file may be moved away.
func TestRecordAfterAWriteThatWasCutOff(t *testing.T) {
	path := filepath.Join(t.TempDir(), "issued.jsonl")
	cut := []byte(`{"time":"2026-`)
	if err := os.WriteFile(path, cut, 0o600); err != nil {
		t.Fatal(err)
	}
	c, _ := newAudited(t, auditFile(t, path))
	for range 2 {
		if _, err := c.Issue(t.Context(), p256(t).Public(), alice); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil || !bytes.HasPrefix(data, append(cut, "\n{"...)) || bytes.Count(data, []byte("\n")) != 3 {
		t.Errorf("record %q, %v", data, err)
	}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Issue(t.Context(), p256(t).Public(), alice); err != nil {
		t.Fatal(err)
	}
	if got := issuances(t, path); len(got) != 1 {
		t.Errorf("record %+v", got)
	}
}
