package e2e_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	fnote "github.com/transparency-dev/formats/note"

	"tallywood/internal/keys"
	"tallywood/internal/loopback"
	"tallywood/witness/policy"
)

// The witness of another author that the tests install and use unmodified.
const (
	omniwitnessPackage = "github.com/transparency-dev/witness/cmd/omniwitness"
	omniwitnessVersion = "v0.0.0-20260720115447-2e1c6971d19e"
)

// TestAnotherAuthorsWitnessCosignsOurLog runs a log whose policy demands both cosignatures of an
// omniwitness, with a proxy between them that remembers what the witness answered.
func TestAnotherAuthorsWitnessCosignsOurLog(t *testing.T) {
	dir := t.TempDir()
	const origin = "log.example.org"
	vkey := generateKey(t, dir, "log.pem", origin)
	w := omniwitness(t, filepath.Join(dir, "omni"), origin, vkey)
	text := fmt.Sprintf("log %s\nwitness omni-ed25519 %s %s\nwitness omni-mldsa %s %s\ngroup both all omni-ed25519 omni-mldsa\nquorum both\n",
		vkey, w.ed25519, w.proxy, w.mldsa, w.proxy)
	p, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir, "policy.txt", text)
	config := writeFile(t, dir, "config.yaml", "address: 127.0.0.1:0\nstorage: file:./objects\nlogs:\n"+
		"  - {name: signatures, kind: rekor, origin: "+origin+", key: file:log.pem, policy: policy.txt}\n")

	began := time.Now()
	log := serveLog(t, config)
	// The first checkpoint is of the empty tree; the witness has never seen the log. It is asked
	// twice more whether it has, before and after the process makes itself the leader.
	w.wantAnswers(t, began, "old 0: 200", "old 0: 200", "old 0: 200")
	older := ""
	for size := int64(1); size <= 3; size++ {
		began = time.Now()
		wantCosigned(t, p, addEntry(t, log.url), size)
		if size == 2 {
			eventually(t, "checkpoint of size 2", func() bool {
				older = get(t, log.url+"/checkpoint", 200)
				return strings.HasPrefix(older, origin+"\n2\n")
			})
		}
		w.wantAnswers(t, began, fmt.Sprintf("old %d: 200", size-1))
	}
	log.stop(t) // which publishes what its receipts were given under

	// The witness may have cosigned more than the log came to publish before it died. Asked about the
	// older checkpoint it tells its size, and the log goes on from there.
	writeFile(t, filepath.Join(dir, "objects", "logs", "signatures"), "checkpoint", older)
	began = time.Now()
	log = serveLog(t, config)
	behind := `old 2: 409 text/x.tlog.size "3\n"`
	// The checkpoint that is stored is one to serve already; the newer one follows.
	w.wantAnswers(t, began, behind, behind, "old 3: 200")
	began = time.Now()
	wantCosigned(t, p, addEntry(t, log.url), 4)
	w.wantAnswers(t, began, "old 3: 200")
	// Many batches, over several entry bundles and tiles; the load generator verifies each receipt.
	must(t, dir, "tallywood", "bench", "log", log.url, "--concurrency", "16", "--count", "600", "--duration", patience.String())
	loaded, err := p.Open([]byte(addEntry(t, log.url)))
	if err != nil || loaded.Size() < 605 {
		t.Errorf("after the load: %v, checkpoint of size %d", err, loaded.Size())
	}
	answers := w.answers()
	t.Logf("%d entries under load took %d cosigned checkpoints", loaded.Size()-5, len(answers))
	wantNoFault(t, answers)
	// What a reader is served, after all that, satisfies the policy too.
	log.stop(t)
	log = serveLog(t, config)
	wantCosigned(t, p, get(t, log.url+"/checkpoint", 200), loaded.Size())
}

