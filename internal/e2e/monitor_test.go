package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// An event is a line of events.jsonl or the body of a webhook.
type event struct {
	ID, Rule, Severity, Identity, Origin, Summary, Evidence string
	Time                                                    time.Time
	Index, Size                                             int64
}

// events reads the events that a stack's monitor has written.
func events(t *testing.T, s *stack) []event {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(s.dir, "events.jsonl"))
	if os.IsNotExist(err) {
		return nil
	} else if err != nil {
		t.Fatal(err)
	}
	var out []event
	for line := range strings.Lines(string(data)) {
		if !strings.HasSuffix(line, "\n") {
			break // it is being written
		}
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		out = append(out, e)
	}
	return out
}

// awaitEvent waits for an event of a rule about a log.
func awaitEvent(t *testing.T, s *stack, rule, origin string) event {
	t.Helper()
	var found event
	eventually(t, rule+" event", func() bool {
		for _, e := range events(t, s) {
			if e.Rule == rule && e.Origin == origin {
				found = e
				return true
			}
		}
		return false
	})
	return found
}

// wantEvidence checks that an identity event's evidence is whole.
func wantEvidence(t *testing.T, e event) {
	t.Helper()
	for _, name := range []string{"entry", "certificate.pem", "checkpoint", "inclusion.tlog-proof", "evidence.json"} {
		if info, err := os.Stat(filepath.Join(e.Evidence, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: evidence %s: %v", e.Rule, name, err)
		}
	}
}

func TestAWatchedIdentityIsReported(t *testing.T) {
	work := t.TempDir()
	s := up(t, filepath.Join(work, "data"), "--watch", "alice@example.com")
	file := writeFile(t, work, "f", "x")
	must(t, work, "tallywood", "sign", file, "--yes", "--trust", s.client, "--identity-token", s.token(t, "bob@example.com"))
	must(t, work, "tallywood", "sign", file, "--yes", "--trust", s.client, "--identity-token", s.token(t, "alice@example.com"))
	for _, origin := range []string{"log.localhost", "ct.localhost"} {
		e := awaitEvent(t, s, "id.seen", origin)
		if e.Severity != "info" || e.Identity != "alice@example.com" || e.Index != 1 || e.Size < 2 || e.ID == "" {
			t.Errorf("got %+v", e)
		}
		wantEvidence(t, e)
	}
	for _, e := range events(t, s) {
		if e.Identity != "alice@example.com" || e.Severity != "info" {
			t.Errorf("an event nobody asked for: %+v", e)
		}
	}
	if out, code := command(t, work, "tallywood", "monitor", "check", "--config", filepath.Join(s.dir, "monitor.yaml")); code != 0 {
		t.Errorf("information alone is clean: exit code %d\n%s", code, out)
	}
}

// TestAnotherIssuerIsAnAlarm has the stack's own CA certify alice on the word of a second issuer,
// which alice's owner does not expect, and a stranger's CA certify her too.
func TestAnotherIssuerIsAnAlarm(t *testing.T) {
	hook := newHook(t)
	work := t.TempDir()
	data := filepath.Join(work, "data")
	s := up(t, data, "--watch", "alice@example.com")
	second := up(t, filepath.Join(work, "second"))
	s.stop(t)
	appendTo(t, data, "issuers.yaml", fmt.Sprintf("  %s:\n    issuer-url: %s\n    client-id: sigstore\n    type: email\n", second.issuer(), second.issuer()))
	appendTo(t, data, "monitor.yaml", fmt.Sprintf("  hook: {webhook: {url: %q}, min_severity: critical}\n", hook.url))
	s = readStack(t, start(t, 2, "tallywood", "up", "--data", data), data)
	file := writeFile(t, work, "f", "x")
	must(t, work, "tallywood", "sign", file, "--yes", "--trust", s.client, "--identity-token", second.token(t, "alice@example.com"))
	for _, origin := range []string{"log.localhost", "ct.localhost"} {
		e := awaitEvent(t, s, "id.unexpected-issuer", origin)
		if e.Severity != "critical" || e.Index != 0 || !strings.Contains(e.Summary, second.issuer()) {
			t.Errorf("got %+v", e)
		}
		wantEvidence(t, e)
		hook.await(t, e.ID)
	}
	// A certificate from nobody's CA: the signature log takes it, and the monitor knows better.
	addRequest(t, s.url, foreignEntry(t, s.issuer()))
	e := awaitEvent(t, s, "id.unknown-ca", "log.localhost")
	wantEvidence(t, e)
	hook.await(t, e.ID)
	// With a state of its own, a check reports all of it again, and says so by its exit code.
	fresh := strings.Replace(readFile(t, data, "monitor.yaml"), "state: ./monitor-state", "state: ./fresh-state", 1)
	out, code := command(t, work, "tallywood", "monitor", "check", "--config", writeFile(t, data, "fresh.yaml", fresh))
	if code != 3 || !strings.Contains(out, "critical: id.unexpected-issuer") {
		t.Errorf("exit code %d; want 3\n%s", code, out)
	}
}

func appendTo(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(readFile(t, dir, name)+text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// A hook is a webhook that remembers what it got.
type hook struct {
	url string
	mu  sync.Mutex
	got map[string]event
}

func newHook(t *testing.T) *hook {
	t.Helper()
	h := &hook{got: map[string]event{}}
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var e event
		if err == nil {
			err = json.Unmarshal(body, &e)
		}
		if err != nil || r.Header.Get("webhook-id") != e.ID {
			t.Errorf("webhook: %v, webhook-id %q, body %s", err, r.Header.Get("webhook-id"), body)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.got[e.ID] = e
	}))
	t.Cleanup(srv.Close)
	h.url = srv.URL
	return h
}

func (h *hook) await(t *testing.T, id string) {
	t.Helper()
	eventually(t, "webhook with event "+id, func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.got[id].Severity == "critical"
	})
}

