package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"tallywood/internal/keys"
	"tallywood/internal/sealed"
	"tallywood/witness"
	"tallywood/witness/bastion"
)

const initHelp = `tallywood-witness init makes a new witness: its keys, its configuration, a page that tells
others about it, and a unit for systemd. Nothing that is there already is touched.

  --dir DIR          where to put them; made if it does not exist
  --name NAME        name of the witness in its keys, by convention a host name and path
                     of its operator, such as witness.example.org. It cannot be changed.

What serve needs to know; it is in DIR/config.yaml and can be changed there:

  --listen HOST:PORT address to listen on; by default 127.0.0.1:7380, and none with --bastion
  --bastion ADDR     reach it through the bastion (c2sp.org/https-bastion) that takes backends
                     at ADDR, a host name or HOST:PORT; may be repeated
  --list URL         a log list of the witness network; may be repeated

What else the page for others says, and the status page; without it there are gaps to fill in:

  --operator NAME    who runs it, a person or an organization
  --contact TEXT     how to reach them: an address, a URL
  --url URL          where logs reach it; by default through its bastions

Where its keys are; by default both come from a seed in a file that only its owner can read:

  --encrypt          encrypt the seed with a passphrase, which serve will want too
  --passphrase-file FILE  one line, the passphrase; by default it is asked for
  --agent-key KEY    take the Ed25519 key from the ssh-agent at $SSH_AUTH_SOCK, which has it
                     in a token perhaps: ssh-ed25519 AAAA… or SHA256:…, as "ssh-add -L" and
                     "ssh-add -l" print them. Never the key of another witness, nor one
                     that also opens sessions
  --ed25519-only     with --agent-key: have no ML-DSA-44 key and no seed

Where DIR holds nothing but a seed, because an earlier init was cut short, it goes on
with that.

It prints the public keys, Ed25519 first and ML-DSA-44 second, one per line, for the
policies of those who rely on the witness; after them the page, and what to do next.
`

// initFlags are the flags of init.
type initFlags struct {
	dir, name                string
	listen                   string
	bastions, lists          stringList
	operator, contact, url   string
	encrypt, ed25519Only     bool
	passphraseFile, agentKey string
}

func initCommand(args []string, stdout io.Writer) error {
	var f initFlags
	set := flag.NewFlagSet("init", flag.ContinueOnError)
	for name, value := range map[string]*string{
		"dir": &f.dir, "name": &f.name, "listen": &f.listen, "operator": &f.operator, "contact": &f.contact, "url": &f.url,
		"passphrase-file": &f.passphraseFile, "agent-key": &f.agentKey,
	} {
		set.StringVar(value, name, "", "")
	}
	set.Var(&f.bastions, "bastion", "")
	set.Var(&f.lists, "list", "")
	set.BoolVar(&f.encrypt, "encrypt", false, "")
	set.BoolVar(&f.ed25519Only, "ed25519-only", false, "")
	if err := parseFlags(set, args, initHelp, stdout); err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	w, err := f.write()
	if err != nil {
		return err
	}
	for _, vkey := range w.VKeys() {
		fmt.Fprintln(stdout, vkey)
	}
	page, err := os.ReadFile(filepath.Join(f.dir, aboutFile))
	if err != nil {
		return operational("", fmt.Errorf("reading the page again: %w", err))
	}
	fmt.Fprintf(stdout, "\n%s%s", page, f.nextSteps())
	return nil
}

// check checks the flags, and sets defaults.
func (f *initFlags) check() error {
	if f.dir == "" || f.name == "" {
		return usageError("for example: tallywood-witness init --dir ./witness --name witness.example.org", "init needs --dir and --name")
	}
	if err := keys.CheckName(f.name); err != nil {
		return usageError("", "name of the witness: %w", err)
	}
	var errs []error
	if f.listen == "" && len(f.bastions) == 0 {
		f.listen = "127.0.0.1:7380"
	}
	errs = append(errs, checkAddresses(address{"--listen", f.listen}))
	for i, b := range f.bastions {
		address, err := bastion.ParseAddress(b)
		if err != nil {
			errs = append(errs, fmt.Errorf("--bastion: %w", err))
		}
		f.bastions[i] = address
	}
	for _, l := range f.lists {
		if err := witness.CheckListURL(l); err != nil {
			errs = append(errs, fmt.Errorf("--list: %w", err))
		}
	}
	if u, err := url.Parse(f.url); f.url != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
		errs = append(errs, fmt.Errorf("--url %q is not that of a host, such as https://witness.example.org", f.url))
	}
	for name, text := range map[string]string{"--operator": f.operator, "--contact": f.contact} {
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0xfffd }) {
			errs = append(errs, fmt.Errorf("%s %q has a control character or invalid UTF-8", name, text))
		}
	}
	switch {
	case f.ed25519Only && f.agentKey == "":
		errs = append(errs, errors.New("--ed25519-only without --agent-key would be a witness without a key"))
	case f.ed25519Only && f.encrypt:
		errs = append(errs, errors.New("--ed25519-only makes no seed that --encrypt could encrypt"))
	case f.passphraseFile != "" && !f.encrypt:
		errs = append(errs, errors.New("--passphrase-file goes with --encrypt"))
	}
	if err := errors.Join(errs...); err != nil {
		return usageError(`run "tallywood-witness init --help" for the flags`, "%w", err)
	}
	f.url = strings.TrimSuffix(f.url, "/")
	return nil
}

