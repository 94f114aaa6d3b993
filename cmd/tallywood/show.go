package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"tallywood/internal/sign"
	"tallywood/log/verify"
	"tallywood/monitor"
	logtrust "tallywood/monitor/trust"
	"tallywood/witness/policy"
)

func showCommand() command {
	return command{name: "show", args: "URL INDEX [FLAGS]\n       tallywood show --evidence DIR [FLAGS]",
		short: "show one entry of a log, verified, in words",
		long: `
Reads entry INDEX (the first is 0) of the log at URL, and says what was signed, by whom and when.
The log's signature and the witnesses' on its checkpoint are verified, the entry's place in the tree
is recomputed, and then what the entry itself states is checked: its signature, and with a trusted
root its certificate and the signed certificate timestamps in it.

The log's key must come from you: --trust DIR, --policy FILE, --vkey KEY or --trusted-root FILE;
without any, the trust directory that other commands use, if there is one. --unverified goes
without: then the entry is shown, and nobody vouches for it.

With --evidence, shows an alert of the monitor and verifies again, offline, the evidence that it
left in DIR: that its files are whole, and that they prove what the alert says.

Texts in an entry were chosen by whoever logged it; what a terminal would act on is shown as "?".

Exit code 0: the log proves the entry and no check failed; or, the evidence holds. 1: it does not,
or --unverified. 5: the log cannot be reached.`,
		run: show}
}

// showFlags are the flags of "tallywood show".
type showFlags struct {
	vkeys                          list
	policy, trust, trustedRoot     string
	unverified, json               bool
	evidence, proof, entry, bundle string
}

func show(ctx context.Context, t terminal, fs *flag.FlagSet, args []string) error {
	f := &showFlags{}
	fs.StringVar(&f.trust, "trust", "", trustUsage)
	fs.StringVar(&f.policy, "policy", "", "`FILE` with the tlog-policy that lists the log and its witnesses")
	fs.Var(&f.vkeys, "vkey", "verifier `KEY` of the log, without witnesses; may be given several times")
	fs.StringVar(&f.trustedRoot, "trusted-root", "", "`FILE` with a trusted root: the authorities and certificate logs to hold certificates\nagainst, and without --policy or --vkey the keys of logs, too")
	fs.BoolVar(&f.unverified, "unverified", false, "show an entry, or an alert, without the log's key: nothing about it is proved")
	fs.StringVar(&f.evidence, "evidence", "", "`DIR` of an alert's evidence, instead of URL and INDEX")
	fs.StringVar(&f.proof, "proof", "", "`FILE` to write a tlog-proof to; with the bytes of --entry,\n\"tallywood verify --proof\" takes it")
	fs.StringVar(&f.entry, "entry", "", "`FILE` to write the entry's bytes to, as its leaf hash is over them")
	fs.StringVar(&f.bundle, "bundle", "", "`FILE` to write a Sigstore bundle of the signature to, as far as the log has it")
	fs.BoolVar(&f.json, "json", false, "print the result as JSON")
	operands, err := parse(fs, args, 0, 2)
	if err != nil {
		return err
	}
	if want := 2; f.evidence == "" && len(operands) != want || f.evidence != "" && len(operands) != 0 {
		return hinted(exitUsage, errors.New("show takes a URL and an INDEX, or --evidence DIR"), "\"tallywood show --help\" shows how it is called")
	}
	index := int64(0)
	if f.evidence == "" {
		if index, err = place(operands[0], operands[1]); err != nil {
			return err
		}
	}
	trust, err := f.trusted(fs)
	if err != nil {
		return err
	}
	if f.evidence != "" {
		return f.showEvidence(ctx, t, trust)
	}
	i, err := monitor.Inspect(ctx, operands[0], index, trust, nil)
	if err != nil {
		return f.showError(err)
	}
	if err := f.write(t, i, trust.Policy); err != nil {
		return err
	}
	if f.json {
		err = json.NewEncoder(t.out).Encode(i)
	} else {
		printInspection(t.out, i)
	}
	if err != nil {
		return fmt.Errorf("printing entry: %w", err)
	}
	if !i.Verified {
		return hinted(exitNegative, fmt.Errorf("entry %d does not verify", index), f.unverifiedHint())
	}
	return nil
}