// foreignEntry is a request to log a signature with a certificate for alice that a made-up CA
// issued, and that names the right issuer.
func foreignEntry(t *testing.T, issuer string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	value, err := asn1.MarshalWithParams(issuer, "utf8")
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(10 * time.Minute),
		EmailAddresses: []string{"alice@example.com"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}, Value: value}}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("malware"))
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf(`{"hashedRekordRequestV002":{"digest":%q,"signature":{"content":%q,"verifier":{"x509Certificate":{"rawBytes":%q},"keyDetails":"PKIX_ECDSA_P256_SHA_256"}}}}`,
		b64(digest[:]), b64(sig), b64(der))
}

// A mirror serves copies of a log's static files, which a test then spoils.
type mirror struct {
	dir    string // of the log's files
	config string
	state  string
}

// newMirror copies the signature log of a stopped stack and writes a monitor configuration for
// the copy, with a state and evidence of its own.
func newMirror(t *testing.T, s *stack) *mirror {
	t.Helper()
	dir := t.TempDir()
	m := &mirror{dir: filepath.Join(dir, "log"), config: filepath.Join(dir, "monitor.yaml"), state: filepath.Join(dir, "state")}
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m.copy(t, filepath.Join(s.dir, "objects", "logs", "signatures"))
	srv := httptest.NewServer(http.FileServer(http.Dir(m.dir)))
	t.Cleanup(srv.Close)
	policy := filepath.Join(s.client, "policy.txt")
	var vkey string
	for _, line := range strings.Split(readFile(t, s.client, "policy.txt"), "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "log" && strings.HasPrefix(f[1], "log.localhost+") {
			vkey = f[1]
		}
	}
	writeFile(t, dir, "monitor.yaml", fmt.Sprintf("state: ./state\nlogs:\n  - {origin: log.localhost, url: %q, vkey: %s, policy: %q}\nidentities:\n  - {name: carol, email: carol@example.com}\nnotify:\n  all: {jsonl: events.jsonl}\n", srv.URL, vkey, policy))
	return m
}

// copy puts the files of a log in place of those served.
func (m *mirror) copy(t *testing.T, from string) {
	t.Helper()
	if out, err := exec.Command("sh", "-c", `rm -rf "$2"/* && cp -a "$1"/. "$2"`, "sh", from, m.dir).CombinedOutput(); err != nil {
		t.Fatalf("copying: %v\n%s", err, out)
	}
}

// check runs `monitor check` and wants an exit code and, unless it is clean, evidence of a rule.
func (m *mirror) check(t *testing.T, what string, code int, rules ...string) {
	t.Helper()
	out, got := command(t, filepath.Dir(m.config), "tallywood", "monitor", "check", "--config", m.config)
	if got != code {
		t.Errorf("%s: exit code %d; want %d\n%s", what, got, code, out)
		return
	}
	for _, rule := range rules {
		if !strings.Contains(out, "critical: "+rule) {
			continue
		}
		for _, line := range strings.Split(out, "\n") {
			dir, ok := strings.CutPrefix(strings.TrimSpace(line), "evidence: ")
			if !ok {
				continue
			}
			files, err := os.ReadDir(dir)
			if err != nil || len(files) < 2 {
				t.Errorf("%s: evidence in %s: %v, %v", what, dir, files, err)
			}
			return
		}
	}
	if len(rules) > 0 {
		t.Errorf("%s: none of %v with evidence in\n%s", what, rules, out)
	}
}

