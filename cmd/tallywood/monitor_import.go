package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	sigstoretuf "github.com/sigstore/sigstore-go/pkg/tuf"

	"tallywood/internal/config"
	"tallywood/internal/keys"
	"tallywood/internal/rekormonitor"
)

func monitorImportCommand() command {
	return command{name: "monitor import", args: "FILE [FLAGS]",
		short: "turn a configuration of rekor-monitor into ours",
		long: `
Reads rekor-monitor's configuration in FILE and writes ours, to the standard output or to --out.
What comes out reports at least what rekor-monitor would have: what cannot be said exactly is
widened, with a warning on the standard error, and a key that is not known is an error. Nothing is
fetched.

Secrets move to files beside --out, and authorities to authorities.pem; nothing is overwritten.

The flags of rekor-monitor mean here what they mean there. Ours follows logs of tiles: those of the
trusted root of --tuf-repository (or of --trusted-root), or one that --url and --vkey name. Rekor v1
logs cannot be followed. --file, rekor-monitor's checkpoint, gives the first index where one log is
named; it proves nothing, and our monitor verifies the log from there.`,
		run: monitorImport}
}

// importFlags are the flags of "tallywood monitor import".
type importFlags struct {
	out, vkey, policy, trustedRoot string // ours

	url, repository, root, roots, intermediates, file string
	interval                                          time.Duration
	once                                              bool
	userAgent, httpsChain                             string
	port                                              int
}

func newImportFlags(fs *flag.FlagSet) *importFlags {
	f := &importFlags{}
	fs.StringVar(&f.out, "out", "", "`FILE` to write, with what goes beside it (default: the standard output)")
	fs.StringVar(&f.vkey, "vkey", "", "verifier `KEY` of the one log to follow, at --url")
	fs.StringVar(&f.policy, "policy", "", "`FILE` with the tlog-policy of the logs, or none")
	fs.StringVar(&f.trustedRoot, "trusted-root", "", "`FILE` with a trusted root, instead of a TUF repository")
	fs.StringVar(&f.url, "url", "", "`URL` of the log, as rekor-monitor had it")
	fs.StringVar(&f.repository, "tuf-repository", "default", "default, staging, or the `URL` of a TUF repository")
	fs.StringVar(&f.root, "tuf-root-path", "", "`FILE` with the root.json of that repository")
	fs.StringVar(&f.roots, "ca-roots", "", "`FILE` with certificates of authorities")
	fs.StringVar(&f.intermediates, "ca-intermediates", "", "`FILE` with intermediate certificates")
	fs.StringVar(&f.file, "file", "", "`FILE` in which rekor-monitor kept its last checkpoint")
	fs.DurationVar(&f.interval, "interval", 0, "`TIME` between two looks (default: ours, 10s)")
	fs.BoolVar(&f.once, "once", true, "rekor-monitor ran once: \"tallywood monitor check\"; with --once=false: run")
	fs.StringVar(&f.userAgent, "user-agent", "", "`TEXT`; not used")
	fs.StringVar(&f.httpsChain, "https-cert-chain", "", "`FILE`; refused: ours uses the system's authorities")
	fs.IntVar(&f.port, "monitor-port", 0, "`PORT` of its metrics; not used")
	return f
}

func monitorImport(_ context.Context, t terminal, fs *flag.FlagSet, args []string) error {
	f := newImportFlags(fs)
	operands, err := parse(fs, args, 1, 1)
	if err != nil {
		return err
	}
	o, err := f.options(operands[0])
	if err != nil {
		return err
	}
	r, err := rekormonitor.Import(o)
	if err != nil {
		return usagef("%s: %w", operands[0], err)
	}
	for _, w := range append(r.Warnings, f.unused(fs)...) {
		fmt.Fprintf(t.err, "tallywood: warning: %s\n", printable(w))
	}
	if root := f.embedded(); root != nil {
		r.Files = append(r.Files, rekormonitor.File{Name: "tuf-root.json", Data: root})
	}
	// What we write we must be able to read, whatever there was to import.
	if _, err := config.ParseMonitor(r.Config, filepath.Dir(f.out), os.LookupEnv); err != nil {
		return usagef("%s: what was imported is refused: %w", operands[0], err)
	}
	if f.out == "" {
		return f.print(t, r)
	}
	return f.write(t, r)
}

