package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tallywood/witness/policy"
)

// TestMixedQuorum has a log cosigned by three implementations of witnesses with keys of two types:
// omniwitness and ours with both, litewitness with Ed25519. All three must cosign with Ed25519, and one
// of those that can with ML-DSA-44; the fifth key is outside the quorum.
func TestMixedQuorum(t *testing.T) {
	dir := t.TempDir()
	vkey := generateKey(t, dir, "releases.pem", genericOrigin)
	omni := omniwitness(t, filepath.Join(dir, "omni"), genericOrigin, vkey)
	lite := startLitewitness(t, dir, genericOrigin, vkey)
	home := filepath.Join(dir, "ours")
	lines := strings.SplitN(must(t, dir, "tallywood-witness", "init", "--dir", home, "--name", "ours.example.org"), "\n", 3)
	address := freeAddress(t)
	logs := writeFile(t, dir, "logs.txt", "logs/v0\n\nvkey "+vkey+"\nqpd 2147483647\ncontact ops@example.org\n")
	ours := start(t, 0, "tallywood-witness", "serve", "--dir", home, "--listen", address, "--logs", logs)
	witnesses := fmt.Sprintf("log %s\nwitness omni %s %s\nwitness omni-pq %s %s\nwitness lite %s %s\nwitness ours %s http://%s\nwitness ours-pq %s http://%s\n",
		vkey, omni.ed25519, omni.proxy, omni.mldsa, omni.proxy, lite.vkey, lite.url, lines[0], address, lines[1], address)
	text := witnesses + "group classic all omni lite ours\ngroup both all classic omni-pq\nquorum both\n"
	p, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir, "policy.txt", text)
	if err := os.WriteFile(filepath.Join(dir, "add.token"), []byte(genericToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	log := serveLog(t, writeFile(t, dir, "config.yaml", "address: 127.0.0.1:0\nstorage: file:./objects\nlogs:\n"+
		"  - {name: releases, kind: tlog, origin: "+genericOrigin+", key: file:releases.pem, policy: policy.txt, add_token: file:add.token}\n"))
	proof := ""
	for i := range 300 {
		entry := fmt.Sprint("entry ", i)
		status, _, body, err := post(log.url+"/logs/releases/add", genericToken, "", entry)
		if err != nil || status != http.StatusCreated {
			t.Fatalf("%s: %d %s, %v", entry, status, body, err)
		}
		proof = body
	}
	writeFile(t, dir, "entry", "entry 299")
	writeFile(t, dir, "entry.tlog-proof", proof)
	verifyWith := func(name, text string, want int, says string) {
		t.Helper()
		writeFile(t, dir, name, text)
		out, code := command(t, dir, "tallywood", "verify", "entry", "--proof", "entry.tlog-proof", "--policy", name)
		if code != want || !strings.Contains(out, says) {
			t.Errorf("with %s: exit code %d, want %d and %q\n%s", name, code, want, says, out)
		}
	}
	verifyWith("policy.txt", text, 0, "cosigned by omni, omni-pq, lite, ours\n")
	verifyWith("pq.txt", witnesses+"quorum omni-pq\n", 0, "cosigned by")
	// What is outside the log's quorum is no part of its proofs, and not in the published checkpoint.
	verifyWith("more.txt", witnesses+"group more all omni-pq ours-pq\nquorum more\n", 1, "quorum")
	eventually(t, "published checkpoint of size 300", func() bool {
		return strings.HasPrefix(get(t, log.url+"/logs/releases/checkpoint", 200), genericOrigin+"\n300\n")
	})
	if c, err := p.Open([]byte(get(t, log.url+"/logs/releases/checkpoint", 200))); err != nil || len(c.Cosignatures()) != 4 {
		t.Errorf("the published checkpoint: %v, %d cosignatures", err, len(c.Cosignatures()))
	}
	// It is in the full one.
	all, err := policy.Parse([]byte(witnesses + "group all-of-them all omni omni-pq lite ours ours-pq\nquorum all-of-them\n"))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "full checkpoint with all five", func() bool {
		note, err := os.ReadFile(filepath.Join(dir, "objects/logs/releases/checkpoint.full"))
		if err != nil {
			return false
		}
		_, err = all.Open(note)
		return err == nil
	})
	// A witness less is no quorum: all of them are needed.
	ours.stop(t)
	if status, header, body, err := post(log.url+"/logs/releases/add", genericToken, "", "one more"); err != nil || status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
		t.Errorf("without ours: %d %s, %v", status, body, err)
	}
}