func TestATamperedLogIsFoundOut(t *testing.T) {
	work := t.TempDir()
	data := filepath.Join(work, "data")
	s := up(t, data)
	file := writeFile(t, work, "f", "x")
	sign := func(email string) {
		must(t, work, "tallywood", "sign", file, "--yes", "--trust", s.client, "--identity-token", s.token(t, email))
	}
	objects := filepath.Join(data, "objects", "logs", "signatures")
	sign("bob@example.com")
	sign("carol@example.com")
	awaitSize(t, s.url, 2)
	early := filepath.Join(work, "early")
	if err := exec.Command("cp", "-a", objects, early).Run(); err != nil {
		t.Fatal(err)
	}
	sign("dave@example.com")
	eventually(t, "checkpoint of three", func() bool { return strings.Contains(readFile(t, objects, "checkpoint"), "log.localhost\n3\n") })
	s.stop(t)

	newMirror(t, s).check(t, "an honest log", 0)
	for index, who := range []string{"bob, who is nobody's concern", "carol, who is watched"} {
		m := newMirror(t, s)
		spoilBundle(t, filepath.Join(m.dir, "tile", "entries", "000.p", "3"), index)
		m.check(t, "a tampered entry of "+who, 4, "log.bundle-mismatch")
	}
	m := newMirror(t, s)
	m.check(t, "before the rollback", 0)
	m.copy(t, early)
	m.check(t, "a rolled-back checkpoint", 4, "log.rollback")
	m.copy(t, objects)
	m.check(t, "after the log came back", 0)
	fork(t, s, m)
	lost := newMirror(t, s)
	if err := os.Remove(filepath.Join(lost.dir, "checkpoint")); err != nil {
		t.Fatal(err)
	}
	lost.check(t, "a log that does not answer", 5)
	if out, code := command(t, work, "tallywood", "monitor", "check", "--config", writeFile(t, work, "bad.yaml", "stat: x\n")); code != 2 {
		t.Errorf("a misspelt configuration: exit code %d\n%s", code, out)
	}
}

// spoilBundle changes a letter of the digest in entry n of a bundle: the entry stays well formed.
func spoilBundle(t *testing.T, path string, n int) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const before = `"digest":"`
	i := 0
	for range n + 1 {
		i += strings.Index(string(data[i:]), before) + len(before)
	}
	b := data
	if b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// fork lets the same keys grow another log from the same start, and shows it to a monitor that
// has seen the first.
func fork(t *testing.T, s *stack, m *mirror) {
	t.Helper()
	work := t.TempDir()
	other := filepath.Join(work, "data")
	if err := exec.Command("cp", "-a", s.dir, other).Run(); err != nil {
		t.Fatal(err)
	}
	// The copy's log and witnesses forget everything: this is what a dishonest operator who
	// also runs the witnesses can do.
	for _, name := range []string{"objects", "monitor-state"} {
		if err := os.RemoveAll(filepath.Join(other, name)); err != nil {
			t.Fatal(err)
		}
	}
	f := readStack(t, start(t, 2, "tallywood", "up", "--data", other), other)
	file := writeFile(t, work, "f", "other")
	for range 3 {
		must(t, work, "tallywood", "sign", file, "--yes", "--trust", f.client, "--identity-token", f.token(t, "mallory@example.com"))
	}
	objects := filepath.Join(other, "objects", "logs", "signatures")
	eventually(t, "checkpoint of three", func() bool { return strings.Contains(readFile(t, objects, "checkpoint"), "log.localhost\n3\n") })
	m.copy(t, objects)
	m.check(t, "a fork of the same size", 4, "log.split-view")
	must(t, work, "tallywood", "sign", file, "--yes", "--trust", f.client, "--identity-token", f.token(t, "mallory@example.com"))
	eventually(t, "checkpoint of four", func() bool { return strings.Contains(readFile(t, objects, "checkpoint"), "log.localhost\n4\n") })
	m.copy(t, objects)
	m.check(t, "a larger fork", 4, "log.split-view", "log.inconsistent")
}