// place checks the URL of a log, and returns the index of an entry.
func place(at, text string) (int64, error) {
	if u, err := url.Parse(at); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return 0, hinted(exitUsage, fmt.Errorf("%q is not the URL of a log", at), "such as http://127.0.0.1:8080, where \"checkpoint\" and \"tile\" are")
	}
	index, err := policy.ParseSize(text)
	if err != nil {
		return 0, usagef("INDEX %q: want a number, the first entry being 0", text)
	}
	return index, nil
}

func (f *showFlags) unverifiedHint() string {
	if f.unverified {
		return "--vkey KEY, --policy FILE or --trust DIR names whose log it must be"
	}
	return ""
}

// showError gives an error of showing an entry its exit code.
func (f *showFlags) showError(err error) error {
	if _, refused := errors.AsType[*monitor.VerifyError](err); refused {
		hint := ""
		if _, unknown := errors.AsType[*policy.SignatureError](err); unknown && !f.unverified {
			hint = "the key must be that of the log at this URL; --unverified shows what it says all the same"
		}
		return hinted(exitNegative, err, hint)
	}
	return hinted(exitOperational, err, "URL is that of the directory with \"checkpoint\" and \"tile\" in it")
}

func (f *showFlags) showEvidence(ctx context.Context, t terminal, trust monitor.Trust) error {
	ev, err := monitor.InspectEvidence(ctx, f.evidence, trust)
	if err != nil {
		return hinted(exitUsage, err, "DIR is what an alert names as its evidence")
	}
	if ev.Entry != nil {
		if err := f.write(t, ev.Entry, trust.Policy); err != nil {
			return err
		}
	} else if f.proof+f.entry+f.bundle != "" {
		return usagef("this alert is about the log, not about an entry: there is nothing for --proof, --entry and --bundle")
	}
	if f.json {
		err = json.NewEncoder(t.out).Encode(ev)
	} else {
		printEvidence(t.out, ev)
	}
	if err != nil {
		return fmt.Errorf("printing evidence: %w", err)
	}
	if !ev.Holds {
		return hinted(exitNegative, errors.New("the evidence does not prove what the alert says"), f.unverifiedHint())
	}
	return nil
}

// write writes the files that were asked for. p verified the checkpoint.
func (f *showFlags) write(t terminal, i *monitor.Inspection, p *policy.Policy) error {
	outs := map[string][]byte{f.proof: i.Proof.Format(), f.entry: i.Leaf}
	if f.bundle != "" {
		bundle, err := bundleOf(i, p)
		if errors.Is(err, sign.ErrNoTimestamp) {
			fmt.Fprintf(t.err, "tallywood: warning: %v; who signed has it\n", err)
		} else if err != nil {
			return hinted(exitUsage, fmt.Errorf("making a bundle of entry %d: %w", i.Index, err), "--proof FILE and --entry FILE write what the log proves of any entry")
		}
		outs[f.bundle] = append(bundle, '\n')
	}
	for _, path := range slices.Sorted(maps.Keys(outs)) {
		if path == "" {
			continue
		}
		if err := os.WriteFile(path, outs[path], 0o644); err != nil {
			return usagef("writing %s: %w", path, err)
		}
	}
	return nil
}

// bundleOf returns the Sigstore bundle of an entry.
func bundleOf(i *monitor.Inspection, p *policy.Policy) ([]byte, error) {
	if i.Kind != monitor.KindRekor {
		return nil, errors.New("it is no entry of a signature log")
	}
	cp, err := p.Open(i.Proof.Checkpoint)
	if err != nil {
		return nil, err
	}
	for _, l := range p.Logs() {
		if l.Key.Name() == cp.Origin() {
			return sign.FromLog(i.Raw, i.Proof, cp.Tree(), l.Key)
		}
	}
	return nil, fmt.Errorf("the policy has no log %q", cp.Origin())
}

