package sshagent_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"tallywood/internal/sshagent"
)

var message = []byte("cosignature/v1\ntime 1\nlog.example.org\n0\n")

// An openSSH is a running ssh-agent of OpenSSH's.
type openSSH struct {
	socket string
	cmd    *exec.Cmd
}

// startOpenSSH starts an agent at socket.
func startOpenSSH(t *testing.T, socket string) *openSSH {
	t.Helper()
	_ = os.Remove(socket) // of one that was killed
	a := &openSSH{socket: socket, cmd: exec.Command("ssh-agent", "-D", "-a", socket)}
	if err := a.cmd.Start(); err != nil {
		t.Fatalf("starting ssh-agent, of the Debian package openssh-client: %v", err)
	}
	t.Cleanup(a.kill)
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("unix", socket); err == nil {
			conn.Close()
			return a
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func (a *openSSH) kill() {
	_ = a.cmd.Process.Kill() // it may be gone
	_ = a.cmd.Wait()         // says that it was killed
}

// add runs one of OpenSSH's programs that talk to the agent.
func (a *openSSH) run(t *testing.T, stdin string, args ...string) {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+a.socket, "SSH_ASKPASS_REQUIRE=force", "SSH_ASKPASS="+askpass(t, stdin))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// askpass writes a program that answers every question for a passphrase.
func askpass(t *testing.T, answer string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "askpass")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho '"+answer+"'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// newKeyFile has ssh-keygen make a key and returns its file and its public line.
func newKeyFile(t *testing.T, kind string) (path, line string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "a witness", "-f", path).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	data, err := os.ReadFile(path + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return path, string(data)
}

func fingerprint(t *testing.T, line string) string {
	t.Helper()
	public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	return ssh.FingerprintSHA256(public)
}

func wantSignature(t *testing.T, k *sshagent.Key) {
	t.Helper()
	sig, err := k.Sign(rand.Reader, message, crypto.Hash(0))
	if err != nil {
		t.Fatal(err)
	}
	if !ed25519.Verify(k.Public().(ed25519.PublicKey), message, sig) {
		t.Error("the signature does not verify")
	}
}

// wantError wants no signature, and a reason.
func wantError(t *testing.T, k *sshagent.Key, want string) {
	t.Helper()
	sig, err := k.Sign(rand.Reader, message, crypto.Hash(0))
	if err == nil || sig != nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "SHA256:") {
		t.Errorf("got %x, %v; want an error with the key and %q", sig, err, want)
	}
}

// TestOpenSSHAgent goes through what can happen to a real agent.
func TestOpenSSHAgent(t *testing.T) {
	dir, err := os.MkdirTemp("", "agent") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	a := startOpenSSH(t, filepath.Join(dir, "s"))
	file, line := newKeyFile(t, "ed25519")
	print := fingerprint(t, line)

	if _, err := sshagent.Open(t.Context(), a.socket, print); err == nil || !strings.Contains(err.Error(), "holds no key "+print) {
		t.Errorf("a key that is not there: %v", err)
	}
	k, err := sshagent.Open(t.Context(), a.socket, line)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, k, "does not hold the key, or is locked")
	a.run(t, "", "ssh-add", file)
	wantSignature(t, k)
	named, err := sshagent.Open(t.Context(), a.socket, print)
	if err != nil {
		t.Fatal(err)
	}
	wantSignature(t, named)
	if !strings.HasPrefix(line, named.Line()) || !bytes.Equal(named.Public().(ed25519.PublicKey), k.Public().(ed25519.PublicKey)) {
		t.Errorf("by its fingerprint the key is %s; want %s", named.Line(), line)
	}

	a.run(t, "secret", "ssh-add", "-x")
	wantError(t, k, "does not hold the key, or is locked")
	a.run(t, "secret", "ssh-add", "-X")
	wantSignature(t, k)
	a.run(t, "", "ssh-add", "-D")
	wantError(t, k, "does not hold the key, or is locked")
	a.kill()
	wantError(t, k, "connecting to the agent")
	a = startOpenSSH(t, a.socket)
	wantError(t, k, "does not hold the key, or is locked")
	a.run(t, "", "ssh-add", file)
	wantSignature(t, k)

	var wait sync.WaitGroup
	for range 32 {
		wait.Go(func() {
			for range 20 {
				if sig, err := k.Sign(rand.Reader, message, crypto.Hash(0)); err != nil || !ed25519.Verify(k.Public().(ed25519.PublicKey), message, sig) {
					t.Errorf("many at once: %v", err)
				}
			}
		})
	}
	wait.Wait()
}

