package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/term"

	"tallywood/internal/keys"
	"tallywood/internal/sealed"
	"tallywood/internal/sshagent"
)

// credential is the name under which systemd hands over the passphrase of the seed (LoadCredential=).
const credential = "tallywood-witness.passphrase"

// agentScheme begins the name of a key that an ssh-agent holds.
const agentScheme = "agent:"

// openKeys opens the keys that a configuration names: both from the seed, or the Ed25519 key in an
// agent and the other, if there is a seed, from that. The passphrase of a seed that has one is in
// passphraseFile, or in the file of the configuration.
func openKeys(c config, passphraseFile string) (keys.Witness, error) {
	k := keys.Witness{Name: c.Name}
	if c.Seed != "" {
		if passphraseFile == "" {
			passphraseFile = c.PassphraseFile
		}
		seed, err := readSeed(c.Seed, passphraseFile)
		if err != nil {
			hint := ""
			if errors.Is(err, fs.ErrNotExist) {
				hint = "put it back from the copy that is kept of it: with another seed it is another witness"
			}
			return k, withHint(hint, "reading seed", err)
		}
		if k, err = keys.WitnessFromSeed(c.Name, seed); err != nil {
			return k, usageError("", "deriving keys: %w", err)
		}
	}
	if c.Ed25519 != "" {
		key, err := openAgentKey(strings.TrimPrefix(c.Ed25519, agentScheme), c.AgentSocket)
		if err != nil {
			return k, err
		}
		k.Ed25519 = key
	}
	return k, nil
}

// openAgentKey opens a key of the agent at socket, by default that of the environment.
func openAgentKey(name, socket string) (*sshagent.Key, error) {
	if socket == "" {
		socket = os.Getenv("SSH_AUTH_SOCK")
	}
	key, err := sshagent.Open(context.Background(), socket, name)
	switch {
	case err != nil && strings.HasPrefix(name, "SHA256:"):
		return nil, operational("with the public key in place of its fingerprint, \"ssh-add -L\" prints it, a witness starts without the agent", fmt.Errorf("opening Ed25519 key: %w", err))
	case err != nil:
		return nil, usageError("", "opening Ed25519 key: %w", err)
	}
	return key, nil
}

// readSeed reads a seed file, with a passphrase if that is encrypted.
func readSeed(path, passphraseFile string) (seed [32]byte, err error) {
	data, err := keys.ReadPrivate(path)
	if err != nil {
		return seed, err
	}
	if !sealed.Is(data) {
		return keys.ReadSeed(path)
	}
	passphrase, err := readPassphrase(passphraseFile, "Passphrase of "+path)
	if err != nil {
		return seed, err
	}
	if seed, err = sealed.Open(data, passphrase); err != nil {
		return seed, fmt.Errorf("seed file %s: %w", path, err)
	}
	return seed, nil
}

// withHint makes err one about the configuration, unless it says already what it is.
func withHint(hint, doing string, err error) error {
	if _, ok := errors.AsType[*commandError](err); ok {
		return err
	}
	return usageError(hint, "%s: %w", doing, err)
}

// readPassphrase reads a passphrase from file, from systemd, or from the terminal.
func readPassphrase(file, prompt string) (string, error) {
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); file == "" && dir != "" {
		path := filepath.Join(dir, credential)
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			file = path
		}
	}
	if file == "" {
		return promptPassphrase(prompt)
	}
	data, err := keys.ReadPrivate(file)
	if err != nil {
		return "", usageError("", "reading passphrase: %w", err)
	}
	line, rest, _ := strings.Cut(string(data), "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" || rest != "" {
		return "", usageError("", "reading passphrase: %s does not hold one line", file)
	}
	return line, nil
}

// promptPassphrase asks the person at the terminal, until a signal ends that.
func promptPassphrase(prompt string) (string, error) {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(stop)
	return askPassphrase(int(os.Stdin.Fd()), os.Stderr, prompt, stop)
}

// askPassphrase asks the person at the terminal in, and leaves it as it was even if stop ends that: to
// that end it must not be the signal which ends the program.
func askPassphrase(in int, out io.Writer, prompt string, stop <-chan os.Signal) (string, error) {
	before, err := term.GetState(in)
	if err != nil {
		return "", usageError("give it in a file with --passphrase-file FILE, or as systemd's credential "+credential, "the seed is encrypted, and there is no terminal to ask for its passphrase")
	}
	fmt.Fprint(out, prompt+": ")
	defer fmt.Fprintln(out)
	type result struct {
		line []byte
		err  error
	}
	read := make(chan result, 1)
	go func() {
		line, err := term.ReadPassword(in)
		read <- result{line, err}
	}()
	var r result
	select {
	case r = <-read:
	case <-stop:
		r.err = errors.Join(errors.New("interrupted"), term.Restore(in, before))
	}
	if r.err != nil {
		return "", operational("", fmt.Errorf("reading passphrase: %w", r.err))
	}
	if len(r.line) == 0 {
		return "", usageError("", "the passphrase is empty")
	}
	return string(r.line), nil
}