// TestALogWithoutItsOnlyWitnessPublishesNothing stops the other author's witness and starts it
// again, with the log running.
func TestALogWithoutItsOnlyWitnessPublishesNothing(t *testing.T) {
	dir := t.TempDir()
	const origin = "log.example.org"
	vkey := generateKey(t, dir, "log.pem", origin)
	w := omniwitness(t, filepath.Join(dir, "omni"), origin, vkey)
	writeFile(t, dir, "policy.txt", fmt.Sprintf("log %s\nwitness omni %s %s\ngroup omnis 1 omni\nquorum omnis\n", vkey, w.ed25519, w.proxy))
	log := serveLog(t, writeFile(t, dir, "config.yaml", "address: 127.0.0.1:0\nstorage: file:./objects\nlogs:\n"+
		"  - {name: signatures, kind: rekor, origin: "+origin+", key: file:log.pem, policy: policy.txt}\n"))
	addEntry(t, log.url)
	awaitSize(t, log.url, 1)
	w.kill()
	status, header, body := postEntry(t, log.url)
	if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
		t.Errorf("without the witness: status %d, Retry-After %q\n%s", status, header.Get("Retry-After"), body)
	}
	if tree := get(t, log.url+"/checkpoint", 200); !strings.HasPrefix(tree, origin+"\n1\n") {
		t.Errorf("without the witness something was published:\n%s", tree)
	}
	w.start(t)
	eventually(t, "publication of what waited", func() bool {
		return strings.HasPrefix(get(t, log.url+"/checkpoint", 200), origin+"\n2\n")
	})
	addEntry(t, log.url)
}

// generateKey makes a log's key as an operator does and returns its vkey.
func generateKey(t *testing.T, dir, name, origin string) string {
	t.Helper()
	out := must(t, dir, "tallywood", "key", "generate", name, "--origin", origin)
	for line := range strings.Lines(out) {
		if vkey, ok := strings.CutPrefix(line, "vkey "); ok {
			return strings.TrimSpace(vkey)
		}
	}
	t.Fatalf("no vkey in:\n%s", out)
	return ""
}

// A served log is a running `tallywood serve` with nothing but logs.
type servedLog struct {
	*process
	url string
}

func serveLog(t *testing.T, config string) servedLog {
	t.Helper()
	p := start(t, 0, "tallywood", "serve", "--config", config)
	return servedLog{p, strings.TrimPrefix(p.lines[0], "ready ")}
}

// newEntry is a request to add a hashedrekord entry that nobody has added before.
func newEntry(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(spki)
	sig, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf(`{"hashedRekordRequestV002":{"digest":%q,"signature":{"content":%q,"verifier":{"publicKey":{"rawBytes":%q},"keyDetails":"PKIX_ECDSA_P256_SHA_256"}}}}`,
		b64(digest[:]), b64(sig), b64(spki))
}

// postRequest posts a request and returns the answer.
func postRequest(t *testing.T, base, request string) (status int, header http.Header, body string) {
	t.Helper()
	resp, err := http.Post(base+entriesPath, "application/json", strings.NewReader(request))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(reply)
}

// postEntry posts a new entry.
func postEntry(t *testing.T, base string) (status int, header http.Header, body string) {
	t.Helper()
	return postRequest(t, base, newEntry(t))
}

// addRequest posts a request, by insist, and wants it logged.
func addRequest(t *testing.T, base, request string) (header http.Header, body string) {
	t.Helper()
	if err := insist(func() error {
		var status int
		if status, header, body = postRequest(t, base, request); status != http.StatusCreated {
			return &statusError{status, header.Get("Retry-After"), body}
		}
		return nil
	}); err != nil {
		t.Fatalf("adding an entry: %v", err)
	}
	return header, body
}

// addEntry adds a new entry and returns the checkpoint of its receipt.
func addEntry(t *testing.T, base string) string {
	t.Helper()
	_, body := addRequest(t, base, newEntry(t))
	var entry struct {
		InclusionProof struct{ Checkpoint struct{ Envelope string } }
	}
	if err := json.Unmarshal([]byte(body), &entry); err != nil {
		t.Fatalf("adding an entry: %v\n%s", err, body)
	}
	return entry.InclusionProof.Checkpoint.Envelope
}