// write writes the files of the witness, and touches nothing that is there already. The configuration
// comes last: where it is, the witness is whole.
func (f *initFlags) write() (w keys.Witness, err error) {
	if err := f.refuseWitness(); err != nil {
		return w, err
	}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return w, operational("", fmt.Errorf("making directory: %w", err))
	}
	if w, err = f.makeKeys(); err != nil {
		return w, err
	}
	hint := "the keys are written; run init again to go on with them"
	for _, b := range f.bastions {
		if _, err := readBastionKey(bastionKeyPath(f.dir, b), slog.New(slog.DiscardHandler)); err != nil {
			return w, operational(hint, fmt.Errorf("making the key for bastion %s: %w", b, err))
		}
	}
	for _, file := range []struct {
		name   string
		render func(keys.Witness) (string, error)
	}{{aboutFile, f.about}, {unitFile, f.unit}, {configFile, f.config}} {
		text, err := file.render(w)
		if err == nil {
			err = f.writeFile(file.name, text)
		}
		if err != nil {
			return w, operational(hint, fmt.Errorf("writing %s: %w", file.name, err))
		}
	}
	return w, nil
}

// writeFile writes a file that an earlier init, which was cut short, may have left. The configuration
// is not one of them: what is whole is refused.
func (f *initFlags) writeFile(name, text string) error {
	path := filepath.Join(f.dir, name)
	if name != configFile {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return keys.WriteNew(path, []byte(text), 0o644)
}

// refuseWitness refuses a directory that a witness is or was in.
func (f *initFlags) refuseWitness() error {
	for _, file := range []string{configFile, stateDir, begunFile} {
		hint := "its keys stay what they are; choose another directory for another witness"
		if file != configFile {
			hint = "if its " + configFile + " was lost, restore that from a backup; choose another directory for another witness"
		}
		_, err := os.Lstat(filepath.Join(f.dir, file))
		switch {
		case err == nil:
			return usageError(hint, "%s exists: there is a witness in %s already", filepath.Join(f.dir, file), f.dir)
		case !errors.Is(err, fs.ErrNotExist):
			return usageError("--dir wants a directory that is yours, or a name for a new one", "looking for a witness in %s: %w", f.dir, err)
		}
	}
	return nil
}

// makeKeys makes the keys, or opens those that an init left which was cut short.
func (f *initFlags) makeKeys() (w keys.Witness, err error) {
	w.Name = f.name
	if !f.ed25519Only {
		seed, err := f.makeSeed()
		if err != nil {
			return w, err
		}
		if w, err = keys.WitnessFromSeed(f.name, seed); err != nil {
			return w, usageError("", "deriving keys: %w", err)
		}
	}
	if f.agentKey != "" {
		key, err := openAgentKey(f.agentKey, "")
		if err != nil {
			return w, err
		}
		// By its public key in the configuration serve knows it while the agent is away.
		f.agentKey, w.Ed25519 = key.Line(), key
	}
	return w, nil
}

// seedFile is the name of the seed's file.
func (f *initFlags) seedFile() string {
	if f.encrypt {
		return "seed.age"
	}
	return "seed"
}

// makeSeed writes a new seed, or reads the one that an init left which was cut short after it.
func (f *initFlags) makeSeed() (seed [32]byte, err error) {
	path := filepath.Join(f.dir, f.seedFile())
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		if seed, err = readSeed(path, f.passphraseFile); err != nil {
			return seed, withHint("choose another directory, or remove that file if no witness uses it", "reading the seed that is there already", err)
		}
		return seed, nil
	}
	_, _ = rand.Read(seed[:]) // never fails
	if !f.encrypt {
		if err := keys.WriteSeed(path, seed); err != nil {
			return seed, operational("", fmt.Errorf("writing seed: %w", err))
		}
		return seed, nil
	}
	passphrase, err := f.newPassphrase()
	if err != nil {
		return seed, err
	}
	data, err := sealed.Seal(seed, passphrase)
	if err == nil {
		err = keys.WriteNew(path, data, 0o600)
	}
	if err != nil {
		return seed, operational("", fmt.Errorf("writing seed: %w", err))
	}
	return seed, nil
}

// newPassphrase reads the passphrase of a new seed. From the terminal it wants it twice.
func (f *initFlags) newPassphrase() (string, error) {
	passphrase, err := readPassphrase(f.passphraseFile, "New passphrase of the seed")
	if err != nil || f.passphraseFile != "" {
		return passphrase, err
	}
	again, err := readPassphrase("", "Once more")
	if err == nil && again != passphrase {
		err = usageError("", "the two passphrases differ")
	}
	return passphrase, err
}

// nextSteps tells what is left to do.
func (f *initFlags) nextSteps() string {
	var b strings.Builder
	step := func(what, how string, args ...any) { fmt.Fprintf(&b, "  %-12s %s\n", what, fmt.Sprintf(how, args...)) }
	b.WriteString("\nNext:\n")
	if !f.ed25519Only {
		step("Seed:", "keep a copy of %s offline, and never run two witnesses with it", filepath.Join(f.dir, f.seedFile()))
	}
	for _, address := range f.bastions {
		if b, err := openBastion(f.dir, bastionConfig{Address: address}, slog.New(slog.DiscardHandler)); err == nil { // it was just written
			step("Bastion:", "have the operator of %s allow the key hash %s", address, bastion.KeyHash(b.Key.Public().(ed25519.PublicKey)))
		}
	}
	step("Serve:", "tallywood-witness serve --dir %s", f.dir)
	step("", "or, as a service, what %s says", filepath.Join(f.dir, unitFile))
	if len(f.gaps()) == 0 {
		step("Page:", "publish %s", filepath.Join(f.dir, aboutFile))
	} else {
		step("Page:", "fill in the %s in %s, and publish it", strings.Join(f.gaps(), ", "), filepath.Join(f.dir, aboutFile))
	}
	return b.String()
}
