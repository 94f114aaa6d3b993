// Package sshagent signs with an Ed25519 key that an ssh-agent holds, and so with one in a token or a
// smart card that an agent speaks for (https://www.rfc-editor.org/rfc/rfc9987).
//
// In goes the agent's socket and the name of a key, out comes a crypto.Signer. The agent may go away
// and come back: signatures fail until it does. Each is verified before it leaves.
package sshagent

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// Bounds of a signature. An agent answers in less than a millisecond, a token in some hundred of them,
// and a person who must touch it in seconds.
const (
	turnTimeout   = 10 * time.Second // for the signatures before it
	answerTimeout = 10 * time.Second // for the agent
)

// ErrBusy reports that too many signatures were waiting for the agent.
var ErrBusy = errors.New("the agent is too slow for all that it is to sign")

// A Key is an Ed25519 key in an agent. It is a crypto.Signer, for concurrent use; the agent is asked for
// one signature at a time.
type Key struct {
	socket string
	public ed25519.PublicKey
	ssh    ssh.PublicKey

	turn chan struct{} // of capacity 1; who has sent into it owns the field below
	conn net.Conn      // nil: none
}

var _ crypto.Signer = (*Key)(nil)

// Open returns the key that name names: as authorized_keys has it, "ssh-ed25519 AAAA… comment", or by
// its fingerprint, "SHA256:…". Only for a fingerprint the agent has to be there.
func Open(ctx context.Context, socket, name string) (*Key, error) {
	if socket == "" {
		return nil, errors.New("no socket of an ssh-agent is known; set SSH_AUTH_SOCK, or configure it")
	}
	k := &Key{socket: socket, turn: make(chan struct{}, 1)}
	if strings.HasPrefix(name, "SHA256:") {
		found, err := k.find(ctx, name)
		if err != nil {
			return nil, err
		}
		return k, k.use(found)
	}
	public, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(name))
	if err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("%q names no key; want ssh-ed25519 AAAA… or SHA256:…, as \"ssh-add -L\" and \"ssh-add -l\" print them", name)
	}
	return k, k.use(public)
}

// use makes public the key. Those of security keys are Ed25519 too, but sign something else.
func (k *Key) use(public ssh.PublicKey) error {
	c, ok := public.(ssh.CryptoPublicKey)
	if !ok || public.Type() != ssh.KeyAlgoED25519 {
		return fmt.Errorf("key %s is of type %s; a witness has an ssh-ed25519 key", ssh.FingerprintSHA256(public), public.Type())
	}
	k.public, ok = c.CryptoPublicKey().(ed25519.PublicKey)
	if !ok {
		return fmt.Errorf("key %s is a %T; want Ed25519", ssh.FingerprintSHA256(public), c.CryptoPublicKey())
	}
	k.ssh = public
	return nil
}

// find asks the agent for the key with that fingerprint.
func (k *Key) find(ctx context.Context, fingerprint string) (ssh.PublicKey, error) {
	list, err := k.list(ctx)
	if err != nil {
		return nil, err
	}
	for _, held := range list {
		public, err := ssh.ParsePublicKey(held.Blob)
		if err == nil && ssh.FingerprintSHA256(public) == fingerprint {
			return public, nil
		}
	}
	return nil, fmt.Errorf("the ssh-agent at %s holds no key %s, or is locked; \"ssh-add -l\" lists those it holds", k.socket, fingerprint)
}

// Public returns the public key, an ed25519.PublicKey.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Line returns the key as authorized_keys has it, without a comment.
func (k *Key) Line() string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.ssh))) }

// String names the key and the agent.
func (k *Key) String() string {
	return ssh.FingerprintSHA256(k.ssh) + " in the ssh-agent at " + k.socket
}

// Sign signs a message, not a digest of it.
func (k *Key) Sign(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts == nil || opts.HashFunc() != 0 {
		return nil, errors.New("signing with an ssh-agent: an Ed25519 key signs messages, not digests")
	}
	wait := time.NewTimer(turnTimeout)
	defer wait.Stop()
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-wait.C:
		return nil, fmt.Errorf("signing with key %s: %w", k, ErrBusy)
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	reused := k.conn != nil
	sig, err := k.sign(ctx, message)
	if err != nil && reused && ctx.Err() == nil {
		sig, err = k.sign(ctx, message) // the agent was started again
	}
	if err != nil {
		return nil, fmt.Errorf("signing with key %s: %w", k, err)
	}
	return sig, nil
}

// sign asks for one signature. The caller has the turn.
func (k *Key) sign(ctx context.Context, message []byte) ([]byte, error) {
	var sig *ssh.Signature
	err := k.ask(ctx, func(a agent.Agent) (err error) {
		sig, err = a.Sign(k.ssh, message)
		return err
	})
	if err != nil {
		return nil, k.explain(ctx, err)
	}
	if sig.Format != ssh.KeyAlgoED25519 || !ed25519.Verify(k.public, message, sig.Blob) {
		return nil, errors.New("the agent's signature does not verify")
	}
	return sig.Blob, nil
}

// ask connects if there is no connection, and asks, until ctx ends, which it does. After an error there
// is no connection.
func (k *Key) ask(ctx context.Context, question func(agent.Agent) error) error {
	if k.conn == nil {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", k.socket)
		if err != nil {
			return fmt.Errorf("connecting to the agent: %w", err)
		}
		k.conn = conn
	}
	deadline, _ := ctx.Deadline()
	_ = k.conn.SetDeadline(deadline) // fails on a closed connection only
	// Without the method Close the client asks one thing at a time, and leaves no goroutine behind.
	err := question(agent.NewClient(struct{ io.ReadWriter }{k.conn}))
	if err != nil {
		_ = k.conn.Close() // what was asked may still be answered on it
		k.conn = nil
	}
	return err
}

// explain says whether the agent has the key at all, which its own error does not.
func (k *Key) explain(ctx context.Context, err error) error {
	if k.conn == nil && ctx.Err() != nil {
		return fmt.Errorf("the agent does not answer within %v: %w", answerTimeout, err)
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return err // of the socket
	}
	var list []*agent.Key
	if k.ask(ctx, func(a agent.Agent) (err error) { list, err = a.List(); return err }) != nil {
		return err
	}
	for _, held := range list {
		if bytes.Equal(held.Blob, k.ssh.Marshal()) {
			return fmt.Errorf("the agent refuses: %w", err)
		}
	}
	return fmt.Errorf("the agent does not hold the key, or is locked; add it with ssh-add: %w", err)
}

// list returns the keys of the agent. It has a connection of its own.
func (k *Key) list(ctx context.Context) (list []*agent.Key, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	other := &Key{socket: k.socket}
	err = other.ask(ctx, func(a agent.Agent) (err error) { list, err = a.List(); return err })
	if err != nil {
		return nil, fmt.Errorf("asking the ssh-agent at %s for its keys: %w", k.socket, err)
	}
	return list, other.conn.Close()
}