// trusted reads what the flags name.
func (f *showFlags) trusted(fs *flag.FlagSet) (monitor.Trust, error) {
	var t monitor.Trust
	if err := f.checkTrust(fs); err != nil {
		return t, err
	}
	var vkeys []string // of the trusted root
	dir := f.trust
	if dir == "" && len(f.vkeys) == 0 && f.policy == "" && f.trustedRoot == "" {
		if found := trustDir(""); f.unverified || exists(filepath.Join(found, "policy.txt")) {
			dir = found
		}
	}
	root := f.trustedRoot
	if path := filepath.Join(dir, "trusted_root.json"); dir != "" && root == "" && (exists(path) || !exists(filepath.Join(dir, "policy.txt"))) && !f.unverified {
		root = path
	}
	if root != "" {
		m, keys, err := readMaterial(root)
		if err != nil {
			return t, err
		}
		t.CAs, t.CTLogs, vkeys = m.CAs, m.CTLogs, keys
	}
	if t.Unverified = f.unverified; f.unverified {
		return t, nil
	}
	var err error
	t.Policy, err = f.readPolicy(dir, vkeys)
	return t, err
}

// checkTrust refuses flags that contradict each other.
func (f *showFlags) checkTrust(fs *flag.FlagSet) error {
	for _, pair := range [][2]string{{"vkey", "policy"}, {"vkey", "trust"}, {"trusted-root", "trust"},
		{"unverified", "vkey"}, {"unverified", "policy"}, {"unverified", "trust"}, {"unverified", "proof"}, {"unverified", "bundle"}} {
		if isSet(fs, pair[0]) && isSet(fs, pair[1]) {
			return usagef("--%s and --%s exclude each other", pair[0], pair[1])
		}
	}
	return nil
}

func isSet(fs *flag.FlagSet, name string) bool {
	set := false
	fs.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}

// readPolicy returns the policy that the flags name: a file, that of the trust directory, or one of
// bare keys.
func (f *showFlags) readPolicy(dir string, vkeys []string) (*policy.Policy, error) {
	switch {
	case f.policy == "none":
		return nil, hinted(exitUsage, errors.New("--policy none leaves nobody whose log counts: the policy has the log's key"),
			"--vkey KEY is a log without witnesses")
	case f.policy != "" || dir != "":
		p, err := readPolicy(dir, f.policy)
		if errors.Is(err, fs.ErrNotExist) {
			err = hinted(exitUsage, err, "--vkey KEY is a log without witnesses; --unverified goes without its key")
		}
		return p, err
	case len(f.vkeys) > 0:
		vkeys = f.vkeys
	}
	if len(vkeys) == 0 {
		return nil, hinted(exitUsage, errors.New("no key of the log is known, so that nothing about it can be verified"),
			"--vkey KEY, --policy FILE or --trust DIR names it; --unverified shows the entry without")
	}
	text := ""
	for _, vkey := range vkeys {
		if _, err := policy.ParseVKey(vkey); err != nil {
			return nil, hinted(exitUsage, fmt.Errorf("--vkey %q: %w", vkey, err), "it is what the log's operator publishes, such as log.example.org+1d7dbb14+AR…")
		}
		text += "log " + vkey + "\n"
	}
	p, err := policy.Parse([]byte(text + "quorum none\n"))
	if err != nil {
		return nil, usagef("--vkey: %w", err)
	}
	return p, nil
}

// readMaterial reads a trusted root: its authorities and certificate logs, and the keys of the logs in
// it that can be read.
func readMaterial(path string) (m verify.Material, vkeys []string, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return m, nil, hinted(exitUsage, fmt.Errorf("reading trusted root: %w", err),
			"--trust DIR names the directory that \"tallywood up\" prints in its ready line")
	}
	m, err = verify.ParseMaterial(data)
	var logs []logtrust.Log
	if err == nil {
		logs, err = logtrust.Parse(data)
	}
	if err != nil {
		return m, nil, usagef("%s: %w", path, err)
	}
	for _, l := range logs {
		if l.LeftOut == "" {
			vkeys = append(vkeys, l.VKey)
		}
	}
	return m, vkeys, nil
}

// exists reports whether there is something at path, or cannot tell.
func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
