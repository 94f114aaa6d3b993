package e2e_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"tallywood/internal/keys"
	"tallywood/internal/loopback"
)

// The witness of torchwood's authors, with the program that tells it of logs.
const (
	litewitnessPackage = "filippo.io/torchwood/cmd/litewitness"
	witnessctlPackage  = "filippo.io/torchwood/cmd/witnessctl"
	litewitnessVersion = litebastionVersion
)

// A litewitness is running, with its Ed25519 key in an ssh-agent.
type litewitness struct{ vkey, url string }

// startLitewitness starts one in dir that knows the log of vkey.
func startLitewitness(t *testing.T, dir, origin, vkey string) *litewitness {
	t.Helper()
	install(t, litewitnessPackage, litewitnessVersion)
	install(t, witnessctlPackage, litewitnessVersion)
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
	must(t, dir, "witnessctl", "add-log", "-db", db, "-origin", origin)
	must(t, dir, "witnessctl", "add-key", "-db", db, "-origin", origin, "-key", vkey)
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