// serve has agent answer on a socket, which is returned.
func serve(t *testing.T, a agent.Agent) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ln, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wait.Go(func() {
				defer conn.Close()
				_ = agent.ServeAgent(a, conn) // io.EOF when the client has had enough
			})
		}
	})
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().String()
}

// keyring is Go's agent with an Ed25519 key.
func keyring(t *testing.T) (agent.Agent, string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: private}); err != nil {
		t.Fatal(err)
	}
	public, err := ssh.NewPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return ring, string(ssh.MarshalAuthorizedKey(public))
}

// An overlap counts the signatures that an agent is asked for at once.
type overlap struct {
	agent.Agent
	mu        sync.Mutex
	now, most int
}

func (o *overlap) Sign(key ssh.PublicKey, data []byte) (*ssh.Signature, error) {
	o.mu.Lock()
	o.now++
	o.most = max(o.most, o.now)
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		o.now--
		o.mu.Unlock()
	}()
	time.Sleep(time.Millisecond)
	return o.Agent.Sign(key, data)
}

func TestOneSignatureAtATime(t *testing.T) {
	ring, line := keyring(t)
	o := &overlap{Agent: ring}
	k, err := sshagent.Open(t.Context(), serve(t, o), line)
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for i := range 50 {
		wait.Go(func() {
			// Messages of their own: answers that went to another question show.
			own := fmt.Appendf(nil, "message %d", i)
			if sig, err := k.Sign(rand.Reader, own, crypto.Hash(0)); err != nil || !ed25519.Verify(k.Public().(ed25519.PublicKey), own, sig) {
				t.Errorf("signature %d: %x, %v", i, sig, err)
			}
		})
	}
	wait.Wait()
	if o.most != 1 {
		t.Errorf("the agent was asked for %d signatures at once", o.most)
	}
}

// A liar signs with a key of its own.
type liar struct {
	agent.Agent
	signer ssh.Signer
}

func (l liar) Sign(_ ssh.PublicKey, data []byte) (*ssh.Signature, error) {
	return l.signer.Sign(rand.Reader, data)
}

func TestRefusesAnothersSignature(t *testing.T) {
	ring, line := keyring(t)
	_, other, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(other)
	if err != nil {
		t.Fatal(err)
	}
	k, err := sshagent.Open(t.Context(), serve(t, liar{ring, signer}), line)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, k, "does not verify")
}

// A refuser has the key and does not sign, as one that asks a person who says no.
type refuser struct{ agent.Agent }

func (refuser) Sign(ssh.PublicKey, []byte) (*ssh.Signature, error) { return nil, errors.New("no") }

func TestSaysThatTheAgentRefuses(t *testing.T) {
	ring, line := keyring(t)
	k, err := sshagent.Open(t.Context(), serve(t, refuser{ring}), line)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, k, "the agent refuses")
}

func TestOpenRefuses(t *testing.T) {
	ring, line := keyring(t)
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if err := ring.Add(agent.AddedKey{PrivateKey: private}); err != nil {
		t.Fatal(err)
	}
	public, err := ssh.NewPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	socket := serve(t, ring)
	for name, want := range map[string]string{
		"":                                       "names no key",
		"ssh-ed25519 AAAA":                       "names no key",
		line + line:                              "names no key",
		"SHA256:xyz":                             "holds no key SHA256:xyz",
		ssh.FingerprintSHA256(public):            "is of type ssh-rsa",
		string(ssh.MarshalAuthorizedKey(public)): "is of type ssh-rsa",
	} {
		if _, err := sshagent.Open(t.Context(), socket, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v; want %q", name, err, want)
		}
	}
	if _, err := sshagent.Open(t.Context(), "", line); err == nil || !strings.Contains(err.Error(), "SSH_AUTH_SOCK") {
		t.Errorf("no socket: %v", err)
	}
	if _, err := sshagent.Open(t.Context(), filepath.Join(t.TempDir(), "none"), fingerprint(t, line)); err == nil || !strings.Contains(err.Error(), "asking the ssh-agent") {
		t.Errorf("no agent: %v", err)
	}
	k, err := sshagent.Open(t.Context(), socket, line)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Sign(rand.Reader, make([]byte, 64), crypto.SHA512); err == nil {
		t.Error("a digest was signed")
	}
}
