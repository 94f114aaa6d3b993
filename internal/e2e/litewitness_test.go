package e2e_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"tallywood/internal/keys"
	"tallywood/internal/loopback"
)

// The witness of torchwood's authors.
const (
	litewitnessPackage = "filippo.io/torchwood/cmd/litewitness"
	litewitnessVersion = litebastionVersion
)

// A litewitness is running, with its Ed25519 key in an ssh-agent.
type litewitness struct{ vkey, url string }

// startLitewitness starts one in dir that knows the log of vkey.
func startLitewitness(t *testing.T, dir, origin, vkey string) *litewitness {
	t.Helper()
	install(t, litewitnessPackage, litewitnessVersion)
	const name = "lite.example.org"
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sshKey, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	db, address := filepath.Join(dir, "litewitness.db"), loopback.Address(t)
	tellLitewitness(t, db, map[string][]string{origin: {vkey}})
	cmd := exec.Command(filepath.Join(bin, "litewitness"), "-name", name, "-db", db, "-listen", address,
		"-ssh-agent", serveAgent(t, private), "-key", ssh.FingerprintSHA256(sshKey))
	cmd.Dir, cmd.Env = dir, cleanEnv(t)
	out := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
		if t.Failed() {
			t.Logf("litewitness wrote:\n%s", out)
		}
	})
	eventually(t, "listening litewitness", func() bool {
		conn, err := net.Dial("tcp", address)
		return err == nil && conn.Close() == nil
	})
	return &litewitness{vkey: keys.VKey(name, keys.AlgCosignatureV1, public), url: "http://" + address}
}

// tellLitewitness writes logs, their verifier keys by origin, into the database of one that does not
// run yet. That is the work of its witnessctl, which a machine whose module proxy lacks one of the modules
// that it wants for another command cannot build.
func tellLitewitness(t *testing.T, db string, logs map[string][]string) {
	t.Helper()
	program, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Fatal("sqlite3 is missing: apt-get install sqlite3")
	}
	quoted := func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
	empty := sha256.Sum256(nil) // the root of a log without entries
	var script strings.Builder
	script.WriteString("BEGIN; CREATE TABLE log (origin TEXT PRIMARY KEY, tree_size INTEGER NOT NULL, tree_hash TEXT NOT NULL);\n" +
		"CREATE TABLE key (origin TEXT NOT NULL REFERENCES log(origin), key TEXT NOT NULL);\n")
	for origin, vkeys := range logs {
		fmt.Fprintf(&script, "INSERT INTO log VALUES (%s, 0, '%s');\n", quoted(origin), base64.StdEncoding.EncodeToString(empty[:]))
		for _, vkey := range vkeys {
			fmt.Fprintf(&script, "INSERT INTO key VALUES (%s, %s);\n", quoted(origin), quoted(vkey))
		}
	}
	script.WriteString("COMMIT;\n")
	cmd := exec.Command(program, "-batch", "-bail", db)
	cmd.Stdin = strings.NewReader(script.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sqlite3: %v\n%s", err, out)
	}
}

// serveAgent is an ssh-agent that holds a key, and returns its socket.
func serveAgent(t *testing.T, private ed25519.PrivateKey) string {
	t.Helper()
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: private}); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "agent-") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() { // by now the client was killed
		ln.Close()
		serving.Wait()
		os.RemoveAll(dir)
	})
	serving.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				if err := agent.ServeAgent(ring, conn); err != nil && err != io.EOF {
					t.Log(err)
				}
			})
		}
	})
	return ln.Addr().String()
}