// options reads what the flags name.
func (f *importFlags) options(path string) (rekormonitor.Options, error) {
	o := rekormonitor.Options{Interval: f.interval, CARoots: f.roots, CAIntermediate: f.intermediates, ReadFile: os.ReadFile,
		Path: f.seenFromOut}
	var err error
	if o.Config, err = readLimited("configuration", path, 1<<20); err != nil {
		return o, usagef("%w", err)
	}
	if f.file != "" {
		if o.State, err = readLimited("checkpoint file", f.file, 16<<20); err != nil {
			return o, usagef("%w", err)
		}
	}
	switch {
	case f.httpsChain != "":
		return o, usagef("--https-cert-chain: our monitor trusts the system's authorities alone; add the file to them")
	case f.interval < 0:
		return o, usagef("--interval %v is negative", f.interval)
	case f.vkey != "" && f.trustedRoot != "":
		return o, usagef("--vkey and --trusted-root exclude each other")
	}
	o.Logs = rekormonitor.Logs{URL: f.url, VKey: f.vkey, Policy: f.policy, TrustedRoot: f.trustedRoot,
		TUFURL: f.repository, TUFRoot: f.root}
	official := map[string]string{"default": sigstoretuf.DefaultMirror, "staging": sigstoretuf.StagingMirror}[f.repository]
	switch {
	case official != "" && f.root != "":
		return o, usagef("--tuf-root-path belongs to a TUF repository of one's own; that of %q is known", f.repository)
	case official != "":
		o.Logs.TUFURL, o.Logs.TUFRoot = official, "tuf-root.json"
	case f.root == "" && f.vkey == "" && f.trustedRoot == "":
		return o, usagef("--tuf-repository %s needs --tuf-root-path: the root.json to begin with", f.repository)
	}
	return o, nil
}

// embedded returns the root.json of the TUF repository that the configuration names, if it is one of
// Sigstore's: their clients come with it.
func (f *importFlags) embedded() []byte {
	switch {
	case f.vkey != "" || f.trustedRoot != "":
		return nil
	case f.repository == "default":
		return sigstoretuf.DefaultRoot()
	case f.repository == "staging":
		return sigstoretuf.StagingRoot()
	}
	return nil
}

// seenFromOut returns a path, which is relative to here, as it is from where --out is.
func (f *importFlags) seenFromOut(path string) string {
	dir := filepath.Dir(f.out)
	if filepath.IsAbs(path) || path == "tuf-root.json" || dir == "." {
		return path
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	return abs
}

// unused says which flags mean nothing to our monitor.
func (f *importFlags) unused(fs *flag.FlagSet) []string {
	var out []string
	for _, name := range []string{"user-agent", "monitor-port"} {
		if isSet(fs, name) {
			out = append(out, "--"+name+" is left out: our monitor has no such thing")
		}
	}
	return out
}

// print prints the configuration. What should be beside it is not written.
func (f *importFlags) print(t terminal, r *rekormonitor.Result) error {
	var names []string
	for _, file := range r.Files {
		if file.Secret {
			return hinted(exitUsage, errors.New("there are secrets, which go into files of their own"), "--out FILE says where")
		}
		names = append(names, file.Name)
	}
	if len(names) > 0 {
		fmt.Fprintf(t.err, "tallywood: warning: without --out these are not written: %s\n", strings.Join(names, ", "))
	}
	_, err := t.out.Write(r.Config)
	return err
}

// write writes all files, and overwrites none.
func (f *importFlags) write(t terminal, r *rekormonitor.Result) error {
	dir := filepath.Dir(f.out)
	for _, file := range append(r.Files, rekormonitor.File{Name: filepath.Base(f.out), Data: r.Config}) {
		mode := os.FileMode(0o644)
		if file.Secret {
			mode = 0o600
		}
		path := filepath.Join(dir, file.Name)
		if err := keys.WriteNew(path, file.Data, mode); err != nil {
			hint := ""
			switch {
			case errors.Is(err, fs.ErrExist):
				hint = "nothing is overwritten: choose an empty directory, or move the file away"
			case errors.Is(err, fs.ErrNotExist):
				hint = "make the directory of --out first"
			}
			return hinted(exitUsage, err, hint)
		}
		fmt.Fprintf(t.out, "wrote %s\n", path)
	}
	verb := "check"
	if !f.once {
		verb = "run"
	}
	fmt.Fprintf(t.out, "next: tallywood config check %s --monitor && tallywood monitor %s --config %s\n", quote(f.out), verb, quote(f.out))
	return nil
}
