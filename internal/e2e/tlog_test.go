package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"

	"tallywood/log/verify"
	"tallywood/witness/policy"
)

const (
	genericOrigin = "releases.example.org"
	genericToken  = "s3cret-token"
)

// A genericLog is a log of kind tlog that two processes on one directory serve. Two of three
// witnesses must cosign.
type genericLog struct {
	dir       string
	a, b      servedLog
	text      string // of the policy
	policy    *policy.Policy
	witnesses []*witnessProcess
}

func newGenericLog(t *testing.T) *genericLog {
	t.Helper()
	g := &genericLog{dir: t.TempDir()}
	vkey := generateKey(t, g.dir, "releases.pem", genericOrigin)
	g.text, g.witnesses = twoOfThreeWitnesses(t, g.dir, vkey)
	var err error
	if g.policy, err = policy.Parse([]byte(g.text)); err != nil {
		t.Fatal(err)
	}
	writeFile(t, g.dir, "policy.txt", g.text)
	if err := os.WriteFile(filepath.Join(g.dir, "add.token"), []byte(genericToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const config = "address: 127.0.0.1:0\nstorage: file:./objects\nlogs:\n" +
		"  - {name: releases, kind: tlog, origin: " + genericOrigin + ", key: file:releases.pem, policy: policy.txt, add_token: file:add.token}\n"
	g.a = serveLog(t, writeFile(t, g.dir, "a.yaml", config))
	g.b = serveLog(t, writeFile(t, g.dir, "b.yaml", config))
	return g
}

// post adds an entry at url, with the token if that is not empty, and with host if that is not.
func post(url, token, host, entry string) (status int, header http.Header, body string, err error) {
	r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(entry))
	if err != nil {
		return 0, nil, "", err
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if host != "" {
		r.Host = host
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, nil, "", err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	return res.StatusCode, res.Header, string(data), err
}

// insistOnPosting is post, by insist, that must be answered 201.
func insistOnPosting(url, token, entry string) (body string, err error) {
	err = insist(func() error {
		var status int
		var header http.Header
		if status, header, body, err = post(url, token, "", entry); err == nil && status != http.StatusCreated {
			err = &statusError{status, header.Get("Retry-After"), body}
		}
		return err
	})
	return body, err
}

// add adds an entry at a replica, by its path, and verifies what comes back.
func (g *genericLog) add(at servedLog, entry string) (proof string, index int64, err error) {
	body, err := insistOnPosting(at.url+"/logs/releases/add", genericToken, entry)
	if err != nil {
		return "", 0, fmt.Errorf("adding %q: %w", entry, err)
	}
	in, err := verify.Proof([]byte(body), strings.NewReader(entry), g.policy)
	if err != nil {
		return "", 0, fmt.Errorf("%w in\n%s", err, body)
	}
	return body, in.Index, nil
}

// mustAdd is add that must give index.
func (g *genericLog) mustAdd(t *testing.T, at servedLog, entry string, index int64) string {
	t.Helper()
	proof, got, err := g.add(at, entry)
	if err != nil {
		t.Fatal(err)
	}
	if got != index {
		t.Errorf("%q has index %d; want %d", entry, got, index)
	}
	return proof
}

// TestGenericLog is the life of a log of anything: two replicas, of which one passes on what it is
// sent; duplicates; the loss of a replica and of the quorum; a monitor; and verifying when nothing
// runs any more.
func TestGenericLog(t *testing.T) {
	g := newGenericLog(t)
	const entry = "5891b5b5  hello.txt\n"
	proof := g.mustAdd(t, g.a, entry, 0)
	g.mustAdd(t, g.b, entry, 0)
	for _, at := range []servedLog{g.a, g.b} {
		if status, header, body, err := post(at.url+"/add", genericToken, genericOrigin+":443", entry); err != nil || status != 201 ||
			header.Get("X-Log-Index") != "0" || header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("by its host: %d %v %s, %v", status, header, body, err)
		}
		for _, token := range []string{"", "another"} {
			if status, header, body, err := post(at.url+"/logs/releases/add", token, "", "secret"); err != nil || status != 401 || header.Get("WWW-Authenticate") == "" {
				t.Errorf("with the token %q: %d %v %s, %v", token, status, header, body, err)
			}
		}
		if status, _, body, err := post(at.url+"/add", genericToken, "", entry); err != nil || status != 404 {
			t.Errorf("it is served where signature logs are: %d %s, %v", status, body, err)
		}
		eventually(t, "entry on the page", func() bool {
			page := get(t, at.url+"/", 200)
			return strings.Contains(page, "records what is sent to it") && strings.Contains(page, fmt.Sprint(len(entry), " bytes, SHA-256 "))
		})
		awaitReady(t, at.url)
	}
	g.duplicates(t)
	theirs, err := torchwood.ParsePolicy([]byte(g.text))
	if err != nil {
		t.Fatal(err)
	}
	if err := torchwood.VerifyProof(theirs, tlog.RecordHash([]byte(entry)), []byte(proof)); err != nil {
		t.Errorf("torchwood: %v in\n%s", err, proof)
	}
	g.watch(t)
	g.lose(t)

	// Nothing runs any more, and a proof is as good.
	g.b.stop(t)
	for _, w := range g.witnesses {
		w.stop(t)
	}
	writeFile(t, g.dir, "SUMS", entry)
	writeFile(t, g.dir, "SUMS.tlog-proof", proof)
	if out := must(t, g.dir, "tallywood", "verify", "SUMS", "--proof", "SUMS.tlog-proof", "--policy", "policy.txt"); !strings.Contains(out, "verified: entry 0 of "+genericOrigin) || !strings.Contains(out, "cosigned by w") {
		t.Errorf("it printed %q", out)
	}
	writeFile(t, g.dir, "SUMS", entry+" ")
	if out, code := command(t, g.dir, "tallywood", "verify", "SUMS", "--proof", "SUMS.tlog-proof", "--policy", "policy.txt"); code != 1 || !strings.Contains(out, "inclusion proof") {
		t.Errorf("another file: exit code %d, %q", code, out)
	}
}

// duplicates adds the same entry 64 times at once, at both replicas.
func (g *genericLog) duplicates(t *testing.T) {
	t.Helper()
	const times = 64
	var indexes [times]int64
	var wg sync.WaitGroup
	for i := range times {
		at := g.a
		if i%2 == 1 {
			at = g.b
		}
		wg.Go(func() {
			var err error
			if _, indexes[i], err = g.add(at, "the same"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, index := range indexes {
		if index != 1 {
			t.Errorf("answer %d has index %d", i, index)
		}
	}
}

// watch has a monitor verify the log.
func (g *genericLog) watch(t *testing.T) {
	t.Helper()
	eventually(t, "published checkpoint of size 2", func() bool {
		return strings.HasPrefix(get(t, g.a.url+"/logs/releases/checkpoint", 200), genericOrigin+"\n2\n")
	})
	vkey := g.policy.Logs()[0].Key.String()
	config := writeFile(t, g.dir, "monitor.yaml", "state: ./monitor\nlogs:\n"+
		"  - {origin: "+genericOrigin+", kind: tlog, url: "+g.a.url+"/logs/releases, vkey: "+vkey+", policy: policy.txt}\n"+
		"identities: []\nnotify:\n  all: {jsonl: events.jsonl}\n")
	if out := must(t, g.dir, "tallywood", "monitor", "check", "--config", config); !strings.Contains(out, genericOrigin+": 2 of 2 entries verified") {
		t.Errorf("the monitor printed:\n%s", out)
	}
}

// lose kills a replica, then stops two witnesses.
func (g *genericLog) lose(t *testing.T) {
	t.Helper()
	g.a.kill()
	eventually(t, "replica that goes on alone", func() bool {
		_, index, err := g.add(g.b, "after the loss")
		return err == nil && index == 2
	})
	g.mustAdd(t, g.b, "the same", 1)
	awaitSize(t, g.b.url+"/logs/releases", 3)
	g.witnesses[0].stop(t)
	g.witnesses[1].stop(t)
	status, header, body, err := post(g.b.url+"/logs/releases/add", genericToken, "", "without a quorum")
	if err != nil || status != 503 || header.Get("Retry-After") == "" || !strings.Contains(body, "the entry is logged, but too few witnesses") {
		t.Errorf("without a quorum: %d %v %s, %v", status, header, body, err)
	}
	if c := get(t, g.b.url+"/logs/releases/checkpoint", 200); !strings.HasPrefix(c, genericOrigin+"\n3\n") {
		t.Errorf("published without a quorum:\n%s", c)
	}
	g.witnesses[1].start(t)
	eventually(t, "proof once the quorum is back", func() bool {
		_, index, err := g.add(g.b, "without a quorum")
		return err == nil && index == 3
	})
}
