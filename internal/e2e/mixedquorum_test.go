package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tallywood/internal/loopback"
	"tallywood/witness/policy"
)

// A mixedLog is a log of anything that is cosigned by three implementations of witnesses with keys of two
// types: omniwitness and ours with both, litewitness with Ed25519.
type mixedLog struct {
	servedLog
	dir       string
	witnesses string // their lines of the policy, and the log's
	text      string // of its policy: all must cosign with Ed25519, omniwitness with ML-DSA-44
	policy    *policy.Policy
	ours      *process
}

func newMixedLog(t *testing.T) *mixedLog {
	t.Helper()
	l := &mixedLog{dir: t.TempDir()}
	vkey := generateKey(t, l.dir, "releases.pem", genericOrigin)
	omni := omniwitness(t, filepath.Join(l.dir, "omni"), genericOrigin, vkey)
	lite := startLitewitness(t, l.dir, genericOrigin, vkey)
	home, address := filepath.Join(l.dir, "ours"), loopback.Address(t)
	vkeys := strings.SplitN(must(t, l.dir, "tallywood-witness", "init", "--dir", home, "--name", "ours.example.org"), "\n", 3)
	logs := writeFile(t, l.dir, "logs.txt", "logs/v0\n\nvkey "+vkey+"\nqpd 2147483647\ncontact ops@example.org\n")
	l.ours = start(t, 0, "tallywood-witness", "serve", "--dir", home, "--listen", address, "--logs", logs)
	l.witnesses = fmt.Sprintf("log %s\nwitness omni %s %s\nwitness omni-pq %s %s\nwitness lite %s %s\nwitness ours %s http://%s\nwitness ours-pq %s http://%s\n",
		vkey, omni.ed25519, omni.proxy, omni.mldsa, omni.proxy, lite.vkey, lite.url, vkeys[0], address, vkeys[1], address)
	l.text = l.witnesses + "group classic all omni lite ours\ngroup both all classic omni-pq\nquorum both\n"
	l.policy = mustParse(t, l.text)
	writeFile(t, l.dir, "policy.txt", l.text)
	if err := os.WriteFile(filepath.Join(l.dir, "add.token"), []byte(genericToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.servedLog = serveLog(t, writeFile(t, l.dir, "config.yaml", "address: 127.0.0.1:0\nstorage: file:./objects\nlogs:\n"+
		"  - {name: releases, kind: tlog, origin: "+genericOrigin+", key: file:releases.pem, policy: policy.txt, add_token: file:add.token}\n"))
	return l
}

func mustParse(t *testing.T, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return p
}

// verifyWith has tallywood verify the proof of the last entry with another policy.
func (l *mixedLog) verifyWith(t *testing.T, text string, code int, says string) {
	t.Helper()
	writeFile(t, l.dir, "another.txt", text)
	out, got := command(t, l.dir, "tallywood", "verify", "entry", "--proof", "entry.tlog-proof", "--policy", "another.txt")
	if got != code || !strings.Contains(out, says) {
		t.Errorf("exit code %d, want %d and %q\n%s\nwith the policy\n%s", got, code, says, out, text)
	}
}

func TestMixedQuorum(t *testing.T) {
	l := newMixedLog(t)
	for i := range 300 {
		entry := fmt.Sprint("entry ", i)
		body, err := insistOnPosting(l.url+"/logs/releases/add", genericToken, entry)
		if err != nil {
			t.Fatalf("%s: %v", entry, err)
		}
		writeFile(t, l.dir, "entry", entry)
		writeFile(t, l.dir, "entry.tlog-proof", body)
	}
	l.verifyWith(t, l.text, 0, "cosigned by omni, omni-pq, lite, ours\n")
	l.verifyWith(t, l.witnesses+"quorum omni-pq\n", 0, "cosigned by")
	// What is outside the log's quorum is no part of its proofs, nor of the published checkpoint.
	l.verifyWith(t, l.witnesses+"group more all omni-pq ours-pq\nquorum more\n", 1, "quorum")
	eventually(t, "published checkpoint of size 300", func() bool {
		return strings.HasPrefix(get(t, l.url+"/logs/releases/checkpoint", 200), genericOrigin+"\n300\n")
	})
	if c, err := l.policy.Open([]byte(get(t, l.url+"/logs/releases/checkpoint", 200))); err != nil || len(c.Cosignatures()) != 4 {
		t.Errorf("the published checkpoint: %v, %d cosignatures", err, len(c.Cosignatures()))
	}
	all := mustParse(t, l.witnesses+"group all-of-them all omni omni-pq lite ours ours-pq\nquorum all-of-them\n")
	eventually(t, "full checkpoint with all five", func() bool {
		note, err := os.ReadFile(filepath.Join(l.dir, "objects/logs/releases/checkpoint.full"))
		if err != nil {
			return false
		}
		_, err = all.Open(note)
		return err == nil
	})
	// A witness less is no quorum: all of them are needed.
	l.ours.stop(t)
	if status, header, body, err := post(l.url+"/logs/releases/add", genericToken, "", "one more"); err != nil || status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
		t.Errorf("without ours: %d %s, %v", status, body, err)
	}
}