// wantCosigned checks that note is a checkpoint of size that satisfies p, with the log's
// signature first and one cosignature of each witness key.
func wantCosigned(t *testing.T, p *policy.Policy, note string, size int64) {
	t.Helper()
	c, err := p.Open([]byte(note))
	if err != nil {
		t.Fatalf("checkpoint: %v\n%s", err, note)
	}
	if c.Size() != size || len(c.Cosignatures()) != len(p.Witnesses()) {
		t.Errorf("checkpoint of size %d with %d cosignatures; want size %d with %d\n%s", c.Size(), len(c.Cosignatures()), size, len(p.Witnesses()), note)
	}
	_, signatures, _ := strings.Cut(note, "\n\n")
	if !strings.HasPrefix(signatures, "— "+p.Logs()[0].Key.Name()+" ") {
		t.Errorf("the log's signature is not the first:\n%s", note)
	}
}

// An otherWitness is a running omniwitness with an Ed25519 and an ML-DSA-44 key.
type otherWitness struct {
	ed25519, mldsa string // vkeys of its cosignatures
	proxy          string // submission prefix: a proxy that remembers the answers
	address        string
	args           []string
	cmd            *exec.Cmd
	late           bool // it may have been asked again

	mu   sync.Mutex
	seen []string
}

// omniwitness starts an omniwitness in dir that knows the log of vkey.
func omniwitness(t *testing.T, dir, origin, vkey string) *otherWitness {
	t.Helper()
	install(t, omniwitnessPackage, omniwitnessVersion)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	const name = "omni.example.org"
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// It takes a key of type 0x01 and cosigns with type 0x04.
	skey := fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", name, keys.KeyID(name, keys.AlgEd25519, public),
		base64.StdEncoding.EncodeToString(append([]byte{keys.AlgEd25519}, private.Seed()...)))
	mldsaSkey, mldsaVKey, err := fnote.GenerateMLDSAKey(name)
	if err != nil {
		t.Fatal(err)
	}
	w := &otherWitness{ed25519: keys.VKey(name, keys.AlgCosignatureV1, public), mldsa: mldsaVKey, address: loopback.Address(t)}
	w.args = []string{"--listen", w.address, "--metrics_listen", "", "--db_file", filepath.Join(dir, "omni.db"),
		"--private_key_path", writeFile(t, dir, "ed25519.skey", skey), "--private_key_path", writeFile(t, dir, "mldsa.skey", mldsaSkey),
		"--additional_logs", writeFile(t, dir, "logs.yaml", fmt.Sprintf(
			"Logs:\n  - Origin: %s\n    URL: https://%s/\n    PublicKey: %s\n    Feeder: none\n", origin, origin, vkey))}
	w.start(t)
	t.Cleanup(w.kill)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: w.address})
	proxy.ModifyResponse = w.remember
	proxy.ErrorHandler = func(rw http.ResponseWriter, _ *http.Request, _ error) { rw.WriteHeader(http.StatusBadGateway) }
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			rw.WriteHeader(http.StatusBadRequest)
			return
		}
		first, _, _ := bytes.Cut(body, []byte("\n"))
		r.Header.Set("X-First-Line", string(first))
		r.Body = io.NopCloser(bytes.NewReader(body))
		// The answer is remembered although it comes too late for the log, which has left.
		proxy.ServeHTTP(rw, r.WithContext(context.WithoutCancel(r.Context())))
	}))
	t.Cleanup(server.Close)
	w.proxy = server.URL
	return w
}

// start starts the witness and waits until it listens. Its way to the public logs that it knows
// of is a closed port: it is to ask nobody.
func (w *otherWitness) start(t *testing.T) {
	t.Helper()
	w.cmd = exec.Command(filepath.Join(bin, "omniwitness"), w.args...)
	w.cmd.Env = cleanEnv(t, "HTTP_PROXY=http://127.0.0.1:9", "HTTPS_PROXY=http://127.0.0.1:9")
	out := &lockedBuffer{}
	w.cmd.Stdout, w.cmd.Stderr = out, out
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the witness wrote:\n%s", out)
		}
	})
	eventually(t, "listening witness", func() bool {
		conn, err := net.Dial("tcp", w.address)
		return err == nil && conn.Close() == nil
	})
}

// kill ends the witness; it knows no gentler way.
func (w *otherWitness) kill() {
	// It may have been killed before.
	_ = w.cmd.Process.Kill()
	_ = w.cmd.Wait()
}

// remember notes an answer to add-checkpoint: the request's first line, the status, and if it is
// a conflict the type and the body.
func (w *otherWitness) remember(r *http.Response) error {
	if r.Request.Method != http.MethodPost {
		return nil
	}
	line := fmt.Sprintf("%s: %d", r.Request.Header.Get("X-First-Line"), r.StatusCode)
	if r.StatusCode != http.StatusOK {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		line += fmt.Sprintf(" %s %q", r.Header.Get("Content-Type"), body)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, line)
	return nil
}

// answers returns what was remembered since the last call.
func (w *otherWitness) answers() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.seen
	w.seen = nil
	return seen
}

// wantAnswers waits until the witness has given these answers, in this order, since they were last
// looked at. There are no others unless it may have been taken for late since began, and was asked again.
func (w *otherWitness) wantAnswers(t *testing.T, began time.Time, want ...string) {
	t.Helper()
	asked := false // again, for an answer that did not come
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		w.mu.Lock()
		seen := slices.Clone(w.seen)
		w.mu.Unlock()
		var given bool
		if given, asked = answered(seen, want); given {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the witness answered %q in %v; want %q", seen, patience, want)
		}
	}
	got := w.answers()
	took := time.Since(began)
	if !slices.Equal(got, want) && took < 250*time.Millisecond && !w.late && !asked {
		t.Errorf("the witness answered %q; want %q", got, want)
	}
	w.late = w.late || asked || len(got) > len(want) || took > time.Second // more such answers may be under way
	wantNoFault(t, got)
}

// answered reports whether the answers seen have those that are wanted, in this order. "old 1: 200" may be
// given in two steps, too: the witness has cosigned size 2, but its answer said that it was busy, or was lost;
// asked again it names its size, and cosigns that once more.
func answered(seen, want []string) (given, inTwoSteps bool) {
	second := ""
	for _, answer := range seen {
		if len(want) == 0 {
			break
		}
		old, cosigned := strings.CutSuffix(want[0], ": 200")
		switch size, conflict := strings.CutPrefix(answer, old+`: 409 text/x.tlog.size "`); {
		case answer == want[0], answer == second:
			inTwoSteps = inTwoSteps || answer == second
			want, second = want[1:], ""
		case cosigned && conflict:
			second = "old " + strings.TrimSuffix(size, `\n"`) + ": 200"
		}
	}
	return len(want) == 0, inTwoSteps
}

// TestAnswered has answers of a witness that was busy, or behind, or has not answered yet.
func TestAnswered(t *testing.T) {
	busy, behind := `old 1: 429 text/plain "busy"`, `old 1: 409 text/x.tlog.size "2\n"`
	for _, c := range []struct {
		seen, want        []string
		given, inTwoSteps bool
	}{
		{[]string{"old 1: 200"}, []string{"old 1: 200"}, true, false},
		{[]string{busy, "old 1: 200"}, []string{"old 1: 200"}, true, false},
		{[]string{busy, behind, "old 2: 200"}, []string{"old 1: 200"}, true, true},
		{[]string{behind, "old 2: 200"}, []string{behind, "old 2: 200"}, true, false},
		{[]string{busy, behind}, []string{"old 1: 200"}, false, false},
		{[]string{"old 2: 200", busy}, []string{"old 1: 200"}, false, false},
		{[]string{behind, "old 3: 200"}, []string{"old 1: 200"}, false, false},
		{[]string{"old 1: 200"}, []string{"old 1: 200", "old 1: 200"}, false, false},
		{nil, []string{"old 1: 200"}, false, false},
	} {
		if given, inTwoSteps := answered(c.seen, c.want); given != c.given || inTwoSteps != c.inTwoSteps {
			t.Errorf("%q for %q: %v, in two steps %v", c.seen, c.want, given, inTwoSteps)
		}
	}
}

// wantNoFault wants answers of a witness that is asked what is right. One that was asked again because it
// was late has the answer already, and says so; or it is at it still, and wants to be asked later.
func wantNoFault(t *testing.T, answers []string) {
	t.Helper()
	for _, answer := range answers {
		if !strings.HasSuffix(answer, ": 200") && !strings.Contains(answer, ": 409 text/x.tlog.size ") && !strings.Contains(answer, ": 429 ") {
			t.Errorf("the witness answered %q", answer)
		}
	}
}
